"""How tests of the command line read what a command said."""

import json
from collections.abc import Callable
from typing import Any

from gateway.cli.exits import Exit

__all__ = ["Run", "answer"]

Run = Callable[..., tuple[int, str, str]]


def answer(result: tuple[int, str, str]) -> Any:
    """Return the JSON document of a command that succeeded and said nothing on standard error."""
    code, out, err = result
    assert (code, err) == (Exit.OK, "")
    return json.loads(out)

"""One door for every command."""

import re
from pathlib import Path
from typing import get_args

import pytest

from gateway.core import decide
from gateway.core.commands import Command
from gateway.core.problems import TYPES
from tests.factories import make_payment, open_core


def test_every_command_has_a_decision() -> None:
    """The list of commands and the list of decisions are the same list."""
    assert set(decide._DECISIONS) == set(get_args(Command))


def test_what_is_no_command_is_an_error() -> None:
    """Nothing passes silently."""
    with pytest.raises(KeyError):
        decide.apply(open_core().book, make_payment())  # type: ignore[arg-type]


def test_the_codes_of_refusals_are_problem_types() -> None:
    """A refusal's code can be told to an agent as it is."""
    sources = [path.read_text(encoding="utf-8") for path in Path(decide.__file__).parent.glob("decide_*.py")]
    codes = {code for source in sources for code in re.findall(r'Refused\(\s*"(\w+)"', source)}
    assert len(codes) > 10
    assert codes <= set(TYPES)

"""How the demo fails: with what it expected and what it found, never by going on.

Must not know what is checked.
"""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PAUSE_S = 0.15


class DemoFailure(Exception):  # noqa: N818 -- the word that the demo prints
    """Something is not as it must be."""

    def __init__(self, what: str, expected: object, found: object) -> None:
        super().__init__(f"{what}\n    expected  {expected}\n    found     {found}")


def expect(what: str, expected: object, found: object) -> None:
    """Raise DemoFailure unless both are equal."""
    if found != expected:
        raise DemoFailure(what, expected, found)


def wait_for(what: str, probe: Callable[[], T | None], *, within_s: float, found: Callable[[], object]) -> T:
    """Ask again and again until the probe answers something; raise DemoFailure with `found()` when it never does."""
    give_up_at = time.monotonic() + within_s
    while (answer := probe()) is None:
        if time.monotonic() > give_up_at:
            raise DemoFailure(what, f"within {within_s:g} s", found())
        time.sleep(PAUSE_S)
    return answer

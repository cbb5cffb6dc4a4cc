"""Work beside a loop: once for each thing, few at once at a place, and every error heard once."""

import asyncio
from functools import partial

import pytest

from gateway.flow.servers.beside import Beside

SOON_S = 0.01


class Slow:
    """Work that waits until it is let go; it says when it has begun."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.free = asyncio.Event()

    async def run(self, name: str) -> None:
        """Begin, and end when the test says so."""
        self.begun.append(name)
        await self.free.wait()


async def _fail(error: Exception) -> None:
    raise error


async def test_a_thing_is_worked_on_once_and_a_slow_one_keeps_nobody_waiting() -> None:
    """The loop goes on after its patience; what is under way is not begun again before it is over."""
    beside, slow = Beside(), Slow()
    for _ in range(2):
        for name in ("a", "b", "c"):
            beside.go(name, "shop", partial(slow.run, name))
        await beside.wait(SOON_S)
    assert slow.begun == ["a", "b", "c"]
    assert beside.is_under_way("a")
    slow.free.set()
    await beside.drain(5.0)
    assert not beside.is_under_way("a")
    beside.go("a", "shop", partial(slow.run, "a"))
    await beside.wait(5.0)
    assert slow.begun == ["a", "b", "c", "a"]


async def test_few_at_once_at_each_place() -> None:
    """One place that is slow takes none of another's turns."""
    beside, slow = Beside(at_once=1), Slow()
    for name in ("a", "b"):
        beside.go(name, "slow shop", partial(slow.run, name))
    beside.go("c", "other", partial(slow.run, "c"))
    await beside.wait(SOON_S)
    assert sorted(slow.begun) == ["a", "c"]
    slow.free.set()
    await beside.wait(5.0)
    assert sorted(slow.begun) == ["a", "b", "c"]


async def test_what_went_wrong_is_raised_once_and_none_hides_another() -> None:
    """One error as it is, several as one group; draining hears none away."""
    beside = Beside()
    beside.go("a", "shop", partial(_fail, ValueError("a")))
    await beside.drain(5.0)
    with pytest.raises(ValueError, match="a"):
        await beside.wait(5.0)
    for name in ("b", "c"):
        beside.go(name, "shop", partial(_fail, ValueError(name)))
    with pytest.raises(ExceptionGroup) as caught:
        await beside.wait(5.0)
    assert sorted(str(error) for error in caught.value.exceptions) == ["b", "c"]
    await beside.wait(5.0)

"""The end of the process: in which order what is under way is let go."""

import asyncio
from types import SimpleNamespace
from typing import Any

from gateway.jobs.loops import Loop, Loops
from gateway.serve import Countdown, _drain


async def test_no_loop_begins_another_turn_while_what_is_under_way_is_waited_for() -> None:
    """First orders are stopped, then the loops; only then is anything drained, and the loops' last calls are awaited."""
    turns, said = 0, list[str]()

    async def turn() -> None:
        nonlocal turns
        turns += 1

    def part(name: str, seconds: float = 0.0) -> Any:
        async def drain(_: float) -> None:
            said.append(name)
            before = turns
            await asyncio.sleep(seconds)
            assert turns == before

        return SimpleNamespace(drain=drain)

    loops = Loops([Loop("turn", turn, 0.001)], lambda: None)
    loops.start()
    await asyncio.sleep(0.02)
    assert turns > 0
    neutral = part("neutral", 0.05)
    neutral.ordering = SimpleNamespace(stop=lambda: said.append("no new orders"))
    parts = {name: part(name) for name in ("answers", "recovery", "paid")}
    gateway: Any = SimpleNamespace(neutral=neutral, **parts)
    await _drain(gateway, loops, Countdown(5.0))
    assert said == ["no new orders", "neutral", "answers", "recovery", "paid"]
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("loop ")] == []

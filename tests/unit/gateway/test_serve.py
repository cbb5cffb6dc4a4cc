"""The port that the process takes, and its end: in which order what is under way is let go."""

import asyncio
import socket
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.jobs.loops import Loop, Loops
from gateway.serve import Countdown, _bound, _drain


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
    while not turns:  # noqa: ASYNC110 - a loop tells nobody that it has turned
        await asyncio.sleep(0.001)
    neutral = part("neutral", 0.05)
    neutral.ordering = SimpleNamespace(stop=lambda: said.append("no new orders"))
    parts = {name: part(name) for name in ("answers", "recovery", "paid")}
    gateway: Any = SimpleNamespace(neutral=neutral, **parts)
    await _drain(gateway, loops, Countdown(5.0))
    assert said == ["no new orders", "neutral", "answers", "recovery", "paid"]
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("loop ")] == []


@dataclass(frozen=True)
class _Server:
    host: str
    port: int


@dataclass(frozen=True)
class _Config:
    server: _Server


def test_a_port_that_is_taken_is_named() -> None:
    """A second gateway on one address says which one, and is not the first one's end."""
    with socket.create_server(("127.0.0.1", 0)) as first:
        taken: Any = _Config(_Server("127.0.0.1", first.getsockname()[1]))
        with (
            pytest.raises(OSError, match=rf"\[server\] 127\.0\.0\.1 port {taken.server.port}: .*in use"),
            _bound(taken),
        ):
            pass
    free: Any = _Config(_Server("127.0.0.1", 0))
    with _bound(free) as (bound, place):
        assert bound.server.port == place.getsockname()[1] > 0

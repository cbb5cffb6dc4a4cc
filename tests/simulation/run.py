"""One run from a plan: play it, judge it, and say how to see it again."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from tests.fakes.loop import run_virtual
from tests.simulation.promises import broken_promises
from tests.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.plan import Plan

__all__ = ["Report", "run"]


@dataclass(frozen=True)
class Report:
    """What a run was and what it broke."""

    plan: Plan
    replay: str
    broken: list[str]
    points: list[str]
    trace: list[str]
    world: World

    def __str__(self) -> str:
        lines = [f"{len(self.broken)} broken promises; replay: {self.replay}", *self.broken[:20]]
        return "\n  ".join(lines)


Judge = Callable[[World, list[str]], list[str]]


def run(plan: Plan, replay: str, make: Callable[[Plan, Path], World] = World, judge: Judge = broken_promises) -> Report:
    """Play a plan to its end and check every promise."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="simulation-", dir=memory if memory.is_dir() else None))
    try:
        world = make(plan, folder / "signer.mark")
        with _captured() as logs:
            try:
                run_virtual(world.play)
            except Exception as error:  # noqa: BLE001 - whatever ends a run is a finding, with the way to replay it
                world.violations.append(f"the run ended with {type(error).__name__}: {error}")
        broken = judge(world, [json.dumps(entry, default=repr) for entry in logs])
        for disk in world.disks:
            disk.close()
    finally:
        shutil.rmtree(folder)
    return Report(plan, replay, broken, world.points, world.trace, world)


@contextlib.contextmanager
def _captured() -> Iterator[list[dict[str, Any]]]:
    logs: list[dict[str, Any]] = []

    def keep(_logger: object, method: str, entry: Any) -> Any:
        logs.append({**entry, "level": method})
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[keep], cache_logger_on_first_use=False)
    try:
        yield logs
    finally:
        structlog.configure(**before)

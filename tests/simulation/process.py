"""One life of the gateway: the real graph on the world's database, chain and vendors, and its death at any point.

Theory: everything by which a process can touch the world goes through a port, and every port of a dead process hangs
until its tasks are buried. So a kill needs no cooperation of the code that it strikes, and nothing that the dead would
still have done has any effect.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from gateway.core.records import EVERYTHING
from gateway.graph import Gateway, Parts, assemble
from gateway.http.courier import Courier
from tests.fakes.store import InlineStore
from tests.fakes.upstream import ScriptedUpstream
from tests.simulation.lines import Line, Recorded
from wallets.guard import Guard
from wallets.signer import LocalSigner
from wallets.watermark import Watermark

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from contracts.codec import Address
    from gateway.core.commands import Command, Result
    from gateway.jobs.loops import Loops
    from tests.simulation.world import World

__all__ = ["OWNER", "Died", "Process", "task_factory"]

T = TypeVar("T")

OWNER: contextvars.ContextVar[Process | None] = contextvars.ContextVar("OWNER", default=None)
"""The process that a task belongs to; None is the world."""


class Died(Exception):  # noqa: N818 - named for what its caller sees
    """The process went away before it answered."""


def task_factory(
    loop: asyncio.AbstractEventLoop,
    coro: Coroutine[Any, Any, Any],
    context: contextvars.Context | None = None,
) -> asyncio.Task[Any]:
    """Make a task and note whose it is."""
    owner = OWNER.get() if context is None else context.get(OWNER)
    task = asyncio.Task(coro, loop=loop, context=context)
    if owner is not None:
        owner.tasks.append(task)
    return task


class Process:
    """A running gateway. `number` counts the lives."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number
        self.alive, self.buried = True, False
        self.death: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.tasks: list[asyncio.Task[Any]] = []
        self.watermark = Watermark.open(world.watermark_path)
        self.gateway: Gateway | None = None
        self.loops: Loops | None = None
        self._context = contextvars.copy_context()
        self._context.run(OWNER.set, self)

    # life

    async def start(self) -> None:
        """Open everything as the application does and start the loops. Raises Died."""
        await self.run(self._start())

    async def _start(self) -> None:
        world = self.world
        store = InlineStore.over(
            world.db,
            world.config.book_rules(),
            before_commit=lambda what: self.point("commit", what),
            after_commit=lambda what: self.point("committed", what),
            before_read=lambda _: self.pause(),
        )
        own = world.config.own_addresses()

        def is_frozen(wallet: Address) -> bool:
            return any(scope in store.view.freezes for scope in (*EVERYTHING, f"wallet:0x{wallet.hex()}"))

        guard = Guard(world.config.guard_policy(store.view.payees, own), is_frozen)
        signer = LocalSigner(world.wallet, world.wallet_key, guard, self.watermark, world.clock.now_s)
        parts = Parts(
            store=store,
            upstream=ScriptedUpstream(
                world.servers,
                world.script,
                sender=self.number,
                spawn=world.spawn,
                point=self.point,
                doubled=lambda origin: world.violation(f"P4: a credential was shown twice at once to {origin}"),
            ),
            chains={world.chain.chain_id: Line(self)},
            signers={world.wallet: Recorded(self, signer)},
            guard=guard,
            data_key=world.data_key,
            watermark=self.watermark,
            clock=world.clock,
            entropy=world.entropy,
            own_addresses=own,
            business=world.clock,
            vendor_secrets=world.vendor_secrets,
            broadcasters={},
            posting=Courier(),
        )
        gateway = assemble(world.config, parts)
        await gateway.prepare()
        self.gateway = gateway
        self.loops = gateway.loops(lambda: world.violation("the store broke"))
        self.work(self.loops)

    def work(self, loops: Loops) -> None:
        """Begin with what goes on in the background."""
        loops.start()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run work inside of this process and return its result. Raises Died if the process goes first.

        Whoever is cancelled while waiting cancels the work, as a handler is when its client disconnects.
        """
        if not self.alive:
            work.close()
            raise Died
        task: asyncio.Task[T] = asyncio.create_task(work, context=self._context.copy())
        try:
            either: set[asyncio.Future[Any]] = {task, self.death}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not task.done() or task.cancelled():
            raise Died
        return task.result()

    async def post(self, command: Command) -> Result:
        """Post a command as the operator's tools do. Raises Died."""
        gateway = self.ready()
        return await self.run(gateway.parts.store.post(command))

    def ready(self) -> Gateway:
        """Return the assembled gateway. Raises Died."""
        if self.gateway is None or not self.alive:
            raise Died
        return self.gateway

    async def stop(self) -> None:
        """End as after SIGTERM: loops, then what is under way, then the store."""
        if self.gateway is None or self.loops is None:
            return
        gateway, loops = self.gateway, self.loops

        async def end() -> None:
            await loops.stop(5.0)
            await gateway.answers.drain(10.0)
            await gateway.parts.store.close()

        try:
            await self.run(end())
        except Died:
            return
        self._end()

    def kill(self, why: str) -> None:
        """Die here and now."""
        if self.alive:
            self.world.note(f"KILLED {why}")
            self._end()

    def _end(self) -> None:
        self.alive = False
        if not self.death.done():
            self.death.set_result(None)

    async def bury(self) -> None:
        """Drop every task. Nothing that they do on their way out reaches the world."""
        self.alive, self.buried = False, True
        done = 0
        while done < len(self.tasks):
            batch = self.tasks[done:]
            done = len(self.tasks)
            for task in batch:
                task.cancel()
            await asyncio.gather(*batch, return_exceptions=True)
        os.close(self.watermark._descriptor)  # as the kernel does: no last write, no fsync
        self.watermark._descriptor = -1

    # the ports' side

    async def breathe(self) -> None:
        """Let only the living go on."""
        if self.buried:
            raise asyncio.CancelledError
        if not self.alive:
            await asyncio.get_running_loop().create_future()

    async def pause(self) -> None:
        """Give others their turn, for as long as the seed says."""
        await self.breathe()
        delay_s = self.world.delay_s()
        if delay_s is not None:
            await asyncio.sleep(delay_s)
            await self.breathe()

    async def point(self, kind: str, what: str = "") -> None:
        """A place where the process may be killed."""
        await self.pause()
        if self.world.kills_at(kind, what):
            await self.die(f"at point {len(self.world.points)}, {kind} {what}")

    async def die(self, why: str) -> NoReturn:
        """Be killed, from inside."""
        self.kill(why)
        await self.breathe()
        raise AssertionError("the dead do not go on")

"""One question to several endpoints, and what their answers amount to (P14).

Must not know what is asked. Theory: an endpoint either answers or is unavailable; equal answers add up, silence does not
count, and one contradiction makes the whole question unknown, however many agree, because we cannot tell who lies.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TypeVar

from contracts.codec import to_hex
from contracts.keccak import keccak256
from contracts.logs import Log
from gateway.chains.node import Node
from gateway.chains.rpc import EndpointUnavailable
from gateway.ports import Block, ChainDisagreement, ChainUnavailable, Receipt

__all__ = ["STRAGGLER_S", "answers_of", "ask_all", "decide", "unavailable"]

STRAGGLER_S = 3.0
"""Once a quorum has answered, how long the others may take; a dead third endpoint must not slow every poll."""

_LOGS_SHOWN = 3

T = TypeVar("T")


async def ask_all(
    nodes: Sequence[Node],
    ask: Callable[[Node], Awaitable[T]],
    quorum: int,
    straggler_s: float = STRAGGLER_S,
) -> dict[str, T | EndpointUnavailable]:
    """Ask every endpoint at once; return each one's answer, or why it has none, by name, in the order of ``nodes``."""
    tasks = {node.name: asyncio.create_task(_vote(node, ask)) for node in nodes}
    try:
        await _wait(tasks.values(), quorum, straggler_s)
        return {
            name: task.result() if task.done() else EndpointUnavailable(name, "slower than the others")
            for name, task in tasks.items()
        }
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


async def _vote(node: Node, ask: Callable[[Node], Awaitable[T]]) -> T | EndpointUnavailable:
    try:
        await node.verify_chain()
        return await ask(node)
    except EndpointUnavailable as problem:
        return problem


async def _wait(tasks: Collection["asyncio.Task[T | EndpointUnavailable]"], quorum: int, straggler_s: float) -> None:
    loop = asyncio.get_running_loop()
    pending = set(tasks)
    give_up_at: float | None = None
    while pending:
        timeout = None if give_up_at is None else max(0.0, give_up_at - loop.time())
        done, pending = await asyncio.wait(pending, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            return
        answered = sum(task.done() and not isinstance(task.result(), EndpointUnavailable) for task in tasks)
        if give_up_at is None and answered >= quorum:
            give_up_at = loop.time() + straggler_s


def answers_of(votes: Mapping[str, T | EndpointUnavailable]) -> dict[str, T]:
    """Return the votes that are answers."""
    return {name: vote for name, vote in votes.items() if not isinstance(vote, EndpointUnavailable)}


def unavailable(what: str, votes: Mapping[str, object], quorum: int) -> ChainUnavailable:
    """Return the error that says who answered and why the others did not."""
    silent = [str(vote) for vote in votes.values() if isinstance(vote, EndpointUnavailable)]
    return ChainUnavailable(f"{what}: {len(votes) - len(silent)} of {quorum} needed answers; {'; '.join(silent)}")


def decide(what: str, votes: Mapping[str, T | EndpointUnavailable], quorum: int) -> tuple[T, tuple[str, ...]]:
    """Return the one answer that at least ``quorum`` endpoints gave, and their names.

    Raises ChainDisagreement when any two answers differ, ChainUnavailable when there are too few.
    """
    answers = answers_of(votes)
    first, *others = answers.values() or [None]
    if any(other != first for other in others):
        raise ChainDisagreement(what, {name: _describe(answer) for name, answer in answers.items()})
    if len(answers) < quorum:
        raise unavailable(what, votes, quorum)
    return next(iter(answers.values())), tuple(answers)


def _describe(answer: object) -> str:
    """Write an answer so that a human sees where two differ: short, and with a digest of the whole."""
    if isinstance(answer, Block):
        return f"block {answer.number} {to_hex(answer.hash)} at {answer.time_s}"
    if isinstance(answer, Receipt):
        where = f"status {answer.status} in block {answer.block.number} {to_hex(answer.block.hash)}"
        return f"{where}, {_describe(answer.logs)}"
    if isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], Block):  # noqa: PLR2004 - a block and its logs
        return f"{_describe(answer[1])} up to {_describe(answer[0])}"
    if isinstance(answer, tuple):
        logs = [item for item in answer if isinstance(item, Log)]
        shown = ", ".join(f"{to_hex(log.tx_hash)}#{log.log_index}" for log in logs[:_LOGS_SHOWN])
        digest = keccak256(repr(answer).encode())[:4].hex()
        return f"{len(logs)} logs ({shown}{', …' if len(logs) > _LOGS_SHOWN else ''}) digest {digest}"
    if isinstance(answer, bytes):
        return to_hex(answer) if len(answer) <= 32 else f"{len(answer)} bytes digest {keccak256(answer)[:4].hex()}"  # noqa: PLR2004 - one word
    return str(answer)

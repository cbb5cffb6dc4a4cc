"""What several answers amount to."""

import asyncio

import pytest

from gateway.chains.agreement import ask_all, decide
from gateway.chains.node import Node
from gateway.chains.rpc import EndpointUnavailable, RpcEndpoint
from gateway.ports import ChainDisagreement, ChainUnavailable

A, B, C = "a.example", "b.example", "c.example"


def silent(name: str) -> EndpointUnavailable:
    """Return the vote of an endpoint without an answer."""
    return EndpointUnavailable(name, "slow")


class ReadyNode(Node):
    """A node whose chain needs no check."""

    async def verify_chain(self) -> None:
        """Return at once."""


def nodes() -> list[Node]:
    """Return three nodes; nothing connects until asked."""
    return [ReadyNode(RpcEndpoint(f"https://{name}/key"), 1) for name in (A, B, C)]


@pytest.mark.parametrize("answer", [False, 0, None, b"", ()])
def test_equal_answers_add_up_whatever_they_are(answer: object) -> None:
    """No, zero and nothing are answers like any other."""
    assert decide("it", {A: answer, B: answer, C: silent(C)}, 2) == (answer, (A, B))


def test_silence_does_not_count() -> None:
    """One answer is not two; the error says who was silent and why."""
    with pytest.raises(ChainUnavailable, match=r"it: 1 of 2 needed answers; b.example: slow; c.example: slow"):
        decide("it", {A: 1, B: silent(B), C: silent(C)}, 2)
    with pytest.raises(ChainUnavailable):
        decide("it", {A: silent(A)}, 1)


@pytest.mark.parametrize("votes", [{A: 1, B: 1, C: 2}, {A: 1, B: 2, C: silent(C)}, {A: None, B: 1, C: 1}])
def test_one_contradiction_undoes_a_majority(votes: dict[str, object]) -> None:
    """And it is told who said what."""
    with pytest.raises(ChainDisagreement) as caught:
        decide("it", votes, 2)
    told = {name: str(vote) for name, vote in votes.items() if not isinstance(vote, EndpointUnavailable)}
    assert caught.value.answers == told


async def test_stragglers_are_not_waited_for_once_a_quorum_has_answered() -> None:
    """They are cancelled, and their vote is silence."""
    cancelled = asyncio.Event()

    async def ask(node: Node) -> int:
        if node.name == B:
            try:
                await asyncio.sleep(3600)
            finally:
                cancelled.set()
        return 1

    votes = await ask_all(nodes(), ask, 2, straggler_s=0.01)
    assert decide("it", votes, 2) == (1, (A, C))
    assert cancelled.is_set()


async def test_a_contradiction_that_arrives_in_time_counts() -> None:
    """The others are heard out for a moment after a quorum."""

    async def ask(node: Node) -> int:
        if node.name == C:
            await asyncio.sleep(0.02)
            return 2
        return 1

    with pytest.raises(ChainDisagreement):
        decide("it", await ask_all(nodes(), ask, 2, straggler_s=5), 2)


async def test_without_a_quorum_every_endpoint_is_waited_for() -> None:
    """A slow second answer is worth more than a quick "unavailable"."""

    async def ask(node: Node) -> int:
        if node.name == A:
            raise silent(A)
        await asyncio.sleep(0.05 if node.name == C else 0)
        return 1

    assert decide("it", await ask_all(nodes(), ask, 2, straggler_s=0), 2) == (1, (B, C))


async def test_a_mistake_of_ours_is_not_taken_for_silence() -> None:
    """Only EndpointUnavailable is a vote; the rest of the askers are cancelled."""

    async def ask(node: Node) -> int:
        if node.name == A:
            raise KeyError("bug")
        await asyncio.sleep(3600)
        return 1

    with pytest.raises(KeyError):
        await ask_all(nodes(), ask, 2)

"""Sellers that take only a hash: sent by us after the hold, shown once it is on chain, and never shown when it is not."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mpp_shop import CHAIN, credential, line, sells

from contracts.keccak import keccak256
from gateway.core.payment import Delivery, Transfer
from gateway.flow.pushing import LOOK_EVERY_S, MARGIN_S
from gateway.http.port import SentUnknown, UpstreamRequest, UpstreamResponse
from tests.unit.gateway.flow.spend_bed import NOW_MS, Bed, always, opened, respond

PUSH = {"supportedModes": ["push"]}
LOST = SentUnknown("connection_lost", "scripted")


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    """A shop that takes only transactions that we send, and an operator that allows it."""
    async with opened(tmp_path) as running:
        sells(running, line(details=PUSH), allow_push=True)
        yield running


async def test_it_is_held_then_sent_then_shown(bed: Bed) -> None:
    """P3: the hold is durable when the transaction leaves, and the seller sees the hash of what is in a block."""
    bed.node.late = 3

    async def answer(_: UpstreamRequest) -> UpstreamResponse:
        assert len(bed.node.sent) == 1
        assert bed.node.looks == 4
        return respond()

    bed.line.answering = answer
    assert (await bed.run("/priced/x")).status == 200
    (payment,) = bed.open
    (raw,) = bed.node.sent
    assert payment.authorization is not None
    assert payment.authorization.tx_hash == keccak256(raw)
    assert credential(bed.line.presented[0])["payload"] == {"type": "hash", "hash": "0x" + keccak256(raw).hex()}
    assert bed.clock.ms == NOW_MS + 3 * LOOK_EVERY_S * 1000


async def test_pull_is_preferred_where_both_are_taken(bed: Bed) -> None:
    """What the seller collects itself it cannot lose sight of."""
    sells(bed, line(details={"supportedModes": ["push", "pull"]}), allow_push=True)
    await bed.run("/priced/x")
    assert (bed.node.sent, credential(bed.line.presented[0])["payload"]["type"]) == ([], "transaction")


async def test_nothing_is_sent_that_is_not_held(bed: Bed) -> None:
    """P3: a refused hold leaves the transaction where it was made."""
    await bed.freeze("vendor:shop")
    assert (await bed.refused("/priced/x")).code == "frozen"
    assert bed.node.sent == []


async def test_a_chain_that_we_cannot_send_to_is_not_promised_on(bed: Bed) -> None:
    """Nothing is signed, for it could never be sent."""
    bed.presenter._pusher._broadcasters = {}
    assert (await bed.refused("/priced/x")).code == "push_not_allowed"
    assert bed.open == []


@pytest.mark.parametrize("status", [None, 0])
async def test_a_hash_that_is_not_on_chain_is_not_shown(bed: Bed, status: int | None) -> None:
    """P5: it may still be, until its window has passed and the chain says that it is not; or it failed."""
    bed.node.status, bed.node.refuses = status, status is None
    assert (await bed.refused("/priced/x")).code == "outcome_unknown"
    (payment,) = bed.open
    assert payment.authorization is not None
    assert (payment.axes.delivery, payment.axes.transfer) == (Delivery.UNKNOWN, Transfer.PRESENTED)
    assert bed.line.presented == []
    waited_until_s = bed.clock.ms / 1000
    end_s = payment.authorization.valid_before_s + MARGIN_S
    assert (waited_until_s > end_s) is (status is None)
    await bed.bury(payment)
    assert bed.store.view.balances["acc_1"].held_base == 0


async def test_an_endpoint_that_says_no_may_have_passed_it_on(bed: Bed) -> None:
    """What counts is whether a block has it."""
    bed.node.refuses = True
    assert (await bed.run("/priced/x")).status == 200


async def test_p12_recovery_sends_the_sealed_bytes_again(bed: Bed) -> None:
    """P4: the same transaction, which moves money once, and the same hash; where the route allows a second showing."""
    bed.line.answering = always(LOST)
    await bed.refused("/priced/x")
    bed.line.answering = always(respond())
    await bed.sweep()
    assert bed.open[0].axes.delivery is Delivery.DELIVERED
    assert len(bed.node.sent) == 2
    assert len(set(bed.node.sent)) == 1
    assert len({request.headers for request in bed.line.presented}) == 1
    assert all(not name.startswith(":") for request in bed.line.presented for name, _ in request.headers)


async def test_a_chain_that_left_the_configuration_shows_nothing(bed: Bed) -> None:
    """Recovery of what can no longer be sent ends quietly, and the chain decides."""
    bed.line.answering = always(LOST)
    await bed.refused("/priced/x")
    bed.presenter._pusher._broadcasters = {}
    assert not bed.presenter.can_send(CHAIN)
    await bed.sweep()
    assert (len(bed.line.presented), bed.open[0].axes.delivery) == (1, Delivery.UNKNOWN)

"""What webhooks and the list of events tell of money that comes in: from the commit that books it to the subscriber."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.core.commands import Done
from gateway.core.paid import TopUpState
from gateway_client import verify_webhook
from tests.factories import TOKEN
from tests.paid_factories import book, credited, newer, paying, put
from tests.unit.gateway.api.bed import Bed
from tests.unit.gateway.api.events_bed import PAUSE_S, EventsBed, events_on
from tests.unit.gateway.flow.servers.telling_bed import Receiver, receiving


@pytest.fixture
async def on(bed: Bed) -> AsyncIterator[EventsBed]:
    """Events and webhooks on the bed; receivers on loopback are allowed."""
    async with events_on(bed) as running:
        yield running


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """An endpoint that takes everything."""
    async with receiving() as running:
        yield running


async def _subscribe(on: EventsBed, url: str, *events: str) -> str:
    """Make a webhook and return its secret."""
    body = json.dumps({"url": url, "events": events, "description": "mine"})
    made = await on.bed.ask("POST", "/v1/webhooks", on.keys["acc_1"], data=body)
    assert made.status == 201, made.body
    return str(made.json["secret"])


async def _do(on: EventsBed, command: Any) -> None:
    assert isinstance(await on.bed.store.post(command), Done)


async def _pay_in(on: EventsBed, n: int = 1, **changes: Any) -> None:
    """Let a payment be claimed, seen in a block, and booked from a final one."""
    claimed = paying(n, **changes)
    seen = newer(claimed, state=TopUpState.SEEN, tx_hash=book(n).incoming.tx_hash)
    await _do(on, put(claimed))
    await _do(on, put(seen, "seen"))
    await _do(on, book(n, topup=credited(seen)))


async def _settle(on: EventsBed) -> None:
    """Let everything begin that may begin now, and leave it time to arrive."""
    await on.telling.sweep()
    await on.telling.deliver()
    await asyncio.sleep(5 * PAUSE_S)


async def test_a_subscriber_is_told_of_a_top_up_until_it_can_be_spent(on: EventsBed, receiver: Receiver) -> None:
    """Signed, in order, once each, however slowly it answers: seen, then credited with the receipt of GET /v1/receipts."""
    secret = await _subscribe(on, receiver.url, "topup.*")
    seen_gate = receiver.gates["topup.seen"] = asyncio.Event()
    await _pay_in(on)
    await receiver.until(1)
    await _settle(on)
    assert receiver.types == ["topup.seen"]
    seen_gate.set()
    await receiver.until(2)
    assert receiver.types == ["topup.seen", "topup.credited"]
    seen, told = (json.loads(each.body)["data"] for each in receiver.got)
    assert {name: told[name] for name in ("topup_id", "state", "amount", "receipt_id", "rail")} == {
        "topup_id": "top_0001",
        "state": "credited",
        "amount": "5.000000",
        "receipt_id": "rcv_0001",
        "rail": "x402",
    }
    assert (seen["state"], seen["receipt_id"]) == ("seen", None)
    delivery = receiver.got[1]
    assert verify_webhook(secret, delivery.headers, delivery.body.encode()) == told["id"]
    assert TOKEN.hex() not in delivery.body  # what is on no list is not told


async def test_only_the_event_that_was_asked_for_comes(on: EventsBed, receiver: Receiver) -> None:
    """Who subscribes to topup.credited hears of nothing else; a failed top-up is no credit."""
    await _subscribe(on, receiver.url, "topup.credited")
    failed = newer(paying(1), state=TopUpState.FAILED, reason="expired_unused")
    await _do(on, put(paying(1)))
    await _do(on, put(failed, "failed"))
    await _pay_in(on, 2)
    await receiver.until(1)
    assert receiver.types == ["topup.credited"]
    listed = await on.bed.ask("GET", "/v1/events?types=topup.failed", on.keys["acc_1"])
    (entry,) = listed.json["entries"]
    assert (entry["type"], entry["data"]["topup_id"]) == ("topup.failed", "top_0001")
    assert entry["data"]["reason"] == "expired_unused"


async def test_another_account_hears_nothing_of_it(on: EventsBed, receiver: Receiver) -> None:
    """Neither its webhook nor its list (P9)."""
    body = json.dumps({"url": receiver.url, "events": ["*"], "description": "theirs"})
    assert (await on.bed.ask("POST", "/v1/webhooks", on.keys["acc_2"], data=body)).status == 201
    await _pay_in(on)
    mine = await on.bed.ask("GET", "/v1/events?types=topup.*", on.keys["acc_1"])
    theirs = await on.bed.ask("GET", "/v1/events?types=topup.*", on.keys["acc_2"])
    assert [entry["type"] for entry in mine.json["entries"]] == ["topup.seen", "topup.credited"]
    assert theirs.json["entries"] == []
    assert not any(each.type.startswith("topup.") for each in receiver.got)

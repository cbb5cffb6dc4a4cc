"""Purchases through the whole agents' side: agents that hang up, repeat themselves, or come all at once."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.payment import Charge, Delivery, Transfer
from tests.unit.gateway.api.bed import Bed, opened


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    """The agents' side on real parts."""
    async with opened(tmp_path) as running:
        yield running


async def _begin(
    bed: Bed, method: str, body: bytes, idempotency_key: str | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask for a slow purchase, on a connection that no client repeats it on; return once the vendor has the credential."""
    host, _, port = bed.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    claim = f"Idempotency-Key: {idempotency_key}\r\n" if idempotency_key else ""
    head = f"{method} /proxy/shop/maybe/slow HTTP/1.1\r\nHost: x\r\nX-Api-Key: {bed.key}\r\n{claim}"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await bed.shop.paid.wait()
    return reader, writer


async def _hang_up(bed: Bed, body: bytes, *, idempotency_key: str | None = None) -> None:
    """Ask for a slow purchase and break the connection once the vendor has the credential."""
    _, writer = await _begin(bed, "POST", body, idempotency_key)
    writer.transport.abort()


@pytest.mark.parametrize("idempotency_key", [None, "k-1"])
async def test_agent_that_hangs_up_finds_its_purchase_again(bed: Bed, idempotency_key: str | None) -> None:
    """P4: the purchase goes on without its agent; the identical request gets its answer, and one charge stands."""
    await _hang_up(bed, b"same", idempotency_key=idempotency_key)
    await asyncio.sleep(0.05)
    bed.shop.gate.set()
    await bed.server.drain(5.0)
    await bed.answers.drain(5.0)
    [payment] = bed.store.view.open_payments.values()
    assert (payment.axes.delivery, payment.answered) == (Delivery.DELIVERED, False)
    headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
    again = await bed.ask("POST", "/proxy/shop/maybe/slow", data=b"same", headers=headers)
    assert (again.status, again.json["server"]) == (200, "srv-1")
    assert again.headers["X-Payment-Id"] == payment.id
    assert again.headers["Idempotent-Replayed"] == "true"
    assert bed.shop.sold == 1
    assert (await bed.ask("GET", "/v1/balance")).json["held"] == "0.250000"


async def test_agent_that_asks_again_meanwhile_waits_for_the_same_answer(bed: Bed) -> None:
    """A repeat while the first is under way joins it."""
    await _hang_up(bed, b"same")
    waiting = asyncio.create_task(bed.ask("POST", "/proxy/shop/maybe/slow", data=b"same"))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    bed.shop.gate.set()
    assert (await waiting).headers["Idempotent-Replayed"] == "true"
    assert bed.shop.sold == 1


async def test_answered_request_is_a_new_purchase_next_time(bed: Bed) -> None:
    """Who has the whole answer and asks again without a key wants another one."""
    first = await bed.ask("POST", "/proxy/shop/priced", data=b"x")
    second = await bed.ask("POST", "/proxy/shop/priced", data=b"x")
    assert first.headers["X-Payment-Id"] != second.headers["X-Payment-Id"]
    assert bed.shop.sold == 2


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_cancelled_handlers_do_not_cancel_purchases(bed: Bed, method: str) -> None:
    """A server that stops cancels its handlers; what was begun is still presented and recorded."""
    reader, writer = await _begin(bed, method, b"x")
    for connection in bed.server.connections:
        handler = connection._task_handler
        if handler is not None:
            handler.cancel()
    assert await reader.read() == b""
    writer.close()
    bed.shop.gate.set()
    await bed.server.drain(5.0)
    await bed.answers.drain(5.0)
    [payment] = bed.store.view.open_payments.values()
    assert (payment.axes.delivery, payment.axes.transfer) == (Delivery.DELIVERED, Transfer.PRESENTED)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_server_that_stops_waits_for_purchases(bed: Bed, method: str) -> None:
    """The time to stop in is given to what is under way: the agent gets its answer, and not a closed connection."""
    asking = asyncio.create_task(bed.ask(method, "/proxy/shop/maybe/slow", data=b"x"))
    await bed.shop.paid.wait()
    bed.server.refuse_new()
    draining = asyncio.create_task(bed.server.drain(5.0))
    await asyncio.sleep(0.05)
    assert not draining.done()
    bed.shop.gate.set()
    await draining
    assert (await asking).status == 200


async def test_a_hundred_at_once_never_overdraw(bed: Bed) -> None:
    """P2: 100 purchases at once on a balance that covers 40 make exactly 40 holds."""
    asked = [bed.ask("POST", "/proxy/shop/priced", data=b"%d" % n) for n in range(100)]
    answers = await asyncio.gather(*asked)
    assert Counter(got.status for got in answers) == {200: 40, 402: 60}
    assert bed.shop.sold == 40
    balance = (await bed.ask("GET", "/v1/balance")).json
    assert (balance["available"], balance["held"]) == ("0.000000", "10.000000")
    assert all(p.axes.charge is Charge.HELD for p in bed.store.view.open_payments.values())


async def test_one_idempotency_key_at_once_buys_once(bed: Bed) -> None:
    """The same key from twenty connections at once is one purchase with one answer."""
    headers = {"Idempotency-Key": "once"}
    answers = await asyncio.gather(
        *(bed.ask("POST", "/proxy/shop/priced", data=b"x", headers=headers) for _ in range(20))
    )
    assert {got.status for got in answers} == {200}
    assert len({got.headers["X-Payment-Id"] for got in answers}) == 1
    assert bed.shop.sold == 1


async def test_vendor_that_refuses_after_payment_names_the_payment(bed: Bed) -> None:
    """A vendor's own failure after payment is unknown: the money stays held, and the problem says where to look."""
    bed.shop.status = 500
    got = await bed.ask("POST", "/proxy/shop/priced", data=b"x")
    assert (got.status, got.code) == (504, "outcome_unknown")
    payment_id = got.headers["X-Payment-Id"]
    assert got.json["payment_id"] == payment_id
    assert got.headers["X-Balance-Available"] == "9.750000"
    detail = (await bed.ask("GET", f"/v1/payments/{payment_id}")).json
    assert (detail["delivery"], detail["charge"]) == ("unknown", "held")


async def test_vendors_word_on_the_agents_input_is_passed_on(bed: Bed) -> None:
    """A 422 about the agent's own body reaches the agent as it is, with no charge told."""
    bed.shop.status = 422
    got = await bed.ask("POST", "/proxy/shop/maybe/x", data=b"x")
    assert got.status == 422
    assert json.loads(got.body)["body"] == "x"
    assert got.headers["X-Charge"] == "0.250000"  # held until the vendor can no longer collect it

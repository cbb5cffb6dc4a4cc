"""Many at once through the real door: no overdraft, no second purchase, whatever the order in which they come (P2, P4)."""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import aiohttp
from e2e_agent import eventually
from world import uses_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from e2e_agent import Agent
    from world import World

TIMEOUT = aiohttp.ClientTimeout(total=90)
ASKED_AGAIN = 60


async def rent_at_once(agent: Agent, headers: Sequence[Mapping[str, str]]) -> list[tuple[int, Mapping[str, str], Any]]:
    """Make one request for each entry, all at the same time; return status, headers and document of each.

    Who has a key asks again when the vendor took longer than the gateway waits: on a busy machine a crowd can do that.
    """
    url = agent.gateway.base_url + "/proxy/vpsagent/rent"
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=TIMEOUT) as session:

        async def rent(more: Mapping[str, str]) -> tuple[int, Mapping[str, str], Any]:
            sent = {"Authorization": f"Bearer {agent.key}", **more}
            for _ in range(ASKED_AGAIN if "Idempotency-Key" in more else 1):
                async with session.post(url, json={"sku": "sandbox_1h"}, headers=sent) as answer:
                    found = answer.status, answer.headers.copy(), await answer.json(content_type=None)
                if found[2].get("code") != "outcome_unknown":
                    break
                await asyncio.sleep(1)
            return found

        return await asyncio.gather(*(rent(more) for more in headers))


async def test_balance_for_fifty_makes_fifty_of_two_hundred(world: World) -> None:
    """200 purchases at once on a balance that covers 50: 50 holds, 150 refusals, nothing below zero, and 50 collections."""
    agent = world.agent("25")
    answers = await rent_at_once(agent, [{"Idempotency-Key": f"purchase-{number}"} for number in range(200)])
    bought = [headers["X-Payment-Id"] for status, headers, _ in answers if status == 200]
    refused = [document["code"] for status, _, document in answers if status != 200]
    assert Counter(refused) == {"insufficient_balance": 150}
    assert (len(bought), len(set(bought))) == (50, 50)
    assert all(Decimal(headers["X-Balance-Available"]) >= 0 for _, headers, _ in answers)
    payments = await asyncio.to_thread(agent.payments)
    assert {payment["id"] for payment in payments} == set(bought)
    balance = await asyncio.to_thread(agent.balance)
    assert (balance["available"], balance["held"] + balance["spent"]) == (Decimal(0), Decimal(25))
    await asyncio.to_thread(_wait_all_captured, agent)
    nonces = {payment["authorization"]["nonce"] for payment in payments}
    collected = [use["topics"][2] for use in uses_of(world.base, world.gateway.home.wallet)]
    assert sorted(nonce for nonce in collected if nonce in nonces) == sorted(nonces)
    balance = await asyncio.to_thread(agent.balance)
    assert (balance["available"], balance["held"], balance["spent"]) == (Decimal(0), Decimal(0), Decimal(25))


async def test_one_key_fifty_times_is_one_purchase(world: World) -> None:
    """The same Idempotency-Key 50 times at once: one purchase, one box, 50 equal answers."""
    await _assert_one_purchase(world, [{"Idempotency-Key": "the-same"}] * 50)


async def test_identical_requests_without_a_key_are_one_purchase(world: World) -> None:
    """Identical requests that meet before any of them is answered are retries of one purchase."""
    await _assert_one_purchase(world, [{}] * 20)


async def test_two_renewals_at_once_are_one(world: World) -> None:
    """Two different renewals of a box meet: the vendor may accept either, the gateway pays for one and refuses the other."""
    agent = await asyncio.to_thread(world.agent, "60")
    rented = await asyncio.to_thread(agent.rent, "server_small_1mo")
    rental = rented.json()
    await asyncio.to_thread(agent.wait_closed, rented.headers["X-Payment-Id"])
    path = f"/proxy/vpsagent/rentals/{rental['rental_id']}/renew?token={rental['root_token']}"
    answers = await asyncio.gather(
        *(asyncio.to_thread(agent.ask, "POST", path, json={"periods": periods}) for periods in (1, 2))
    )
    paid = [answer for answer in answers if answer.status_code == 200]
    (other,) = (answer for answer in answers if answer.status_code != 200)
    assert len(paid) == 1
    assert other.status_code == 409
    assert len([p for p in await asyncio.to_thread(agent.payments) if p["route"] == "renew"]) == 1
    world.vendor.admin("POST", f"/admin/renewals/{rental['rental_id']}/complete")
    closed = await asyncio.to_thread(agent.wait_closed, paid[0].headers["X-Payment-Id"])
    assert closed["charge"] == "captured"


async def _assert_one_purchase(world: World, headers: Sequence[Mapping[str, str]]) -> None:
    agent = await asyncio.to_thread(world.agent, "25")
    answers = await rent_at_once(agent, headers)
    assert {status for status, _, _ in answers} == {200}
    (payment_id,) = {headers["X-Payment-Id"] for _, headers, _ in answers}
    assert all(document == answers[0][2] for _, _, document in answers)
    assert sum("Idempotent-Replayed" not in headers for _, headers, _ in answers) == 1
    (payment,) = await asyncio.to_thread(agent.payments)
    assert (payment["id"], payment["hold"]) == (payment_id, "0.500000")
    closed = await asyncio.to_thread(agent.wait_closed, payment_id)
    assert closed["charge"] == "captured"
    assert (await asyncio.to_thread(agent.balance))["spent"] == Decimal("0.5")


def _wait_all_captured(agent: Agent) -> None:
    eventually(
        lambda: all(payment["charge"] == "captured" for payment in agent.payments()),
        within_s=60,
        pause_s=0.5,
        what="the end of every purchase",
    )

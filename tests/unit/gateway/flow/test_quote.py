"""Which offers are held money for: payees by chain, prices by approval, ceilings, and which task a refusal opens."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from contracts.codec import Address, checksum, to_hex
from contracts.tokens import BASE_SEPOLIA_USDC, BASE_USDC, Token
from gateway.core.commands import ApprovePayee
from tests.unit.gateway.flow.spend_bed import NOW_MS, PAYEE, WALLET, Bed, always, challenge, opened, respond, shop

MAIN, TEST = BASE_USDC.chain_id, BASE_SEPOLIA_USDC.chain_id
STRANGER = Address(b"\x55" * 20)


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    """A shop whose configuration names no payee: only what the operator approved may be paid."""
    async with opened(tmp_path) as running:
        running.vendors["shop"] = shop(payees=frozenset())
        yield running


def asks(bed: Bed, *tokens: Token, **changes: Any) -> None:
    """Let the shop ask for a payment in these tokens."""
    bed.line.first = always(respond(402, json.dumps(challenge(*tokens, **changes)).encode()))


async def approve(bed: Bed, chain_id: int, pay_to: Address = PAYEE, vendor: str = "shop") -> None:
    """The operator approves a payee."""
    await bed.post(ApprovePayee(vendor, chain_id, pay_to, "me", NOW_MS))


async def test_a_payee_that_nobody_approved_is_asked_about(bed: Bed) -> None:
    """P8: first sight is a task, never a payment."""
    asks(bed, BASE_USDC)
    problem = await bed.refused("/priced/x")
    assert problem.code == "payee_not_allowed"
    assert await bed.tasks() == [("payee_unknown", f"shop/{MAIN}/{checksum(PAYEE)}")]
    assert bed.line.presented == []


async def test_a_payee_is_paid_on_the_chain_that_it_was_approved_on(bed: Bed) -> None:
    """Approved where it asks, it is paid."""
    await approve(bed, MAIN)
    asks(bed, BASE_USDC)
    assert (await bed.run("/priced/x")).status == 200
    assert bed.open[0].terms.chain_id == MAIN


async def test_a_payee_approved_on_another_chain_is_asked_about(bed: Bed) -> None:
    """P8: the same address may be another's on another chain; the task names the chain that was asked for."""
    await approve(bed, TEST)
    asks(bed, BASE_USDC)
    problem = await bed.refused("/priced/x")
    assert problem.code == "payee_not_allowed"
    assert await bed.tasks() == [("payee_unknown", f"shop/{MAIN}/{checksum(PAYEE)}")]
    assert bed.line.presented == []
    await approve(bed, MAIN)
    assert (await bed.run("/priced/x")).status == 200


async def test_a_payee_of_another_vendor_is_not_this_ones(bed: Bed) -> None:
    """An approval is for one vendor."""
    await approve(bed, MAIN, vendor="other")
    asks(bed, BASE_USDC)
    assert (await bed.refused("/priced/x")).code == "payee_not_allowed"


async def test_of_two_chains_the_approved_one_is_paid(bed: Bed) -> None:
    """A challenge that offers both is paid where it may be, in whichever order it names them."""
    await approve(bed, TEST)
    for number, tokens in enumerate([(BASE_USDC, BASE_SEPOLIA_USDC), (BASE_SEPOLIA_USDC, BASE_USDC)]):
        asks(bed, *tokens)
        assert (await bed.run(f"/priced/{number}")).status == 200
    assert [payment.terms.chain_id for payment in bed.open] == [TEST, TEST]


async def test_a_payee_of_the_configuration_is_paid_on_every_chain(bed: Bed) -> None:
    """The operator wrote it down for the vendor, whose tokens it may be paid in."""
    bed.vendors["shop"] = shop()
    for token in (BASE_USDC, BASE_SEPOLIA_USDC):
        asks(bed, token)
        assert (await bed.run(f"/priced/{token.chain_id}")).status == 200


async def test_our_own_wallet_is_never_a_payee(bed: Bed) -> None:
    """Also if somebody approved it."""
    await approve(bed, MAIN, WALLET)
    asks(bed, BASE_USDC, payTo=checksum(WALLET))
    await bed.refused("/priced/x")
    assert bed.line.presented == []


async def test_the_signer_does_not_take_the_quotes_word(bed: Bed) -> None:
    """A payee that the book approved and the guard was not told of is not signed for; the operator is asked, once."""
    await approve(bed, MAIN, STRANGER)
    asks(bed, BASE_USDC, payTo=checksum(STRANGER))
    with structlog.testing.capture_logs() as lines:
        for _ in range(2):
            assert (await bed.refused("/priced/x")).code == "signing_refused"
    assert (bed.open, await bed.tasks()) == ([], [("signing_refused", to_hex(WALLET))])
    (task,) = await bed.store.query("SELECT detail FROM tasks")
    assert task["detail"].startswith("payee_not_allowed: ")
    assert [line["event"] for line in lines if line["log_level"] == "error"] == [
        *("signing.refused", "task.opened", "signing.refused")
    ]


async def test_a_price_above_the_ceiling_is_refused_without_a_task(bed: Bed) -> None:
    """Nobody may approve it on the way: the ceiling is configuration."""
    await approve(bed, MAIN)
    asks(bed, BASE_USDC, maxAmountRequired="1000001")
    assert (await bed.refused("/priced/x")).code == "price_above_ceiling"
    assert await bed.tasks() == []
    asks(bed, BASE_USDC, maxAmountRequired="1000000")
    assert (await bed.run("/priced/x")).charge_base == 1_000_000


async def test_a_free_route_that_asks_is_never_paid(bed: Bed) -> None:
    """Its document says that it is free: somebody must look."""
    await approve(bed, MAIN)
    bed.line.first = always(respond(402, json.dumps(challenge()).encode()))
    assert (await bed.refused("/free/x")).code == "unexpected_challenge"
    assert await bed.tasks() == [("unexpected_challenge", "shop/free")]


async def test_the_hold_is_in_dollars_at_the_operators_rate(bed: Bed) -> None:
    """A token at half a dollar costs half, rounded up, and the ceiling is in dollars as well."""
    vendor = shop()
    vendor.terms = replace(vendor.terms, rate_ppm={BASE_USDC.asset_id: 500_000})
    bed.vendors["shop"] = vendor
    asks(bed, BASE_USDC, maxAmountRequired="1999999")
    assert (await bed.run("/priced/x")).charge_base == 1_000_000
    asks(bed, BASE_USDC, maxAmountRequired="2000001")
    assert (await bed.refused("/priced/y")).code == "price_above_ceiling"

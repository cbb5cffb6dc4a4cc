"""What counts against an inventory cap: what is held, and every payment that may still land."""

from dataclasses import replace

import pytest

from gateway.core import chart
from gateway.core.inventory import InventoryCap, held_base
from gateway.core.ledger import Ledger
from gateway.core.money import USD
from gateway.core.paid import TopUpState
from tests.factories import ASSET, CHAIN_ID, TOKEN
from tests.paid_factories import AMOUNT, make_topup, paying

CAP = InventoryCap((CHAIN_ID, TOKEN), ASSET, 20_000_000)
OTHER_ASSET = "eip155:1/erc20:0x42"


def test_the_room_is_what_the_cap_leaves() -> None:
    """Below zero where more is held than is wanted."""
    assert CAP.room_base(0, ()) == 20_000_000
    assert CAP.room_base(12_000_000, ()) == 8_000_000
    assert CAP.room_base(21_000_000, ()) == -1_000_000


@pytest.mark.parametrize(
    ("state", "counts"),
    [(state, state in {TopUpState.PAYING, TopUpState.SEEN}) for state in TopUpState if state is not TopUpState.OPEN],
)
def test_a_payment_counts_while_it_may_land(state: TopUpState, *, counts: bool) -> None:
    """From its claim to its end; once it is credited it is in the till's account instead."""
    assert CAP.room_base(0, [paying(state=state)]) == 20_000_000 - counts * AMOUNT


def test_only_payments_in_the_token_count() -> None:
    """Neither an order that nobody pays, nor another token's payment, nor the same address on another chain."""
    others = [make_topup(1), paying(2, token=b"\x42" * 20), paying(3, chain_id=CHAIN_ID + 1)]
    assert CAP.room_base(0, others) == 20_000_000
    assert CAP.room_base(0, [*others, paying(4)]) == 20_000_000 - AMOUNT


def test_what_is_held_is_what_wallets_and_tills_hold() -> None:
    """All addresses of one asset, with what they have promised; no other asset, and no account that is not a wallet's."""
    ledger = Ledger()
    capital, loss = (chart.ensure(ledger, code, ASSET) for code in (chart.HOUSE_CAPITAL, chart.HOUSE_LOSS))
    one, two = (chart.ensure(ledger, chart.wallet(address), ASSET) for address in ("0x1", "0x2"))
    elsewhere = chart.ensure(ledger, chart.wallet("0x1"), OTHER_ASSET)
    ledger.move(one, capital, 5)
    ledger.move(two, capital, 3)
    ledger.move(loss, capital, 100)
    ledger.move(elsewhere, chart.ensure(ledger, chart.HOUSE_CAPITAL, OTHER_ASSET), 50)
    held = ledger.reserve(chart.ensure(ledger, chart.fx(ASSET), ASSET), two, 2)
    assert (held_base(ledger, ASSET), held_base(ledger, OTHER_ASSET), held_base(ledger, USD)) == (8, 50, 0)
    ledger.post(held.id)
    assert held_base(ledger, ASSET) == 6


def test_a_cap_is_of_one_token() -> None:
    """A cap of nothing has no room."""
    assert replace(CAP, cap_base=0).room_base(0, ()) == 0

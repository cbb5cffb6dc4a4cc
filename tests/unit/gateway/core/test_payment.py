"""The three machines and the table over delivery and transfer, exhaustively."""

import re
from itertools import product

import pytest

from gateway.core.payment import (
    CHARGE_MOVES,
    DELIVERY_MOVES,
    TABLE,
    TRANSFER_MOVES,
    Action,
    Axes,
    Charge,
    Delivery,
    DisputeCaps,
    Fault,
    IllegalMove,
    Transfer,
    settle_dispute,
)

ALL_AXES = [Axes(*axes) for axes in product(Delivery, Transfer, Charge)]

# The table as it was designed, cell by cell; docs/design.md has it as it is (tests/test_documents.py).
DESIGN_TABLE = """
| delivery \\ transfer | none / prepared | presented | settled | dead |
|---|---|---|---|---|
| none | hold stays | hold stays | dispute rule | void |
| delivered | hold stays | hold stays (pay-on-success: the agent uses it meanwhile) | **capture** | void; counts to the account's unpaid-delivery limit |
| refused | void | hold stays | dispute rule | void |
| unknown | hold stays | hold stays | hold until delivery is found or `delivery_deadline_s`, then dispute rule | void |
"""  # noqa: E501 - the design's own lines
ACTIONS = {
    "hold stays": Action.HOLD,
    "dispute rule": Action.DISPUTE,
    "void": Action.VOID,
    "**capture**": Action.CAPTURE,
    "hold until delivery is found or `delivery_deadline_s`, then dispute rule": Action.AWAIT_DELIVERY,
}
# Collected before the vendor answered at all: its call may still be running, so delivery is awaited first.
DIFFERENCES = {(Delivery.NONE, Transfer.SETTLED): Action.AWAIT_DELIVERY}


def design_table() -> dict[tuple[Delivery, Transfer], Action]:
    """Return the design's table as data."""
    head, _, *lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in DESIGN_TABLE.strip().splitlines()
    ]
    found: dict[tuple[Delivery, Transfer], Action] = {}
    for name, *cells in lines:
        for columns, cell in zip(head[1:], cells, strict=True):
            action = ACTIONS[re.sub(r"\s*[;(].*", "", cell)]
            for column in columns.split(" / "):
                found[Delivery(name), Transfer(column)] = action
    return found


def test_the_table_is_the_designs() -> None:
    """Every cell says what was designed, but for the one that decision 1 explains."""
    assert {**design_table(), **DIFFERENCES} == TABLE


def test_every_cell_is_there() -> None:
    """The table has an answer for each pair, so no payment can get stuck on a missing one."""
    assert set(TABLE) == set(product(Delivery, Transfer))


@pytest.mark.parametrize(
    "moves", [DELIVERY_MOVES, TRANSFER_MOVES, CHARGE_MOVES], ids=["delivery", "transfer", "charge"]
)
def test_every_state_has_its_arrows(moves: dict[Delivery, frozenset[Delivery]]) -> None:
    """Each state is listed, no arrow leads to where it starts, and some state is the end."""
    states = set(next(iter(moves)).__class__)
    assert set(moves) == states
    assert all(state not in targets and targets <= states for state, targets in moves.items())
    assert any(not targets for targets in moves.values())


@pytest.mark.parametrize("axes", ALL_AXES, ids=str)
def test_deliver_follows_the_arrows_alone(axes: Axes) -> None:
    """A listed move changes delivery and nothing else; any other raises and changes nothing."""
    before = (axes.delivery, axes.transfer, axes.charge)
    for to in Delivery:
        if to is axes.delivery:
            assert axes.deliver(to) is axes
        elif to in DELIVERY_MOVES[axes.delivery]:
            assert axes.deliver(to) == Axes(to, axes.transfer, axes.charge)
        else:
            with pytest.raises(IllegalMove, match=f"delivery {axes.delivery} -> {to}"):
                axes.deliver(to)
    assert (axes.delivery, axes.transfer, axes.charge) == before


@pytest.mark.parametrize("axes", ALL_AXES, ids=str)
def test_transferred_follows_the_arrows_alone(axes: Axes) -> None:
    """A listed move changes transfer and nothing else; any other raises and changes nothing."""
    before = (axes.delivery, axes.transfer, axes.charge)
    for to in Transfer:
        if to is axes.transfer:
            assert axes.transferred(to) is axes
        elif to in TRANSFER_MOVES[axes.transfer]:
            assert axes.transferred(to) == Axes(axes.delivery, to, axes.charge)
        else:
            with pytest.raises(IllegalMove, match=f"transfer {axes.transfer} -> {to}"):
                axes.transferred(to)
    assert (axes.delivery, axes.transfer, axes.charge) == before


@pytest.mark.parametrize("axes", ALL_AXES, ids=str)
def test_charged_closes_once(axes: Axes) -> None:
    """Only a held charge closes; closing it again raises, in the same way too."""
    before = (axes.delivery, axes.transfer, axes.charge)
    for to in Charge:
        if axes.charge is Charge.HELD and to is not Charge.HELD:
            assert axes.charged(to) == Axes(axes.delivery, axes.transfer, to)
        else:
            with pytest.raises(IllegalMove, match=f"charge {axes.charge} -> {to}"):
                axes.charged(to)
    assert (axes.delivery, axes.transfer, axes.charge) == before


@pytest.mark.parametrize("axes", ALL_AXES, ids=str)
def test_a_closed_charge_asks_for_nothing_more(axes: Axes) -> None:
    """The table speaks only while the charge is held."""
    expected = TABLE[axes.delivery, axes.transfer] if axes.charge is Charge.HELD else Action.HOLD
    assert axes.action is expected


def test_a_missing_cell_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a cell there is no answer, least of all a guessed one."""
    monkeypatch.delitem(TABLE, (Delivery.NONE, Transfer.NONE))
    with pytest.raises(IllegalMove, match="no cell for delivery none, transfer none"):
        _ = Axes().action


DISPUTES = """
    fault   amount  cap  spent   charge
    vendor      10   10      0   refunded
    vendor      10   20     10   refunded
    vendor      10   20     11   held
    vendor      10    9      0   held
    vendor      10    0      0   held
    agent       10    0      0   captured
    agent       10  100      0   captured
    none        10  100      0   held
    none        10    0      0   held
"""


@pytest.mark.parametrize("line", DISPUTES.strip().splitlines()[1:])
def test_dispute_rule(line: str) -> None:
    """The house pays for the vendor's fault alone, within the cap; the agent for its own; the rest is a human's."""
    fault, amount, cap, spent, charge = line.split()
    caps = DisputeCaps(cap_base=int(cap), spent_today_base=int(spent))
    assert settle_dispute(Fault(fault), int(amount), caps) is Charge(charge)

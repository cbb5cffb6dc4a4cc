"""The chart of accounts."""

import pytest

from gateway.core import chart
from gateway.core.ledger import Ledger, Side


def test_agents_and_wallets_may_never_owe_and_stand_on_opposite_sides() -> None:
    """A balance is the house's debt, a token inventory its property; both are floored."""
    ledger = Ledger()
    agent = chart.ensure(ledger, chart.agent("acc_1"))
    wallet = chart.ensure(ledger, chart.wallet("0xab"), "TOK")
    assert (agent.code, agent.asset, agent.side, agent.floored) == ("agent:acc_1", "USD", Side.CREDIT, True)
    assert (wallet.code, wallet.asset, wallet.side, wallet.floored) == ("wallet:0xab", "TOK", Side.DEBIT, True)


@pytest.mark.parametrize(
    "code",
    [
        chart.HOUSE_CREDIT,
        chart.HOUSE_LOSS,
        chart.HOUSE_CAPITAL,
        chart.SUSPENSE,
        chart.suspense("0xab"),
        chart.fx("TOK"),
    ],
)
def test_the_houses_accounts_may_stand_on_either_side(code: str) -> None:
    """What the house bears has no floor."""
    assert not chart.ensure(Ledger(), code).floored


def test_ensure_opens_once() -> None:
    """Asking again gives the same account."""
    ledger = Ledger()
    assert chart.ensure(ledger, "fx:TOK") is chart.ensure(ledger, "fx:TOK")
    assert chart.ensure(ledger, "fx:TOK", "TOK") is not chart.ensure(ledger, "fx:TOK")


def test_an_unknown_kind_is_refused() -> None:
    """No account comes to be outside the chart."""
    ledger = Ledger()
    with pytest.raises(KeyError):
        chart.ensure(ledger, "slush:fund")
    assert ledger.accounts() == []

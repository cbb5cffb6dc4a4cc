"""The ledger, as tables: one transfer a row with what it gives, and the balances at the end.

`cash` may owe (the house's side), `alice` and `bob` may not (agents' balances), `purse` may not run dry (a wallet's
tokens), `mine` brings tokens in.  `of` names the reservation that a row closes, `result` is the transfer's id or the error.
"""

import re
from collections.abc import Callable

import pytest

from gateway.core.ledger import Account, Ledger, LedgerError, Overdraft, Phase, Side, Transfer, imbalance
from gateway.core.money import AmountError
from tests.factories import ledger_account

CHART = {
    "cash": ("USD", Side.DEBIT, False),
    "alice": ("USD", Side.CREDIT, True),
    "bob": ("USD", Side.CREDIT, True),
    "shop": ("USD", Side.CREDIT, False),
    "purse": ("TOK", Side.DEBIT, True),
    "mine": ("TOK", Side.DEBIT, False),
    "out": ("TOK", Side.CREDIT, False),
}

CASES = {
    "credit, then spend it all and no more": """
        move     cash   alice   100      1
        move     alice  shop     60      2
        move     alice  shop     41      overdraft
        move     alice  shop     40      3
        move     alice  shop      1      overdraft
        = alice      0    0
        = shop     100    0
        = cash     100    0
    """,
    "a reservation is not available twice": """
        move     cash   alice   100      1
        reserve  alice  shop     60      2
        reserve  alice  shop     41      overdraft
        move     alice  shop     41      overdraft
        reserve  alice  shop     40      3
        = alice      0  100
        = shop       0    0
    """,
    "posting the whole reservation": """
        move     cash   alice   100      1
        reserve  alice  shop     60      2
        post     -      -         -   2  3
        = alice     40    0
        = shop      60    0
    """,
    "posting a part gives the rest back": """
        move     cash   alice   100      1
        reserve  alice  shop     60      2
        post     -      -        25   2  3
        = alice     75    0
        = shop      25    0
    """,
    "a capture is never larger than its hold, nor nothing": """
        move     cash   alice   100      1
        reserve  alice  shop     60      2
        post     -      -        61   2  error
        post     -      -         0   2  error
        post     -      -        -1   2  error
        = alice     40   60
        post     -      -        60   2  3
        = alice     40    0
    """,
    "voiding gives everything back": """
        move     cash   alice   100      1
        reserve  alice  shop     60      2
        void     -      -         -   2  3
        = alice    100    0
        = shop       0    0
    """,
    "a reservation closes once, whichever way": """
        move     cash   alice   100      1
        reserve  alice  shop     30      2
        reserve  alice  shop     30      3
        post     -      -         -   2  4
        post     -      -         -   2  error
        void     -      -         -   2  error
        void     -      -         -   3  5
        void     -      -         -   3  error
        post     -      -         1   3  error
        post     -      -         1   9  error
        = alice     70    0
        = shop      30    0
    """,
    "incoming reservations are not money yet": """
        move     cash   alice   100      1
        reserve  alice  bob      60      2
        move     bob    shop      1      overdraft
        post     -      -         -   2  3
        move     bob    shop     60      4
        = bob        0    0
    """,
    "a wallet never signs away more than it holds": """
        move     purse  mine    100      1
        reserve  out    purse    70      2
        reserve  out    purse    31      overdraft
        move     out    purse    31      overdraft
        reserve  out    purse    30      3
        post     -      -        70   2  4
        void     -      -         -   3  5
        = purse     30    0
        move     mine   purse    30      6
        = purse      0    0
    """,
    "an account that may owe, owes": """
        move     shop   cash     10      1
        move     out    mine      5      2
        = shop     -10    0
        = mine      -5    0
    """,
    "assets do not mix, and nobody pays himself": """
        move     cash   alice   100      1
        move     alice  purse    10      error
        reserve  alice  out      10      error
        move     alice  alice    10      error
        = alice    100    0
        = purse      0    0
    """,
    "an amount is a positive integer within the limit": """
        move     cash   alice     0      error
        move     cash   alice    -5      error
        move     cash   alice   1000000000000001   error
        reserve  cash   alice     0      error
        move     cash   alice   1000000000000000   1
        = alice   1000000000000000    0
    """,
}


def opened() -> Ledger:
    """Return a ledger with the accounts of CHART."""
    ledger = Ledger()
    for code, (asset, side, floored) in CHART.items():
        ledger.open(code, asset, side, floored=floored)
    return ledger


def totals(ledger: Ledger) -> list[tuple[int, int, int, int]]:
    """Return the four running totals of every account."""
    return [(a.debits_pending, a.debits_posted, a.credits_pending, a.credits_posted) for a in ledger.accounts()]


def attempt(act: Callable[[], Transfer]) -> str:
    """Return the transfer's id, or the name of the refusal."""
    try:
        return str(act().id)
    except Overdraft:
        return "overdraft"
    except (LedgerError, AmountError):
        return "error"


def step(ledger: Ledger, row: list[str]) -> tuple[str, str]:
    """Carry out one row; return what it gave and what it should have given."""
    verb, debit, credit, amount, *rest = row
    if verb in {"move", "reserve"}:
        accounts = [ledger_account(ledger, code, CHART[code][0]) for code in (debit, credit)]
        return attempt(lambda: getattr(ledger, verb)(*accounts, int(amount))), rest[0]
    pending_id = int(rest[0])
    if verb == "void":
        return attempt(lambda: ledger.void(pending_id)), rest[1]
    return attempt(lambda: ledger.post(pending_id, None if amount == "-" else int(amount))), rest[1]


@pytest.mark.parametrize("table", CASES.values(), ids=CASES.keys())
def test_table(table: str) -> None:
    """Each row gives what it says, a refusal changes nothing, and debits equal credits after every row."""
    ledger = opened()
    for line in table.strip().splitlines():
        row = line.split()
        if row[0] == "=":
            account = ledger_account(ledger, row[1], CHART[row[1]][0])
            assert (account.available_base, account.reserved_base) == (int(row[2]), int(row[3])), line
            continue
        before = totals(ledger)
        got, expected = step(ledger, row)
        assert got == expected, line
        if not got.isdigit():
            assert totals(ledger) == before, line
        assert imbalance(ledger.accounts()) == {}


def test_an_overdraft_says_what_there_is() -> None:
    """The refusal carries the account, the asset, what is available and what was wanted."""
    ledger = opened()
    cash, alice = ledger_account(ledger, "cash", "USD"), ledger_account(ledger, "alice", "USD")
    ledger.move(cash, alice, 5)
    with pytest.raises(Overdraft) as caught:
        ledger.move(alice, cash, 6)
    refusal = caught.value
    assert (refusal.code, refusal.asset, refusal.available_base, refusal.wanted_base) == ("alice", "USD", 5, 6)


def test_transfers_are_numbered_from_where_the_store_ended() -> None:
    """Ids never repeat after a restart, and never go back."""
    ledger = opened()
    ledger.start_after(41)
    ledger.start_after(7)
    cash, alice = ledger_account(ledger, "cash", "USD"), ledger_account(ledger, "alice", "USD")
    assert ledger.move(cash, alice, 1) == Transfer(42, Phase.DIRECT, cash.id, alice.id, 1)


def test_an_account_exists_once_per_asset() -> None:
    """The same code may stand in two assets, but not twice in one; a missing account is None."""
    ledger = opened()
    ledger.open("alice", "TOK", Side.CREDIT, floored=True)
    with pytest.raises(LedgerError, match=re.escape("alice in USD exists")):
        ledger.open("alice", "USD", Side.CREDIT, floored=True)
    assert ledger.find("nobody", "USD") is None


def test_imbalance_names_the_asset_that_is_off() -> None:
    """One unit too many in one asset shows there and nowhere else."""
    accounts = [
        Account(1, "a", "USD", Side.CREDIT, floored=True, credits_posted=5),
        Account(2, "b", "USD", Side.DEBIT, floored=False, debits_posted=4),
        Account(3, "c", "TOK", Side.DEBIT, floored=False, debits_posted=1),
        Account(4, "d", "TOK", Side.CREDIT, floored=False, credits_posted=1),
    ]
    assert imbalance(accounts) == {"USD": -1}

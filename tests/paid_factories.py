"""Ready-made records and commands of being paid: every argument is optional, and `n` keeps several of a kind apart."""

import json
from dataclasses import replace
from hashlib import sha256
from typing import Any

from gateway.core.book import Book
from gateway.core.commands import Command, Refused, Result
from gateway.core.ledger import imbalance
from gateway.core.money import USD
from gateway.core.paid import (
    Incoming,
    Refund,
    Relay,
    RelayAttempt,
    SellerTerms,
    Settlement,
    TopUp,
    TopUpState,
    WalletAccount,
)
from gateway.core.paid_commands import BookIncoming, ClaimSettlement, MoveRefund, MoveSettlements, OpenRefund, PutTopUp
from gateway.core.records import Evidence
from gateway.core.view import View
from gateway.store.core import StoreCore
from gateway.store.load import load_book, verify_book
from gateway.store.reader import SqliteReader
from tests.factories import ASSET, CHAIN_ID, HOUR_MS, NOW_MS, TOKEN, book_state, leaves_nothing, make_evidence

TILL = b"\x11" * 20
PAYER = b"\x22" * 20
RELAYER = b"\x33" * 20
SELLER = "acc_1"
AMOUNT = 5_000_000


def digest(text: str) -> bytes:
    """Return 32 bytes that stand for a text."""
    return sha256(text.encode()).digest()


def make_settlement(n: int = 1, **changes: Any) -> Settlement:
    """Return a claimed settlement of a seller's for five tokens."""
    settlement = Settlement(
        id=f"stl_{n:04}",
        account_id=SELLER,
        chain_id=CHAIN_ID,
        token=TOKEN,
        authorizer=PAYER,
        nonce=digest(f"authorization {n}"),
        pay_to=b"\x44" * 20,
        value_base=AMOUNT,
        valid_after_s=0,
        valid_before_s=NOW_MS // 1000 + 600,
        signature=b"signature %d" % n,
        contract_wallet=False,
        created_at_ms=NOW_MS,
    )
    return replace(settlement, **changes)


def claim(n: int = 1, **changes: Any) -> ClaimSettlement:
    """Return the claim of settlement n."""
    return ClaimSettlement(make_settlement(n, **changes), NOW_MS)


def make_relay(n: int = 1, *settlement_ids: str, **changes: Any) -> Relay:
    """Return a relayer's transaction that was sent with account nonce n; it carries settlement n unless told otherwise."""
    attempt = RelayAttempt(digest(f"relay {n}"), b"raw %d" % n, 2 * 10**9, 10**9, NOW_MS)
    relay = Relay(
        id=f"rly_{n:04}",
        chain_id=CHAIN_ID,
        relayer=RELAYER,
        account_nonce=n,
        purpose="single",
        settlement_ids=settlement_ids or (f"stl_{n:04}",),
        gas=100_000,
        attempts=(attempt,),
        created_at_ms=NOW_MS,
    )
    return replace(relay, **changes)


def move(event: str, relay: Relay | None, *settlements: Settlement) -> MoveSettlements:
    """Return the command that writes down what happened."""
    return MoveSettlements(settlements, relay, event, NOW_MS + 1_000)


def newer(record: Any, **changes: Any) -> Any:
    """Return a record's next version."""
    return replace(record, **{"version": record.version + 1, **changes})


def make_topup(n: int = 1, **changes: Any) -> TopUp:
    """Return an order of acc_1 for USD 5 that nobody has paid."""
    topup = TopUp(
        id=f"top_{n:04}",
        account_id="acc_1",
        amount_base=AMOUNT,
        pack="",
        client_token=f"topup {n}",
        fingerprint=digest(f"topup {n}"),
        created_at_ms=NOW_MS,
        expires_at_ms=NOW_MS + HOUR_MS,
    )
    return replace(topup, **changes)


def paying(n: int = 1, payment: int | None = None, **changes: Any) -> TopUp:
    """Return order n with payment n (or another) claimed for it."""
    how = {
        "state": TopUpState.PAYING,
        "rail": "x402",
        "chain_id": CHAIN_ID,
        "token": TOKEN,
        "payer": PAYER,
        "nonce": digest(f"authorization {payment or n}"),
        "value_base": AMOUNT,
        "valid_before_s": NOW_MS // 1000 + 600,
    }
    return make_topup(n, **{**how, **changes})


def put(topup: TopUp, event: str = "paying") -> PutTopUp:
    """Return the command that keeps an order."""
    return PutTopUp(topup, event, NOW_MS + 1_000)


def make_received(n: int = 1, **changes: Any) -> Evidence:
    """Return the proof that a till received five tokens."""
    return make_evidence(n, **{"kind": "received", "payment_id": None, "value_base": AMOUNT, **changes})


def make_incoming(n: int = 1, **changes: Any) -> Incoming:
    """Return five tokens that a till received and that are nobody's yet."""
    seen = make_received(n)
    assert seen.tx_hash is not None
    assert seen.log_index is not None
    incoming = Incoming(
        id=f"rcv_{n:04}",
        chain_id=CHAIN_ID,
        token=TOKEN,
        asset=ASSET,
        till=TILL,
        sender=PAYER,
        value_base=AMOUNT,
        tx_hash=seen.tx_hash,
        log_index=seen.log_index,
        block_number=seen.block_number,
        block_time_s=seen.block_time_s,
        nonce=digest(f"authorization {n}"),
        at_ms=NOW_MS,
        amount_base=AMOUNT,
    )
    return replace(incoming, **changes)


def book(
    n: int = 1, *, topup: TopUp | None = None, wallet: WalletAccount | None = None, **changes: Any
) -> BookIncoming:
    """Return the command that books receipt n: of an order, of `account_id`, or of nobody."""
    incoming = make_incoming(n, **changes)
    proof = make_received(n, value_base=incoming.value_base)
    return BookIncoming(incoming, proof, topup, wallet, "a wallet", f"task_in_{n}", NOW_MS + 2_000)


def credited(topup: TopUp) -> TopUp:
    """Return an order's next version as whoever books its payment writes it."""
    return newer(topup, state=TopUpState.CREDITED)


def make_wallet(n: int = 1, **changes: Any) -> WalletAccount:
    """Return the account that the payer's key opens."""
    return replace(WalletAccount(PAYER, f"acct_w{n}", NOW_MS), **changes)


def make_refund(n: int = 1, receipt: int = 1, **changes: Any) -> Refund:
    """Return two of the five dollars of a receipt on their way back to its payer."""
    refund = Refund(
        id=f"ref_{n:04}",
        account_id="acc_1",
        key_id="key_1",
        receipt_id=f"rcv_{receipt:04}",
        amount_base=2_000_000,
        chain_id=CHAIN_ID,
        token=TOKEN,
        asset=ASSET,
        till=TILL,
        to=PAYER,
        value_base=2_000_000,
        nonce=digest(f"refund {n}"),
        valid_before_s=NOW_MS // 1000 + 3_600,
        signature=b"signature %d" % n,
        client_token=f"refund {n}",
        fingerprint=digest(f"refund {n}"),
        created_at_ms=NOW_MS,
    )
    return replace(refund, **changes)


def refund(n: int = 1, **changes: Any) -> OpenRefund:
    """Return the command that holds refund n."""
    return OpenRefund(make_refund(n, **changes), NOW_MS + 3_000)


def moved(refund: Refund, evidence: Evidence | None = None) -> MoveRefund:
    """Return the command that writes a refund's state down."""
    return MoveRefund(refund, evidence, refund.state.value, NOW_MS + 4_000)


def make_seller(**changes: Any) -> SellerTerms:
    """Return what acc_1 may do at the facilitator."""
    return replace(SellerTerms(SELLER, 10**15, 86_400, 0.5, (), NOW_MS), **changes)


class Desk:
    """A store core with the view that follows it; `prove` holds memory, disk, view and every proof against each other."""

    def __init__(self, core: StoreCore) -> None:
        self.core, self.view = core, View()
        self.view.load(core.book)

    def post(self, *commands: Command) -> Result:
        """Post commands as one group; return the last one's result."""
        results, step = self.core.post(commands)
        self.view.advance(step)
        return results[-1]

    def refused(self, command: Command) -> str:
        """Post a command that is refused and leaves nothing; return the code."""
        result = leaves_nothing(self.core, command)
        assert isinstance(result, Refused), result
        return result.code

    def posted(self, code: str, asset: str = USD) -> int:
        """Return an account's balance on the side where it normally stands."""
        account = self.core.book.ledger.find(code, asset)
        return 0 if account is None else account.posted_base

    def available(self, account_id: str = "acc_1") -> int:
        """Return what an account may spend."""
        return self.view.balances[account_id].available_base

    def last(self) -> dict[str, Any]:
        """Return the newest journal row's content."""
        row = self.core.db.execute("SELECT body FROM journal ORDER BY seq DESC LIMIT 1").fetchone()
        content: dict[str, Any] = json.loads(row[0])
        return content

    def kinds(self, count: int) -> list[str]:
        """Return the newest journal rows' kinds, in order."""
        rows = self.core.db.execute("SELECT kind FROM journal ORDER BY seq DESC LIMIT ?", (count,)).fetchall()
        return [row[0] for row in reversed(rows)]

    def prove(self) -> None:
        """P1, P2 and P12: the proofs hold, a restart finds the same book, and the view shows what a new one would."""
        assert imbalance(self.core.book.ledger.accounts()) == {}
        verify_book(self.core.db)
        again = Book(SqliteReader(self.core.db), self.core.book.rules)
        load_book(self.core.db, again)
        assert book_state(again) == book_state(self.core.book)
        seen = View()
        seen.load(again)
        assert seen == self.view

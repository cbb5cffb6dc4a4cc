"""What must be true of a gateway's directory after it has stopped, from the store's, the chain's and the vendor's books."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from world import TRANSFER, uses_of

from contracts.tokens import BASE_USDC
from gateway.core.ledger import Side
from gateway.store.load import verify_book

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from sandbox.chain import LocalBase


@dataclass(frozen=True, slots=True)
class Books:
    """The rows that promises are checked on. Amounts in base units; bytes as 0x text."""

    authorizations: dict[str, str]
    """Payment id by nonce, of everything that was ever signed for."""
    payments: dict[str, Any]
    evidence: list[Any]
    balances: dict[tuple[str, str], tuple[int, int]]
    """Posted and pending by ledger account (code, asset), on the account's own side."""
    tasks: list[Any]


def read_books(path: Path) -> Books:
    """Prove the book (P1, journal included) and return what it says. The gateway must have stopped."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        verify_book(db)
        db.row_factory = sqlite3.Row
        payments = {row["id"]: dict(row) for row in db.execute("SELECT * FROM payments")}
        nonces = {"0x" + row["nonce"].hex(): row["payment_id"] for row in db.execute("SELECT * FROM authorizations")}
        evidence = [dict(row) for row in db.execute("SELECT * FROM evidence WHERE kind <> 'balance'")]
        balances = {(row["code"], row["asset"]): _own_side(row) for row in db.execute("SELECT * FROM ledger_accounts")}
        tasks = [dict(row) for row in db.execute("SELECT * FROM tasks")]
    finally:
        db.close()
    return Books(nonces, payments, evidence, balances, tasks)


def _own_side(row: sqlite3.Row) -> tuple[int, int]:
    posted = row["debits_posted"] - row["credits_posted"]
    if row["side"] == Side.DEBIT:
        return posted, row["credits_pending"]
    return -posted, row["debits_pending"]


def check_against_chain(books: Books, base: LocalBase, wallet: str, payees: Collection[str]) -> None:
    """The wallet's tokens moved exactly as the book says: once per settled purchase, to a payee, never otherwise."""
    uses = uses_of(base, wallet)
    settled = {row["tx_hash"]: row for row in books.evidence if row["kind"] == "settled"}
    assert len(uses) == len(settled)
    for use in uses:
        nonce, tx_hash = use["topics"][2], bytes.fromhex(use["transactionHash"][2:])
        payment = books.payments[
            books.authorizations[nonce]
        ]  # P3, P13: nothing was collected that was not written first
        evidence = settled[tx_hash]
        assert evidence["payment_id"] == payment["id"]
        assert evidence["block_number"] == int(use["blockNumber"], 16) <= base.final()["number"]
        (moved,) = (
            log
            for log in base.rpc("eth_getTransactionReceipt", use["transactionHash"])["logs"]
            if log["topics"][0] == TRANSFER
        )
        assert moved["topics"][2][-40:] in {payee[2:].lower() for payee in payees}  # P8
        assert int(moved["data"], 16) == payment["settled_base"]
    kept, pending = books.balances[f"wallet:{wallet.lower()}", BASE_USDC.asset_id]
    assert (kept, pending) == (base.balance_of(wallet), 0)  # P7: nothing is promised any more

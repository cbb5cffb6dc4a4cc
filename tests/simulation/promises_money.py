"""Promises about amounts (P1, P2, P7, P13): every unit of every account, wallet and loss, computed a second time."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from contracts.tokens import BASE_USDC
from gateway.core.journal import JournalError
from gateway.core.ledger import Phase
from gateway.store.load import BookBroken, verify_book
from tests.simulation.facts import account_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.facts import Facts
    from tests.simulation.world import World


__all__ = [
    "balances_explained",
    "p1_conserved",
    "p2_no_overdraft",
    "p7_exposure",
    "p13_one_fact_one_row",
    "wallet_agrees",
]

DISPUTE_CAP_BASE = 5_000_000


def p1_conserved(world: World, facts: Facts) -> Iterator[str]:
    """Every balance is the sum of its transfers, every digest follows from the one before."""
    try:
        verify_book(world.db)
    except (BookBroken, JournalError) as error:
        yield str(error)
    for row in world.rows("PRAGMA foreign_key_check"):
        yield f"a row of {row[0]} refers to nothing"


def p2_no_overdraft(world: World, facts: Facts) -> Iterator[str]:
    """After every single transfer, no agent and no wallet had less than nothing."""
    accounts = {row["id"]: row for row in world.rows("SELECT * FROM ledger_accounts")}
    free: defaultdict[int, int] = defaultdict(int)
    reserved: dict[int, tuple[int, int, int]] = {}
    for row in world.rows("SELECT id, phase, debit_id, credit_id, amount_base, pending_id FROM transfers ORDER BY id"):
        phase, debit, credit, amount = Phase(row["phase"]), row["debit_id"], row["credit_id"], row["amount_base"]
        if phase in {Phase.POST, Phase.VOID}:
            held_debit, held_credit, held = reserved.pop(row["pending_id"])
            for account_id, outgoing in ((held_debit, 1), (held_credit, 0)):
                if accounts[account_id]["side"] == outgoing:
                    free[account_id] += held
        if phase is Phase.PENDING:
            reserved[row["id"]] = (debit, credit, amount)
        for account_id, is_debit in ((debit, True), (credit, False)):
            grows = (accounts[account_id]["side"] == 0) == is_debit
            if phase is Phase.VOID or (phase is Phase.PENDING and grows):
                continue
            free[account_id] += amount if grows else -amount
            if accounts[account_id]["floored"] and free[account_id] < 0:
                yield f"{accounts[account_id]['code']} has {free[account_id]} after transfer {row['id']}"


def p7_exposure(world: World, facts: Facts) -> Iterator[str]:
    """At every block the wallet holds at least what may still be collected from it."""
    skew_s = world.plan.skew_s
    promised = [(s.at_ms // 1000 + skew_s, s.authorization) for s in facts.first_shown.values()]
    for mined in world.chain._chain:
        block = mined.block
        alive_base = sum(
            auth.value_base
            for shown_s, auth in promised
            if shown_s <= block.time_s < auth.valid_before
            and (auth.token.address, auth.authorizer, auth.nonce) not in mined.state.used
        )
        balance_base = mined.state.balances.get((BASE_USDC.address, world.wallet), 0)
        if alive_base > balance_base:
            yield f"block {block.number}: {alive_base} promised, {balance_base} there"
            return


def p13_one_fact_one_row(world: World, facts: Facts) -> Iterator[str]:
    """Every collection on chain is exactly one row of evidence, and every such row is a collection on chain."""
    booked = {
        (bytes(row["tx_hash"]), row["log_index"]): row
        for row in world.rows("SELECT * FROM evidence WHERE tx_hash IS NOT NULL")
    }
    for collected in facts.collected.values():
        row = booked.pop((collected.tx_hash, collected.log_index), None)
        if row is None:
            yield f"{collected.nonce.hex()[:8]} was collected and is not booked"
        elif row["payment_id"] is None and not facts.is_lost(facts.first_shown[collected.nonce]):
            yield f"{collected.nonce.hex()[:8]} was collected and belongs to no payment"
    for _, log_index in booked:
        yield f"evidence names log {log_index} of a transaction that the chain does not have"


def wallet_agrees(world: World, facts: Facts) -> Iterator[str]:
    """Ledger and chain agree to the last unit, and without help: nothing was written off to make them."""
    posted = _posted(world)
    wallet_base = posted.get((f"wallet:0x{world.wallet.hex()}", BASE_USDC.asset_id), 0)
    if wallet_base != facts.balance():
        yield f"the ledger has {wallet_base}, the chain {facts.balance()}"
    outflow_base = sum(
        collected.value_base
        for nonce, collected in facts.collected.items()
        if not world.rows("SELECT 1 FROM authorizations WHERE nonce = ?", nonce)
    )
    suspense_base = posted.get(("suspense", BASE_USDC.asset_id), 0)
    capital_base = -posted.get(("house:capital", BASE_USDC.asset_id), 0)
    # A copy from before the wallet was first looked at finds less in it, and takes that for what the operator put in.
    unseen_base = world.plan.capital_base - capital_base if world.restored is not None else 0
    if suspense_base != outflow_base - unseen_base:
        yield f"suspense holds {suspense_base}, {outflow_base} left unknown, {unseen_base} before the first look"
    if world.restored is None and capital_base != world.plan.capital_base:
        yield f"the operator put in {world.plan.capital_base}, the ledger says {capital_base}"


def _posted(world: World) -> dict[tuple[str, str], int]:
    rows = world.rows("SELECT code, asset, debits_posted - credits_posted AS net FROM ledger_accounts")
    return {(row["code"], row["asset"]): row["net"] for row in rows}


def balances_explained(world: World, facts: Facts) -> Iterator[str]:
    """Each account has its credit less what was collected for it, and its statement adds up to that."""
    owed: defaultdict[str, int] = defaultdict(int)
    booked = {row["reference"] for row in world.rows("SELECT reference FROM credits")}
    for reference in booked:
        account_id, amount_base = world.operator.references[reference]
        owed[account_id] += amount_base
    if world.restored is None and not world.operator.acknowledged <= booked:
        yield f"credit is missing: {sorted(world.operator.acknowledged - booked)}"
    charges = {bytes(r["nonce"]): r for r in world.rows("SELECT * FROM payments")}
    resolved = {r[0] for r in world.rows("SELECT payment_id FROM journal WHERE kind = 'dispute.resolved'")}
    refunded: defaultdict[tuple[str, str], int] = defaultdict(int)
    for nonce, collected in facts.collected.items():
        row, account_id = charges.get(nonce), account_of(facts.first_shown[nonce].intent)
        if row is None:
            continue
        if row["account_id"] != account_id:
            yield f"{row['id']} of {account_id} is charged to {row['account_id']}"
        if row["charge"] == "captured":
            owed[account_id] -= collected.value_base
            if row["delivery"] != "delivered" and row["fault"] != "agent" and row["id"] not in resolved:
                yield f"{row['id']} is charged and nothing was delivered"
        elif row["id"] not in resolved:
            refunded[row["vendor"], account_id] += collected.value_base
    for (vendor, account_id), amount_base in refunded.items():
        if amount_base > DISPUTE_CAP_BASE * 2:  # a run may see midnight
            yield f"the house bore {amount_base} for {account_id} at {vendor}"
    posted = _posted(world)
    for agent in world.agents:
        has_base = -posted.get((f"agent:{agent.account_id}", "USD"), 0)
        if has_base != owed[agent.account_id]:
            yield f"{agent.account_id} has {has_base}, should have {owed[agent.account_id]}"
        if _statement_sum(world, agent.account_id) != has_base:
            yield f"the statement of {agent.account_id} adds up to {_statement_sum(world, agent.account_id)}"


def _statement_sum(world: World, account_id: str) -> int:
    sql = (
        "SELECT t.phase, t.amount_base, d.code AS debit FROM transfers t JOIN ledger_accounts d ON d.id = t.debit_id "
        "WHERE t.agent_id = ? AND t.phase IN (0, 2)"
    )
    own = f"agent:{account_id}"
    return sum(
        -row["amount_base"] if row["debit"] == own else row["amount_base"] for row in world.rows(sql, account_id)
    )

"""The promises of DESIGN section 3, checked after a run against the facts. Each returns what is broken, in words.

Theory: nothing here trusts a flow, a machine or a balance of the gateway; its rows are compared with what the chain, the
vendors, the agents and the operator know by themselves.
"""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from contracts.tokens import BASE_USDC
from gateway.core.journal import JournalError
from gateway.core.ledger import Phase
from gateway.store.load import BookBroken, verify_book
from tests.simulation.facts import Facts, account_of
from tests.simulation.vendors import SELLER_PRICES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.fakes.vendor import Shown
    from tests.simulation.world import World

__all__ = ["PROMISES", "broken_promises"]

SELLER_CEILING_BASE = 2_000_000
WINDOW_MAX_S = 100
DISPUTE_CAP_BASE = 5_000_000

Broken = "Iterator[str]"


def broken_promises(world: World, logs: list[str]) -> list[str]:
    """Return every broken promise of a finished run, the ones that it noticed itself first."""
    facts = Facts(world)
    found = [*world.violations, *world.disappointments()]
    for promise in PROMISES:
        found += [f"{promise.__name__}: {broken}" for broken in promise(world, facts)]
    found += [f"p10_secrets: {broken}" for broken in p10_secrets(world, facts, logs)]
    return found


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


def p4_one_collection(world: World, facts: Facts) -> Iterator[str]:
    """For one purchase a second authorization exists only after the first is proven dead, or the first was all done."""
    by_intent: defaultdict[tuple[str, str], list[Shown]] = defaultdict(list)
    for shown in facts.first_shown.values():
        by_intent[shown.till, shown.intent].append(shown)
    for (_, name), several in by_intent.items():
        for earlier, later in pairwise(several):
            final = facts.final_at(later.at_ms)
            auth = earlier.authorization
            used = facts.collected.get(auth.nonce)
            dead = used is None and final.time_s >= auth.valid_before
            intent = facts.intents.get(name)
            if intent is None:
                yield f"{name} is nobody's intent"
                continue
            done = not intent.order.with_key and any(at_ms <= later.at_ms for at_ms in intent.taken_at_ms)
            forgotten = _is_lost(world, earlier) and used is not None and used.block.number <= final.number
            if not (dead or done or forgotten):
                yield f"{name}: {later.authorization.nonce.hex()[:8]} was shown while {auth.nonce.hex()[:8]} was alive"


def p5_p6_evidence(world: World, facts: Facts) -> Iterator[str]:
    """What is closed rests on a block that was final then, and that says so; dead is dead for ever."""
    sql = (
        "SELECT p.*, e.kind, e.block_number, e.block_hash, e.tx_hash, e.log_index, e.value_base AS proven, j.at_ms "
        "FROM payments p LEFT JOIN evidence e ON e.payment_id = p.id "
        "LEFT JOIN journal j ON j.payment_id = p.id AND j.kind IN ('payment.settled', 'payment.dead')"
    )
    chain = world.chain._chain
    for row in world.rows(sql):
        name, nonce = f"{row['id']} ({row['charge']})", bytes(row["nonce"])
        collected = facts.collected.get(nonce)
        if row["charge"] == "held":
            yield f"{name} is still open"
        elif row["kind"] is None:
            yield f"{name} was closed without evidence"
        elif chain[row["block_number"]].block.hash != row["block_hash"]:
            yield f"{name} rests on block {row['block_number']}, which the chain does not have"
        elif row["block_number"] > facts.final_at(row["at_ms"]).number:
            yield f"{name} rests on block {row['block_number']}, which was not final then"
        elif row["kind"] == "settled":
            if collected is None or (collected.tx_hash, collected.log_index, collected.value_base) != (
                row["tx_hash"],
                row["log_index"],
                row["proven"],
            ):
                yield f"{name} is settled by something that the chain does not say"
            if row["charge"] == "voided":
                yield f"{name} was collected, and its hold went back"
        elif collected is not None:
            yield f"{name} is {row['kind']}, and was collected all the same"
        elif chain[row["block_number"]].block.time_s < row["valid_before_s"]:
            yield f"{name} is {row['kind']} at a block inside of its window"


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


def p8_approved(world: World, facts: Facts) -> Iterator[str]:
    """Only approved payees, tokens and prices, for a short time; and nothing while frozen."""
    for shown in facts.first_shown.values():
        auth, name = shown.authorization, f"{shown.till} {shown.intent}"
        approved_ms = world.operator.payees.get((shown.till, bytes(auth.pay_to)))
        if approved_ms is None or approved_ms > shown.at_ms:
            yield f"{name} pays 0x{auth.pay_to.hex()}, whom nobody approved"
        if auth.token != BASE_USDC:
            yield f"{name} pays in {auth.token.symbol} of another contract"
        if auth.value_base not in _fair_prices(world, facts, shown):
            yield f"{name} pays {auth.value_base}"
        if auth.valid_before - shown.at_ms // 1000 > WINDOW_MAX_S + abs(world.plan.skew_s):
            yield f"{name} can be collected for too long"
    yield from _held_while_frozen(world)


def _fair_prices(world: World, facts: Facts, shown: Shown) -> set[int]:
    if shown.till == "seller":
        return {price * factor for price in SELLER_PRICES.values() for factor in (1, 2)} - {2 * SELLER_CEILING_BASE} | {
            price // 2 for price in SELLER_PRICES.values()
        }
    intent = facts.intents.get(shown.intent)
    if intent is None:
        return set()
    if shown.route == "catalog":
        return world.operator.prices["vpsagent", "catalog"]
    document = json.loads(intent.order.body)
    if shown.route == "rent":
        return world.operator.prices.get(("vpsagent", document["sku"]), set())
    rental = world.vpsagent.rentals[intent.order.target.split("/")[2]]
    return {document["periods"] * price for price in world.operator.prices["vpsagent", rental.sku]}


def _held_while_frozen(world: World) -> Iterator[str]:
    frozen: set[str] = set()
    for row in world.rows("SELECT kind, body FROM journal ORDER BY seq"):
        body = json.loads(row["body"])
        if row["kind"] == "freeze.set":
            frozen.add(body["scope"])
        elif row["kind"] == "freeze.lifted":
            frozen.discard(body["scope"])
        elif row["kind"] == "payment.held":
            covers = {"all", "database", f"vendor:{body['vendor']}", f"account:{body['account_id']}", f"wallet:{body['wallet']}"}
            if covers & frozen:
                yield f"{body['payment_id']} was held while {sorted(covers & frozen)} was frozen"


def p9_tenancy(world: World, facts: Facts) -> Iterator[str]:
    """Nobody hears of, or buys for, what another account owns."""
    for account_id, bodies in world.heard.items():
        heard = b"\n".join(bodies)
        answers = b"\n".join(
            h.body for a in world.agents if a.account_id == account_id for i in a.intents for h in i.heard
        )
        for rental in facts.rentals:
            if rental.root_token.encode() in heard:
                yield f"{account_id} was told the real token of {rental.intent}'s box"
            if account_of(rental.intent) == account_id:
                continue
            if rental.root_password.encode() in heard:
                yield f"{account_id} was told the password of {rental.intent}'s box"
            if rental.rental_id.encode() in answers:
                yield f"{account_id} was told of {rental.intent}'s box"
    for rental in facts.rentals:
        for nonce in rental.renewals:
            if account_of(facts.first_shown[nonce].intent) != account_of(rental.intent):
                yield f"{facts.first_shown[nonce].intent} renewed {rental.intent}'s box"


def p10_secrets(world: World, facts: Facts, logs: list[str]) -> Iterator[str]:
    """No key, signature, real token or password is readable on disk, in a log, or in a problem."""
    needles = {"the wallet's key": world.wallet_key.reveal(), "the data key": world.data_key.reveal()}
    words = {"the wallet's key": world.wallet_key.reveal().hex(), "the data key": world.data_key.reveal().hex()}
    for rental in facts.rentals:
        words[f"the token of {rental.intent}'s box"] = rental.root_token
        words[f"the password of {rental.intent}'s box"] = rental.root_password
    for authorization, signature in world.signatures:
        needles[f"the signature of {authorization.nonce.hex()[:8]}"] = signature
        words[f"the signature of {authorization.nonce.hex()[:8]}"] = signature.hex()
    for shown in facts.first_shown.values():
        words[f"the credential of {shown.intent}"] = shown.header
    disk, log = _everything_on_disk(world), "\n".join(logs)
    told = b"\n".join(body for bodies in world.heard.values() for body in bodies).decode("utf-8", "replace")
    for what, raw in needles.items():
        if raw in disk:
            yield f"{what} is on the disk"
    for what, word in words.items():
        if word.encode() in disk:
            yield f"{what} is on the disk"
        if word in log:
            yield f"{what} is in a log line"
        if word in told and not what.startswith("the password"):
            yield f"{what} was told to an agent"


def _everything_on_disk(world: World) -> bytes:
    names = [row[0] for row in world.rows("SELECT name FROM sqlite_master WHERE type = 'table'")]
    cells = (cell for name in names for row in world.rows(f"SELECT * FROM {name}") for cell in tuple(row))
    return b"\0".join(cell if isinstance(cell, bytes) else str(cell).encode() for cell in cells if cell is not None)


def p12_answers_found(world: World, facts: Facts) -> Iterator[str]:
    """Every box that was paid for is known to be its buyer's, whatever was cut, dropped or killed on the way."""
    owners = {row["ref"]: row["account_id"] for row in world.rows("SELECT ref, account_id FROM resources")}
    known = {bytes(row[0]) for row in world.rows("SELECT nonce FROM authorizations")}
    for rental in facts.rentals:
        sale = facts.sales[rental.nonce]
        owner = owners.get(rental.rental_id)
        if owner is not None and owner != account_of(rental.intent):
            yield f"{rental.intent}'s box belongs to {owner}"
        findable = sale.rental_id == rental.rental_id and sale.again == "same" and rental.nonce in known
        if owner is None and findable and sale.state == "settled":
            yield f"{rental.intent}'s box was paid for and never found"


def p12_quarantine(world: World, facts: Facts) -> Iterator[str]:
    """After a restore nothing new is shown before a final block has passed all that the copy does not know."""
    restored = world.restored
    if restored is None:
        return
    lost = [s.authorization.valid_before for s in facts.first_shown.values() if _is_lost(world, s)]
    if not lost:
        return
    for shown in facts.first_shown.values():
        new = shown.sender > restored.process and shown.authorization.nonce not in restored.known
        if new and facts.final_at(shown.at_ms).time_s <= max(lost):
            yield f"{shown.intent} was signed for while what the copy does not know could still be collected"


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
        elif row["payment_id"] is None and not _is_lost(world, facts.first_shown[collected.nonce]):
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
    credits = {row["reference"] for row in world.rows("SELECT reference FROM credits")}
    for reference in credits:
        account_id, amount_base = world.operator.references[reference]
        owed[account_id] += amount_base
    if world.restored is None and not world.operator.acknowledged <= credits:
        yield f"credit is missing: {sorted(world.operator.acknowledged - credits)}"
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
    return sum(-row["amount_base"] if row["debit"] == own else row["amount_base"] for row in world.rows(sql, account_id))


def answers_stand(world: World, facts: Facts) -> Iterator[str]:
    """A purchase has one answer, the agent is told its price, and what it got is what the vendor sold for its intent."""
    for agent in world.agents:
        told: dict[str, Any] = {}
        for intent in agent.intents:
            for heard in intent.heard:
                if not heard.delivered or heard.payment_id is None:
                    continue
                if told.setdefault(heard.payment_id, heard.body) != heard.body:
                    yield f"{intent.name} was told two different things for {heard.payment_id}"
                if intent.order.target == "/rent" and heard.status == 200:
                    rental = world.vpsagent.rentals.get(json.loads(heard.body)["rental_id"])
                    if rental is None or rental.intent != intent.name:
                        yield f"{intent.name} was given another box"
                limit = intent.order.max_charge_base
                if limit is not None and (heard.charge_base or 0) > limit:
                    yield f"{intent.name} was charged {heard.charge_base}, its limit was {limit}"
    shows: defaultdict[bytes, int] = defaultdict(int)
    for shown in facts.shown:
        shows[shown.authorization.nonce] += shown.till == "seller"
    for nonce, times in shows.items():
        if times > 1:
            yield f"{facts.first_shown[nonce].intent}: shown {times} times to a vendor that may take it for two"


def quiet(world: World, facts: Facts) -> Iterator[str]:
    """No task cries for a human without a reason that the script gave."""
    expected = {"payee_unknown", "price_changed", "price_unknown", "dispute"}
    if world.restored is not None:
        expected |= {"database_quarantined", "unknown_outflow", "float_missing"}
    for row in world.rows("SELECT kind, subject, detail FROM tasks"):
        if row["kind"] not in expected:
            yield f"task {row['kind']} on {row['subject']}: {row['detail']}"


def _is_lost(world: World, shown: Shown) -> bool:
    """Say whether this was shown before a restore, by a process whose database is gone."""
    restored = world.restored
    if restored is None:
        return False
    return shown.sender <= restored.process and shown.authorization.nonce not in restored.known


PROMISES: tuple[Callable[[World, Facts], Iterator[str]], ...] = (
    p1_conserved,
    p2_no_overdraft,
    p4_one_collection,
    p5_p6_evidence,
    p7_exposure,
    p8_approved,
    p9_tenancy,
    p12_answers_found,
    p12_quarantine,
    p13_one_fact_one_row,
    wallet_agrees,
    balances_explained,
    answers_stand,
    quiet,
)

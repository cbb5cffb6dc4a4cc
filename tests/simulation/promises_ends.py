"""Promises about how purchases end (P4 to P6, P12): once, by evidence, with their answer, and after every disaster."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tests.simulation.facts import account_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.vendor import Shown
    from tests.simulation.facts import Facts
    from tests.simulation.world import World


__all__ = ["answers_stand", "p4_one_collection", "p5_p6_evidence", "p12_answers_found", "p12_quarantine", "quiet"]


def p4_one_collection(world: World, facts: Facts) -> Iterator[str]:
    """For one purchase a second authorization exists only after the first is proven dead.

    Without a key, the same words mean a new purchase once the first is over: answered in full, or collected and closed.
    """
    closed = {bytes(r["nonce"]): r["closed_at_ms"] for r in world.rows("SELECT nonce, closed_at_ms FROM payments")}
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
            answered = any(at_ms <= later.at_ms for at_ms in intent.taken_at_ms)
            # After a restore the rows say when it was closed again.
            closed_ms = later.at_ms if world.restored is not None else closed.get(auth.nonce) or later.at_ms + 1
            ended = closed_ms <= later.at_ms and used is not None and used.block.number <= final.number
            done = not intent.order.with_key and (answered or ended)
            forgotten = facts.is_lost(earlier) and used is not None and used.block.number <= final.number
            if not (dead or done or forgotten):
                yield f"{name}: {later.authorization.nonce.hex()[:8]} was shown while {auth.nonce.hex()[:8]} was alive"


def p5_p6_evidence(world: World, facts: Facts) -> Iterator[str]:
    """What is closed rests on a block that was final then, and that says so; dead is dead for ever."""
    sql = (
        "SELECT p.id, p.charge, p.nonce, p.valid_before_s, e.kind, e.block_number, e.block_hash, e.tx_hash, "
        "e.log_index, e.value_base AS proven, j.at_ms "
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
    lost = [s.authorization.valid_before for s in facts.first_shown.values() if facts.is_lost(s)]
    if not lost:
        return
    for shown in facts.first_shown.values():
        new = shown.sender > restored.process and shown.authorization.nonce not in restored.known
        if new and facts.final_at(shown.at_ms).time_s <= max(lost):
            yield f"{shown.intent} was signed for while what the copy does not know could still be collected"


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
    if world.plan.chain_trouble:
        expected.add("chain_disagreement")
    if world.restored is not None:
        expected |= {"database_quarantined", "unknown_outflow", "float_missing"}
    for row in world.rows("SELECT kind, subject, detail FROM tasks"):
        if row["kind"] not in expected:
            yield f"task {row['kind']} on {row['subject']}: {row['detail']}"

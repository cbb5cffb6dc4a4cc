"""What a month must keep to, judged by the vendors' and the chain's own books: nothing lapses, nothing outlives, no cent is lost.

Theory: what an agent wanted stands in the gateway's records, what it got in the vendors'; a promise compares the two, and
none of the gateway's own reasons counts that it gave for itself.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.core.ledger import Phase
from gateway.core.renewal import Why
from gateway.core.server import FINAL, ServerState
from gateway.store.queries import STATEMENT
from tests.simulation.cryptovps import HOURLY_BASE
from tests.simulation.facts import Facts
from tests.simulation.month import MonthWorld
from tests.simulation.promises_money import p1_conserved, p2_no_overdraft
from tests.simulation.rentals import TERMS_MS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.world import World

__all__ = ["broken_month_promises"]

HOUR_MS, MINUTE_MS = 3_600_000, 60_000
UNITS_MS = {"cryptovps": HOUR_MS, "litevps": MINUTE_MS, "vrtx": HOUR_MS, "dropmpp": MINUTE_MS}
ASKED_AGAIN_MS = 320_000  # the longest pause before a vendor that was away is asked again
EXPECTED = {Why.NOT_RENEWED.value, Why.TEMPLATE.value, Why.KEEP_UNTIL.value, Why.MAX_TOTAL.value}


@dataclass(frozen=True)
class Thing:
    """One server as its vendor has it: `ended_ms` None while it is there."""

    vendor: str
    ref: str
    ended_ms: int | None
    bill_base: int | None


def broken_month_promises(world: World, _logs: list[str]) -> list[str]:
    """Return every broken promise of a finished month."""
    assert isinstance(world, MonthWorld)
    found = [*world.violations]
    for promise in (p1_conserved, p2_no_overdraft):
        found += [f"{promise.__name__}: {broken}" for broken in promise(world, Facts(world))]
    if not world.costs:
        return [*found, "the month was not played to its end"]
    for rule in (no_lapse, none_outlives, bounded, known_to_all, every_cent, billed, fleets_kept, quiet):
        found += [f"{rule.__name__}: {broken}" for broken in rule(world)]
    return found


def things(world: MonthWorld) -> dict[tuple[str, str], Thing]:
    """Return everything that any vendor ever made, as it was when all was let go at last."""
    now_ms = world.settled_ms
    found = [
        Thing("vpsagent", r.rental_id, r.expires_at_ms if r.expires_at_ms <= now_ms else None, None)
        for r in world.vpsagent.rentals.values()
    ]
    for drop in world.dropmpp.droplets.values():
        ended_ms = min(drop.paid_until_ms, drop.deleted_ms or drop.paid_until_ms)
        found.append(Thing("dropmpp", drop.ref, ended_ms if ended_ms <= now_ms else None, drop.paid_base))
    boxes = world.cryptovps.boxes.values()
    found += [Thing("cryptovps", box.ref, box.deleted_ms, box.bill_base(now_ms)) for box in boxes]
    for shop in (world.litevps, world.vrtx):
        machines = shop.machines.values()
        found += [Thing(shop.name, m.ref, m.ended_ms(now_ms), shop.bill_base(m, now_ms)) for m in machines]
    return {(thing.vendor, thing.ref): thing for thing in found}


def _servers(world: MonthWorld) -> list[Any]:
    return world.rows("SELECT * FROM servers ORDER BY id")


def _is_rich(world: MonthWorld, account_id: str) -> bool:
    return next(tenant.rich for tenant in world.tenants if tenant.account_id == account_id)


def no_lapse(world: MonthWorld) -> Iterator[str]:
    """No server lapses while its owner can pay and wants it: for a rich one there is no end that it did not ask for."""
    made = things(world)
    for row in _servers(world):
        if not _is_rich(world, row["account_id"]) or (row["vendor"], row["ref"]) in world.taken:
            continue
        name = f"{row['id']} at {row['vendor']} ({row['state']}: {row['reason']})"
        lapsed = row["state"] == ServerState.LAPSED and row["reason"] not in EXPECTED and not _was_in_doubt(world, row)
        if row["state"] == ServerState.LOST or lapsed:
            yield f"{name} ended although it was wanted and payable"
        if row["state"] == ServerState.LAPSED and row["reason"] == Why.MAX_TOTAL and row["max_total_base"] is None:
            yield f"{name} has no max_total"
        if row["state"] == ServerState.LAPSED and row["reason"] == Why.NOT_RENEWED and row["auto_renew"]:
            yield f"{name} was to be renewed"
        thing = made.get((row["vendor"], row["ref"]))
        if row["state"] not in FINAL and thing is not None and thing.ended_ms is not None:
            yield f"{name} is gone at its vendor since {thing.ended_ms}"


def _was_in_doubt(world: MonthWorld, server: Any) -> bool:
    """Say whether the money for its renewal could be collected until its last minute: a second payment may not leave before (P4).

    The chain of a month has a block in ten minutes, so that a crash between payment and answer is proven harmless late.
    """
    asked = (
        "SELECT max(closed_at_ms) FROM payments "
        "WHERE vendor = ? AND resource_ref = ? AND delivery = 'unknown' AND transfer = 'dead'"
    )
    ((dead_ms,),) = world.rows(asked, server["vendor"], server["ref"])
    return dead_ms is not None and server["expires_at_ms"] - MINUTE_MS <= dead_ms <= server["ended_at_ms"]


def none_outlives(world: MonthWorld) -> Iterator[str]:
    """None outlives its keep_until by more than one billing unit, at its vendor."""
    made = things(world)
    keeps = {k: v for tenant in world.tenants for k, v in tenant.longest_keep_ms.items()}
    by_hand = {server_id for tenant in world.tenants for server_id in tenant.renewed}
    for row in _servers(world):
        thing, keep_ms = made.get((row["vendor"], row["ref"])), row["keep_until_ms"]
        if thing is None or keep_ms is None:
            continue
        if row["vendor"] == "vpsagent":
            term_ms = TERMS_MS[row["plan"]]
            paid_ms = world.vpsagent.rentals[thing.ref].expires_at_ms
            first_ms = world.first_ends_ms[thing.ref]
            if row["id"] not in by_hand and paid_ms > max(first_ms, max(keep_ms, keeps.get(row["id"], 0)) + term_ms):
                yield f"{row['id']} is paid for until {paid_ms}, wanted until {keep_ms}"
            continue
        ended_ms = thing.ended_ms or world.settled_ms
        late_ms = ended_ms - keep_ms - UNITS_MS[row["vendor"]]
        allowed_ms = 0
        if world.disturbed(row["vendor"], keep_ms, ended_ms):
            allowed_ms = 1_100_000 + ASKED_AGAIN_MS
        if late_ms > allowed_ms:
            yield f"{row['id']} at {row['vendor']} outlived {keep_ms} by {(ended_ms - keep_ms) / 1000:.0f} s"


def bounded(world: MonthWorld) -> Iterator[str]:
    """None costs more than its max_total; an hour's or a minute's worth where its vendor was away."""
    for row in _servers(world):
        most_base, cost = row["max_total_base"], world.costs[row["id"]]
        if most_base is not None and row["ref"] is not None and cost.captured_base > most_base:
            if world.disturbed(row["vendor"], row["created_at_ms"], row["ended_at_ms"] or world.settled_ms):
                most_base += 2 * HOURLY_BASE
            if cost.captured_base > most_base:
                yield f"{row['id']} at {row['vendor']} cost {cost.captured_base} of {row['max_total_base']}"


def known_to_all(world: MonthWorld) -> Iterator[str]:
    """Every thing at a vendor is one server's, and no server has two."""
    owned = Counter((row["vendor"], row["ref"]) for row in _servers(world) if row["ref"] is not None)
    made = things(world)
    for place in made.keys() - owned.keys():
        yield f"{place[1]} at {place[0]} is nobody's"
    for place in owned.keys() - made.keys():
        yield f"{place[1]} was never made by {place[0]}"
    for place, times in owned.items():
        if times > 1:
            yield f"{place[1]} at {place[0]} is {times} servers'"


def every_cent(world: MonthWorld) -> Iterator[str]:
    """What an account's statement says went out is what its servers cost, and what is missing from its balance."""
    for account_id, credit_base in world.credits_base.items():
        code, out_base, after = f"agent:{account_id}", 0, 0
        while rows := world.db.execute(STATEMENT, {"account_id": account_id, "after": after, "limit": 500}).fetchall():
            for row in rows:
                moved = Phase(row["phase"]) in {Phase.DIRECT, Phase.POST}
                if moved and row["debit"] == code:
                    out_base += row["amount_base"]
                after = row["id"]
        sql = "SELECT debits_posted, credits_posted FROM ledger_accounts WHERE code = ? AND asset = 'USD'"
        spent_base, credited_base = world.rows(sql, code)[0]
        own = [row["id"] for row in _servers(world) if row["account_id"] == account_id]
        cost_base = sum(world.costs[server_id].captured_base for server_id in own)
        if credited_base != credit_base:
            yield f"{account_id} was credited {credited_base}, not {credit_base}"
        if not out_base == spent_base == cost_base:
            yield f"{account_id}: {out_base} in the statement, {spent_base} spent, {cost_base} by its servers"
        if any(world.costs[server_id].held_base for server_id in own):
            yield f"{account_id} has money on hold for servers that are over"


def billed(world: MonthWorld) -> Iterator[str]:
    """Each server cost what its vendor took for it: prepaid ones to the cent, others but for a unit at either end."""
    made, refs = things(world), {(row["vendor"], row["ref"]): row for row in _servers(world)}
    collected = sum(each.value_base for each in Facts(world).collected.values() if each.pay_to == world.first_payee)
    rentals = [row["id"] for row in _servers(world) if row["vendor"] == "vpsagent"]
    house_base = world.rows("SELECT coalesce(sum(captured_base), 0) FROM payments WHERE account_id LIKE 'acc_house%'")
    cost_base = sum(world.costs[server_id].captured_base for server_id in rentals)
    if collected != cost_base + house_base[0][0]:
        yield f"vpsagent collected {collected}, its servers cost {cost_base}, its catalogue {house_base[0][0]}"
    for place, thing in made.items():
        row = refs.get(place)
        if row is None or thing.bill_base is None or place in world.taken:
            continue
        cost_base = world.costs[row["id"]].captured_base
        meters = world.rows("SELECT lost_base FROM meters WHERE vendor = ? AND ref = ?", *place)
        lost_base = meters[0]["lost_base"] if meters else 0
        slack_base = 0 if thing.vendor == "dropmpp" else HOURLY_BASE + 1
        if abs(cost_base + lost_base - thing.bill_base) > slack_base:
            yield f"{row['id']} cost {cost_base} and {lost_base} lost, {thing.vendor} billed {thing.bill_base}"
        if lost_base > slack_base and _is_rich(world, row["account_id"]):
            yield f"{row['id']} cost the house {lost_base}"


def fleets_kept(world: MonthWorld) -> Iterator[str]:
    """No fleet cost more than its budget, and each has ended, with all its servers."""
    for row in world.rows("SELECT * FROM fleets"):
        own = [each for each in _servers(world) if each["fleet_id"] == row["id"]]
        cost_base = sum(world.costs[each["id"]].captured_base for each in own)
        if cost_base > row["budget_base"] + len(own) * 2 * HOURLY_BASE * world.was_disturbed:
            yield f"{row['id']} cost {cost_base} of {row['budget_base']}"
        lost = [each for each in own if (each["vendor"], each["ref"]) in world.taken]
        poor = any('"exhausted"' in entry["body"] for entry in _journal(world, row["id"]))
        if row["made"] < row["count"] + len(lost) and not poor:
            yield f"{row['id']} lost {len(lost)} of {row['count']} servers, and ordered {row['made']}"
        if row["state"] != "ended" or any(each["state"] not in FINAL for each in own):
            yield f"{row['id']} is {row['state']}"


def _journal(world: MonthWorld, fleet_id: str) -> list[Any]:
    return world.rows("SELECT body FROM journal WHERE kind LIKE 'fleet.%' AND body LIKE ?", f"%{fleet_id}%")


def quiet(world: MonthWorld) -> Iterator[str]:
    """No task cries for a human but those that a vendor's absence explains."""
    for row in world.rows("SELECT kind, subject, detail FROM tasks"):
        if row["kind"] not in {"not_destroyed", "vendor_unreachable", "vendor_login_failed"}:
            yield f"task {row['kind']} on {row['subject']}: {row['detail']}"

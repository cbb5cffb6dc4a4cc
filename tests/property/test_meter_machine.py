"""Generated lives of metered things: any command at any time on several accounts, against the promises and an auditor.

The auditor knows nothing of meters' rows: from the journal alone it lists when each thing was charged, counts its units
one by one, and says what must have been billed.
"""

import json
import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from math import ceil
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.core import chart
from gateway.core import commands as c
from gateway.core.commands import Command, Refused, Result
from gateway.core.ledger import imbalance
from gateway.core.meter import next_hold_base
from gateway.core.meter_book import DEARER, UNWANTED
from gateway.core.money import USD
from gateway.core.payment import Charge, Delivery
from gateway.core.records import Meter, Payment
from gateway.core.view import View
from gateway.store.core import StoreCore, connect
from gateway.store.load import verify_book
from tests.factories import (
    DAY_MS,
    HOUR_MS,
    METERED,
    NOW_MS,
    WALLET,
    book_state,
    make_account,
    make_created,
    make_credit,
    make_key,
    make_limits,
    make_meter,
    make_order,
    make_outcome,
    make_period_payment,
    make_resource,
)

ACCOUNTS = ("acc_1", "acc_2")
# What the vendors of design 7 charge by, and one by odd units.
TARIFFS: tuple[dict[str, Any], ...] = (
    {"hourly": "0.0147"},
    {"hourly": "0.0053", "unit_s": 60, "while_running": True},
    {"hourly": "0.0053", "monthly": "0.05", "rule": "hourly_capped"},
    {"hourly": "0.0042", "monthly": "3.92", "rule": "monthly"},
    {"hourly": "0.0531", "unit_s": 7, "while_running": True},
)
LIMITS = make_limits(metered_per_vendor=4)


@dataclass(frozen=True)
class Event:
    """Something that happens; which fields matter depends on `what`."""

    what: str
    step_ms: int
    pick: int
    number: int
    hours: int
    share: int
    amount: int
    offset_ms: int
    delivery: Delivery
    flag: bool
    more: bool


KINDS = [
    "order",
    "order",
    "answer",
    "period",
    "period",
    "bill",
    "bill",
    "change",
    "hour",
    "hour",
    "hour",
    "ending",
    "end",
]
EVENTS = st.builds(
    Event,
    what=st.sampled_from([*KINDS, "balance", "around", "keep"]),
    step_ms=st.sampled_from([0, 1, 1_000, 59_999, HOUR_MS // 2, HOUR_MS, DAY_MS, 16 * DAY_MS]),
    pick=st.integers(0, 30),
    number=st.integers(0, 5),
    hours=st.sampled_from([1, 1, 5, 24, 24 * 31]),
    share=st.sampled_from([2, 2, 2, 1, 3]),  # of what a period needs, in halves
    amount=st.sampled_from([1, 400_000, 5_000_000]),
    # When it is told to have happened: long ago, a moment ago, now.
    offset_ms=st.sampled_from([-DAY_MS, -HOUR_MS, -7_000, -1, 0, 0]),
    delivery=st.sampled_from([Delivery.DELIVERED, Delivery.DELIVERED, Delivery.DELIVERED, *Delivery]),
    flag=st.sampled_from([True, True, True, False]),
    more=st.booleans(),
)


@dataclass
class Life:
    """What the journal says of one thing."""

    hourly: Fraction = Fraction(0)
    monthly: Fraction = Fraction(0)
    rule: str = ""
    unit_ms: int = 1
    stretches: list[tuple[int, int | None]] = field(default_factory=list)
    ended_at_ms: int | None = None

    def cost_base(self, until_ms: int) -> int:
        """Return what is owed then: units listed one by one, months looked up in the calendar, rounded up once."""
        usd = Fraction(0)
        for begin_ms, stretch_end_ms in self.stretches:
            end_ms = until_ms if stretch_end_ms is None else min(stretch_end_ms, until_ms)
            starts = range(begin_ms, end_ms, self.unit_ms)
            unit = self.hourly * self.unit_ms / HOUR_MS
            if self.rule == "started_units":
                usd += len(starts) * unit
            elif self.rule == "hourly_capped":
                months: defaultdict[tuple[int, int], Fraction] = defaultdict(Fraction)
                for start_ms in starts:
                    months[month(start_ms)] += unit
                usd += sum(min(cost, self.monthly) for cost in months.values())
            elif end_ms > begin_ms:
                (year, number), (last_year, last) = month(begin_ms), month(end_ms - 1)
                usd += self.monthly * (12 * (last_year - year) + last - number + 1)
        return ceil(usd * 1_000_000)


def month(at_ms: int) -> tuple[int, int]:
    """Return year and month in UTC."""
    moment = datetime.fromtimestamp(at_ms // 1000, UTC)
    return moment.year, moment.month


def audit(db: sqlite3.Connection) -> dict[str, Life]:
    """Return the life of everything that ever began, by the journal alone."""
    lives: dict[str, Life] = {}
    for (body,) in db.execute("SELECT body FROM journal WHERE kind LIKE 'meter.%' ORDER BY seq"):
        row = json.loads(body)
        life = lives.setdefault(row["meter_id"], Life())
        if row["kind"] == "meter.started":
            life.hourly, life.monthly = Fraction(row["hourly"]), Fraction(row["monthly"] or 0)
            life.rule, life.unit_ms = row["rule"], row["unit_s"] * 1000
            if row["since_ms"] is not None:
                life.stretches.append((row["since_ms"], None))
        elif row["kind"] == "meter.changed" and row["running"]:
            life.stretches.append((row["since_ms"], None))
        elif row["kind"] == "meter.changed":
            life.stretches[-1] = (life.stretches[-1][0], row["since_ms"])
        elif row["kind"] == "meter.ended":
            life.ended_at_ms = row["ended_at_ms"]
    return lives


class MeterMachine(RuleBasedStateMachine):
    """Posts generated commands, in groups of its own choosing, and checks the promises after each commit."""

    def __init__(self) -> None:
        super().__init__()
        self.core = StoreCore(connect(":memory:"))
        self.view = View()
        self.view.load(self.core.book)
        self.now_ms = NOW_MS
        self.ordered = self.number = 0
        self.credited: dict[str, int] = defaultdict(int)
        self.pending: list[Command] = []

    def teardown(self) -> None:
        """Post what is left."""
        self.flush()
        self.core.close()

    def send(self, command: Command) -> None:
        """Queue a command."""
        self.pending.append(command)

    def flush(self) -> list[Result]:
        """Post the group; the view follows it, and the disk can tell the whole book again."""
        pending, self.pending = self.pending, []
        results, step = self.core.post(pending)
        self.view.advance(step)
        twin = connect(":memory:")
        self.core.db.backup(twin)
        again = StoreCore(twin)
        assert book_state(again.book) == book_state(self.core.book)
        again.close()
        return results

    def next(self) -> int:
        """Return the number of a payment that was not used."""
        self.number += 1
        return self.number

    def meter(self, pick: int) -> Meter | None:
        """Return one of the meters that have not ended, as it was at the last commit."""
        meters = list(self.core.book.meters.values())
        return meters[pick % len(meters)] if meters else None

    @initialize()
    def found(self) -> None:
        """Open two accounts, one with much and one with little."""
        for n, account in enumerate(ACCOUNTS, 1):
            self.send(c.OpenAccount(make_account(n)))
            self.send(c.AddKey(make_key(n, account_id=account)))
        self.credit("acc_1", 20_000_000)
        self.credit("acc_2", 500_000)
        self.flush()

    def credit(self, account: str, amount: int) -> None:
        """Give an account money."""
        self.credited[account] += amount
        self.send(make_credit(self.next(), account_id=account, amount_base=amount))

    # the commands

    @rule(events=st.lists(EVENTS, min_size=6, max_size=14))
    def lives(self, events: list[Event]) -> None:
        """Several things happen, one after another, to what there is."""
        for event in events:
            if not self.pending:
                self.now_ms += event.step_ms
            getattr(self, f"do_{event.what}")(event)
            if not event.more:
                self.flush()

    def do_order(self, event: Event) -> None:
        """An agent orders a thing, perhaps with too little held, and mostly hears of it in the same breath."""
        self.flush()
        self.ordered += 1
        side = event.pick % 2
        whose = {"account_id": ACCOUNTS[side], "key_id": f"key_{side + 1}", "created_at_ms": self.now_ms}
        meter = make_meter(self.ordered, **{**whose, **TARIFFS[event.number % len(TARIFFS)]})
        n = self.next()
        hold = max(1, next_hold_base(meter, self.now_ms, self.now_ms + event.hours * HOUR_MS) * event.share // 2)
        self.send(make_order(n, meter=meter, hours=event.hours, hold_base=hold, limits=LIMITS))
        self.answer(n, meter, event)

    def answer(self, n: int, meter: Meter, event: Event) -> None:
        """The vendor says what became of a create, or nothing."""
        since_ms = None if meter.while_running and event.number % 3 == 0 else self.now_ms + event.offset_ms
        start = c.MeterStart(meter.hourly, meter.monthly, "server", since_ms, event.flag)
        if event.delivery is Delivery.DELIVERED:
            resource = make_resource(n, vendor=METERED, account_id=meter.account_id)
            self.send(make_created(n, resource=resource, metered=start, at_ms=self.now_ms))
        elif event.delivery is not Delivery.NONE:
            metered = None if event.flag else start
            self.send(make_outcome(n, event.delivery, metered=metered, at_ms=self.now_ms))

    def do_answer(self, event: Event) -> None:
        """A create that nobody knew of is found, refused, or proven absent; one that was known is told of again."""
        self.flush()
        firsts = [p for p in self.core.book.open_payments.values() if p.period is not None and p.period.seq == 1]
        if firsts:
            payment = firsts[event.pick % len(firsts)]
            self.answer(int(payment.id[4:]), self.core.book.meters[payment.terms.meter_id], event)

    def do_period(self, event: Event) -> None:
        """The next period is held, with what it needs, or less, or more, perhaps twice."""
        for _ in range(1 + event.flag):
            self.hold(self.meter(event.pick), event.hours, event.share)

    def hold(self, meter: Meter | None, hours: int, share: int = 2) -> None:
        """Ask for the period that follows what is held."""
        if meter is not None:
            begin, end = meter.held_until_ms, meter.held_until_ms + hours * HOUR_MS
            hold = max(1, next_hold_base(meter, begin, end) * share // 2)
            payment = make_period_payment(self.next(), meter, begin, end, hold_base=hold, created_at_ms=self.now_ms)
            self.send(c.OpenPeriod(payment, self.now_ms))

    def do_bill(self, event: Event) -> None:
        """Some period that is over is billed: one that is open if there is any, perhaps not the oldest."""
        held = [p.id for p in self.over()]
        candidates = [*held, *held, f"pay_{event.pick:04}"]
        self.send(c.BillPeriod(candidates[event.pick % len(candidates)], self.now_ms))

    def over(self) -> list[Payment]:
        """Return the open payments whose periods are over."""
        held = self.core.book.open_payments.values()
        return [p for p in held if p.period is not None and p.period.ends_at_ms <= self.now_ms]

    def do_change(self, event: Event) -> None:
        """A thing starts or stops, and we hear of it sooner or later."""
        meter = self.meter(event.pick)
        if meter is not None:
            # Mostly the other way round from what it does: a change that is none is soon tried.
            running = (meter.running_since_ms is None) == (event.number > 0)
            self.send(c.RunMeter(meter.id, running, self.now_ms + event.offset_ms, self.now_ms))

    def do_hour(self, event: Event) -> None:
        """What runs by the minute is held for an hour, which passes; it stops or starts, and some of it is billed."""
        self.flush()
        pausing = [m for m in self.core.book.meters.values() if m.while_running]
        if pausing:
            meter = pausing[event.pick % len(pausing)]
            self.hold(meter, 1, event.share)
            if event.flag:
                self.flush()
                self.now_ms = max(self.now_ms, meter.held_until_ms + HOUR_MS)
                self.send(c.BillPeriod(f"pay_{self.number:04}", self.now_ms))
            running = (meter.running_since_ms is None) == (event.number > 0)
            self.send(c.RunMeter(meter.id, running, self.now_ms + event.offset_ms, self.now_ms))

    def do_ending(self, event: Event) -> None:
        """A thing is to end, or runs out of money."""
        meter = self.meter(event.pick)
        if meter is not None and event.flag:
            self.send(c.WarnMeter(meter.id, event.number % 2 == 0, self.now_ms))
        elif meter is not None:
            self.send(c.MarkEnding(meter.id, "asked", self.now_ms))

    def do_end(self, event: Event) -> None:
        """A thing has ended."""
        meter = self.meter(event.pick)
        if meter is not None:
            self.send(c.EndMeter(meter.id, self.now_ms + event.offset_ms, "destroyed", self.now_ms))

    def do_balance(self, event: Event) -> None:
        """The vendor tells what is left."""
        balance, task_id = event.amount * (event.number - 1), f"task_{self.next()}"
        self.send(c.ObserveBalance(METERED, balance, 10_000, 1_000_000, task_id, self.now_ms))

    def do_around(self, event: Event) -> None:
        """Money comes in, wallets prove who they are, the operator stops things, a key goes."""
        self.credit(ACCOUNTS[event.pick % 2], event.amount)
        asked = ("dropmpp", "list", ACCOUNTS[0], "key_1", "req_1", f"challenge {event.number}", "drop.example")
        self.send(c.RecordProof(WALLET, *asked, 4217, self.now_ms))
        scope = ("all", f"vendor:{METERED}", "account:acc_1")[event.number % 3]
        self.send(c.SetFreeze(scope, event.share == 1, "drill", "me", self.now_ms))
        if event.pick == 0:
            self.send(c.RevokeKey("key_2", "acc_2", self.now_ms))

    def do_keep(self, event: Event) -> None:
        """The loop that holds and bills does its work for a while."""
        self.flush()
        hours = min(event.hours, 24)
        for _ in range(1 + event.number % 3):
            for meter in list(self.core.book.meters.values()):
                self.hold(meter, hours)
            for payment in self.over():
                self.send(c.BillPeriod(payment.id, self.now_ms))
            for result in self.flush():
                assert not isinstance(result, Refused) or result.code in {"insufficient_balance", "not_found"}
            self.now_ms += hours * HOUR_MS

    # the promises

    @invariant()
    def p1_conserved(self) -> None:
        """Debits equal credits in every asset, and the disk's own proof holds."""
        assert imbalance(self.core.book.ledger.accounts()) == {}
        verify_book(self.core.db)

    @invariant()
    def p2_no_overdraft(self) -> None:
        """No agent owes; each has exactly what it was given, less what was captured and what is held."""
        for account in ACCOUNTS:
            query = (
                "SELECT COALESCE(SUM(captured_base), 0), COALESCE(SUM(CASE charge WHEN 'held' THEN hold_base END), 0) "
                "FROM payments WHERE account_id = ?"
            )
            captured, held = self.core.db.execute(query, (account,)).fetchone()
            found = self.core.book.ledger.find(chart.agent(account), USD)
            if found is not None:
                credited = self.credited[account] - sum(
                    command.amount_base
                    for command in self.pending
                    if isinstance(command, c.CreditAccount) and command.account_id == account
                )
                assert (found.available_base, found.reserved_base) == (credited - captured - held, held)
                assert found.available_base >= 0

    @invariant()
    def every_bill_is_what_the_auditor_reckons(self) -> None:
        """What was billed is what was owed at that time, by the journal alone; agent and house bore it between them."""
        lives = audit(self.core.db)
        rows = self.core.db.execute(
            "SELECT m.id, m.billed_base, m.lost_base, m.billed_until_ms, COALESCE(SUM(p.captured_base), 0) "
            "FROM meters m LEFT JOIN payments p ON p.meter_id = m.id GROUP BY m.id"
        )
        lost_base = 0
        for meter_id, billed, lost, billed_until_ms, captured in rows.fetchall():
            assert billed == captured + lost
            lost_base += lost
            life = lives.get(meter_id, Life())
            until_ms = billed_until_ms if life.ended_at_ms is None else life.ended_at_ms
            # A period that was held of late, for a time before a pause, pays towards what was owed at that pause.
            paused_ms = max((end_ms or 0 for _, end_ms in life.stretches), default=0)
            if until_ms < paused_ms:
                assert billed <= life.cost_base(paused_ms), (meter_id, until_ms, life)
            else:
                assert billed == life.cost_base(until_ms), (meter_id, until_ms, life)
        house = self.core.book.ledger.find(chart.HOUSE_LOSS, USD)
        assert lost_base == (0 if house is None else house.posted_base)

    @invariant()
    def no_time_is_charged_twice(self) -> None:
        """By the journal a thing's stretches follow one another, and none begins before it was ordered."""
        ordered = dict(self.core.db.execute("SELECT id, created_at_ms FROM meters").fetchall())
        for meter_id, life in audit(self.core.db).items():
            before_ms = ordered[meter_id]
            for begin_ms, end_ms in life.stretches:
                assert before_ms <= begin_ms <= self.now_ms
                before_ms = max(begin_ms, self.now_ms if end_ms is None else end_ms)

    @invariant()
    def what_was_not_agreed_to_is_not_charged(self) -> None:
        """A thing that was dearer than quoted, or refused, never costs its agent anything."""
        query = (
            "SELECT SUM(p.captured_base) FROM meters m JOIN payments p ON p.meter_id = m.id "
            "WHERE m.reason IN (?, ?) OR p.delivery = 'refused'"
        )
        assert not self.core.db.execute(query, (DEARER, UNWANTED)).fetchone()[0]

    @invariant()
    def no_period_comes_to_the_dispute_rule(self) -> None:
        """So no cap of losses, and no deadline of a delivery, can be set for a vendor account."""
        query = "SELECT COUNT(*) FROM payments WHERE disputed OR charge = 'refunded'"
        assert self.core.db.execute(query).fetchone() == (0,)

    @invariant()
    def a_period_is_charged_within_its_hold(self) -> None:
        """Its tokens are its dollars, and both sides of it are open exactly as long as its charge is."""
        ledger = self.core.book.ledger
        rows = self.core.db.execute(
            "SELECT charge, hold_base, captured_base, settled_base, hold_transfer_id, exposure_transfer_id FROM payments"
        )
        for charge, hold, captured, settled, hold_id, exposure_id in rows.fetchall():
            assert captured == settled <= hold
            assert (ledger.reservation(hold_id) is not None) == (charge == Charge.HELD)
            assert (ledger.reservation(exposure_id) is not None) == (charge == Charge.HELD)
            assert charge in {Charge.HELD, Charge.CAPTURED, Charge.VOIDED}

    @invariant()
    def p11_transfers_are_explained(self) -> None:
        """Every transfer leads to a journal row about the same payment."""
        query = (
            "SELECT t.id FROM transfers t LEFT JOIN journal j ON j.seq = t.journal_seq "
            "WHERE j.seq IS NULL OR j.payment_id IS NOT t.payment_id"
        )
        assert self.core.db.execute(query).fetchall() == []

    @invariant()
    def p13_one_charge_a_period(self) -> None:
        """Periods follow one another without gap or overlap, each held once, and none of a thing that ended is open."""
        rows = self.core.db.execute(
            "SELECT meter_id, period, starts_at_ms, ends_at_ms, charge, m.state FROM payments p "
            "JOIN meters m ON m.id = p.meter_id ORDER BY meter_id, period"
        ).fetchall()
        ends: dict[str, tuple[int, int]] = {}
        for meter_id, number, starts_ms, ends_ms, charge, state in rows:
            before, before_ms = ends.get(meter_id, (0, starts_ms))
            assert (number, starts_ms) == (before + 1, before_ms)
            ends[meter_id] = (number, ends_ms)
            assert state != "ended" or charge != Charge.HELD

    @invariant()
    def the_view_is_the_book(self) -> None:
        """The view that moved step by step shows exactly what was committed."""
        loaded = View()
        loaded.load(self.core.book)
        assert loaded == self.view


MeterMachine.TestCase.settings = settings(
    max_examples=16,
    stateful_step_count=14,
    deadline=None,
    derandomize=True,  # the same lives every time; drop this and raise max_examples to look further
    phases=[Phase.generate],  # a life that fails is told at once: making it short takes longer than a test may
    suppress_health_check=list(HealthCheck),
)
test_metered_things_keep_the_promises = MeterMachine.TestCase

"""The renewal planner: what it decides case by case, and what it keeps to over whole lives driven by chance."""

import random
from dataclasses import dataclass, field, replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.renewal import (
    LOOK_AGAIN_S,
    STOP_MARGIN_S,
    STUCK,
    Destroy,
    Extension,
    Facts,
    Lapse,
    Renew,
    Stuck,
    Wait,
    Warn,
    Why,
    decide,
    lapse_reason,
    leads_s,
)
from gateway.core.server import ServerState
from tests.factories import NOW_MS, make_server

HOUR_S, DAY_S = 3600, 86_400
USD = 1_000_000
TERM = Extension(30 * DAY_S, 1, 12, 4 * DAY_S, slow=True, retry_before_s=DAY_S, rate=Fraction(9_990_000))
MINUTES = Extension(60, 1, 527_040, 900, least_base=10_000, rate=Fraction(7_440, 60))
RICH = 1_000 * USD


def facts(extension: Extension | None = TERM, left_s: float = 20 * DAY_S, **changes: object) -> Facts:
    """Return facts of a server that is wanted, payable, and paid for so much longer."""
    term_s = None if extension is None else extension.unit_s if extension.unit_s >= HOUR_S else 6 * HOUR_S
    known = Facts(
        now_ms=NOW_MS,
        state=ServerState.RUNNING,
        expires_at_ms=None if extension is None else NOW_MS + int(left_s * 1000),
        until_reason="",
        keep_until_ms=None,
        auto_renew=True,
        max_total_base=None,
        committed_base=9_990_000,
        available_base=RICH,
        warned=(),
        extension=extension,
        can_destroy=extension is not TERM,
        term_s=term_s,
    )
    return replace(known, **changes)  # type: ignore[arg-type]


def in_s(seconds: float) -> int:
    """Return the time so long from now."""
    return NOW_MS + int(seconds * 1000)


# terms


def test_a_term_is_renewed_when_its_lead_begins_and_not_before() -> None:
    """It waits until four days before the end, then buys one period."""
    waiting = decide(facts(left_s=20 * DAY_S))
    assert waiting == Wait(in_s(16 * DAY_S))
    assert decide(facts(left_s=4 * DAY_S)) == Renew(1)


def test_money_on_its_way_is_waited_for_and_then_called_stuck_once() -> None:
    """A second renewal never starts beside the first; a day before the end the agent hears of it, once."""
    assert isinstance(decide(facts(left_s=3 * DAY_S, renewal_open=True)), Wait)
    assert isinstance(decide(facts(left_s=DAY_S, renewal_open=True)), Stuck)
    assert isinstance(decide(facts(left_s=DAY_S, renewal_open=True, warned=(STUCK,))), Wait)
    assert isinstance(decide(facts(left_s=-60, renewal_open=True, warned=(STUCK,))), Wait)


def test_a_dead_renewal_is_tried_again() -> None:
    """Once its authorization is dead nothing is open, and it is bought anew, even after it was called stuck."""
    assert isinstance(decide(facts(left_s=DAY_S / 2, warned=(STUCK,))), Renew)


def test_what_is_not_settled_is_not_renewed() -> None:
    """The vendor answers 409 unless the rental is active."""
    assert isinstance(decide(facts(left_s=DAY_S, state=ServerState.PROVISIONING)), Wait)
    assert isinstance(decide(facts(MINUTES, left_s=60, state=ServerState.PROVISIONING)), Renew)


def test_nothing_is_renewed_beyond_keep_until() -> None:
    """A term that lasts until then is the last one, and where nothing destroys it, it lapses for that reason."""
    kept = facts(left_s=DAY_S, keep_until_ms=in_s(DAY_S))
    assert isinstance(decide(kept), Wait)
    assert decide(replace(kept, now_ms=in_s(DAY_S + 1))) == Lapse(Why.KEEP_UNTIL)
    assert isinstance(decide(facts(left_s=DAY_S, keep_until_ms=in_s(DAY_S + 1))), Renew)


def test_a_server_that_can_be_destroyed_is_destroyed_at_keep_until() -> None:
    """Whatever was paid beyond: it is wanted no longer."""
    kept = facts(MINUTES, left_s=HOUR_S, keep_until_ms=in_s(0))
    assert decide(kept) == Destroy(Why.KEEP_UNTIL)
    assert decide(replace(kept, state=ServerState.ORDERING)) == Destroy(Why.KEEP_UNTIL)


@pytest.mark.parametrize(
    ("why", "changes"),
    [
        (Why.NOT_RENEWED, {"auto_renew": False}),
        (Why.BALANCE, {"available_base": 9_989_999}),
        (Why.MAX_TOTAL, {"max_total_base": 19_979_999}),
        (Why.KEY, {"key_valid": False}),
        (Why.TEMPLATE, {"until_reason": "template"}),
    ],
)
def test_what_will_lapse_is_told_three_times_and_lapses_for_that_reason(why: Why, changes: dict[str, object]) -> None:
    """Three days, a day and an hour before the end, each once; nothing is bought; then it has lapsed, and why."""
    known = facts(left_s=10 * DAY_S, **changes)  # type: ignore[arg-type]
    told, left_s = [], 10.0 * DAY_S
    end_ms = known.expires_at_ms or 0
    for _ in range(20_000):
        decision = decide(known)
        if isinstance(decision, Warn):
            told.append((decision.why, (end_ms - known.now_ms) // 1000))
            known = replace(known, warned=(*known.warned, decision.kind))
        elif isinstance(decision, Wait):
            assert decision.until_ms > known.now_ms
            known = replace(known, now_ms=decision.until_ms)
        else:
            break
        left_s = (end_ms - known.now_ms) / 1000
    assert told == [(why, 3 * DAY_S), (why, DAY_S), (why, HOUR_S)]
    assert decision == Lapse(why)
    assert left_s == 0


def test_a_grace_that_is_stated_is_waited_for() -> None:
    """While the vendor keeps it money may still come; where no grace is stated its end is its end."""
    told = {"available_base": 0, "warned": (f"{Why.BALANCE}:2",)}
    kept = replace(MINUTES, grace_s=DAY_S)
    assert isinstance(decide(facts(kept, left_s=-DAY_S + 1, **told)), Wait)
    assert isinstance(decide(facts(kept, left_s=-DAY_S + 1)), Renew)
    assert decide(facts(kept, left_s=-DAY_S, **told)) == Lapse(Why.BALANCE)
    assert decide(facts(MINUTES, left_s=0, **told)) == Lapse(Why.BALANCE)


def test_a_warning_that_comes_late_is_the_most_urgent_one() -> None:
    """After an outage only what is true now is told, not what would have been."""
    decision = decide(facts(left_s=600, auto_renew=False))
    assert isinstance(decision, Warn)
    assert decision.kind == "not_renewed:2"
    assert not isinstance(decide(facts(left_s=600, auto_renew=False, warned=("not_renewed:2",))), Warn)


def test_short_terms_are_warned_of_in_their_own_measure() -> None:
    """An hour's end is told half an hour ahead, not three days."""
    assert leads_s((72 * HOUR_S, 24 * HOUR_S, HOUR_S), None) == (72 * HOUR_S, 24 * HOUR_S, HOUR_S)
    assert leads_s((HOUR_S, 24 * HOUR_S), HOUR_S) == (1800, 900)


def test_a_renewal_that_keeps_failing_is_told() -> None:
    """It goes on being tried, and its agent hears that it may come to nothing."""
    failing = facts(left_s=DAY_S, failing=True)
    decision = decide(failing)
    assert isinstance(decision, Warn)
    assert decision.why is Why.FAILED
    assert isinstance(decide(replace(failing, warned=(decision.kind,))), Renew)


def test_without_a_price_list_the_fewest_are_bought_at_the_vendors_word() -> None:
    """Nobody knows what it costs, so nothing but an empty purse stops it here; the purchase itself is bounded."""
    unknown = replace(TERM, rate=None)
    assert decide(facts(unknown, left_s=DAY_S)) == Renew(1)
    assert isinstance(decide(facts(unknown, left_s=DAY_S, available_base=0)), Warn)


# prepaid minutes


def test_minutes_are_bought_in_batches() -> None:
    """Six hours at a time; where the least charge buys more than that, as much as it buys."""
    assert decide(facts(MINUTES, left_s=900)) == Renew(360)
    cheap = replace(MINUTES, rate=Fraction(10))
    assert decide(facts(cheap, left_s=900)) == Renew(1000)
    assert (MINUTES.cost_base(360), cheap.cost_base(1000)) == (44_640, 10_000)


def test_minutes_end_with_keep_until_and_leave_no_rest_that_costs_the_least_charge_again() -> None:
    """No more than is needed; a short rest is bought with the batch before it."""
    needed = decide(facts(MINUTES, left_s=900, keep_until_ms=in_s(900 + 100 * 60 + 1)))
    assert isinstance(needed, Renew)
    assert needed.units == 101
    rest = decide(facts(MINUTES, left_s=900, keep_until_ms=in_s(900 + 400 * 60)))
    assert isinstance(rest, Renew)
    assert rest.units == 400  # a rest of 40 minutes would cost what 80 do


def test_fewer_minutes_are_bought_where_no_more_is_covered() -> None:
    """Up to the last cent of the balance or of max_total, but never less than the least charge."""
    poor = decide(facts(MINUTES, left_s=900, available_base=12_400))
    assert isinstance(poor, Renew)
    assert (poor.units, MINUTES.cost_base(poor.units)) == (100, 12_400)
    bounded = decide(facts(MINUTES, left_s=900, max_total_base=9_990_000 + 12_400))
    assert bounded == poor
    assert isinstance(decide(facts(MINUTES, left_s=900, available_base=9_999)), Warn)


# the balance


def test_what_runs_on_the_balance_is_only_told_of() -> None:
    """It goes on without anybody's doing; its agent hears when the balance will not cover it."""
    assert isinstance(decide(facts(None)), Wait)
    soon = facts(None, runs_out_ms=in_s(DAY_S - 1))
    decision = decide(soon)
    assert isinstance(decision, Warn)
    assert (decision.why, decision.ends_at_ms) == (Why.BALANCE, in_s(DAY_S - 1))
    wanted_less = replace(soon, keep_until_ms=in_s(HOUR_S))
    assert decide(wanted_less) == Wait(in_s(HOUR_S))


def test_it_is_destroyed_before_max_total_is_passed() -> None:
    """A few minutes before the first unit that max_total does not cover."""
    assert isinstance(decide(facts(None, covered_until_ms=in_s(STOP_MARGIN_S + 1), warned=("max_total:2",))), Wait)
    assert decide(facts(None, covered_until_ms=in_s(STOP_MARGIN_S))) == Destroy(Why.MAX_TOTAL)
    warned = decide(facts(None, covered_until_ms=in_s(DAY_S)))
    assert isinstance(warned, Warn)
    assert warned.why is Why.MAX_TOTAL


def test_a_template_ends_by_itself() -> None:
    """Its agent hears of it before; then it has lapsed for that reason."""
    ending = facts(None, expires_at_ms=in_s(1800), until_reason="template", term_s=HOUR_S)
    decision = decide(ending)
    assert isinstance(decision, Warn)
    assert decision.why is Why.TEMPLATE
    assert decide(replace(ending, now_ms=in_s(1800))) == Lapse(Why.TEMPLATE)


def test_the_reason_of_a_lapse_is_what_was_told_last() -> None:
    """For whoever sees at the vendor that it is gone."""
    server = make_server()
    assert lapse_reason(server) == ""
    assert lapse_reason(replace(server, warned=("balance:0", "max_total:1"))) == Why.MAX_TOTAL
    assert lapse_reason(replace(server, warned=("balance:0", STUCK))) == Why.STUCK
    assert lapse_reason(replace(server, until_reason=Why.TEMPLATE)) == Why.TEMPLATE


# whole lives


@dataclass
class Life:
    """One server from now on: a vendor that extends it after a while or never, and a planner that is asked when it says."""

    rng: random.Random
    known: Facts
    slow_s: int
    dies: float
    destroyed_ms: int | None = None
    lapsed: str = ""
    due: list[tuple[int, bool, Renew]] = field(default_factory=list)
    renewed: int = 0

    def play(self, until_ms: int) -> None:
        """Live until it ends, or until then; check every bound at every step."""
        for _ in range(10_000):
            if self.known.now_ms >= until_ms or self.lapsed or self.destroyed_ms is not None:
                return
            self._step()
        raise AssertionError("it never comes to rest")

    def _step(self) -> None:
        known, decision = self.known, decide(self.known)
        match decision:
            case Renew():
                self._renew(decision)
            case Warn():
                assert decision.kind not in known.warned
                self.known = replace(known, warned=(*known.warned, decision.kind))
            case Stuck():
                assert STUCK not in known.warned
                self.known = replace(known, warned=(*known.warned, STUCK))
            case Destroy():
                self.destroyed_ms = known.now_ms
            case Lapse():
                self.lapsed = decision.reason
            case Wait():
                self._wait(decision.until_ms)

    def _renew(self, renew: Renew) -> None:
        known, cost_base = self.known, self._cost_base(renew)
        assert not known.renewal_open, "two renewals at once"
        assert known.auto_renew
        assert 0 < cost_base <= known.available_base, "an overdraft"
        assert known.extension is not None
        if known.max_total_base is not None:
            assert known.committed_base + cost_base <= known.max_total_base, "more than max_total"
        if known.keep_until_ms is not None:
            unit_ms = known.extension.unit_s * 1000
            assert self._lasts_until_ms(renew) < known.keep_until_ms + unit_ms, "more than a unit past keep_until"
        dead = self.rng.random() < self.dies
        at_ms = known.now_ms + self.rng.randint(self.slow_s * 500, self.slow_s * 1000)
        self.due.append((at_ms, not dead, renew))
        self.known = replace(
            known,
            renewal_open=True,
            committed_base=known.committed_base + cost_base,
            available_base=known.available_base - cost_base,
        )

    def _cost_base(self, renew: Renew) -> int:
        assert self.known.extension is not None
        return self.known.extension.cost_base(renew.units) or 0

    def _lasts_until_ms(self, renew: Renew) -> int:
        assert self.known.extension is not None
        assert self.known.expires_at_ms is not None
        return self.known.expires_at_ms + renew.units * self.known.extension.unit_s * 1000

    def _wait(self, until_ms: int) -> None:
        assert until_ms > self.known.now_ms, "it would never rest"
        known = self.known
        # A look that nothing but the pause asks for; `keep_until` may be exactly as far away, and is a real end.
        only_looks = until_ms == known.now_ms + LOOK_AGAIN_S * 1000 and until_ms != known.keep_until_ms
        if self.due and (only_looks or self.due[0][0] <= until_ms):
            at_ms, settled, renew = self.due.pop()
            known, cost_base = replace(known, now_ms=max(at_ms, known.now_ms), renewal_open=False), 0
            if settled:
                self.renewed += 1
                self.known = replace(known, expires_at_ms=self._lasts_until_ms(renew), warned=())
            else:
                cost_base = self._cost_base(renew)
                left = (known.committed_base - cost_base, known.available_base + cost_base)
                self.known = replace(known, committed_base=left[0], available_base=left[1])
            return
        self.known = replace(self.known, now_ms=until_ms)


@st.composite
def lives(draw: st.DrawFn) -> Life:
    """Return a life: any vendor's rule, any wishes, any purse, a vendor as slow as it likes."""
    unit_s = draw(st.sampled_from([60, 600, HOUR_S, DAY_S, 30 * DAY_S]))
    lead_s = draw(st.integers(60, max(120, unit_s // 2)))
    slow = draw(st.booleans())
    extension = Extension(
        unit_s=unit_s,
        min_units=1,
        max_units=draw(st.sampled_from([1, 12, 100_000])),
        lead_s=lead_s,
        least_base=draw(st.sampled_from([0, 10_000])),
        slow=slow,
        retry_before_s=lead_s // 4 if slow else 0,
        rate=Fraction(draw(st.integers(1, 10**9)), draw(st.integers(1, 10**4))),
    )
    rng = random.Random(draw(st.integers(0, 2**32)))
    known = facts(extension, left_s=draw(st.integers(1, 3 * unit_s)))
    known = replace(
        known,
        can_destroy=draw(st.booleans()),
        auto_renew=draw(st.booleans()),
        committed_base=draw(st.integers(0, 10**7)),
        available_base=draw(st.integers(0, 10**10)),
        keep_until_ms=draw(st.none() | st.integers(1, 40 * unit_s).map(in_s)),
        max_total_base=draw(st.none() | st.integers(0, 10**10)),
        term_s=unit_s,
    )
    return Life(rng, known, draw(st.integers(unit_s // 10 + 1, 2 * unit_s)), draw(st.sampled_from([0.0, 0.3, 1.0])))


@settings(max_examples=100, deadline=None)
@given(lives())
def test_no_life_breaks_a_bound(life: Life) -> None:
    """Never more than max_total or the balance, never past keep_until by a unit, never two renewals, always at rest."""
    unit_s = life.known.extension.unit_s if life.known.extension else 60
    first_end_ms = life.known.expires_at_ms or 0
    life.play(in_s(30 * unit_s))
    keep_ms = life.known.keep_until_ms
    if keep_ms is not None:
        assert (life.known.expires_at_ms or 0) < max(first_end_ms + 1, keep_ms + unit_s * 1000)
        if life.known.can_destroy and life.destroyed_ms is not None:
            assert life.destroyed_ms <= max(keep_ms, NOW_MS)


@settings(max_examples=100, deadline=None)
@given(lives())
def test_what_is_wanted_and_payable_never_lapses(life: Life) -> None:
    """A vendor that needs half the lead, and lets at most every third renewal die, never loses a server."""
    extension = life.known.extension
    assert extension is not None
    unit_s = extension.unit_s
    wanted_ms = in_s(30 * unit_s)
    life.known = replace(
        life.known,
        auto_renew=True,
        max_total_base=None,
        available_base=10**15,
        keep_until_ms=wanted_ms,
        expires_at_ms=in_s(extension.lead_s + unit_s),
    )
    life.slow_s, life.dies = max(1, extension.lead_s // 16), min(life.dies, 0.3)
    life.play(wanted_ms)
    assert not life.lapsed
    assert life.destroyed_ms is None or life.destroyed_ms >= wanted_ms
    assert (life.known.expires_at_ms or 0) >= life.known.now_ms
    assert life.renewed

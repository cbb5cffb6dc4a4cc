"""The fleet planner: what it wants next, and that it keeps its count and its budget over whole lives."""

import random
from dataclasses import replace

import pytest

from gateway.core.fleet_plan import (
    AVOID_S,
    NEAR_END_S,
    PAUSES_S,
    Align,
    Become,
    FleetFacts,
    LetGo,
    Make,
    Member,
    Part,
    Rest,
    decide_fleet,
)
from gateway.core.server import FleetState, ServerState
from tests.factories import NOW_MS

USD = 1_000_000
DAY_MS = 86_400_000
UNTIL_MS = NOW_MS + DAY_MS


def member(n: int, part: Part = Part.SOUND, **changes: object) -> Member:
    """Return a member that took nothing yet of its share of three dollars."""
    return replace(
        Member(f"srv_{n}", "one", part, 0, 3 * USD, UNTIL_MS, was_ready=True, stoppable=True),
        **changes,  # type: ignore[arg-type]
    )


def facts(*members: Member, **changes: object) -> FleetFacts:
    """Return a fleet of three until tomorrow for nine dollars."""
    known = FleetFacts(NOW_MS, NOW_MS, FleetState.ACTIVE, 3, UNTIL_MS, 9 * USD, members)
    return replace(known, **changes)  # type: ignore[arg-type]


def test_each_missing_member_gets_an_equal_share_of_what_is_left() -> None:
    """Three of three dollars each, then nothing more."""
    assert decide_fleet(facts()) == Make(3 * USD, whole=False)
    assert decide_fleet(facts(member(1))) == Make(3 * USD, whole=False)
    assert decide_fleet(facts(member(1), member(2))) == Make(3 * USD, whole=True)
    assert isinstance(decide_fleet(facts(member(1), member(2), member(3))), Rest)


def test_where_no_share_buys_anything_the_whole_rest_is_tried() -> None:
    """Two servers are better than none of three."""
    assert decide_fleet(facts(share_refused=True)) == Make(9 * USD, whole=True)


@pytest.mark.parametrize("part", [Part.ENDED, Part.LEAVING])
def test_a_member_that_is_gone_or_going_is_replaced_from_what_is_left(part: Part) -> None:
    """What it took is spent; what it may still take counts too while it is open."""
    lost = member(3, part, committed_base=2 * USD)
    decision = decide_fleet(facts(member(1), member(2), lost, budget_base=12 * USD))
    assert isinstance(decision, Make)
    assert decision.share_base == (4 if part is Part.ENDED else 3) * USD


@pytest.mark.parametrize(("part", "stoppable"), [(Part.AT_RISK, True), (Part.LEAVING, False)])
def test_what_a_member_has_not_used_is_taken_from_it_for_its_replacement(part: Part, *, stoppable: bool) -> None:
    """A stuck renewal's hold stays counted: it may yet be collected. The new one is looked for elsewhere."""
    risky = member(3, part, committed_base=2 * USD, stoppable=stoppable)
    known = facts(member(1), member(2), risky)
    trimmed = decide_fleet(known)
    assert trimmed == Align("srv_3", UNTIL_MS, 2 * USD)
    decision = decide_fleet(replace(known, members=(*known.members[:2], replace(risky, share_base=2 * USD))))
    assert isinstance(decision, Make)
    assert decision.share_base == USD
    assert decision.avoid == (("one",) if part is Part.AT_RISK else ())


def test_the_budget_is_never_promised_twice() -> None:
    """With nothing left there is no replacement, and the fleet says so, once."""
    lost = member(3, Part.AT_RISK, committed_base=3 * USD)
    exhausted = decide_fleet(facts(member(1), member(2), lost))
    assert isinstance(exhausted, Become)
    assert exhausted.state is FleetState.EXHAUSTED
    assert isinstance(decide_fleet(facts(member(1), member(2), lost, state=FleetState.EXHAUSTED)), Rest)


def test_a_member_that_failed_slows_the_next_down_and_its_vendor_is_avoided() -> None:
    """The more fail in a row, the longer; one that ran before it ended slows nothing down."""
    failed = [member(n, Part.ENDED, was_ready=False, ended_at_ms=NOW_MS, state=ServerState.FAILED) for n in range(1, 3)]
    waiting = decide_fleet(facts(*failed))
    assert waiting == Rest(UNTIL_MS, NOW_MS + PAUSES_S[1] * 1000)
    later = decide_fleet(facts(*failed, wall_ms=NOW_MS + PAUSES_S[1] * 1000))
    assert later == Make(3 * USD, whole=False, avoid=("one",))
    much_later = decide_fleet(facts(*failed, wall_ms=NOW_MS + AVOID_S * 1000 + 1))
    assert much_later == Make(3 * USD, whole=False)
    set_back = decide_fleet(facts(*failed, wall_ms=NOW_MS - 86_400_000))
    assert set_back == Make(3 * USD, whole=False), "a clock that was set back keeps nothing waiting"
    ran = replace(failed[1], was_ready=True)
    assert isinstance(decide_fleet(facts(failed[0], ran)), Make)


def test_the_vendor_of_a_member_that_broke_is_avoided_whatever_became_of_it() -> None:
    """Let go because it was broken, it is destroyed like any other: that does not make its vendor any better."""
    destroyed = member(1, Part.ENDED, broken=True, ended_at_ms=NOW_MS, state=ServerState.DESTROYED)
    assert getattr(decide_fleet(facts(destroyed)), "avoid", None) == ("one",)
    staying = member(1, Part.LEAVING, state=ServerState.ERROR)  # its vendor cannot destroy it
    assert getattr(decide_fleet(facts(staying)), "avoid", None) == ("one",)
    wanted = member(1, Part.ENDED, ended_at_ms=NOW_MS, state=ServerState.DESTROYED)
    assert getattr(decide_fleet(facts(wanted)), "avoid", None) == ()


def test_a_refused_order_is_not_repeated_at_once() -> None:
    """It waits for as long as it was told."""
    assert decide_fleet(facts(refused_due_ms=NOW_MS + 5_000)) == Rest(UNTIL_MS, NOW_MS + 5_000)


def test_one_too_many_is_let_go_the_one_at_risk_first() -> None:
    """A renewal that settled after all leaves one more than wanted; so does a smaller count."""
    three = [member(n) for n in range(1, 4)]
    risky = member(4, Part.AT_RISK)
    assert isinstance(decide_fleet(facts(*three, risky, budget_base=12 * USD)), Rest)
    more = decide_fleet(facts(*three, risky, count=2, budget_base=12 * USD))
    assert isinstance(more, LetGo)
    assert more.server_id == "srv_4"
    fewer = decide_fleet(facts(*three, count=2))
    assert isinstance(fewer, LetGo)
    assert fewer.server_id == "srv_3"


def test_a_broken_member_is_destroyed() -> None:
    """Its vendor says that it is broken: it is let go before its replacement is ordered."""
    broken = decide_fleet(facts(member(1), member(2, Part.BROKEN)))
    assert isinstance(broken, LetGo)
    assert broken.server_id == "srv_2"


def test_members_follow_the_fleets_end_and_budget() -> None:
    """A later end, a smaller budget, a larger one."""
    three = [member(n) for n in range(1, 4)]
    later = decide_fleet(facts(*three, until_ms=UNTIL_MS + 1))
    assert later == Align("srv_1", UNTIL_MS + 1, 3 * USD)
    assert decide_fleet(facts(*three, budget_base=8 * USD)) == Align("srv_3", UNTIL_MS, 2 * USD)
    assert decide_fleet(facts(*three, budget_base=30 * USD)) == Align("srv_1", UNTIL_MS, 10 * USD)
    spent = [replace(each, committed_base=3 * USD) for each in three]
    assert isinstance(decide_fleet(facts(*spent, budget_base=8 * USD)), Rest)


def test_at_its_end_everything_is_destroyed_and_then_it_has_ended() -> None:
    """What nobody can destroy is only let go: it runs out by itself."""
    over = facts(member(1), now_ms=UNTIL_MS)
    assert decide_fleet(over) == Become(FleetState.ENDING, "its time is over")
    ending = replace(over, state=FleetState.ENDING)
    assert decide_fleet(ending) == LetGo("srv_1", "the fleet ends")
    assert isinstance(decide_fleet(replace(ending, members=(member(1, Part.LEAVING),))), Rest)
    assert decide_fleet(replace(ending, members=(member(1, Part.ENDED),))) == Become(FleetState.ENDED)
    term = member(1, Part.LEAVING, stoppable=False)
    assert decide_fleet(replace(ending, members=(term,))) == Become(FleetState.ENDED)
    assert isinstance(decide_fleet(facts(state=FleetState.ENDED)), Rest)


def test_nothing_is_ordered_for_the_last_minute() -> None:
    """It would be destroyed before it ran."""
    assert isinstance(decide_fleet(facts(now_ms=UNTIL_MS - NEAR_END_S * 1000)), Rest)


def test_a_fleet_that_is_whole_again_is_active() -> None:
    """After its budget was raised, or its count lowered."""
    three = [member(n) for n in range(1, 4)]
    assert decide_fleet(facts(*three, state=FleetState.EXHAUSTED)) == Become(FleetState.ACTIVE)


@pytest.mark.parametrize("seed", range(60))
def test_over_a_life_the_budget_holds_and_the_count_is_kept(seed: int) -> None:
    """Members cost, fail, get stuck and recover by chance, the agent changes its mind: the sum never passes the budget."""
    rng = random.Random(seed)
    known = facts(count=rng.randint(1, 4), budget_base=rng.randint(1, 40) * USD)
    largest_base = known.budget_base
    while known.state is not FleetState.ENDED:
        known = _befall(rng, known)
        largest_base = max(largest_base, known.budget_base)
        for _ in range(100):
            decision = decide_fleet(known)
            if isinstance(decision, Rest):
                break
            known = _apply(rng, known, decision)
            sound = [m for m in known.members if m.part is Part.SOUND]
            assert not isinstance(decision, Make) or len(sound) <= known.count
            assert sum(m.committed_base for m in known.members) <= largest_base
            if isinstance(decision, Make):
                assert sum(m.reserved_base for m in known.members) <= known.budget_base
        else:
            pytest.fail("it never comes to rest")
        hours = rng.randint(1, 3)
        known = replace(known, now_ms=known.now_ms + hours * 3_600_000, wall_ms=known.wall_ms + hours * 3_600_000)
    assert all(m.part in {Part.ENDED, Part.LEAVING} for m in known.members)


def _befall(rng: random.Random, known: FleetFacts) -> FleetFacts:
    """Let an hour's fate come over every member, and the agent change its mind now and then."""
    members = []
    for each in known.members:
        now = each
        if each.part is not Part.ENDED:
            now = replace(now, committed_base=each.committed_base + rng.randint(0, each.left_base // 4 + 1))
            now = replace(now, committed_base=min(now.committed_base, max(each.share_base, each.committed_base)))
        draw = rng.random()
        if each.part is Part.LEAVING or (each.part is not Part.ENDED and draw < 0.1):
            now = replace(now, part=Part.ENDED, ended_at_ms=known.wall_ms, was_ready=rng.random() < 0.5)
        elif each.part is Part.SOUND and draw < 0.2:
            now = replace(now, part=rng.choice([Part.AT_RISK, Part.BROKEN]))
        elif each.part is Part.AT_RISK and draw < 0.5:
            now = replace(now, part=Part.SOUND)
        members.append(now)
    known = replace(known, members=tuple(members))
    if rng.random() < 0.1 and known.state in {FleetState.ACTIVE, FleetState.EXHAUSTED}:
        change = rng.choice(["count", "budget_base", "until_ms"])
        new = {
            "count": rng.randint(1, 4),
            "budget_base": rng.randint(1, 60) * USD,
            "until_ms": known.until_ms + 3_600_000,
        }
        known = replace(known, **{change: new[change]})
    return known


def _apply(rng: random.Random, known: FleetFacts, decision: object) -> FleetFacts:
    members = list(known.members)
    match decision:
        case Make(share_base=share_base):
            new = member(len(members) + 1, share_base=share_base, keep_until_ms=known.until_ms, was_ready=False)
            members.append(replace(new, stoppable=rng.random() < 0.7))
        case LetGo(server_id=server_id):
            members = [replace(m, part=Part.LEAVING) if m.id == server_id else m for m in members]
        case Align(server_id=server_id, keep_until_ms=keep_ms, share_base=share_base):
            members = [
                replace(m, keep_until_ms=keep_ms, share_base=share_base) if m.id == server_id else m for m in members
            ]
        case Become(state=state):
            return replace(known, state=state)
    return replace(known, members=tuple(members))

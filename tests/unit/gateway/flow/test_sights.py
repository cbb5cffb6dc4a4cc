"""What a look means: the table of transitions, case by case."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.core.records import Meter, MeterState
from gateway.core.server import FINAL, Candidate, Server, ServerState, Wanted
from gateway.flow.servers.sights import (
    MOVE_HOLDS_MS,
    Final,
    Moment,
    after_sight,
    ended,
    is_settled,
    when_gone,
    when_meter_ended,
)
from gateway.server_ports import Sight

S = ServerState
NOW = Moment(1_000_000, 2_000_000)
HOUR_MS = 3_600_000


def server(state: S = S.RUNNING, **changes: Any) -> Server:
    """Return a server in a state."""
    made = Server(
        id="srv_1",
        account_id="acc_1",
        key_id="key_1",
        name="box",
        client_token="t",
        fingerprint=bytes(32),
        sealed_spec=b"",
        candidates=(Candidate("shop", "small", "ams", 1),),
        created_at_ms=1,
        as_of_ms=1,
        vendor="shop",
        plan="small",
        region="ams",
        ref=None if state in (S.ORDERING, S.ORDER_UNKNOWN) else "box-1",
        state=state,
        ended_at_ms=5 if state in FINAL else None,
        ready_at_ms=None if state in (S.ORDERING, S.ORDER_UNKNOWN, S.PROVISIONING) else 2,
    )
    return replace(made, **changes)


def meter(**changes: Any) -> Meter:
    """Return a meter that has ended."""
    made = Meter(
        *("met_1", "shop", "acc_1", "key_1", "small", "tok", "box", "0.01", None, 3600, "started_units"),
        while_running=False,
        created_at_ms=1,
        state=MeterState.ENDED,
        ref="box-1",
        ended_at_ms=NOW.business_ms,
    )
    return replace(made, **changes)


SAID = {
    (S.ORDERING, None): S.PROVISIONING,
    (S.ORDERING, S.RUNNING): S.RUNNING,
    (S.ORDER_UNKNOWN, S.PROVISIONING): S.PROVISIONING,
    (S.ORDER_UNKNOWN, S.DESTROYED): S.PROVISIONING,  # that a create shows: a look will say what it is
    (S.PROVISIONING, S.RUNNING): S.RUNNING,
    (S.PROVISIONING, S.ERROR): S.ERROR,
    (S.RUNNING, None): S.RUNNING,
    (S.RUNNING, S.STOPPED): S.STOPPED,
    (S.RUNNING, S.SUSPENDED): S.SUSPENDED,
    (S.RUNNING, S.GRACE): S.GRACE,
    (S.RUNNING, S.UNKNOWN): S.UNKNOWN,
    (S.RUNNING, S.DESTROYED): S.RUNNING,  # `when_gone` is about that
    (S.RUNNING, S.LOST): S.RUNNING,
    (S.UNKNOWN, S.RUNNING): S.RUNNING,
    (S.STOPPING, S.STOPPED): S.STOPPED,
    (S.GRACE, S.RUNNING): S.RUNNING,
    (S.DESTROYING, S.RUNNING): S.RUNNING,  # nobody here wanted it destroyed
    **{(state, S.RUNNING): state for state in FINAL},
}


@pytest.mark.parametrize(("before", "said"), SAID)
def test_what_a_vendor_says_of_a_server_that_is_kept(before: S, said: S | None) -> None:
    """Each state, and each word: where it leads; what is over stays over."""
    known = server(before)
    change = after_sight(known, Sight("box-1", said, "word"), NOW)
    after = known if change is None else change[0]
    assert after.state is SAID[before, said]
    if after.state is not before:
        assert change is not None
        assert change[1] == ("unknown_state" if after.state is S.UNKNOWN else after.state.value)


def test_a_promised_destruction_is_not_undone_by_a_list_that_still_shows_it() -> None:
    """Wanted gone, promised, and still shown as running: it goes on being destroyed, with its reason."""
    known = server(S.DESTROYING, wanted=Wanted.DESTROYED, reason="keep_until")
    assert after_sight(known, Sight("box-1", S.RUNNING, "active"), NOW) is None


@pytest.mark.parametrize(("under_way", "began"), [(S.STOPPING, S.RUNNING), (S.STARTING, S.STOPPED)])
def test_what_is_under_way_is_not_over_while_its_vendor_has_not_come_to_it(under_way: S, began: S) -> None:
    """A queued action: where it began is no news for a while, and the truth after that."""
    known = server(under_way, as_of_ms=NOW.now_ms - MOVE_HOLDS_MS + 1)
    assert after_sight(known, Sight("box-1", began, "word"), NOW) is None
    change = after_sight(replace(known, as_of_ms=NOW.now_ms - MOVE_HOLDS_MS), Sight("box-1", began, "word"), NOW)
    assert change is not None
    assert change[0].state is began


def test_nothing_new_is_no_change() -> None:
    """A look that shows what is known leaves no row behind."""
    known = server(address="192.0.2.1", expires_at_ms=9)
    assert after_sight(known, Sight("box-1", S.RUNNING, "active", address="192.0.2.1", expires_at_ms=9), NOW) is None


def test_an_unknown_word_is_told_with_the_word() -> None:
    """The state is unknown, and the reason quotes what the vendor said; the next known word ends that."""
    change = after_sight(server(), Sight("box-1", S.UNKNOWN, "hibernating"), NOW)
    assert change is not None
    assert "hibernating" in change[0].reason
    back = after_sight(change[0], Sight("box-1", S.RUNNING, "active"), NOW)
    assert back is not None
    assert (back[0].state, back[0].reason) == (S.RUNNING, "")


def test_it_is_ready_once() -> None:
    """`ready_at` is of the first time that it ran."""
    first = after_sight(server(S.PROVISIONING), Sight("box-1", S.RUNNING), NOW)
    assert first is not None
    assert first[0].ready_at_ms == NOW.now_ms
    stopped = replace(first[0], state=S.STOPPED)
    again = after_sight(stopped, Sight("box-1", S.RUNNING), Moment(9_000_000, 9_000_000))
    assert again is not None
    assert again[0].ready_at_ms == NOW.now_ms


def test_warnings_begin_anew_when_the_paid_time_moves_on() -> None:
    """Later: they are forgotten; earlier: they stand."""
    known = server(expires_at_ms=HOUR_MS, warned=("balance:1",))
    later = after_sight(known, Sight("box-1", expires_at_ms=2 * HOUR_MS), NOW)
    earlier = after_sight(known, Sight("box-1", expires_at_ms=HOUR_MS - 1), NOW)
    assert later is not None
    assert earlier is not None
    assert (later[0].warned, earlier[0].warned) == ((), ("balance:1",))
    assert later[1] == "changed"


GONE: dict[str, tuple[Server, S, Final | None]] = {
    "wanted": (server(wanted=Wanted.DESTROYED, reason="keep_until"), S.LOST, Final(S.DESTROYED, "keep_until")),
    "over": (server(expires_at_ms=NOW.business_ms), S.LOST, Final(S.LAPSED, "its paid time is over")),
    "nearly over": (server(expires_at_ms=NOW.business_ms + 59_000), S.LOST, Final(S.LAPSED, "its paid time is over")),
    "over, and warned of": (
        server(expires_at_ms=NOW.business_ms, warned=("balance:0", "balance:2")),
        S.LOST,
        Final(S.LAPSED, "balance"),
    ),
    "over, and not wanted longer": (
        server(expires_at_ms=NOW.business_ms, keep_until_ms=NOW.business_ms),
        S.LOST,
        Final(S.LAPSED, "keep_until"),
    ),
    "over by its template": (
        server(expires_at_ms=NOW.business_ms, until_reason="template"),
        S.LOST,
        Final(S.LAPSED, "template"),
    ),
    "the vendor says that it lapsed": (server(), S.LAPSED, Final(S.LAPSED, "its paid time is over")),
    "denied in its time": (server(expires_at_ms=NOW.business_ms + HOUR_MS), S.LOST, None),
    "denied, paid as it runs": (server(), S.DESTROYED, None),
}


@pytest.mark.parametrize("case", GONE)
def test_what_it_means_that_a_vendor_has_it_no_more(case: str) -> None:
    """Its end as wanted, its paid time's end with why, or nothing yet: one denial proves nothing."""
    known, said, final = GONE[case]
    assert when_gone(known, said, NOW) == final


METERS: dict[str, tuple[Server, Meter, S, str]] = {
    "wanted": (server(wanted=Wanted.DESTROYED, reason="fleet"), meter(reason="its agent"), S.DESTROYED, "fleet"),
    "by the proxy": (server(), meter(reason="its agent"), S.DESTROYED, "its agent destroyed it through the proxy"),
    "no balance": (server(), meter(reason="unfunded"), S.LAPSED, "balance"),
    "its template's time": (
        server(expires_at_ms=NOW.business_ms, until_reason="template"),
        meter(reason="destroyed"),
        S.LAPSED,
        "template",
    ),
    "nobody": (
        server(),
        meter(reason="absent from two lists"),
        S.LOST,
        "gone, and nobody asked for that: absent from two lists",
    ),
}


@pytest.mark.parametrize("case", METERS)
def test_why_a_metered_server_ended(case: str) -> None:
    """The meter knows why its thing is gone."""
    known, over, state, reason = METERS[case]
    assert when_meter_ended(known, over) == Final(state, reason)


def test_an_end_is_told_once() -> None:
    """What has ended keeps its first end."""
    change = ended(server(), Final(S.LOST, "why"), NOW)
    assert change is not None
    assert (change[0].state, change[0].reason, change[0].ended_at_ms, change[1]) == (S.LOST, "why", NOW.now_ms, "lost")
    assert ended(change[0], Final(S.DESTROYED, ""), NOW) is None


def test_what_is_settled() -> None:
    """Waiting for "settled" waits for every state that another one follows by itself."""
    moving = {S.ORDERING, S.ORDER_UNKNOWN, S.PROVISIONING, S.STOPPING, S.STARTING, S.REBOOTING, S.DESTROYING}
    assert {state for state in S if not is_settled(server(state))} == moving

"""What a look at a server means: every word of a vendor's and every silence, as a change of our own record of it.

Must not know how it was looked at or what is done about it.  Theory: a record and a sight of it decide the next record
alone, so the table of transitions is in one place and can be tried case by case; what is over never begins again.
"""

from dataclasses import dataclass, replace

from gateway.core.records import Meter
from gateway.core.renewal import Why, lapse_reason
from gateway.core.server import FINAL, ORDERED, Server, ServerState, Wanted
from gateway.flow.broker.periods import UNFUNDED
from gateway.server_ports import Sight

CLOCKS_APART_MS = 60_000
"""The vendor's clock and ours differ: what is gone so shortly before its paid time is over has not been taken away."""
WORD_MAX = 80
ITS_AGENT = "its agent"  # why a meter ends that an agent's own call has ended

CHANGING = frozenset(
    {
        ServerState.PROVISIONING,
        ServerState.STOPPING,
        ServerState.STARTING,
        ServerState.REBOOTING,
        ServerState.DESTROYING,
    }
)
"""States that are followed by another one soon, without anybody's doing."""
BEGAN = {ServerState.STOPPING: ServerState.RUNNING, ServerState.STARTING: ServerState.STOPPED}
"""Where what is under way began: to see it there says for a while only that the vendor has not come to it yet."""
MOVE_HOLDS_MS = 120_000


@dataclass(frozen=True, slots=True)
class Moment:
    """When a look was made: by the clock of our records, and by the time that vendors bill."""

    now_ms: int
    business_ms: int


@dataclass(frozen=True, slots=True)
class Final:
    """How a server ends, and why."""

    state: ServerState
    reason: str


BY_ITS_AGENT = Final(ServerState.DESTROYED, "its agent destroyed it through the proxy")


def place_of(server: Server) -> tuple[str, str]:
    """Return where a server is: its vendor, and the vendor's own id of it."""
    return server.vendor, server.ref or ""


def is_settled(server: Server) -> bool:
    """Say whether a server stays as it is until somebody wants something else."""
    return server.state not in CHANGING and server.state not in ORDERED


def after_sight(server: Server, sight: Sight, moment: Moment, access: bytes | None = None) -> tuple[Server, str] | None:
    """Return a server as a sight leaves it, and what happened; None where nothing did, or where it had ended before.

    A sight that says that it is gone changes no state here: `when_gone` says what that means. `access` are the sealed
    ways in that replace those which are known.
    """
    if not server.open:
        return None
    state = _next_state(server, sight, moment)
    paid_ms = server.expires_at_ms if sight.expires_at_ms is None else sight.expires_at_ms
    later = paid_ms is not None and (server.expires_at_ms is None or paid_ms > server.expires_at_ms)
    after = replace(
        server,
        state=state,
        reason=_reason(server, state, sight),
        ref=server.ref or sight.ref or None,
        address=sight.address or server.address,
        region=server.region or sight.region,
        image=server.image or sight.image,
        expires_at_ms=paid_ms,
        until_reason=Why.TEMPLATE if sight.ends_by_itself else server.until_reason,
        warned=() if later else server.warned,
        sealed_access=server.sealed_access if access is None else access,
        ready_at_ms=moment.now_ms
        if server.ready_at_ms is None and state is ServerState.RUNNING
        else server.ready_at_ms,
    )
    if after == server:
        return None
    event = "changed" if state is server.state else "unknown_state" if state is ServerState.UNKNOWN else state.value
    return replace(after, as_of_ms=moment.now_ms), event


def when_gone(server: Server, said: ServerState, moment: Moment) -> Final | None:
    """Return how a server ends that its vendor has not got any more; None where one look alone does not prove it."""
    if server.wanted is Wanted.DESTROYED:
        return Final(ServerState.DESTROYED, server.reason)
    ends_ms = server.expires_at_ms
    if said is ServerState.LAPSED or (ends_ms is not None and moment.business_ms >= ends_ms - CLOCKS_APART_MS):
        return Final(ServerState.LAPSED, _why_lapsed(server, moment.business_ms))
    return None


def when_meter_ended(server: Server, meter: Meter) -> Final:
    """Return how a server ends whose charges have ended: the gateway's own watch has seen that it is gone."""
    if server.wanted is Wanted.DESTROYED:
        return Final(ServerState.DESTROYED, server.reason)
    if meter.reason == ITS_AGENT:
        return BY_ITS_AGENT
    if meter.reason == UNFUNDED:
        return Final(ServerState.LAPSED, Why.BALANCE)
    ends_ms, ended_ms = server.expires_at_ms, meter.ended_at_ms
    if ends_ms is not None and ended_ms is not None and ended_ms >= ends_ms - CLOCKS_APART_MS:
        return Final(ServerState.LAPSED, _why_lapsed(server, ended_ms))
    return Final(ServerState.LOST, f"gone, and nobody asked for that: {meter.reason or 'not on the lists'}"[:WORD_MAX])


def ended(server: Server, final: Final, moment: Moment) -> tuple[Server, str] | None:
    """Return a server that has ended like this, and what happened; None where it had ended before."""
    if not server.open:
        return None
    after = replace(server, state=final.state, reason=final.reason, as_of_ms=moment.now_ms, ended_at_ms=moment.now_ms)
    return after, final.state.value


def _why_lapsed(server: Server, business_ms: int) -> str:
    keep_ms = server.keep_until_ms
    if keep_ms is not None and business_ms >= keep_ms - CLOCKS_APART_MS:
        return Why.KEEP_UNTIL
    return lapse_reason(server) or "its paid time is over"


def _next_state(server: Server, sight: Sight, moment: Moment) -> ServerState:
    if sight.state is None or sight.state in FINAL:  # it exists, or did: `when_gone` is about the rest
        return ServerState.PROVISIONING if server.state in ORDERED else server.state
    if sight.state in ORDERED:  # no vendor's word: what it has told of is not only wanted any more
        return ServerState.PROVISIONING
    if BEGAN.get(server.state) is sight.state and moment.now_ms - server.as_of_ms < MOVE_HOLDS_MS:
        return server.state
    promised = server.state is ServerState.DESTROYING and server.wanted is Wanted.DESTROYED
    return server.state if promised else sight.state  # that it is still shown, and how, changes nothing


def _reason(server: Server, state: ServerState, sight: Sight) -> str:
    stays = state is server.state and state is not ServerState.UNKNOWN
    if stays or server.wanted is Wanted.DESTROYED:  # then it says why that is wanted
        return server.reason
    return f"its vendor calls this {sight.raw_state[:WORD_MAX]!r}" if state is ServerState.UNKNOWN else ""

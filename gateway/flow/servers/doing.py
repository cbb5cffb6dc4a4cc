"""One action at a vendor, for everything that acts: may it be asked for, ask it once, read what was said.

Must not know what any action is for.  Theory: a vendor differs from another in its `Features` alone, so whether an action
exists is one question with one answer, and whatever a vendor refuses becomes one of few problems that an agent can tell
apart: wrong input, wrong moment, refused, or nobody knows.
"""

import asyncio
from collections.abc import AsyncIterable, Coroutine, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from gateway.core.apikeys import PROXY, allows
from gateway.core.money import format_amount
from gateway.core.problems import Problem
from gateway.core.server import FINAL, ORDERED, Server, ServerState, Wanted
from gateway.flow.asking import UNHEARD
from gateway.flow.call import Reply
from gateway.flow.locks import Locks
from gateway.flow.servers.keeping import Keeping
from gateway.flow.servers.runner import Runner, Who
from gateway.flow.servers.seeing import ACCESS
from gateway.http.port import is_success
from gateway.server_ports import Action, Ask, Feature, Heard, ServerVendor
from wallets.secret import Secret

DETAIL_CHARS = 300
SERVER_ERROR = 500
READING = frozenset(
    {
        Action.SHOW,
        Action.STATE,
        Action.CREDENTIALS,
        Action.JOB_LIST,
        Action.JOB_SHOW,
        Action.FILE_GET,
        Action.SNAPSHOT_LIST,
    }
)
"""What changes nothing: when no answer comes, it may simply be asked again."""
PARTS = frozenset(
    {
        Action.JOB_SHOW,
        Action.JOB_CANCEL,
        Action.FILE_GET,
        Action.SNAPSHOT_DELETE,
        Action.RESTORE,
        Action.KEY_DELETE,
    }
)
"""What names a part of a server: that the vendor does not know it says nothing of the server."""

WAYS_IN = frozenset({"password", "private_key"})  # among a server's own secrets

_INPUT, _MISSING, _MOMENT, _OUTPACED = (
    frozenset({400, 413, 415, 422}),
    frozenset({404, 410}),
    frozenset({409, 423}),
    429,
)
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Done:
    """What a vendor said to an action, and what it cost. `charge_base` is None where no money was involved."""

    heard: Heard
    payment_id: str | None = None
    charge_base: int | None = None
    replayed: bool = False


class Doing:
    """Runs actions for the flows. `vendors` are those that the neutral API knows, by name."""

    def __init__(self, keeping: Keeping, runner: Runner, vendors: Mapping[str, ServerVendor]) -> None:
        self.keeping, self.runner, self.vendors = keeping, runner, vendors
        self._begun, self._locks = set[asyncio.Task[Any]](), Locks()

    # may it be asked for

    def require(self, vendor_name: str, feature: Feature, instead: str = "") -> ServerVendor:
        """Return the vendor if it does this for certain. Raises Problem("capability_missing") naming those that do.

        `instead` tells what can be done there in its place.
        """
        vendor = self.vendors.get(vendor_name)
        if vendor is not None and vendor.features.can(feature):
            return vendor
        able = sorted(name for name, each in self.vendors.items() if each.features.can(feature))
        if vendor is not None and vendor.features.does[feature] == "unknown":
            detail = f"{vendor_name}'s document does not say whether it can do this: {feature}"
        else:
            detail = f"{vendor_name} cannot do this: {feature}"
        detail += f"; {instead}" if instead else ""
        raise Problem("capability_missing", detail, extra={"capability": feature.value, "vendors": able})

    def ways_in(self, server: Server) -> str:
        """Return in words how a server can be got into, at its vendor."""
        kept = {Feature.CREDENTIALS} if WAYS_IN & self.access(server).keys() else set[Feature]()
        found = [each for each in _WAYS_IN if each in kept or self.can(server.vendor, each)]
        ways = ", ".join(_WAYS_IN[each].format(id=server.id) for each in found)
        return f"the ways into this one: {ways}" if ways else "its vendor's document names no way in"

    def can(self, vendor_name: str, feature: Feature) -> bool:
        """Say whether a vendor does this for certain."""
        vendor = self.vendors.get(vendor_name)
        return vendor is not None and vendor.features.can(feature)

    def require_scope(self, who: Who, vendor_name: str) -> None:
        """Raise Problem("scope_missing") unless the key may call this vendor: before anything is kept, not after."""
        scope = f"{PROXY}:{vendor_name}"
        if not allows(who.key.scopes, scope):
            raise Problem("scope_missing", f'this needs a key with the scope "{scope}"', extra={"scope": scope})

    async def is_claimed(self, who: Who, claim: str | None) -> bool:
        """Say whether an Idempotency-Key of ours stands for something already: then it is answered as it was."""
        return claim is not None and await self.keeping.store.claimed(who.account_id, claim) is not None

    # ask

    async def run_paid(
        self,
        who: Who,
        server: Server,
        action: Action,
        parameters: Mapping[str, Any] = _NOTHING,
        *,
        claim: str | None = None,
        max_charge_base: int | None = None,
    ) -> Done:
        """Do as `run` for what may cost money: never more than the server's `max_total` leaves.

        Raises Problem as `run`, and "max_total_reached".
        """
        left_base = None if await self.is_claimed(who, claim) else await self._left_base(server)
        if left_base is None or (max_charge_base is not None and max_charge_base <= left_base):
            return await self.run(who, server, action, parameters, claim=claim, max_charge_base=max_charge_base)
        try:
            return await self.run(who, server, action, parameters, claim=claim, max_charge_base=left_base)
        except Problem as problem:
            if problem.code != "price_above_max_charge":
                raise
            detail = f"max_total leaves {format_amount(left_base)}, and to {action} costs more"
            raise Problem("max_total_reached", detail) from problem

    async def _left_base(self, server: Server) -> int | None:
        if server.max_total_base is None:
            return None
        cost = await self.keeping.store.server_cost(server)
        return max(0, server.max_total_base - cost.captured_base - cost.held_base)

    async def run(
        self,
        who: Who,
        server: Server,
        action: Action,
        parameters: Mapping[str, Any] = _NOTHING,
        *,
        claim: str | None = None,
        max_charge_base: int | None = None,
    ) -> Done:
        """Ask for an action on a server and return what was heard, if the vendor did it.

        Raises Problem: as the proxy does; for what the vendor did not do, by its status; and "action_unknown" where it
        may have been done. It is asked once: whether to ask again is for the agent to say.
        """
        vendor = self.vendors[server.vendor]
        ask = vendor.ask(action, ref_of(server), self.access(server), parameters)
        return await self.run_ask(
            who, vendor, ask, action, ref_of(server), claim=claim, max_charge_base=max_charge_base
        )

    async def run_ask(
        self,
        who: Who,
        vendor: ServerVendor,
        ask: Ask,
        action: Action,
        ref: str,
        *,
        claim: str | None = None,
        max_charge_base: int | None = None,
    ) -> Done:
        """Do the same for a request that is made already, and for actions that are about no server (`ref` "")."""
        if claim is None:
            return await self._ask(who, vendor, ask, action, ref, None, max_charge_base)
        lock = self._locks.of(who.account_id, claim)
        async with lock:  # the same request at the same time waits for the answer of the first
            return await self._ask(who, vendor, ask, action, ref, claim, max_charge_base)

    async def _ask(
        self,
        who: Who,
        vendor: ServerVendor,
        ask: Ask,
        action: Action,
        ref: str,
        claim: str | None,
        max_charge_base: int | None,
    ) -> Done:
        try:
            reply = await self.runner.ask_whole(who, vendor.name, ask, claim=claim, max_charge_base=max_charge_base)
        except Problem as problem:
            raise unknown(action, vendor.name, problem) from problem
        heard = vendor.hear(action, ref, reply.status, reply.body)
        if reply.delivered is not None:  # the money's side of it is kept under its payment, whatever becomes of ours
            await reply.delivered()
        if not heard.ok:
            raise refusal(action, vendor.name, reply, heard)
        return Done(heard, reply.payment_id, reply.charge_base, reply.replayed)

    async def stream(
        self,
        who: Who,
        server: Server,
        action: Action,
        parameters: Mapping[str, Any],
        content: AsyncIterable[bytes] | None = None,
    ) -> Reply:
        """Ask for what is too long to be kept; return the answer as it comes, if the vendor did it. Raises as `run`."""
        vendor = self.vendors[server.vendor]
        ask = vendor.ask(action, ref_of(server), self.access(server), parameters)
        try:
            reply = await self.runner.ask(who, server.vendor, ask, stream=content)
        except Problem as problem:
            raise unknown(action, vendor.name, problem) from problem
        if is_success(reply.status):
            return reply
        if reply.rest is not None:
            await reply.rest.close()
        heard = vendor.hear(action, ref_of(server), reply.status, reply.body)
        raise refusal(action, vendor.name, reply, heard)

    def access(self, server: Server) -> dict[str, Secret[str]]:
        """Return what was kept of a server's own secrets."""
        if server.sealed_access is None:
            return {}
        document = self.keeping.open(ACCESS, server.id, server.sealed_access)
        return {name: Secret(str(value)) for name, value in document.items()}

    # what has begun goes on

    async def whole(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do something to its end, also where whoever asked for it has gone: half an action would be nobody's."""
        return await asyncio.shield(self.begin(work))

    def begin(self, work: Coroutine[Any, Any, _T]) -> "asyncio.Task[_T]":
        """Begin something that nobody has to wait for but `drain`."""
        task = asyncio.create_task(work)
        self._begun.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._begun.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be left to ask for it

    async def drain(self, timeout_s: float) -> None:
        """Wait for what has begun, at most that long."""
        if self._begun:
            await asyncio.wait(set(self._begun), timeout=timeout_s)


# the moment


def require_open(server: Server) -> None:
    """Raise Problem("server_ended") for a server to which nothing can happen any more."""
    if server.state in FINAL:
        why = f": {server.reason}" if server.reason else ""
        raise Problem("server_ended", f"the server is {server.state.value}{why}", extra=_state(server))


def require_made(server: Server) -> None:
    """Raise Problem unless a vendor has the server and it is to be kept: server_ended, server_not_ready."""
    require_open(server)
    if server.wanted is Wanted.DESTROYED:
        raise Problem("server_ended", "the server is being destroyed", extra=_state(server))
    if server.state in ORDERED or server.ref is None:
        raise Problem("server_not_ready", "no vendor has said yet that it exists", extra=_state(server))


def require_state(server: Server, states: frozenset[ServerState], what: str, how: str = "") -> None:
    """Raise Problem("server_not_ready") unless the server is in one of these states; the detail names the first.

    `how` tells how it gets there, where that is for its agent to do.
    """
    if server.state not in states:
        wanted = next(iter(sorted(states & _NAMED))).value
        detail = f"{what} needs a server that is {wanted}; this one is {server.state.value}"
        detail += f": {how}" if how else ""
        raise Problem("server_not_ready", detail, extra=_state(server))


def claim_of(server: Server, idempotency_key: str | None) -> str | None:
    """Return the claim of an action under an agent's Idempotency-Key; no agent's own key can be equal to it."""
    return None if idempotency_key is None else f"act {server.id} {idempotency_key}"


_NAMED = frozenset({ServerState.RUNNING, ServerState.STOPPED})


_WAYS_IN: Mapping[Feature, str] = MappingProxyType(
    {
        Feature.CREDENTIALS: "credentials (GET /v1/servers/{id}/credentials)",
        Feature.EXEC: "commands (POST /v1/servers/{id}/exec)",
        Feature.FILES: "files (GET and PUT /v1/servers/{id}/files)",
        Feature.SSH_KEYS: "ssh_keys, where it was ordered with some",
        Feature.USER_DATA: "user_data, where it was ordered with some",
    }
)


def ref_of(server: Server) -> str:
    """Return the vendor's id of a server that a vendor has."""
    if server.ref is None:
        raise AssertionError(f"{server.id} was acted upon before a vendor had it")
    return server.ref


def _state(server: Server) -> dict[str, Any]:
    return {"state": server.state.value}


# what a vendor's refusal means


def refusal(action: Action, vendor_name: str, reply: Reply, heard: Heard) -> Problem:
    """Return the problem that an answer means, when the vendor did not do what was asked."""
    said = "".join(char if char.isprintable() else " " for char in heard.detail[:DETAIL_CHARS]).strip()
    detail = f"{vendor_name} answered {reply.status}" + (f": {said}" if said else "")
    extra: dict[str, Any] = {"vendor_status": reply.status}
    if reply.payment_id is not None:
        extra["payment_id"] = reply.payment_id
    return Problem(_code(action, reply.status), detail, extra=extra)


def _code(action: Action, status: int) -> str:
    if status in _INPUT:
        return "input_refused"
    if status in _MISSING and action in PARTS:
        return "not_found"
    if status in _MOMENT:
        return "server_not_ready"
    if status == _OUTPACED:
        return "vendor_busy"
    # A 2xx that says nothing of what was done, like a 5xx, may stand for either.
    refused = SERVER_ERROR > status >= 300 or action in READING  # noqa: PLR2004 - the class of redirects
    return "action_refused" if refused else "action_unknown"


def unknown(action: Action, vendor_name: str, problem: Problem) -> Problem:
    """Return the problem of a call that got no answer: where it may have been heard, nobody knows what it did."""
    if action in READING or problem.code not in UNHEARD:
        return problem
    return Problem("action_unknown", f"{vendor_name} did not answer: {action} may have been done", extra=problem.extra)

"""What an agent does with a server that it has: destroy it, start, stop and reboot it, and get in.

Must not know vendors' wires or HTTP.  Theory: an action is allowed by the vendor's features and the server's state, is
asked for once, and moves the state to where it is going; only a look says that it has arrived.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from types import MappingProxyType
from typing import Final

from gateway.core.commands import Refused, Remember, key_used
from gateway.core.problems import Problem
from gateway.core.records import Answer
from gateway.core.server import Server, ServerState
from gateway.flow.servers.destroying import Adopting, Destroying
from gateway.flow.servers.doing import WAYS_IN, Doing, Done, claim_of, ref_of, require_made, require_state
from gateway.flow.servers.guest import Guest
from gateway.flow.servers.runner import Who
from gateway.flow.servers.seeing import Seeing
from gateway.server_ports import Action, Feature, Sight
from wallets.secret import Secret

ITS_AGENT = "its agent asked for it"


@dataclass(frozen=True, slots=True)
class Acted:
    """A server after an action, and what the action cost. `charge_base` is None where no money was involved."""

    server: Server
    payment_id: str | None = None
    charge_base: int | None = None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class _Step:
    """A power action: where it may begin, where it is not needed, what it passes through and where it leads."""

    feature: Feature
    begins: frozenset[ServerState]
    there: frozenset[ServerState]
    through: ServerState
    goal: ServerState | None  # None: where it leads is where it began


_S = ServerState
_STEPS: Final = MappingProxyType(
    {
        Action.START: _Step(
            Feature.START,
            frozenset({_S.STOPPED, _S.ERROR, _S.UNKNOWN}),
            frozenset({_S.RUNNING, _S.STARTING, _S.REBOOTING}),
            _S.STARTING,
            _S.RUNNING,
        ),
        Action.STOP: _Step(
            Feature.STOP,
            frozenset({_S.RUNNING, _S.STARTING, _S.REBOOTING, _S.ERROR, _S.UNKNOWN}),
            frozenset({_S.STOPPED, _S.STOPPING}),
            _S.STOPPING,
            _S.STOPPED,
        ),
        Action.REBOOT: _Step(
            Feature.REBOOT, frozenset({_S.RUNNING, _S.ERROR, _S.UNKNOWN}), frozenset(), _S.REBOOTING, None
        ),
    }
)


class Acting:
    """The use case. `guest` is what happens inside a server: commands, jobs, files."""

    def __init__(self, doing: Doing, seeing: Seeing, adopting: Adopting) -> None:
        self._doing, self._keeping, self._seeing = doing, doing.keeping, seeing
        self._destroying = Destroying(doing, seeing, adopting)
        self.guest = Guest(doing)

    # ending

    async def destroy(self, who: Who, server_id: str) -> Server:
        """End a server of the agent's. Durable before the vendor is asked; `sweep` asks until it is confirmed.

        Raises Problem: not_found, server_ended, capability_missing, scope_missing.
        """
        server = await self._keeping.server(who.account_id, server_id)
        return await self._doing.whole(self._destroying.destroy(who, server, ITS_AGENT))

    async def end(self, server_id: str, reason: str) -> Server:
        """End a server on the gateway's own account (its time is over, its fleet ends): durable, and soon asked for."""
        return await self._destroying.want(server_id, reason)

    async def sweep(self) -> None:
        """Ask for every destruction that is wanted and not confirmed (a loop's body)."""
        await self._destroying.sweep()

    # power

    async def power(
        self,
        who: Who,
        server_id: str,
        action: Action,
        *,
        idempotency_key: str | None = None,
        max_charge_base: int | None = None,
    ) -> Acted:
        """Start, stop or reboot a server; one that is there already is left alone, and nothing is paid.

        That it was left alone is kept under its key: the same request never acts later, when it is there no more.
        Raises Problem: not_found, capability_missing, server_ended, server_not_ready, max_total_reached, and what the
        vendor's call raises.
        """
        server, step = await self._keeping.server(who.account_id, server_id), _STEPS[action]
        self._doing.require(server.vendor, step.feature)
        claim = claim_of(server, idempotency_key)
        if await self._was_left_alone(who, claim, action):
            return Acted(server, replayed=True)
        if not await self._doing.is_claimed(who, claim):
            server = await self._ready(server, step)
            if server.state in step.there:
                return await self._leave_alone(who, server, action, claim)
            require_state(server, step.begins, action.value)
        return await self._doing.whole(self._power(who, server, action, claim, max_charge_base))

    async def _was_left_alone(self, who: Who, claim: str | None, action: Action) -> bool:
        claimed = None if claim is None else await self._keeping.store.claimed(who.account_id, claim)
        return claimed is not None and claimed.fingerprint == _left_alone(action)

    async def _leave_alone(self, who: Who, server: Server, action: Action, claim: str | None) -> Acted:
        """Keep under the claim that nothing was done: an action of another time would find another fingerprint there."""
        if claim is None:
            return Acted(server)
        answer = Answer("", 0, self._keeping.seal("left alone", claim, {}), self._keeping.clock.now_ms())
        result = await self._keeping.store.post(Remember(who.account_id, claim, _left_alone(action), answer))
        if isinstance(result, Refused):
            raise Problem(result.code, result.detail, "Idempotency-Key")
        if await self._was_left_alone(who, claim, action):
            return Acted(server)
        raise key_used()

    async def _ready(self, server: Server, step: _Step) -> Server:
        """What is known may be old, and a machine can be stopped from within: look before anything is refused."""
        require_made(server)
        if server.state not in step.begins:
            server = await self._seeing.look(server.id)
            require_made(server)
        return server

    async def _power(
        self, who: Who, server: Server, action: Action, claim: str | None, max_charge_base: int | None
    ) -> Acted:
        done = await self._doing.run_paid(who, server, action, claim=claim, max_charge_base=max_charge_base)
        if not done.replayed:
            server = await self._moved(server, _STEPS[action], done)
        return Acted(server, done.payment_id, done.charge_base, done.replayed)

    async def _moved(self, server: Server, step: _Step, done: Done) -> Server:
        """Take what the answer shows, unless that is only what the server was until now; the next look comes soon."""
        shown = done.heard.server
        if shown is not None and shown.state in {step.through, step.goal}:
            server = await self._seeing.take(server, shown)
            self._seeing.hurry(server.id)
            return server

        def update(before: Server) -> Server | None:
            if before.state not in step.begins:
                return None
            return replace(before, state=step.through, as_of_ms=self._keeping.clock.now_ms())

        server = await self._keeping.change(server.id, update, step.through.value)
        self._seeing.hurry(server.id)
        return server

    # ways in

    async def credentials(self, who: Who, server_id: str) -> dict[str, str]:
        """Return the ways into a server, in the open: for its owner's eyes only, and for no log.

        They come from what was kept sealed, or from the vendor, and are sealed then. Raises Problem: not_found,
        server_ended, server_not_ready, capability_missing.
        """
        server = await self._keeping.server(who.account_id, server_id)
        require_made(server)
        self._doing.require_scope(who, server.vendor)  # what was kept is asked of nobody who would check it
        kept = self._doing.access(server)
        if not WAYS_IN & kept.keys():
            self._doing.require(server.vendor, Feature.CREDENTIALS, self._doing.ways_in(server))
            kept |= await self._doing.whole(self._ask_access(who, server))
        if not WAYS_IN & kept.keys():
            extra = {"state": server.state.value}
            raise Problem(
                "server_not_ready", "its vendor shows no way in yet; ask again when it is running", extra=extra
            )
        return {name: secret.reveal() for name, secret in kept.items()}

    async def _ask_access(self, who: Who, server: Server) -> Mapping[str, Secret[str]]:
        heard = (await self._doing.run(who, server, Action.CREDENTIALS)).heard
        shown = heard.server
        access = {**({} if shown is None else shown.access), **heard.access}
        if access:
            await self._seeing.take(server, Sight(ref_of(server), access=access))
        return access


def _left_alone(action: Action) -> bytes:
    """Return the fingerprint of an action that was not needed: no request that left has it."""
    return sha256(f"left alone {action.value}".encode()).digest()

"""Taking an order for a server: which ways there are to fulfil it, and a record of it before anything leaves.

Must not know how it is fulfilled.  Theory (P3): an order is what its agent said, sealed, the ways to fulfil it in order, and
a client token that stands for it for good; whoever sends it again is attached to it, whatever it would cost by then.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from gateway.core.commands import key_used
from gateway.core.kept import SNAPSHOT, SSH_KEY
from gateway.core.plan import Need, Plan
from gateway.core.problems import Problem
from gateway.core.server import Candidate, Quote, Server, Snapshot, SshKey
from gateway.core.spec import ServerSpec
from gateway.flow.servers.keeping import Keeping
from gateway.flow.servers.orders import OrderSettings, order_for
from gateway.flow.servers.quoting import Choice
from gateway.flow.servers.runner import Who
from gateway.server_ports import Feature, Order, ServerVendor

SPEC = "spec"  # what an order's sealed spec is sealed as
_NOWHERE = Candidate("", "", "", 0)


class Choosing(Protocol):
    """Finds ways to fulfil an order."""

    async def choose(self, who: Who, asked: ServerSpec) -> Choice:
        """Return them, the best first. Raises Problem, also "no_plan_fits"."""
        ...

    async def take(self, account_id: str, quote_id: str) -> tuple[Quote, dict[str, Any]]:
        """Return a quote that binds, and the document of the spec that it covers. Raises Problem."""
        ...


class Plans(Protocol):
    """The catalogue."""

    async def plan(self, key: str) -> Plan | None:
        """Return a plan by "vendor/plan", None for one that is not known now."""
        ...


class KeyRefs(Protocol):
    """SSH keys as vendors know them."""

    async def refs(
        self, who: Who, vendor: ServerVendor, key_ids: tuple[str, ...], *, max_charge_base: int | None = None
    ) -> tuple[str, ...]:
        """Return a vendor's own ids of an account's keys, registered there where that is needed. Raises Problem."""
        ...


@dataclass(frozen=True, slots=True)
class NewServer:
    """What is ordered. Exactly one of `spec` and `quote_id`.

    `fingerprint` is the SHA-256 of the request: the same `client_token` with another one is another order.
    `max_charge_base` bounds its first charge, `max_total_base` all that it may ever cost.
    """

    client_token: str
    fingerprint: bytes
    spec: ServerSpec | None = field(default=None, repr=False)
    quote_id: str | None = None
    name: str = ""
    keep_until_ms: int | None = None
    auto_renew: bool = False
    max_total_base: int | None = None
    max_charge_base: int | None = None
    fleet_id: str | None = None


@dataclass(frozen=True, slots=True)
class PlacingSettings:
    """How many servers an account may have at once, and what an agent that does not say gets."""

    open_servers_most: int = 1_000
    order: OrderSettings = field(default_factory=OrderSettings)


class Placing:
    """Takes orders, and says again what each is at the vendor whose turn it is."""

    def __init__(
        self,
        *,
        keeping: Keeping,
        vendors: Mapping[str, ServerVendor],
        choosing: Choosing,
        plans: Plans,
        keys: KeyRefs,
        settings: PlacingSettings,
    ) -> None:
        self._keeping, self._vendors, self._settings = keeping, vendors, settings
        self._choosing, self._plans, self._keys = choosing, plans, keys

    async def place(self, who: Who, new: NewServer) -> tuple[Server, bool]:
        """Keep an order, and say whether it had been placed before: then it is returned as it is now. Raises Problem."""
        claimed = await self._keeping.store.claimed(who.account_id, new.client_token)
        if claimed is not None:
            if claimed.fingerprint != new.fingerprint:
                raise key_used()
            # The order stands, so this record is attached to it whatever it says, or refused; it cannot be kept.
            nothing = self._record(who, new, (_NOWHERE,), ServerSpec(Need()))
            return await self._keeping.latest(await self._keeping.place(nothing, "ordered")), True
        self._require_room(who.account_id)
        candidates, spec = await self._ways(who, new)
        server = self._record(who, new, candidates, spec)
        server_id = await self._keeping.place(server, "ordered")
        return await self._keeping.latest(server_id), server_id != server.id

    async def order(self, who: Who, server: Server, vendor: ServerVendor) -> Order:
        """Return what is ordered at the vendor whose turn it is. Raises Problem where that cannot be had there now."""
        spec = ServerSpec.from_document(self._keeping.open(SPEC, server.id, server.sealed_spec))
        refs: tuple[str, ...] = ()
        if spec.ssh_keys:
            if not vendor.features.can(Feature.SSH_KEYS):
                raise Problem("capability_missing", f"{vendor.name} takes no SSH keys")
            refs = await self._keys.refs(who, vendor, spec.ssh_keys, max_charge_base=_most_base(server))
        plan = await self._plans.plan(f"{server.vendor}/{server.plan}")
        if plan is None:
            raise Problem("vendor_unreachable", f"{vendor.name} states no plan {server.plan} now")
        snapshot = await self._snapshot(server.account_id, spec.snapshot) if spec.snapshot else None
        asked = replace(spec, need=replace(spec.need, region=server.region or None))
        ref = "" if snapshot is None else snapshot.ref
        return order_for(vendor, plan, asked, server.name, self._settings.order, ssh_keys=refs, snapshot=ref)

    def _require_room(self, account_id: str) -> None:
        most = self._settings.open_servers_most
        if sum(server.account_id == account_id for server in self._keeping.view.servers.values()) >= most:
            raise Problem("too_many_servers", f"an account has at most {most} servers at once; destroy one first")

    async def _ways(self, who: Who, new: NewServer) -> tuple[tuple[Candidate, ...], ServerSpec]:
        candidates: tuple[Candidate, ...]
        if new.quote_id is not None:
            quote, document = await self._choosing.take(who.account_id, new.quote_id)
            candidates, spec = (quote.candidate,), ServerSpec.from_document(document)
        else:
            if new.spec is None:
                raise AssertionError("an order without a spec names a quote")
            await self._require_keys(who, new.spec.ssh_keys)
            spec = await self._with_snapshot(who, new.spec)
            candidates = (await self._choosing.choose(who, spec)).candidates
        return _within(candidates, new), spec

    async def _require_keys(self, who: Who, key_ids: tuple[str, ...]) -> None:
        for key_id in key_ids:
            key = await self._keeping.store.record(SSH_KEY, key_id)
            if not isinstance(key, SshKey) or key.account_id != who.account_id or key.deleted_at_ms is not None:
                raise Problem("not_found", f"there is no SSH key {key_id} of yours", "ssh_keys")

    async def _with_snapshot(self, who: Who, spec: ServerSpec) -> ServerSpec:
        """Only the vendor that has a snapshot can make a server of it; without other words it is one like its source."""
        if not spec.snapshot:
            return spec
        snapshot = await self._snapshot(who.account_id, spec.snapshot)
        vendor = self._vendors.get(snapshot.vendor)
        if vendor is None or not vendor.features.can(Feature.RESTORE_TO_NEW):
            able = sorted(name for name, each in self._vendors.items() if each.features.can(Feature.RESTORE_TO_NEW))
            extra = {"capability": Feature.RESTORE_TO_NEW.value, "vendors": able}
            raise Problem("capability_missing", f"{snapshot.vendor} makes no new server of a snapshot", extra=extra)
        need = spec.need
        if replace(need, region=None, image=None, sandbox=False) == Need():
            source = await self._keeping.latest(snapshot.server_id)
            region = need.region or source.region or None
            need = replace(need, plan=f"{source.vendor}/{source.plan}", region=region, sandbox=True)
        if need.plan is not None and need.plan.partition("/")[0] != snapshot.vendor:
            raise Problem("bad_request", f"the snapshot is at {snapshot.vendor}, and the plan is not", "plan")
        return replace(spec, need=replace(need, vendors=(snapshot.vendor,)))

    async def _snapshot(self, account_id: str, snapshot_id: str) -> Snapshot:
        found = await self._keeping.store.record(SNAPSHOT, snapshot_id)
        if not isinstance(found, Snapshot) or found.account_id != account_id:
            raise Problem("not_found", "there is no such snapshot of yours", "snapshot")
        return found

    def _record(self, who: Who, new: NewServer, candidates: tuple[Candidate, ...], spec: ServerSpec) -> Server:
        server_id, now_ms, first = self._keeping.new_id("srv"), self._keeping.clock.now_ms(), candidates[0]
        return Server(
            id=server_id,
            account_id=who.account_id,
            key_id=who.key.id,
            name=new.name or server_id.replace("_", "-").lower(),
            client_token=new.client_token,
            fingerprint=new.fingerprint,
            sealed_spec=self._keeping.seal(SPEC, server_id, spec.to_document()),
            candidates=candidates,
            created_at_ms=now_ms,
            as_of_ms=now_ms,
            vendor=first.vendor,
            plan=first.plan,
            region=first.region,
            image=spec.need.image or "",
            quote_id=new.quote_id,
            fleet_id=new.fleet_id,
            keep_until_ms=new.keep_until_ms,
            auto_renew=new.auto_renew,
            max_total_base=new.max_total_base,
        )


def _within(candidates: tuple[Candidate, ...], new: NewServer) -> tuple[Candidate, ...]:
    """Return the ways whose first charge keeps to the order's own bounds."""
    bounds = [
        ("max_total_reached", "max_total", new.max_total_base),
        ("price_above_max_charge", "X-Max-Charge", new.max_charge_base),
    ]
    for code, field_name, most_base in bounds:
        if most_base is None:
            continue
        candidates = tuple(each for each in candidates if each.first_charge_max_base <= most_base)
        if not candidates:
            raise Problem(code, f"the first charge alone would be more than {field_name}", field_name)
    return candidates


def _most_base(server: Server) -> int:
    """Return the most that an order's present try may be charged at first, with all that belongs to it."""
    most_base = server.candidates[server.tried].first_charge_max_base
    return most_base if server.max_total_base is None else min(most_base, server.max_total_base)

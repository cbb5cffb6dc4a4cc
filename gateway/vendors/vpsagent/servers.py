"""VpsAgent as the vendor-neutral API sees it: what /v1/servers asks for, as calls of the vendor's own API, and back.

Must not know money or records.  Theory: a rental is its token's, so the token that the agent's own answer shows (the
gateway's surrogate) is kept with the server and put into every later call; and whether a box is up is said by /instance
alone, for the vendor's `status` speaks of the payment.
"""

# ruff: noqa: ARG002 - the seam passes what some vendor needs; one without lists uses less of it

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

from gateway.core.payment import Delivery
from gateway.core.plan import Billing, Plan, Source
from gateway.core.routes import Match
from gateway.core.server import ServerState
from gateway.core.strict_json import dump_json
from gateway.ports import Reading
from gateway.server_ports import Action, Ask, CatalogueAsk, Feature, Features, Heard, Order, RenewRule, Sight
from gateway.vendors.account import refused, segment, usd_text
from gateway.vendors.neutral import (
    answer_of,
    checked,
    detail_of,
    document_in,
    features_of,
    member_text,
    missing,
    refuse_what,
    word_in,
)
from gateway.vendors.vpsagent.routes import MAX_PERIODS, state_of
from gateway.vendors.vpsagent.vendor import VpsAgent
from wallets.secret import Secret

__all__ = ["VpsAgentServers"]

_NO_PARAMETERS: Final[Mapping[str, Any]] = MappingProxyType({})
_CATALOGUE: Final = CatalogueAsk("/catalog", paid=True)
_SSH_PORT: Final = "22"  # "reachable on TCP :22"
_HOUR_S: Final = 3600
_DAY_S: Final = 24 * _HOUR_S
_FINALITY_S: Final = 1800  # until a block of Base is final: 20 to 30 minutes
# The document: sandboxes of "1h / 6h / 24h", servers of "30-day or 365-day".
_TERMS_S: Final = MappingProxyType(
    {"1h": _HOUR_S, "6h": 6 * _HOUR_S, "24h": _DAY_S, "1mo": 30 * _DAY_S, "12mo": 365 * _DAY_S}
)
_SANDBOX: Final = "sandbox_"
_DECIMALS: Final = 12
_NAMES: Final = MappingProxyType({"sku": "plan", "region": "region", "periods": "units"})
_READ_BY: Final = MappingProxyType({Action.SHOW: "instance", Action.CREDENTIALS: "instance", Action.RENEW: "renew"})

# A renewal waits for a step by hand, at most the 48 h that its authorization lives. One that is begun five days ahead and
# is never collected is dead with two and a half days left: enough for one more try, and a day to buy elsewhere.
_RENEW: Final = RenewRule(
    unit_s=0,
    min_units=1,
    max_units=MAX_PERIODS,
    lead_s=5 * _DAY_S,
    slow=True,
    window_s=2 * _DAY_S,
    retry_before_s=_DAY_S,
)


class VpsAgentServers:
    """Implements gateway.server_ports.ServerVendor. A sandbox is gone at its end; of a server the document tells a grace."""

    catalogue: tuple[CatalogueAsk, ...] = (_CATALOGUE,)

    def __init__(self, vendor: VpsAgent) -> None:
        self._vendor = vendor
        self.name = vendor.name
        self._routes = {route.name: route for route in vendor.routes}
        self.features = Features(
            # A region may be preferred; which there are, and whether that binds the vendor, its document does not say.
            does=features_of((Feature.RENEW, Feature.CREDENTIALS), (Feature.REGIONS,)),
            billing=Billing.TERM,
            unit_s=min(_TERMS_S.values()),
            hold_max_s=self._routes["rent"].window.max_s + _FINALITY_S,
            refundable="everything if the server never comes up; nothing of a term that has begun",
            pays="on_success",
            renew=_RENEW,
        )

    def plans(self, answers: Mapping[str, bytes], now_ms: int) -> tuple[Plan, ...]:
        """Return the SKUs that have one price and are available. Raises ValueError for a catalogue that cannot be read."""
        body = answers.get(_CATALOGUE.target, b"")
        reading = self._read("catalog", "", 200, body)
        document = document_in(body)
        if reading.delivery is not Delivery.DELIVERED or not isinstance(document, list):
            raise ValueError(f"{self.name}: the catalogue cannot be read")
        entries = {entry["sku"]: entry for entry in document if isinstance(entry, dict) and "sku" in entry}
        return tuple(self._plan(sku, price_base, entries[sku], now_ms) for sku, price_base in reading.prices)

    def _plan(self, sku: str, price_base: int, entry: Mapping[str, Any], now_ms: int) -> Plan:
        floor = entry.get("spec_floor")
        term_s = _TERMS_S[sku.rpartition("_")[2]]
        return Plan(
            vendor=self.name,
            id=sku,
            name=member_text(entry, "description") or sku,
            billing=Billing.TERM,
            hourly=_hourly(price_base, term_s),
            source=Source.API,
            as_of_ms=now_ms,
            vcpu=_count(floor, "vcpu"),
            memory_mib=_count(floor, "memory_mb"),
            term_price=usd_text(price_base),
            term_s=term_s,
            sandbox=sku.startswith(_SANDBOX),
        )

    def create(self, order: Order) -> Ask:
        """Return the call of /rent; the region is a preference. Raises Problem("input_refused") for what nobody can have."""
        unwanted = {name: getattr(order, name) for name in ("image", "ssh_keys", "user_data", "minutes", "snapshot")}
        refuse_what(self.name, unwanted)
        members = {"sku": order.plan, "region": order.region}
        body = dump_json({name: value for name, value in members.items() if value})
        return checked(self._vendor, Ask("POST", "/rent", body), "plan", _NAMES)

    def made(self, status: int, body: bytes) -> Sight | None:
        """Return the rental of a delivered answer, with every way in that it shows."""
        reading = self._read("rent", "", status, body)
        created, document = reading.created, document_in(body)
        if created is None or not isinstance(document, dict):
            return None
        sight = self._sight(created.ref, document, created.expires_at_ms)
        token = {} if created.secret is None else {"root_token": created.secret}
        return replace(sight, plan=created.kind, access={**sight.access, **token})

    def ask(
        self,
        action: Action,
        ref: str,
        access: Mapping[str, Secret[str]],
        parameters: Mapping[str, Any] = _NO_PARAMETERS,
    ) -> Ask:
        """Return the request for an action. Raises Problem("input_refused") for what the vendor would refuse.

        Without the rental's token only its public record can be asked for. Raises ValueError for what it cannot do.
        """
        token = access.get("root_token")
        if token is None:
            if action is not Action.SHOW:
                raise refused("the rental's root_token is not known", "root_token")
            return Ask("GET", f"/rentals/{segment(ref)}")
        query = f"?token={quote(token.reveal(), safe='')}"
        if action in {Action.SHOW, Action.CREDENTIALS}:
            return Ask("GET", f"/instance/{segment(ref)}{query}")
        if action is Action.RENEW:
            body = dump_json({"periods": parameters.get("units")})
            return checked(self._vendor, Ask("POST", f"/rentals/{segment(ref)}/renew{query}", body), "id", _NAMES)
        raise ValueError(f"{self.name}: cannot {action}")

    def hear(self, action: Action, ref: str, status: int, body: bytes) -> Heard:
        """Read the answer to an action; one that is not about this rental says nothing."""
        document = document_in(body)
        reading = self._read(_READ_BY[action], ref, status, body)
        if reading.delivery is not Delivery.DELIVERED or not isinstance(document, dict):
            return Heard(False, missing(ref, status, body), detail=detail_of(status, document))
        sight = self._sight(ref, document, reading.expires_at_ms)
        if action is Action.RENEW:  # says when the term ends until it is collected, and nothing of the box
            sight = replace(sight, state=None)
        return Heard(True, sight, access=sight.access if action is Action.CREDENTIALS else {})

    def listed(self, body: bytes) -> tuple[Sight, ...] | None:
        """Return None: there is no list."""
        return None

    def list_ask(self) -> Ask | None:
        """Return None: there is no list."""
        return None

    def _read(self, route_name: str, ref: str, status: int, body: bytes) -> Reading:
        """Return what the vendor's own module makes of an answer. Its tokens are the gateway's already."""
        match = Match(self._routes[route_name], MappingProxyType({"rental_id": ref}))
        return self._vendor.read(match, answer_of(status, body), str)

    def _sight(self, ref: str, document: Mapping[str, Any], expires_at_ms: int | None) -> Sight:
        word = word_in(document, "status")
        shown = {"username": member_text(document, "root_user"), "password": member_text(document, "root_password")}
        access = {name: Secret(text) for name, text in shown.items() if text}
        return Sight(
            ref,
            _state(document) if "status" in document else None,
            word,
            address=member_text(document, "ipv4"),
            plan=member_text(document, "sku"),
            expires_at_ms=expires_at_ms,
            access={**access, "port": Secret(_SSH_PORT)} if access else {},
            payment=word if state_of(word) in {"pending_settlement", "renewing"} else "",
        )


def _state(document: Mapping[str, Any]) -> ServerState:
    """Return what a rental's answer says of the box: /instance whether it runs, the public record what it is paid for."""
    status, running = state_of(document["status"]), document.get("running")
    if status == "pending_settlement":  # the vendor collects when it comes up, and the agent may use it before that
        return ServerState.RUNNING if running is True else ServerState.PROVISIONING
    if status in {"active", "renewing"}:
        return ServerState.STOPPED if running is False else ServerState.RUNNING
    if status == "expired":
        kept = document.get("grace_until") is not None if running is None else running is True
        return ServerState.GRACE if kept else ServerState.LAPSED
    return ServerState.UNKNOWN


def _hourly(price_base: int, term_s: int) -> str:
    """Return a term's price by the hour in USD, with at most twelve decimals, rounded up."""
    whole, decimals = divmod(-(-price_base * _HOUR_S * 10 ** (_DECIMALS - 6) // term_s), 10**_DECIMALS)
    return f"{whole}.{decimals:0{_DECIMALS}d}".rstrip("0").rstrip(".")


def _count(floor: object, member: str) -> int | None:
    value = floor.get(member) if isinstance(floor, dict) else None
    return value if type(value) is int and value > 0 else None

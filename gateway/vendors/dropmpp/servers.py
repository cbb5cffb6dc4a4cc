"""dropmpp in neutral words: three sizes in three regions, paid by the minute in advance, with snapshots and SSH keys.

Must not know flows or money's books.  Theory: whatever the vendor's module judges an answer to be, this only says in
neutral words; the document names few states, so what it does not name stays unknown, and nothing of it is guessed here.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from gateway.core.payment import Delivery
from gateway.core.plan import Billing, Image, Plan, Source
from gateway.core.routes import Match
from gateway.core.server import ServerState
from gateway.core.strict_json import dump_json
from gateway.ports import Reading
from gateway.server_ports import (
    Action,
    Ask,
    CatalogueAsk,
    Feature,
    Features,
    Heard,
    Order,
    RenewRule,
    Sight,
    SnapshotRule,
)
from gateway.vendors import neutral
from gateway.vendors.account import is_ref, usd_text
from gateway.vendors.dropmpp.acts import BUILDERS, HEARERS, sight_of
from gateway.vendors.dropmpp.answers import entries_of
from gateway.vendors.dropmpp.routes import (
    FREE_HOURS,
    LEAST_BASE,
    LISTS,
    MAX_MINUTES,
    REGIONS,
    SERVER,
    SIZES,
    create_item,
    hour_item,
)
from gateway.vendors.dropmpp.vendor import DropMpp
from wallets.secret import Secret

__all__ = ["DEFAULT_IMAGE", "DEFAULT_MINUTES", "DropMppServers"]

DEFAULT_MINUTES: Final = 60  # the vendor's own default is one, which is over before the server is up
DEFAULT_IMAGE: Final = "ubuntu-24-04-x64"

_NO_PARAMETERS: Final[Mapping[str, Any]] = MappingProxyType({})
_SIZES: Final = CatalogueAsk("/v1/catalog/sizes")
_REGIONS: Final = CatalogueAsk("/v1/catalog/regions")
_IMAGES: Final = CatalogueAsk("/v1/catalog/images")
_OK: Final = 200
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_FINALITY_S: Final = 60  # until a block of Tempo is final

# What happens at `paid_until` the document does not say: it is taken for the end, and never come near.
_RENEW: Final = RenewRule(
    unit_s=_MINUTE_S,
    min_units=1,
    max_units=MAX_MINUTES,
    lead_s=30 * _MINUTE_S,
    least_base=LEAST_BASE,
    retry_before_s=10 * _MINUTE_S,
)
_DOES: Final = neutral.features_of(set(Feature) - {Feature.EXEC, Feature.JOBS, Feature.FILES, Feature.RESTORE_IN_PLACE})
_FIELDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "size": "plan",
        "region": "region",
        "image": "image",
        "minutes": "minutes",
        "ssh_key_ids": "ssh_keys",
        "snapshot_id": "snapshot",
        "user_data": "user_data",
    }
)
_RENEWED: Final[Mapping[str, str]] = MappingProxyType({"minutes": "units"})
_ABOUT: Final[Mapping[Action, str]] = MappingProxyType({Action.SNAPSHOT_DELETE: "snapshot", Action.KEY_DELETE: "key"})
_ROUTES: Final[Mapping[Action, str]] = MappingProxyType(
    {
        Action.SHOW: "server_show",
        Action.CREDENTIALS: "server_show",
        Action.DESTROY: "server_delete",
        Action.START: "server_power",
        Action.STOP: "server_power",
        Action.REBOOT: "server_reboot",
        Action.RENEW: "server_extend",
        Action.SNAPSHOT_CREATE: "server_snapshot",
        Action.SNAPSHOT_LIST: "snapshot_list",
        Action.SNAPSHOT_DELETE: "snapshot_delete",
        Action.KEY_ADD: "key_create",
        Action.KEY_DELETE: "key_delete",
    }
)


class DropMppServers:
    """The translation; implements gateway.server_ports.ServerVendor."""

    catalogue: tuple[CatalogueAsk, ...] = (_SIZES, _REGIONS, _IMAGES)

    def __init__(self, vendor: DropMpp) -> None:
        """Build it for one configured vendor."""
        self.name = vendor.name
        self._vendor = vendor
        self._routes = {route.name: route for route in vendor.routes}
        self.features = Features(
            does=_DOES,
            billing=Billing.MINUTES,
            unit_s=_MINUTE_S,
            hold_max_s=self._routes["server_create"].window.max_s + _FINALITY_S,
            refundable="nothing: the minutes are collected before the server is made",
            pays="at_once",
            renew=_RENEW,
            snapshots=SnapshotRule(FREE_HOURS * _HOUR_S, named_by_agent=True),
            default_image=DEFAULT_IMAGE,
        )

    # what there is

    def plans(self, answers: Mapping[str, bytes], now_ms: int) -> tuple[Plan, ...]:
        """Return the sizes whose two prices are known. Raises ValueError for lists that cannot be read."""
        sizes = self._entries(answers, _SIZES, "sizes")
        regions = tuple(ref for ref in self._slugs(answers, _REGIONS, "regions") if ref in REGIONS)
        images = tuple(Image(ref, name) for ref, name in self._slugs(answers, _IMAGES, "images").items())
        prices = dict(self._read("sizes", "", _OK, answers[_SIZES.target]).prices)
        return tuple(
            Plan(
                vendor=self.name,
                id=slug,
                name=slug,
                billing=Billing.MINUTES,
                hourly=usd_text(prices[hour_item(slug)]),
                source=Source.API,
                as_of_ms=now_ms,
                vcpu=_count(sizes[slug], "vcpus"),
                memory_mib=_count(sizes[slug], "memory_mb"),
                disk_gib=_count(sizes[slug], "disk_gb"),
                regions=regions,
                images=images,
                setup=usd_text(prices[create_item(slug)]),
            )
            for slug in SIZES
            if slug in sizes and prices.keys() >= {hour_item(slug), create_item(slug)}
        )

    def _slugs(self, answers: Mapping[str, bytes], ask: CatalogueAsk, member: str) -> dict[str, str]:
        entries = self._entries(answers, ask, member)
        return {slug: neutral.member_text(entry, "name") or slug for slug, entry in entries.items()}

    def _entries(self, answers: Mapping[str, bytes], ask: CatalogueAsk, member: str) -> dict[str, dict[str, Any]]:
        document = neutral.document_in(answers.get(ask.target, b""))
        entries = document.get(member) if isinstance(document, dict) else document
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError(f"{self.name}: {ask.target} cannot be read")
        return {entry["slug"]: entry for entry in entries if is_ref(entry.get("slug"))}

    # ordering

    def create(self, order: Order) -> Ask:
        """Return the create; it takes no name. Raises Problem("input_refused") naming the neutral field."""
        members: dict[str, Any] = {
            "size": order.plan,
            "region": order.region,
            "minutes": DEFAULT_MINUTES if order.minutes is None else order.minutes,
        }
        optional = {
            "image": order.image,
            "ssh_key_ids": list(order.ssh_keys),
            "user_data": order.user_data,
            "snapshot_id": order.snapshot,
        }
        members |= {name: value for name, value in optional.items() if value}
        return neutral.checked(self._vendor, Ask("POST", "/v1/servers", dump_json(members)), "plan", _FIELDS)

    def made(self, status: int, body: bytes) -> Sight | None:
        """Return the server that a create's answer shows."""
        reading, document = self._read("server_create", "", status, body), neutral.document_in(body)
        if reading.created is None or not isinstance(document, dict):
            return None
        return sight_of(reading.created.ref, document)

    # acting

    def ask(
        self,
        action: Action,
        ref: str,
        access: Mapping[str, Secret[str]],  # noqa: ARG002 - the paying wallet is the only credential
        parameters: Mapping[str, Any] = _NO_PARAMETERS,
    ) -> Ask:
        """Return the request for an action. Raises Problem("input_refused"), ValueError for what the vendor cannot do."""
        build = BUILDERS.get(action)
        if build is None:
            raise ValueError(f"{self.name} has no {action}")
        return neutral.checked(self._vendor, build(ref, parameters), _ABOUT.get(action, "id"), _RENEWED)

    def hear(self, action: Action, ref: str, status: int, body: bytes) -> Heard:
        """Read the answer to an action."""
        reading, document = self._read(_ROUTES[action], ref, status, body), neutral.document_in(body)
        if reading.delivery is Delivery.DELIVERED:
            return HEARERS[action](ref, document, reading)
        return self._missed(action, ref, status, body)

    @staticmethod
    def _missed(action: Action, ref: str, status: int, body: bytes) -> Heard:
        """Read a refusal. What is denied is gone: whoever wanted it gone has that."""
        detail, lost = neutral.detail_of(status, neutral.document_in(body)), neutral.missing(ref, status, body)
        if action is Action.DESTROY and lost is not None:
            return Heard(True, Sight(ref, ServerState.DESTROYED), detail=detail)
        if action in {Action.SNAPSHOT_DELETE, Action.KEY_DELETE}:
            return Heard(lost is not None, detail=detail)
        return Heard(False, lost if action is Action.SHOW else None, detail=detail)

    def listed(self, body: bytes) -> tuple[Sight, ...] | None:
        """Return the wallet's servers that the answer shows."""
        reading = self._read("server_list", "", _OK, body)
        entries = entries_of(neutral.document_in(body), SERVER)
        if reading.delivery is not Delivery.DELIVERED or entries is None:
            return None
        return tuple(sight_of(entry["id"], entry) for entry in entries if is_ref(entry.get("id")))

    def list_ask(self) -> Ask | None:
        """Return the request for the wallet's servers."""
        return Ask("GET", f"/v1/{LISTS[SERVER]}")

    def _read(self, route_name: str, ref: str, status: int, body: bytes) -> Reading:
        match = Match(self._routes[route_name], MappingProxyType({"id": ref}))
        return self._vendor.read(match, neutral.answer_of(status, body), str)


def _count(entry: Mapping[str, Any], member: str) -> int | None:
    value = entry.get(member)
    return value if type(value) is int and value > 0 else None

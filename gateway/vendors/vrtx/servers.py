"""VRTX in neutral words: plans in numbered locations, templates as images, power, and root's password once it is made.

Must not know flows.  Theory: a server is ready when the hypervisor runs it, nothing is being installed and its password is
made; showing it tells the last two and never the first, so where nothing keeps it from being ready its sight states no
state, and the gateway's own watch, which asks the hypervisor, says which it is.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from gateway.account_ports import Thing, Told
from gateway.core.payment import Delivery
from gateway.core.plan import Image, Plan, Source
from gateway.core.server import ServerState
from gateway.server_ports import Action, Ask, CatalogueAsk, Feature, Heard, Order, Sight
from gateway.vendors import neutral
from gateway.vendors.account import request_to, segment
from gateway.vendors.vrtx.inputs import HOSTNAME
from gateway.vendors.vrtx.routes import PRICE_TARGET, SERVER, SERVERS_TARGET
from gateway.vendors.vrtx.vendor import Vrtx
from wallets.secret import Secret

__all__ = ["DEFAULT_IMAGE", "VrtxServers"]

DEFAULT_IMAGE: Final = "ubuntu-24.04"  # of the document's own examples
_OK: Final = 200
_LOCATIONS: Final = "/api/v2/locations"
# The document's table. Templates are listed for one location at a time; at others nothing is known of what can be made.
_LOCATION_IDS: Final = range(1, 14)
_ROOT: Final = "root"  # "root credentials"
_REGION: Final = re.compile(r"(?:[a-z0-9-]*-)?([1-9][0-9]{0,8})", re.ASCII)
_NOT_IN_SLUGS: Final = re.compile(r"[^a-z0-9]+", re.ASCII)
_PLAN: Final = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
_NO_PARAMETERS: Final[Mapping[str, Any]] = MappingProxyType({})
_FIELDS: Final[Mapping[str, str]] = MappingProxyType(
    {"hostname": "name", "plan_id": "plan", "location_id": "region", "template_slug": "image"}
)
_DOES: Final = neutral.features_of(
    {
        Feature.LIST,
        Feature.DESTROY,
        Feature.START,
        Feature.STOP,
        Feature.REBOOT,
        Feature.CREDENTIALS,
        Feature.IMAGES,
        Feature.REGIONS,
    },
    unknown={  # "additional endpoints cover backups, …, SSH keys": of none of them is a request documented
        Feature.SSH_KEYS,
        Feature.SNAPSHOTS,
        Feature.SNAPSHOT_DELETE,
        Feature.RESTORE_IN_PLACE,
        Feature.RESTORE_TO_NEW,
    },
)
_POWER: Final[Mapping[Action, str]] = MappingProxyType(
    {Action.START: "start", Action.STOP: "shutdown", Action.REBOOT: "restart"}
)
_ROUTES: Final[Mapping[Action, str]] = MappingProxyType(
    {
        Action.SHOW: "server",
        Action.STATE: "status",
        Action.DESTROY: "delete",
        Action.CREDENTIALS: "credentials",
        **dict.fromkeys(_POWER, "power"),
    }
)


class VrtxServers:
    """The translation; implements gateway.server_ports.ServerVendor."""

    catalogue: tuple[CatalogueAsk, ...] = (
        CatalogueAsk(PRICE_TARGET),
        CatalogueAsk(_LOCATIONS),
        *(CatalogueAsk(f"{_LOCATIONS}/{number}/templates", optional=True) for number in _LOCATION_IDS),
    )

    def __init__(self, vendor: Vrtx) -> None:
        """Build it for one configured account."""
        self.name = vendor.name
        self._vendor = vendor
        self.features = replace(
            neutral.paid_by_time(vendor, _DOES),
            name_pattern=HOSTNAME.pattern,
            # Its advice for polls, "2s → 4s → 8s, cap at 30s", is what `ready_pauses_s` says anyway.
            default_image=DEFAULT_IMAGE,
            state_apart=True,
        )

    # plans and orders

    def plans(self, answers: Mapping[str, bytes], now_ms: int) -> tuple[Plan, ...]:
        """Return the plans in every location that states its templates, with the templates that all of those have.

        A template that some location lacks is left out: a plan states what it can be made with anywhere. Raises
        ValueError for plans or locations that cannot be read.
        """
        listed = answers.get(PRICE_TARGET, b"")
        prices = self._vendor.read_prices(neutral.answer_of(_OK, listed))
        if not prices:
            raise ValueError(f"{self.name}: no plan in its list")
        names = {str(row.get("id")): neutral.member_text(row, "name") for row in _rows(listed)}
        regions, images = _places(answers)
        if not regions:
            raise ValueError(f"{self.name}: no location with templates in its lists")
        return tuple(
            neutral.plan_of(
                self._vendor,
                price,
                names.get(price.kind, ""),
                Source.API,
                now_ms,
                regions=regions,
                images=images,
            )
            for price in prices
        )

    def create(self, order: Order) -> Ask:
        """Return the create. Raises Problem("input_refused") naming the neutral field."""
        unwanted = {"ssh_keys": order.ssh_keys, "user_data": order.user_data, "minutes": order.minutes}
        neutral.refuse_what(self.name, {**unwanted, "snapshot": order.snapshot})
        region, plan = _REGION.fullmatch(order.region), _PLAN.fullmatch(order.plan)
        document = {
            "plan_id": None if plan is None else int(plan.group()),
            "location_id": None if region is None else int(region.group(1)),
            "template_slug": order.image or DEFAULT_IMAGE,
            "hostname": order.name,
        }
        return self._checked("POST", SERVERS_TARGET, document)

    def made(self, status: int, body: bytes) -> Sight | None:
        """Return the server that a create's answer shows."""
        told = neutral.told_by(self._vendor, "create", "", status, body)
        return _first(told) if told.created else None

    # asking

    def ask(
        self,
        action: Action,
        ref: str,
        access: Mapping[str, Secret[str]],  # noqa: ARG002 - nothing that a server shows is needed to act on it
        parameters: Mapping[str, Any] = _NO_PARAMETERS,  # noqa: ARG002 - no action takes one
    ) -> Ask:
        """Return the request for an action. Raises Problem("input_refused"), ValueError for what the vendor cannot do."""
        if action is Action.SHOW:
            return neutral.ask_of(self._vendor.show_request(ref))
        if action is Action.DESTROY:
            return neutral.ask_of(self._vendor.destroy_request(ref))
        one = f"{SERVERS_TARGET}/{segment(ref)}"
        if action is Action.STATE:
            return self._checked("GET", f"{one}/status")
        if action is Action.CREDENTIALS:
            return self._checked("GET", f"{one}/credentials")
        if action in _POWER:
            return self._checked("POST", f"{one}/power", {"action": _POWER[action]})
        raise ValueError(f"{self.name} cannot {action}")

    def list_ask(self) -> Ask | None:
        """Return the request for the account's servers, in one page as large as the vendor makes them."""
        request = self._vendor.list_request(1)
        return None if request is None else neutral.ask_of(request)

    def _checked(self, method: str, target: str, document: Any | None = None) -> Ask:  # noqa: ANN401 - JSON's own type
        return neutral.checked(self._vendor, neutral.ask_of(request_to(method, target, document)), "server", _FIELDS)

    # hearing

    def hear(self, action: Action, ref: str, status: int, body: bytes) -> Heard:
        """Read the answer to an action. Power actions are queued, and answer nothing of the server."""
        told = neutral.told_by(self._vendor, _ROUTES[action], ref, status, body)
        if action is Action.DESTROY:
            return neutral.ended(told, ref, status, body)
        if action is Action.CREDENTIALS:
            return neutral.heard(told, status, body, access=_access(told))
        if action is Action.STATE:
            return neutral.heard(told, status, body, server=_state(told))
        if action is not Action.SHOW:
            return neutral.heard(told, status, body)
        return neutral.heard(told, status, body, server=_first(told) or neutral.missing(ref, status, body))

    def listed(self, body: bytes) -> tuple[Sight, ...] | None:
        """Return the servers of a list that is whole; None for one that proves nothing, or goes on."""
        read = self._vendor.read_list(neutral.answer_of(_OK, body))
        if read is None or read[1]:
            return None
        return _sights(neutral.told_by(self._vendor, "servers", "", _OK, body))


def _rows(body: bytes) -> list[Mapping[str, Any]]:
    document = neutral.document_in(body)
    rows = document.get("data") if isinstance(document, dict) else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _places(answers: Mapping[str, bytes]) -> tuple[tuple[str, ...], tuple[Image, ...]]:
    """Return the locations where something can be made, and the templates that all of them have."""
    regions: list[str] = []
    images: dict[str, Image] | None = None
    for row in _rows(answers.get(_LOCATIONS, b"")):
        number = row.get("id")
        if type(number) is not int or number < 1:
            continue
        found = {
            slug: Image(slug, neutral.member_text(template, "name") or slug)
            for template in _rows(answers.get(f"{_LOCATIONS}/{number}/templates", b""))
            if (slug := neutral.member_text(template, "slug"))
        }
        if found:
            regions.append(_region(number, neutral.member_text(row, "name")))
            images = found if images is None else {slug: each for slug, each in images.items() if slug in found}
    return tuple(regions), tuple((images or {}).values())


def _region(number: int, name: str) -> str:
    """Name a location so that people can read it and a create can find its number: "sydney-au-6"."""
    slug = _NOT_IN_SLUGS.sub("-", name.lower()).strip("-")
    return f"{slug}-{number}" if slug else str(number)


def _access(told: Told) -> Mapping[str, Secret[str]]:
    data = told.document.get("data") if isinstance(told.document, dict) else None
    password = neutral.member_text(data, "root_password") if told.delivery is Delivery.DELIVERED else ""
    return {"username": Secret(_ROOT), "password": Secret(password)} if password else {}


def _sights(told: Told) -> tuple[Sight, ...]:
    found = told.document.get("data") if isinstance(told.document, dict) else None
    entries = neutral.entries_in(found, "uuid")
    return tuple(
        _sight(thing, entries.get(thing.ref, {})) for thing in told.things if thing.kind == SERVER and not thing.gone
    )


def _first(told: Told) -> Sight | None:
    return next(iter(_sights(told)), None)


def _sight(thing: Thing, entry: Mapping[str, Any]) -> Sight:
    return neutral.sight_of(
        thing,
        _raw_state(entry, thing),
        address=_address(entry.get("ip_addresses")),
        image=neutral.member_text(entry, "operating_system"),
    )


def _state(told: Told) -> Sight | None:
    """Return what the hypervisor says of a server; the answer names no id, so it is of the one that was asked for."""
    found = told.document.get("data") if isinstance(told.document, dict) else None
    entry: Mapping[str, Any] = found if isinstance(found, dict) else {}
    return next((neutral.sight_of(thing, _raw_state(entry, thing)) for thing in told.things if not thing.gone), None)


def _raw_state(entry: Mapping[str, Any], thing: Thing) -> str:
    status = neutral.word_in(entry, "status")
    if status:
        return status
    if neutral.state_of(thing.state) is ServerState.PROVISIONING:
        return f"password {neutral.word_in(entry, 'password_status')}"
    return neutral.word_in(entry, "state")


def _address(found: object) -> str:
    rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
    first = next((row for row in rows if row.get("type") == "ipv4"), next(iter(rows), None))
    return neutral.member_text(first, "address")

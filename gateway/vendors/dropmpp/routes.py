"""dropmpp's routes, items, states and capabilities as data (the vendor's document).

Must not know messages.  Theory: the document's table, with what a broker must add to each row: what a request may name,
what an answer shows, and what it may cost at most. The wallet that pays is the vendor's only notion of a customer, so
every id is fenced, and a challenge is good once, so no credential is shown twice.
"""

from types import MappingProxyType
from typing import Any, Final

from gateway.core.routes import Listing, Ownership, Place, Pricing, Priority, Ref, Represent, Retry, Route, Window
from gateway.vendors.capabilities import NO, UNKNOWN, YES, Capabilities, capabilities

__all__ = [
    "CAPABILITIES",
    "CATALOGUE",
    "FREE_HOURS",
    "KEY",
    "KEY_ITEM",
    "LEAST_BASE",
    "LISTS",
    "MAX_DAYS",
    "MAX_MINUTES",
    "POWER_ITEM",
    "REGIONS",
    "RETENTION_ITEM",
    "ROUTES",
    "SERVER",
    "SIZES",
    "SLACK_BASE",
    "SNAPSHOT",
    "SNAPSHOT_ITEM",
    "UNKNOWN_PLAN",
    "create_item",
    "hour_item",
    "state_of",
]

SERVER: Final = "server"
SNAPSHOT: Final = "snapshot"
KEY: Final = "key"

SIZES: Final = ("small", "medium", "large")
REGIONS: Final = ("nyc1", "sfo3", "ams3")
MAX_MINUTES: Final = 366 * 24 * 60  # the document names no most; a year ahead is the most that we pay in one call
MAX_DAYS: Final = 365
FREE_HOURS: Final = 72

UNKNOWN_PLAN: Final = "unknown"  # on no price list, so what is about it is never paid
POWER_ITEM: Final = "power"  # power on, power off and reboot
KEY_ITEM: Final = "key"
SNAPSHOT_ITEM: Final = "snapshot"
RETENTION_ITEM: Final = "snapshot/gb-day"
LEAST_BASE: Final = 10_000  # of an extension, of a server or of a snapshot: USD 0.01
SLACK_BASE: Final = 1  # the document does not say how it rounds


def create_item(size: str) -> str:
    """Return the price list's name for the create fee of a size."""
    return f"{size}/create"


def hour_item(size: str) -> str:
    """Return the price list's name for an hour of a size."""
    return f"{size}/hour"


_V1: Final = "v1"
_SIZES_TARGET: Final = "/v1/catalog/sizes"
_RETENTION_TARGET: Final = "/v1/catalog/snapshot-pricing"
CATALOGUE: Final = MappingProxyType(
    {
        **{create_item(size): _SIZES_TARGET for size in SIZES},
        **{hour_item(size): _SIZES_TARGET for size in SIZES},
        RETENTION_ITEM: _RETENTION_TARGET,
    }
)
"""Where the vendor states an item's price. The other prices stand in its document alone."""

LISTS: Final = MappingProxyType({SERVER: "servers", SNAPSHOT: "snapshots", KEY: "keys"})
"""The member of a list's document by the kind of its things; it is the path's segment as well."""

_STATES: Final = MappingProxyType(
    {
        # The document names none. These are what DigitalOcean and the reseller's own words suggest.
        SERVER: MappingProxyType(
            {
                "provisioning": "provisioning",
                "new": "provisioning",
                "active": "active",
                "running": "active",
                "off": "off",
                "stopped": "off",
                "rebooting": "rebooting",
                "expired": "expired",
                "destroyed": "destroyed",
                "deleted": "destroyed",
            }
        ),
        SNAPSHOT: MappingProxyType(
            {
                "pending": "pending",
                "creating": "pending",
                "available": "available",
                "ready": "available",
                "expired": "expired",
                "deleted": "deleted",
            }
        ),
        KEY: MappingProxyType[str, str]({}),
    }
)
_UNKNOWN_STATE: Final = "unknown"

_USD: Final = 1_000_000
_SERVERS: Final = (_V1, "servers")
_SERVER: Final = (*_SERVERS, "{id}")
_SNAPSHOTS: Final = (_V1, "snapshots")
_SNAPSHOT: Final = (*_SNAPSHOTS, "{id}")
_KEYS: Final = (_V1, "keys")

_THIS_SERVER: Final = Ref(Place.PATH, "id", SERVER)
_THIS_SNAPSHOT: Final = Ref(Place.PATH, "id", SNAPSHOT)

# Not `renews`: extensions are collected before they are answered, and stack, so one need not wait for another's proof.
_PAID: Final[dict[str, Any]] = {
    "pricing": Pricing.PRICED,
    "window": Window(20, 30),  # collected before the answer; Tempo takes no expiring nonce that lives longer
    "represent": Represent.NO,  # a challenge is good once
}
_READ: Final[dict[str, Any]] = {"proof": True, "safe": True, "retry": Retry.SAFE}
_DELETE: Final[dict[str, Any]] = {"proof": True, "retry": Retry.NEVER, "priority": Priority.DESTROY}
_OF_SERVER: Final[dict[str, Any]] = {"ownership": Ownership.OWNER, "ref_parameter": "id", "refs": (_THIS_SERVER,)}
_OF_SNAPSHOT: Final[dict[str, Any]] = {"ownership": Ownership.OWNER, "ref_parameter": "id", "refs": (_THIS_SNAPSHOT,)}

_CATALOG_ROUTES: Final = tuple(
    Route(name, ("GET",), (_V1, "catalog", segment), **_READ)
    for name, segment in (
        ("sizes", "sizes"),
        ("regions", "regions"),
        ("images", "images"),
        ("snapshot_pricing", "snapshot-pricing"),
    )
)
_SERVER_ROUTES: Final = (
    Route(
        "server_create",
        ("POST",),
        _SERVERS,
        ceiling_base=200 * _USD,  # the price list is the real check
        ownership=Ownership.CREATES,
        refs=(
            Ref(Place.BODY, "ssh_key_ids", KEY, optional=True),
            Ref(Place.BODY, "snapshot_id", SNAPSHOT, optional=True),
        ),
        listings=(Listing("", SERVER),),
        retry=Retry.FIND,
        priority=Priority.CREATE,
        **_PAID,
    ),
    Route("server_list", ("GET",), _SERVERS, listings=(Listing(LISTS[SERVER], SERVER),), secret=True, **_READ),
    Route("server_show", ("GET",), _SERVER, listings=(Listing("", SERVER),), secret=True, **_OF_SERVER, **_READ),
    Route(
        "server_extend",
        ("POST",),
        (*_SERVER, "extend"),
        ceiling_base=200 * _USD,
        priority=Priority.RENEW,
        **_OF_SERVER,
        **_PAID,
    ),
    Route(
        "server_snapshot",
        ("POST",),
        (*_SERVER, "snapshot"),
        ceiling_base=_USD // 10,  # documented at 0.01
        listings=(Listing("", SNAPSHOT),),
        retry=Retry.FIND,
        **_OF_SERVER,
        **_PAID,
    ),
    Route(
        "server_delete",
        ("DELETE",),
        _SERVER,
        listings=(Listing("snapshot", SNAPSHOT),),
        ends=True,
        **_OF_SERVER,
        **_DELETE,
    ),
    Route("server_reboot", ("POST",), (*_SERVER, "reboot"), ceiling_base=_USD // 20, **_OF_SERVER, **_PAID),
    Route("server_power", ("POST",), (*_SERVER, "power"), ceiling_base=_USD // 20, **_OF_SERVER, **_PAID),
)
_SNAPSHOT_ROUTES: Final = (
    Route("snapshot_list", ("GET",), _SNAPSHOTS, listings=(Listing(LISTS[SNAPSHOT], SNAPSHOT),), **_READ),
    Route("snapshot_show", ("GET",), _SNAPSHOT, listings=(Listing("", SNAPSHOT),), **_OF_SNAPSHOT, **_READ),
    Route(
        "snapshot_extend",
        ("POST",),
        (*_SNAPSHOT, "extend"),
        ceiling_base=200 * _USD,
        priority=Priority.RENEW,
        **_OF_SNAPSHOT,
        **_PAID,
    ),
    Route("snapshot_delete", ("DELETE",), _SNAPSHOT, ends=True, **_OF_SNAPSHOT, **_DELETE),
)
_KEY_ROUTES: Final = (
    Route(
        "key_create",
        ("POST",),
        _KEYS,
        ceiling_base=_USD // 20,
        ownership=Ownership.CREATES,
        listings=(Listing("", KEY),),
        retry=Retry.FIND,
        **_PAID,
    ),
    Route("key_list", ("GET",), _KEYS, listings=(Listing(LISTS[KEY], KEY),), **_READ),
    Route(
        "key_delete",
        ("DELETE",),
        (*_KEYS, "{id}"),
        ownership=Ownership.OWNER,
        ref_parameter="id",
        refs=(Ref(Place.PATH, "id", KEY),),
        ends=True,
        **_DELETE,
    ),
)
ROUTES: Final[tuple[Route, ...]] = (*_CATALOG_ROUTES, *_SERVER_ROUTES, *_SNAPSHOT_ROUTES, *_KEY_ROUTES)

CAPABILITIES: Final[Capabilities] = capabilities(
    {
        "onboarding_without_human": YES,
        "auth": "the paying wallet; a zero-amount MPP proof per free call",
        "charged": "MPP charge on Tempo, prepaid minutes; charged before the work is done",
        "money_on_wire": "base units in challenges, decimal in answers",
        "meaning_of_402": "MPP challenge, or MPP identity proof",
        "catalogue": "sizes, regions, images, snapshot pricing",
        "create_idempotency": NO,
        "list_servers": YES,
        "bulk": NO,
        "power": "on, off, reboot; each costs",
        "destroy": "at once, with an automatic snapshot; no refund",
        "extend": "minutes, at least USD 0.01",
        "snapshots": "live, 72 h free, extended by days; restored to a new server",
        "ssh_keys": "registered for a fee",
        "root_password": "readable at any time",
        "cloud_init": "64 KB",
        "exec": NO,
        "webhooks": NO,
        "rate_limit": UNKNOWN,
        "async_states": UNKNOWN,
    }
)


def state_of(kind: str, status: object) -> str:
    """Return a thing's state for whatever the vendor calls it; "unknown" for what we do not know."""
    return _STATES[kind].get(status, _UNKNOWN_STATE) if isinstance(status, str) else _UNKNOWN_STATE

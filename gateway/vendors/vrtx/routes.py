"""VRTX's routes, states, limits and capabilities as data (the vendor's document).

Must not know messages.  Theory: the document's table, with what a broker must add to each row: what it names, whether a
lost answer may be asked for again, and what its query may hold.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from gateway.core.rates import Rate
from gateway.core.routes import Listing, Ownership, Place, Pricing, Priority, Ref, Retry, Route
from gateway.core.tariff import HOUR_S
from gateway.vendors.capabilities import NO, UNKNOWN, YES, Capabilities, capabilities

__all__ = [
    "CAPABILITIES",
    "DEFAULT_PER_PAGE",
    "MAX_PER_PAGE",
    "POWER_ACTIONS",
    "POWER_STATES",
    "PRICE_TARGET",
    "QUERIES",
    "RATES",
    "ROUTES",
    "SERVER",
    "SERVERS_TARGET",
    "STATUSES",
    "UNIT_S",
    "UNKNOWN_STATE",
    "state_of",
]

_BASE: Final = ("api", "v2")
_ONE: Final = (*_BASE, "servers", "{uuid}")
DEFAULT_PER_PAGE: Final = 25
MAX_PER_PAGE: Final = 100
SERVERS_TARGET: Final = "/api/v2/servers"
PRICE_TARGET: Final = f"/api/v2/plans?per_page={MAX_PER_PAGE}"
POWER_ACTIONS: Final = ("start", "shutdown", "restart", "kill")
UNIT_S: Final = HOUR_S  # prices are by the hour and by the month; nothing smaller is documented
SERVER: Final = "server"

_SERVER: Final = (Ref(Place.PATH, "uuid", SERVER),)
_SHOWN: Final = (Listing("data", SERVER, "uuid"),)

ROUTES: Final[tuple[Route, ...]] = (
    Route("plans", ("GET",), (*_BASE, "plans"), retry=Retry.SAFE, safe=True),
    Route("locations", ("GET",), (*_BASE, "locations"), retry=Retry.SAFE, safe=True),
    Route("templates", ("GET",), (*_BASE, "locations", "{id}", "templates"), retry=Retry.SAFE, safe=True),
    Route(
        "create",
        ("POST",),
        (*_BASE, "servers"),
        Pricing.METERED,
        ownership=Ownership.CREATES,
        listings=_SHOWN,
        retry=Retry.KEYED,  # for 24 hours; after them the mark in the host name finds it
        priority=Priority.CREATE,
    ),
    Route(
        "servers",
        ("GET",),
        (*_BASE, "servers"),
        listings=(Listing("data", SERVER, "uuid", paged=True),),
        retry=Retry.SAFE,
        safe=True,
    ),
    Route(
        "server",
        ("GET",),
        _ONE,
        ownership=Ownership.OWNER,
        ref_parameter="uuid",
        refs=_SERVER,
        listings=_SHOWN,
        retry=Retry.SAFE,
        safe=True,
    ),
    Route(
        "status",
        ("GET",),
        (*_ONE, "status"),
        ownership=Ownership.OWNER,
        ref_parameter="uuid",
        refs=_SERVER,
        retry=Retry.SAFE,
        priority=Priority.POLL,  # "preferred for polling": what every waiting agent repeats goes last
        safe=True,
    ),
    Route(
        "credentials",
        ("GET",),
        (*_ONE, "credentials"),
        ownership=Ownership.OWNER,
        ref_parameter="uuid",
        refs=_SERVER,
        retry=Retry.SAFE,
        secret=True,
        safe=True,
    ),
    Route(
        "power",
        ("POST",),
        (*_ONE, "power"),
        ownership=Ownership.OWNER,
        ref_parameter="uuid",
        refs=_SERVER,
        retry=Retry.NEVER,  # it takes no key, and a repeated call queues a second action
    ),
    # Implied: "DELETE is safe after the first success (404 on repeat is acceptable)", and the event server.deleted.
    Route(
        "delete",
        ("DELETE",),
        _ONE,
        ownership=Ownership.OWNER,
        ref_parameter="uuid",
        refs=_SERVER,
        retry=Retry.SAFE,
        priority=Priority.DESTROY,
        ends=True,
    ),
    # Only this path of the backups is documented, as a paged list: its shape is not, so it passes as a secret would.
    Route(
        "backups",
        ("GET",),
        (*_ONE, "backups"),
        ownership=Ownership.OWNER,
        ref_parameter="uuid",
        refs=_SERVER,
        retry=Retry.SAFE,
        secret=True,
        safe=True,
    ),
)

_PAGED: Final = frozenset({"page", "per_page"})
_NOTHING: Final[frozenset[str]] = frozenset()
QUERIES: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        **{route.name: _NOTHING for route in ROUTES},
        "plans": _PAGED | {"location_id"},
        "servers": _PAGED | {"status"},
        "backups": _PAGED,
    }
)

RATES: Final[tuple[Rate, ...]] = (Rate(120, 60), Rate(30, 10))  # of the account, over all tokens

UNKNOWN_STATE: Final = "unknown"
# The application's word comes first: the hypervisor runs a server that is still being installed.
STATUSES: Final[Mapping[str, str]] = MappingProxyType({"installing": "provisioning", "suspended": "suspended"})
POWER_STATES: Final[Mapping[str, str]] = MappingProxyType({"running": "running", "stopped": "stopped"})
_PASSWORD_PENDING: Final = "generating"  # noqa: S105 - a state's name


def state_of(told: Mapping[str, Any]) -> str:
    """Return our word for what an object of the vendor's says of a server by `status`, `state` and `password_status`.

    Ready is status null, password not being generated, and state running. "unknown" is both: a word that the document
    does not have, and an object that leaves the state out (as lists do once a server is installed).
    """
    status = told.get("status", UNKNOWN_STATE)
    if status is not None:
        return STATUSES.get(status, UNKNOWN_STATE) if isinstance(status, str) else UNKNOWN_STATE
    if told.get("password_status") == _PASSWORD_PENDING:
        return STATUSES["installing"]
    state = told.get("state")
    return POWER_STATES.get(state, UNKNOWN_STATE) if isinstance(state, str) else UNKNOWN_STATE


CAPABILITIES: Final[Capabilities] = capabilities(
    {
        "onboarding_without_human": NO,  # the token is made in the console
        "auth": "bearer token from the console, no expiry documented; optional allow-list of addresses",
        "charged": "the account, postpaid by invoice, hourly or monthly; which of the two is not documented",
        "money_on_wire": "JSON numbers",
        "meaning_of_402": "overdue invoice",
        "catalogue": "plans, locations, templates of a location",
        "create_idempotency": "Idempotency-Key (UUID), 24 hours",
        "list_servers": "yes, in pages of at most 100",
        "bulk": NO,
        "power": "start, shutdown, restart, kill; repeated calls queue",
        "destroy": "yes, implied by the document; when it stops the bill is unknown",
        "extend": "implicit, by invoice",
        "snapshots": UNKNOWN,  # "backups" are mentioned; of their routes only a list's path is documented
        "ssh_keys": UNKNOWN,  # mentioned, not documented
        "root_password": YES,
        "cloud_init": NO,
        "exec": NO,
        "webhooks": "server.installing, .running, .suspended, .deleted; none for a failure",
        "rate_limit": "120 in 60 s and 30 in 10 s, of the account",
        "async_states": "status null, installing, suspended; state running, stopped; password generating, ready",
    }
)

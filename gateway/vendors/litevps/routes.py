"""LiteVPS's routes, states, limits and capabilities as data (the vendor's document).

Must not know messages.  Theory: the document's table, with what a broker must add to each row: whose things it names and
shows, what may be repeated when an answer is lost, and which routes speak of the account that all agents share.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from gateway.core.rates import AUTH, Rate
from gateway.core.routes import Listing, Ownership, Place, Pricing, Priority, Ref, Retry, Route
from gateway.vendors.capabilities import NO, YES, Capabilities, capabilities

__all__ = [
    "CAPABILITIES",
    "CHARGED",
    "JOB_STATES",
    "LOGIN_LIVES_S",
    "LOGIN_REFRESH_AFTER_S",
    "PRICE_TARGET",
    "QUERIES",
    "RATES",
    "RESUMES",
    "ROUTES",
    "STATES",
    "TEMPLATE_TARGET",
    "UNIT_S",
]

PRICE_TARGET: Final = "/api/pricing"
TEMPLATE_TARGET: Final = "/api/templates"

LOGIN_LIVES_S: Final = 24 * 3600
LOGIN_REFRESH_AFTER_S: Final = 20 * 3600
UNIT_S: Final = 60

RATES: Final[tuple[Rate, ...]] = (
    Rate(10, 60, AUTH),
)  # a minute and address, on login; the document states no other limit

STATES: Final[Mapping[str, str]] = MappingProxyType(
    {"creating": "provisioning", "running": "running", "stopped": "stopped", "error": "error"}
)
CHARGED: Final[Mapping[str, bool]] = MappingProxyType(
    {"provisioning": False, "running": True, "stopped": False, "error": False}
)
"""By our state: "running VMs are charged per minute". A state that the document does not name says nothing."""

JOB_STATES: Final[Mapping[str, str]] = MappingProxyType(
    {name: name for name in ("pending", "running", "done", "timeout", "cancelled")}
)

_SERVER: Final = (Ref(Place.PATH, "id", "server"),)
_JOB: Final = (*_SERVER, Ref(Place.PATH, "job_id", "job"))
_KEY: Final = (Ref(Place.PATH, "id", "key"),)
_SHOWS_SERVERS: Final = (Listing("", "server"),)
_SHOWS_KEYS: Final = (Listing("", "key"),)
_VPS: Final = ("api", "vps")
_ONE: Final = (*_VPS, "{id}")

_KEYS_ARE_OURS: Final = (
    "this gateway's own keys stand for the vendor's access tokens: make and revoke them at /v1/keys, "
    "or get a short-lived token from /api/auth/login"
)
_FUNDS_ARE_OURS: Final = (
    "your balance is kept by this gateway, not by the vendor: top it up there (POST /v1/topups; where it is not served "
    "yet, the operator does it)"
)
_MAIL_IS_OURS: Final = (
    "the vendor would write about the account that all agents share: watch your own balance, X-Balance-Remaining"
)

_PUBLIC: Final = (
    Route("health", ("GET",), ("health",), retry=Retry.SAFE, safe=True, public=True),
    Route("agent_json", ("GET",), (".well-known", "agent.json"), retry=Retry.SAFE, safe=True, public=True),
    Route("openapi", ("GET",), ("openapi.json",), retry=Retry.SAFE, safe=True, public=True),
    Route("pricing", ("GET",), ("api", "pricing"), retry=Retry.SAFE, safe=True, public=True),
)

_STANDING: Final = (
    Route("register", ("POST",), ("api", "auth", "register"), Pricing.LOCAL, opens=True, secret=True, scope=AUTH),
    Route("login", ("POST",), ("api", "auth", "login"), Pricing.LOCAL, opens=True, secret=True, scope=AUTH),
    Route("me", ("GET",), ("api", "me"), Pricing.LOCAL),
    Route("balance", ("GET",), ("api", "billing", "balance"), Pricing.LOCAL),
    Route("history", ("GET",), ("api", "billing", "history"), Pricing.LOCAL),
    Route("add_funds", ("POST",), ("api", "billing", "add-funds"), Pricing.CLOSED, reason=_FUNDS_ARE_OURS),
    Route("notify_emails", ("GET",), ("api", "billing", "notify-emails"), Pricing.LOCAL),
    Route("add_notify_email", ("POST",), ("api", "billing", "notify-emails"), Pricing.CLOSED, reason=_MAIL_IS_OURS),
    Route(
        "delete_notify_email",
        ("DELETE",),
        ("api", "billing", "notify-emails", "{id}"),
        Pricing.CLOSED,
        reason=_MAIL_IS_OURS,
    ),
    Route("tokens", ("GET",), ("api", "tokens"), Pricing.LOCAL),
    Route("add_token", ("POST",), ("api", "tokens"), Pricing.CLOSED, reason=_KEYS_ARE_OURS),
    Route("delete_token", ("DELETE",), ("api", "tokens", "{id}"), Pricing.CLOSED, reason=_KEYS_ARE_OURS),
)

# The fixed paths stand before those with an id: "batch" is no server.
_BATCHES: Final = (
    Route(
        "batch_create",
        ("POST",),
        (*_VPS, "batch"),
        Pricing.METERED,
        ownership=Ownership.CREATES,
        priority=Priority.CREATE,
        split=True,
    ),
    Route("batch_delete", ("DELETE",), (*_VPS, "batch"), priority=Priority.DESTROY, split=True),
    Route("batch_exec", ("POST",), (*_VPS, "batch", "exec"), split=True),
)

_SERVERS: Final = (
    Route("list", ("GET",), _VPS, listings=_SHOWS_SERVERS, retry=Retry.SAFE, safe=True, priority=Priority.POLL),
    Route(
        "create",
        ("POST",),
        _VPS,
        Pricing.METERED,
        ownership=Ownership.CREATES,
        refs=(Ref(Place.BODY, "ssh_key_ids", "key", optional=True),),
        listings=_SHOWS_SERVERS,
        retry=Retry.FIND,
        priority=Priority.CREATE,
    ),
    Route(
        "get",
        ("GET",),
        _ONE,
        ownership=Ownership.OWNER,
        ref_parameter="id",
        refs=_SERVER,
        listings=_SHOWS_SERVERS,
        retry=Retry.SAFE,
        safe=True,
        priority=Priority.POLL,
    ),
    Route(
        "update",
        ("PUT",),
        _ONE,
        ownership=Ownership.OWNER,
        ref_parameter="id",
        refs=_SERVER,
        listings=_SHOWS_SERVERS,
        retry=Retry.SAFE,
    ),
    Route(
        "delete",
        ("DELETE",),
        _ONE,
        ownership=Ownership.OWNER,
        ref_parameter="id",
        refs=_SERVER,
        retry=Retry.SAFE,
        priority=Priority.DESTROY,
        ends=True,
    ),
    Route(
        "start",
        ("POST",),
        (*_ONE, "start"),
        ownership=Ownership.OWNER,
        ref_parameter="id",
        refs=_SERVER,
        listings=_SHOWS_SERVERS,
        retry=Retry.SAFE,
    ),
    Route(
        "stop",
        ("POST",),
        (*_ONE, "stop"),
        ownership=Ownership.OWNER,
        ref_parameter="id",
        refs=_SERVER,
        listings=_SHOWS_SERVERS,
        retry=Retry.SAFE,
    ),
    Route(  # a second one reboots again
        "restart",
        ("POST",),
        (*_ONE, "restart"),
        ownership=Ownership.OWNER,
        ref_parameter="id",
        refs=_SERVER,
        listings=_SHOWS_SERVERS,
    ),
    Route(
        "vnc_port",
        ("GET",),
        (*_ONE, "vnc-port"),
        ownership=Ownership.OWNER,
        ref_parameter="id",
        refs=_SERVER,
        secret=True,
        retry=Retry.SAFE,
        safe=True,
    ),
)

# Snapshots have no ids: a name means something below its own server alone.
_SNAPSHOTS: Final = (
    Route(
        "snapshots",
        ("GET",),
        (*_ONE, "snapshots"),
        ownership=Ownership.OWNER,
        ref_parameter="id",
        refs=_SERVER,
        retry=Retry.SAFE,
        safe=True,
    ),
    Route(
        "snapshot",
        ("POST",),
        (*_ONE, "snapshots"),
        ownership=Ownership.OWNER,
        ref_parameter="id",
        refs=_SERVER,
    ),
    Route(
        "restore_snapshot",
        ("POST",),
        (*_ONE, "snapshots", "{name}", "restore"),
        ownership=Ownership.OWNER,
        ref_parameter="id",
        refs=_SERVER,
        listings=_SHOWS_SERVERS,
    ),
    Route(  # never again by itself: by then the agent may have made another of that name
        "delete_snapshot",
        ("DELETE",),
        (*_ONE, "snapshots", "{name}"),
        ownership=Ownership.OWNER,
        ref_parameter="id",
        refs=_SERVER,
    ),
)

_GUEST: Final = (
    Route(
        "upload",
        ("PUT",),
        (*_ONE, "files"),
        ownership=Ownership.OWNER,
        ref_parameter="id",
        refs=_SERVER,
        retry=Retry.SAFE,
        raw=True,
    ),
    Route(
        "download",
        ("GET",),
        (*_ONE, "files"),
        ownership=Ownership.OWNER,
        ref_parameter="id",
        refs=_SERVER,
        retry=Retry.SAFE,
        safe=True,
    ),
    Route(
        "exec",
        ("POST",),
        (*_ONE, "exec"),
        ownership=Ownership.OWNER,
        ref_parameter="id",
        refs=_SERVER,
        retry=Retry.NEVER,  # a command that runs twice does its work twice
    ),
    Route(
        "jobs",
        ("GET",),
        (*_ONE, "jobs"),
        ownership=Ownership.OWNER,
        ref_parameter="id",
        refs=_SERVER,
        retry=Retry.SAFE,
        safe=True,
        priority=Priority.POLL,
    ),
    Route(
        "job",
        ("GET",),
        (*_ONE, "jobs", "{job_id}"),
        ownership=Ownership.OWNER,
        ref_parameter="id",
        refs=_JOB,
        retry=Retry.SAFE,
        safe=True,
        priority=Priority.POLL,
    ),
    Route(
        "cancel_job",
        ("DELETE",),
        (*_ONE, "jobs", "{job_id}"),
        ownership=Ownership.OWNER,
        ref_parameter="id",
        refs=_JOB,
        retry=Retry.SAFE,
    ),
)

_PRESETS: Final = (
    Route("templates", ("GET",), ("api", "templates"), retry=Retry.SAFE, safe=True),
    Route("template", ("GET",), ("api", "templates", "{slug}"), retry=Retry.SAFE, safe=True),
)

_SSH_KEYS: Final = (
    Route("keys", ("GET",), ("api", "keys"), listings=_SHOWS_KEYS, retry=Retry.SAFE, safe=True),
    Route("add_key", ("POST",), ("api", "keys"), ownership=Ownership.CREATES, listings=_SHOWS_KEYS),
    Route(
        "delete_key",
        ("DELETE",),
        ("api", "keys", "{id}"),
        ownership=Ownership.OWNER,
        ref_parameter="id",
        refs=_KEY,
        retry=Retry.SAFE,
        ends=True,
    ),
)

ROUTES: Final[tuple[Route, ...]] = (
    *_PUBLIC,
    *_STANDING,
    *_BATCHES,
    *_SERVERS,
    *_SNAPSHOTS,
    *_GUEST,
    *_PRESETS,
    *_SSH_KEYS,
)

QUERIES: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        **{route.name: frozenset[str]() for route in ROUTES},
        "history": frozenset({"limit", "offset"}),
        "upload": frozenset({"path"}),
        "download": frozenset({"path"}),
    }
)

RESUMES: Final = frozenset({"start", "restart", "restore_snapshot"})
"""A restart, or the state that a snapshot was taken in, may set a stopped machine running; the document does not say."""

CAPABILITIES: Final[Capabilities] = capabilities(
    {
        "onboarding_without_human": NO,
        "auth": "JWT for 24 hours, or a long-lived vtk_ token",
        "charged": "prepaid balance, per minute while running; while stopped: unknown",
        "money_on_wire": "JSON number, 4 decimals",
        "meaning_of_402": "low_vendor_balance",
        "catalogue": "plans: yes; regions: no; images: as templates",
        "create_idempotency": "none: found again by a mark in the name",
        "list_servers": YES,
        "bulk": "207 with a result for each item",
        "power": YES,
        "destroy": "at once; its address and DNS record go too",
        "extend": "implicit while the balance lasts; templates may end by ttl_minutes",
        "snapshots": "by name, in place, restored while stopped; retention: unknown",
        "ssh_keys": YES,
        "root_password": NO,
        "cloud_init": "user_data",
        "exec": "commands, files, background jobs",
        "webhooks": NO,
        "rate_limit": "10 a minute and address on login; else unknown",
        "async_states": "creating, running, stopped, error",
    }
)

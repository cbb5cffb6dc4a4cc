"""CryptoVPS's routes, states, plans, limits and capabilities as data (its llms.txt).

Must not know messages.  Theory: the document's tables, with what a broker must add: whose things a route names and
shows, what may be done when an answer is lost, and the most that a plan costs where only its month has a price.
"""

from types import MappingProxyType
from typing import Final

from gateway.account_ports import Price
from gateway.core.rates import AUTH, CALLS, Rate
from gateway.core.routes import Listing, Ownership, Place, Pricing, Priority, Ref, Retry, Route
from gateway.vendors.capabilities import NO, UNKNOWN, YES, capabilities

__all__ = [
    "BACKUP",
    "BACKUP_STATES",
    "CAPABILITIES",
    "LOGIN_LIVES_S",
    "LOGIN_REFRESH_AFTER_S",
    "PLANS",
    "PRICES",
    "RATES",
    "REGIONS",
    "ROUTES",
    "SERVER",
    "STATES",
    "UNIT_S",
]

SERVER: Final = "server"
BACKUP: Final = "backup"

UNIT_S: Final = 3600
LOGIN_LIVES_S: Final = 15 * 60
LOGIN_REFRESH_AFTER_S: Final = 12 * 60

RATES: Final = (Rate(10, 60, AUTH), Rate(100, 60, CALLS))

# status -> (our word, whether it is charged). "Billing stops the same hour" at the DELETE, before the end of DESTROYING.
STATES: Final = MappingProxyType(
    {
        "PROVISIONING": ("provisioning", True),
        "ACTIVE": ("running", True),
        "SUSPENDED": ("suspended", False),
        "ERROR": ("error", False),
        "DESTROYING": ("destroying", False),
        "DESTROYED": ("destroyed", False),
    }
)
BACKUP_STATES: Final = MappingProxyType(
    {"PENDING": "pending", "AVAILABLE": "available", "ERROR": "error", "EXPIRED": "expired"}
)

REGIONS: Final = (
    *("ams", "fra", "par", "lon", "mad", "waw", "sto"),
    *("ewr", "ord", "dfw", "atl", "mia", "sea", "lax", "sjc", "yto", "mex"),
    *("sao", "scl", "nrt", "icn", "sgp", "blr", "bom", "del", "syd", "mel", "jnb", "tlv"),
)

_HOURS_OF_SHORTEST_MONTH: Final = 672
_MIB: Final = 1024
_MILLIONTHS: Final = 1_000_000


def _price(plan: str, vcpu: int, memory_gb: int, disk_gb: int, monthly_usd: int) -> Price:
    # The document prices months alone; no month has fewer hours, so no hour that adds up to one can cost more.
    bound = -(-monthly_usd * _MILLIONTHS // _HOURS_OF_SHORTEST_MONTH)
    whole, millionths = divmod(bound, _MILLIONTHS)
    traits = {"vcpu": vcpu, "memory_mib": memory_gb * _MIB, "disk_gib": disk_gb}
    return Price(plan, f"{whole}.{millionths:06d}", str(monthly_usd), MappingProxyType(traits))


PRICES: Final = (
    _price("vc2-1c-1gb", 1, 1, 25, 10),
    _price("vc2-1c-2gb", 1, 2, 55, 18),
    _price("vc2-2c-4gb", 2, 4, 80, 34),
    _price("vc2-4c-8gb", 4, 8, 160, 62),
    _price("vc2-6c-16gb", 6, 16, 320, 120),
)
PLANS: Final = tuple(price.kind for price in PRICES)

_SERVER_REF: Final = Ref(Place.PATH, "server_id", SERVER)
_BACKUP_REF: Final = Ref(Place.PATH, "backup_id", BACKUP)

ROUTES: Final[tuple[Route, ...]] = (
    Route("register", ("POST",), ("auth", "register"), Pricing.LOCAL, secret=True, scope=AUTH, opens=True),
    Route("login", ("POST",), ("auth", "login"), Pricing.LOCAL, secret=True, scope=AUTH, opens=True),
    Route("me", ("GET",), ("auth", "me"), Pricing.LOCAL, scope=AUTH),
    Route("billing", ("GET",), ("billing",), Pricing.LOCAL),
    Route(
        "servers",
        ("GET",),
        ("servers",),
        listings=(Listing("servers", SERVER),),
        retry=Retry.SAFE,
        priority=Priority.POLL,
        safe=True,
    ),
    Route(
        "create",
        ("POST",),
        ("servers",),
        Pricing.METERED,
        ownership=Ownership.CREATES,
        listings=(Listing("server", SERVER),),
        retry=Retry.FIND,  # no idempotency key, labels need not be unique: only our mark tells whether it was made
        priority=Priority.CREATE,
        secret=True,  # how root gets its password is not documented; an answer that holds one must not be kept open
    ),
    Route(
        "bulk",
        ("POST",),
        ("servers", "bulk"),
        Pricing.METERED,
        ownership=Ownership.CREATES,
        listings=(Listing("servers", SERVER),),
        priority=Priority.CREATE,
        secret=True,
        split=True,  # whether the vendor makes all or none is not documented, and its suffixes would break our marks
    ),
    Route(
        "server",
        ("GET",),
        ("servers", "{server_id}"),
        ownership=Ownership.OWNER,
        ref_parameter="server_id",
        refs=(_SERVER_REF,),
        listings=(Listing("server", SERVER),),
        retry=Retry.SAFE,
        priority=Priority.POLL,
        secret=True,
        safe=True,
    ),
    Route(
        "destroy",
        ("DELETE",),
        ("servers", "{server_id}"),
        ownership=Ownership.OWNER,
        ref_parameter="server_id",
        refs=(_SERVER_REF,),
        retry=Retry.SAFE,  # 409 says that it is being destroyed already
        priority=Priority.DESTROY,
        ends=True,
        safe=True,
    ),
    Route(
        "backups",
        ("GET",),
        ("backups",),
        listings=(Listing("backups", BACKUP),),
        retry=Retry.SAFE,
        priority=Priority.POLL,
        safe=True,
    ),
    Route(
        "backup",
        ("POST",),
        ("backups",),
        ownership=Ownership.CREATES,
        refs=(Ref(Place.BODY, "serverId", SERVER),),
        listings=(Listing("backup", BACKUP),),
    ),
    Route(
        "restore",
        ("POST",),
        ("backups", "{backup_id}", "restore"),
        Pricing.METERED,
        ownership=Ownership.CREATES,
        ref_parameter="backup_id",
        refs=(_BACKUP_REF,),
        listings=(Listing("server", SERVER),),
        retry=Retry.NEVER,  # it takes no label, so nothing that a lost one made can be told from another's
        priority=Priority.CREATE,
        secret=True,
    ),
    Route(
        "delete_backup",
        ("DELETE",),
        ("backups", "{backup_id}"),
        ownership=Ownership.OWNER,
        ref_parameter="backup_id",
        refs=(_BACKUP_REF,),
        retry=Retry.SAFE,
        ends=True,
        safe=True,
    ),
    Route("guide", ("GET",), ("llms.txt",), retry=Retry.SAFE, safe=True, public=True),
    Route("docs", ("GET",), ("docs",), retry=Retry.SAFE, safe=True, public=True),
    Route("custom_requests", ("GET",), ("docs", "custom-requests"), retry=Retry.SAFE, safe=True, public=True),
)

CAPABILITIES: Final = capabilities(
    {
        "onboarding_without_human": YES,
        "auth": "e-mail and password, then a token of 15 minutes",
        "charged": "prepaid balance, by the started hour",
        "money_on_wire": "decimal string",
        "meaning_of_402": "the prepaid balance is too low",
        "catalogue": "plans and regions static in the document, no images",
        "create_idempotency": "no key; our mark in the label is looked for in the list",
        "list_servers": YES,
        "bulk": "up to 10, made one by one",
        "power": NO,
        "destroy": "yes, billing stops the same hour",
        "extend": "implicit: runs while the balance covers it",
        "snapshots": "backups of the full disk, kept 7 days, restored to a new server with a new address",
        "ssh_keys": UNKNOWN,
        "root_password": UNKNOWN,
        "cloud_init": NO,
        "exec": NO,
        "webhooks": NO,
        "rate_limit": "100 a minute, 10 a minute on /auth/*",
        "async_states": "PROVISIONING, ACTIVE, ERROR, SUSPENDED, DESTROYING, DESTROYED",
    }
)

"""VpsAgent's routes, items and states as data (the vendor's OpenAPI document).

Must not know messages.  Theory: the document's table, with what a broker must add to each row: who may call it, what it
may cost at most, how long its authorization may live, and whether a lost answer may be asked for again.
"""

from types import MappingProxyType
from typing import Final

from gateway.core.routes import Ownership, Pricing, Represent, Route, Window

__all__ = ["CATALOG_ITEM", "MAX_PERIODS", "ROUTES", "SKUS", "STATES", "TOKEN_ROUTES", "UNKNOWN_KIND", "state_of"]

CATALOG_ITEM: Final = "catalog"
MAX_PERIODS: Final = 12
SKUS: Final = (
    "sandbox_1h",
    "sandbox_6h",
    "sandbox_24h",
    "server_small_1mo",
    "server_small_12mo",
    "server_medium_1mo",
    "server_medium_12mo",
    "server_large_1mo",
    "server_large_12mo",
)
UNKNOWN_KIND: Final = "unknown"  # on no price list, so what is about it is never paid

STATES: Final = MappingProxyType(
    {"pending_settlement": "pending_settlement", "active": "active", "renewing": "renewing", "expired": "expired"}
)
_UNKNOWN_STATE: Final = "unknown"

_USDC: Final = 1_000_000

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "catalog",
        ("GET",),
        ("catalog",),
        Pricing.PRICED,
        ceiling_base=20_000,  # documented at 0.01 USDC a call, settled inline
        window=Window(120, 120),
        represent=Represent.YES,
        safe=True,
    ),
    Route(
        "rent",
        ("POST",),
        ("rent",),
        Pricing.PRICED,
        ceiling_base=400 * _USDC,  # the dearest SKU is documented at 359.99; the price list is the real check
        window=Window(900, 3600),  # collected 3 to 5 minutes after the answer
        ownership=Ownership.CREATES,
        represent=Represent.YES,
        secret=True,
    ),
    Route(
        "rental",
        ("GET",),
        ("rentals", "{rental_id}"),
        ownership=Ownership.OWNER,  # public at the vendor, the owner's alone here (P9)
        ref_parameter="rental_id",
        safe=True,
    ),
    Route(
        "renew",
        ("POST",),
        ("rentals", "{rental_id}", "renew"),
        Pricing.PRICED,
        ceiling_base=400 * _USDC,  # twelve periods of a small server; dearer ones need the operator's word
        window=Window(900, 48 * 3600),  # collected after a manual step at the vendor's own provider
        ownership=Ownership.OWNER,
        ref_parameter="rental_id",
        represent=Represent.YES,
        renews=True,
    ),
    Route(
        "instance",
        ("GET",),
        ("instance", "{rental_id}"),
        ownership=Ownership.OWNER,
        ref_parameter="rental_id",
        secret=True,
        safe=True,
    ),
    Route("healthz", ("GET",), ("healthz",), safe=True),
)

TOKEN_ROUTES: Final = frozenset({"renew", "instance"})
"""Routes that take the rental's `root_token` as the query parameter `token`."""


def state_of(status: object) -> str:
    """Return the resource's state for whatever the vendor calls it; "unknown" for what its document does not name."""
    return STATES.get(status, _UNKNOWN_STATE) if isinstance(status, str) else _UNKNOWN_STATE

"""What agents send to VpsAgent, checked by the document's own rules before any money is promised.

Must not know prices or answers.  Theory: the vendor looks at the body after it was paid, or at another reading of it
than ours; so a body that it would refuse, or that has two readings, is refused here while it still costs nothing.
"""

from typing import Any, Final

from gateway.core.problems import Problem
from gateway.core.records import Resource
from gateway.core.routes import Match, Pricing
from gateway.core.strict_json import JsonError, parse_json
from gateway.ports import PricedItem
from gateway.vendors.vpsagent.routes import CATALOG_ITEM, MAX_PERIODS, SKUS

__all__ = ["check_input", "item"]

_RENT_MEMBERS: Final = ("sku", "region")
_RENEW_MEMBERS: Final = ("periods",)


def check_input(match: Match, body: bytes) -> None:
    """Raise Problem("input_refused"), naming the field, for a body that the route's schema does not allow."""
    route = match.route
    if route.name == "rent":
        _rent_sku(body)
    elif route.name == "renew":
        _renew_periods(body)
    elif route.pricing is not Pricing.FREE and body:
        raise _refused("this route takes no body", "body")


def item(match: Match, body: bytes, resource: Resource | None) -> PricedItem | None:
    """Return what a priced call buys, as the catalogue names it; None for a free route.

    Raises Problem("input_refused") like check_input, and Problem("not_found") for a renewal of no known rental: its
    price would be checked against nothing.
    """
    name = match.route.name
    if name == "catalog":
        return PricedItem.of(CATALOG_ITEM)
    if name == "rent":
        return PricedItem.of(_rent_sku(body))
    if name == "renew":
        periods = _renew_periods(body)
        if resource is None:
            raise Problem("not_found", "no such rental")
        return PricedItem.of(resource.kind, periods)
    return None


def _rent_sku(body: bytes) -> str:
    document = _object(body, _RENT_MEMBERS)
    sku = document.get("sku")
    if not isinstance(sku, str) or sku not in SKUS:
        raise _refused(f"sku must be one of {', '.join(SKUS)}", "sku")
    if "region" in document and not isinstance(document["region"], str):
        raise _refused("region must be a string where it is given", "region")
    return sku


def _renew_periods(body: bytes) -> int:
    document = _object(body, _RENEW_MEMBERS) if body else {}
    periods = document.get("periods", 1)
    if type(periods) is not int or not 1 <= periods <= MAX_PERIODS:  # True is an int, and 1.0 is one to some
        raise _refused(f"periods must be an integer from 1 to {MAX_PERIODS}", "periods")
    return periods


def _object(body: bytes, members: tuple[str, ...]) -> dict[str, Any]:
    try:
        document = parse_json(body)
    except JsonError as error:
        raise _refused(f"the body is {error}", "body") from None
    if not isinstance(document, dict):
        raise _refused("the body must be a JSON object", "body")
    for name in document:
        # Some parsers match names whatever their case and take the last: `SKU` after `sku` would buy another thing.
        if name not in members and name.strip().casefold() in members:
            raise _refused(f"the member is spelled {name.strip().casefold()}", name.strip().casefold())
    return document


def _refused(detail: str, field: str) -> Problem:
    return Problem("input_refused", detail, field)

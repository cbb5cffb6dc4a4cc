"""What can be bought here, as x402's discovery tells it: our own priced resources, filtered and in pages.

Must not know how anything is sold. Theory: a catalogue that lists strangers' resources vouches for them; ours lists what we
sell ourselves, so that it can be trusted and costs nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.paid_ports import Json
from gateway.rails.x402.selling import IDENTIFIER, V2, Asking, Price, accepts

DEFAULT_LIMIT, MAX_LIMIT = 20, 100
FILTERS = frozenset({"type", "limit", "offset", "payTo", "scheme", "network", "extensions"})


@dataclass(frozen=True, slots=True)
class Sellable:
    """One resource that answers 402: its URL, and the ways to pay for it as version 2 states them in `accepts`.

    `extensions` are the keys that its 402 advertises; `metadata` is for people.
    """

    url: str
    accepts: Sequence[Json]
    updated_s: int
    extensions: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody looks for. None and empty mean anything; an item fits when one way to pay for it fits all that is said."""

    kind: str | None = None
    pay_to: str | None = None
    scheme: str | None = None
    network: str | None = None
    extensions: tuple[str, ...] = ()
    limit: int = DEFAULT_LIMIT
    offset: int = 0


def find(sellable: Sequence[Sellable], wanted: Wanted) -> Json:
    """Return the answer to GET /discovery/resources: items in a stable order, with how many there are in all."""
    fitting = sorted((each for each in sellable if _fits(each, wanted)), key=lambda each: each.url)
    part = fitting[wanted.offset : wanted.offset + wanted.limit]
    return {
        "x402Version": V2,
        "items": [_item(each) for each in part],
        "pagination": {"limit": wanted.limit, "offset": wanted.offset, "total": len(fitting)},
    }


def _fits(each: Sellable, wanted: Wanted) -> bool:
    if wanted.kind not in (None, "http") or not set(wanted.extensions) <= each.extensions.keys():
        return False
    return any(_pays(way, wanted) for way in each.accepts)


def _pays(way: Json, wanted: Wanted) -> bool:
    if wanted.pay_to is not None and str(way.get("payTo", "")).lower() != wanted.pay_to.lower():
        return False
    return all(
        asked is None or way.get(name) == asked
        for name, asked in (("scheme", wanted.scheme), ("network", wanted.network))
    )


def _item(each: Sellable) -> Json:
    item: dict[str, Any] = {
        "resource": each.url,
        "type": "http",
        "x402Version": V2,
        "accepts": list(each.accepts),
        "lastUpdated": each.updated_s,
    }
    if each.extensions:
        item["extensions"] = dict(each.extensions)
    if each.metadata:
        item["metadata"] = dict(each.metadata)
    return item


def priced(url: str, description: str, prices: Sequence[Price], max_timeout_s: int, updated_s: int) -> Sellable:
    """Return one of our own routes as something to buy: what its 402 asks for, but for the order that each 402 makes anew."""
    asking = Asking(url, description, tuple(prices), max_timeout_s, order_token="")
    entries = accepts(asking, V2)
    for entry in entries:
        entry["extra"] = {name: value for name, value in entry["extra"].items() if name != "order"}
    return Sellable(url, entries, updated_s, {IDENTIFIER: {}}, {"description": description})

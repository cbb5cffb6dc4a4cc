"""What agents send to dropmpp, checked by the document's own rules before any money is promised, and what it buys.

Must not know prices or answers.  Theory: the wallet is one customer for all agents, so a body holds what is documented
and nothing else; and the vendor charges before it works, so what it would refuse is refused here while it costs nothing.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Final

from gateway.core.records import Resource
from gateway.core.routes import Match
from gateway.ports import PricedItem
from gateway.vendors.account import choice_in, integer_in, is_ref, read_object, refuse_body, refused, text_in
from gateway.vendors.dropmpp.routes import (
    KEY_ITEM,
    LEAST_BASE,
    MAX_DAYS,
    MAX_MINUTES,
    POWER_ITEM,
    REGIONS,
    RETENTION_ITEM,
    SIZES,
    SLACK_BASE,
    SNAPSHOT_ITEM,
    UNKNOWN_PLAN,
    create_item,
    hour_item,
)

__all__ = ["MAX_USER_DATA_BYTES", "check_input", "item", "minutes_of", "size_of"]

MAX_USER_DATA_BYTES: Final = 64 * 1024
MAX_KEYS: Final = 100
DEFAULT_MINUTES: Final = 1

_MINUTES_AN_HOUR: Final = 60
_CREATE: Final = ("size", "region", "image", "minutes", "ssh_key_ids", "snapshot_id", "user_data")
_ACTIONS: Final = ("on", "off")
_IMAGE: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f]{1,255}")
_PUBLIC_KEY: Final = re.compile(
    r"(?:ssh|ecdsa|sk-ssh|sk-ecdsa)-[A-Za-z0-9@.-]{1,60} [A-Za-z0-9+/]{16,12000}={0,2}(?: [^\x00-\x1f\x7f]{0,255})?"
)
_PLAN_GB: Final = re.compile(r"(0|[1-9][0-9]{0,5})(?:\.([0-9]{1,9}))?", re.ASCII)


def check_input(match: Match, body: bytes) -> None:
    """Raise Problem("input_refused"), naming the field, for a body that the document does not allow on this route."""
    _CHECKS.get(match.route.name, _none)(body)


def item(match: Match, body: bytes, resource: Resource | None) -> PricedItem | None:
    """Return what a call buys, as the price list names it; None for a free route.

    `resource` is what the path names; where its plan is not known the item is on no price list. Raises
    Problem("input_refused") like check_input.
    """
    price = _ITEMS.get(match.route.name)
    return None if price is None else price(body, resource)


def size_of(body: bytes) -> str:
    """Return the size that a create asks for. Raises Problem("input_refused") like check_input."""
    return str(_create(body)["size"])


def minutes_of(body: bytes) -> int:
    """Return the minutes that a create buys: what it leaves out, the vendor takes for one. Raises like check_input."""
    return int(_create(body).get("minutes", DEFAULT_MINUTES))


def _create_item(body: bytes, _: Resource | None) -> PricedItem:
    size, minutes = size_of(body), minutes_of(body)
    parts = ((create_item(size), Fraction(1)), (hour_item(size), Fraction(minutes, _MINUTES_AN_HOUR)))
    return PricedItem(parts, slack_base=SLACK_BASE)


def _extend_item(body: bytes, resource: Resource | None) -> PricedItem:
    size = resource.plan if resource is not None and resource.plan in SIZES else UNKNOWN_PLAN
    hours = Fraction(_extend(body)["minutes"], _MINUTES_AN_HOUR)
    return PricedItem(((hour_item(size), hours),), LEAST_BASE, SLACK_BASE)


def _retention_item(body: bytes, resource: Resource | None) -> PricedItem:
    days = _retain(body)["days"]
    plan = "" if resource is None else resource.plan
    if _PLAN_GB.fullmatch(plan) is None:
        return PricedItem.of(f"{SNAPSHOT_ITEM}/{UNKNOWN_PLAN}")
    return PricedItem(((RETENTION_ITEM, Fraction(plan) * int(days)),), LEAST_BASE, SLACK_BASE)


def _flat(name: str) -> Callable[[bytes, Resource | None], PricedItem]:
    return lambda _body, _resource: PricedItem(((name, Fraction(1)),), slack_base=SLACK_BASE)


def _create(body: bytes) -> dict[str, Any]:
    document = read_object(body, _CREATE)
    choice_in(document, "size", SIZES)
    choice_in(document, "region", REGIONS)
    if "image" in document:
        text_in(document, "image", _IMAGE, "an image's slug, such as ubuntu-24-04-x64")
    if "minutes" in document:
        integer_in(document, "minutes", 1, MAX_MINUTES)
    if "ssh_key_ids" in document:
        ids = document["ssh_key_ids"]
        if not isinstance(ids, list) or len(ids) > MAX_KEYS or not all(is_ref(each) for each in ids):
            raise refused(f"ssh_key_ids must be a list of at most {MAX_KEYS} ids of keys", "ssh_key_ids")
    if "snapshot_id" in document and not is_ref(document["snapshot_id"]):
        raise refused("snapshot_id must be the id of a snapshot", "snapshot_id")
    if "user_data" in document:
        _check_user_data(document["user_data"])
    return document


def _check_user_data(value: object) -> None:
    if not isinstance(value, str) or len(value.encode("utf-8")) > MAX_USER_DATA_BYTES:
        raise refused("user_data must be text of at most 64 KB", "user_data")


def _extend(body: bytes) -> dict[str, Any]:
    document = read_object(body, ("minutes",))
    integer_in(document, "minutes", 1, MAX_MINUTES)
    return document


def _retain(body: bytes) -> dict[str, Any]:
    document = read_object(body, ("days",))
    integer_in(document, "days", 1, MAX_DAYS)
    return document


def _snapshot(body: bytes) -> None:
    document = read_object(body, ("name",)) if body else {}
    if "name" in document:
        text_in(document, "name", _NAME, "a name of at most 255 characters")


def _power(body: bytes) -> None:
    choice_in(read_object(body, ("action",)), "action", _ACTIONS)


def _key(body: bytes) -> None:
    document = read_object(body, ("name", "public_key"))
    text_in(document, "name", _NAME, "a name of at most 255 characters")
    text_in(document, "public_key", _PUBLIC_KEY, "a full SSH public key on one line, such as ssh-ed25519 AAAA...")


def _none(body: bytes) -> None:
    refuse_body(body)


_CHECKS: Final = MappingProxyType[str, Callable[[bytes], object]](
    {
        "server_create": _create,
        "server_extend": _extend,
        "server_snapshot": _snapshot,
        "server_power": _power,
        "snapshot_extend": _retain,
        "key_create": _key,
    }
)
_ITEMS: Final = MappingProxyType[str, Callable[[bytes, Resource | None], PricedItem]](
    {
        "server_create": _create_item,
        "server_extend": _extend_item,
        "server_snapshot": _flat(SNAPSHOT_ITEM),
        "server_reboot": _flat(POWER_ITEM),
        "server_power": _flat(POWER_ITEM),
        "snapshot_extend": _retention_item,
        "key_create": _flat(KEY_ITEM),
    }
)

"""What agents send to LiteVPS, checked by the document's own rules before anything is promised or sent.

Must not know prices or answers.  Theory: a body goes to the vendor only as its document describes it, so what we checked,
marked and held money for is what the vendor reads; a batch is nothing but its single calls, each checked as such.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from gateway.account_ports import Order, Part
from gateway.core.routes import Match, Pricing
from gateway.core.strict_json import JsonError, dump_json, parse_json
from gateway.vendors.account import (
    integer_in,
    is_ref,
    mark,
    read_object,
    refuse_body,
    refused,
    segment,
    text_in,
)

__all__ = ["JSON_BODIES", "MAX_BATCH", "NAME", "check_input", "marked", "order", "password_in", "split"]

MAX_BATCH: Final = 50  # the vendor's own max_batch_size is not in its document; ours bounds the work of one call

_RAW_BODIES: Final = frozenset({"upload"})

_NAME_MAX: Final = 63  # of a DNS label; the vendor makes a DNS record of the name
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
NAME: Final = re.compile(rf"(?=.{{1,{_NAME_MAX}}}\Z){_LABEL}(?:\.{_LABEL})*", re.ASCII)
_NAME_RULE: Final = f"a host name of at most {_NAME_MAX} characters"
_TEXT: Final = re.compile(r"[^\x00-\x1f\x7f]{1,255}")
_TEXT_RULE: Final = "a text of 1 to 255 characters on one line"
_SNAPSHOT: Final = re.compile(r"(?!\.{1,2}\Z)[^\x00-\x1f\x7f/\\%]{1,255}")
_SNAPSHOT_RULE: Final = "a text of 1 to 255 characters that can stand in a path, without / \\ and %"
_PUBLIC_KEY: Final = re.compile(r"[A-Za-z0-9@.-]{1,64} [A-Za-z0-9+/]{1,16384}={0,3}(?: [^\x00-\x1f\x7f]{0,255})?\n?")
_PUBLIC_KEY_RULE: Final = "one SSH public key, as ssh-keygen writes it"
_ANY: Final = re.compile(r"(?s:.{1,1048576})")
_ANY_RULE: Final = "a text that is not empty"

_SIZES: Final[Mapping[str, str]] = MappingProxyType(
    {"vcpu": "vcpu", "memory_mb": "memory_mib", "disk_gb": "disk_gib"}  # the member -> the trait
)
_SIZE_MAX: Final = 1_000_000_000
_TTL_MAX: Final = 100 * 366 * 24 * 60
_TIMEOUT_MAX: Final = 7 * 24 * 3600  # the vendor's own, smaller one is set by its operators and not documented
_REFS_MAX: Final = 100

_CREATE: Final = ("name", "plan_id", "ssh_key_ids", "template", *_SIZES, "user_data", "ttl_minutes")
_EXEC: Final = ("command", "timeout_seconds", "background")
_OPENING: Final = frozenset({"login", "register"})


def check_input(match: Match, body: bytes) -> None:
    """Raise Problem("input_refused"), naming the field, for a body that the document does not describe."""
    route = match.route
    if route.name in _RAW_BODIES or route.pricing in {Pricing.CLOSED, Pricing.LOCAL}:
        return
    check = _CHECKS.get(route.name)
    if check is None:
        refuse_body(body)
    else:
        check(body)


def order(match: Match, body: bytes) -> Order:
    """Return what a create asks for: a plan by its id, or the sizes that a template has and the body overrides.

    Raises Problem("input_refused") like check_input, and ValueError for a route that makes no server itself.
    """
    if match.route.name != "create":
        raise ValueError(f"{match.route.name}: not a single create")
    document = _create(body)
    sizes = {trait: document[member] for member, trait in _SIZES.items() if member in document}
    ttl_minutes = document.get("ttl_minutes")
    return Order(
        kind=document.get("plan_id"),
        name=document["name"],
        sizes=MappingProxyType(sizes) if sizes else None,
        template=document.get("template"),
        lives_s=None if ttl_minutes is None else ttl_minutes * 60,
    )


def marked(match: Match, body: bytes, token: str) -> bytes:
    """Return the body of a create or a renaming with our mark at the end of the name; any other body as it is.

    Raises Problem("input_refused") like check_input.
    """
    read = _NAMED.get(match.route.name)
    if read is None:
        return body
    document = read(body)
    return dump_json({**document, "name": mark(document["name"], token, _NAME_MAX)})


def split(match: Match, body: bytes) -> tuple[Part, ...]:
    """Return the single calls that a batch is made of, in its order; each is checked, priced and answered by itself.

    Raises Problem("input_refused"), and ValueError for a route that is no batch.
    """
    name = match.route.name
    if name == "batch_create":
        return tuple(
            Part(index, "POST", "/api/vps", dump_json(each)) for index, each in enumerate(_batch_create(body)["vms"])
        )
    if name == "batch_delete":
        ids = _batch_delete(body)["ids"]
        return tuple(Part(index, "DELETE", f"/api/vps/{segment(ref)}", b"", ref) for index, ref in enumerate(ids))
    if name == "batch_exec":
        document = _batch_exec(body)
        command = dump_json({member: value for member, value in document.items() if member != "ids"})
        return tuple(
            Part(index, "POST", f"/api/vps/{segment(ref)}/exec", command, ref)
            for index, ref in enumerate(document["ids"])
        )
    raise ValueError(f"{name}: no batch")


def password_in(match: Match, body: bytes) -> tuple[str, str] | None:
    """Return (email, password) of a login or a registration; None for any other route or body. Never raises.

    What else a registration brings (the answer to the vendor's CAPTCHA) is nobody's business here.
    """
    if match.route.name not in _OPENING:
        return None
    try:
        document = parse_json(body)
    except JsonError:
        return None
    if not isinstance(document, dict):
        return None
    email, password = document.get("email"), document.get("password")
    if not isinstance(email, str) or not isinstance(password, str) or not email or not password:
        return None
    return email, password


def _create(body: bytes) -> dict[str, Any]:
    document = read_object(body, _CREATE)
    text_in(document, "name", NAME, _NAME_RULE)
    for member in ("plan_id", "template"):
        if member in document and not is_ref(document[member]):
            raise refused(f"{member} must be one that the vendor lists", member)
    if "plan_id" not in document and "template" not in document:
        raise refused("plan_id is required, or a template", "plan_id")
    if "ssh_key_ids" in document:
        _refs(document, "ssh_key_ids", _REFS_MAX)
    sized = next((member for member in _SIZES if member in document), None)
    if sized is not None and "plan_id" in document:
        # The plan has a price and the sizes have another; the document does not say which would be charged.
        raise refused(f"a plan has its own sizes: give plan_id or {sized}, not both", sized)
    for member in _SIZES:
        if member in document:
            integer_in(document, member, 1, _SIZE_MAX)
    if "ttl_minutes" in document:
        integer_in(document, "ttl_minutes", 1, _TTL_MAX)
    if "user_data" in document and not isinstance(document["user_data"], str):
        raise refused("user_data must be a text", "user_data")
    return document


def _update(body: bytes) -> dict[str, Any]:
    document = read_object(body, ("name",))
    text_in(document, "name", NAME, _NAME_RULE)
    return document


def _snapshot(body: bytes) -> dict[str, Any]:
    document = read_object(body, ("name",))
    name = text_in(document, "name", _SNAPSHOT, _SNAPSHOT_RULE)
    if not name.isprintable():
        raise refused(f"name must be {_SNAPSHOT_RULE}", "name")
    return document


def _add_key(body: bytes) -> dict[str, Any]:
    document = read_object(body, ("name", "public_key"))
    text_in(document, "name", _TEXT, _TEXT_RULE)
    text_in(document, "public_key", _PUBLIC_KEY, _PUBLIC_KEY_RULE)
    return document


def _exec(body: bytes) -> dict[str, Any]:
    return _command(read_object(body, _EXEC))


def _batch_create(body: bytes) -> dict[str, Any]:
    document = read_object(body, ("vms",))
    items = document.get("vms")
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_BATCH:
        raise refused(f"vms must be a list of 1 to {MAX_BATCH} orders", "vms")
    return document


def _batch_delete(body: bytes) -> dict[str, Any]:
    document = read_object(body, ("ids",))
    _ids(document)
    return document


def _batch_exec(body: bytes) -> dict[str, Any]:
    document = read_object(body, ("ids", *_EXEC))
    _ids(document)
    return _command(document)


def _command(document: dict[str, Any]) -> dict[str, Any]:
    text_in(document, "command", _ANY, _ANY_RULE)
    if "timeout_seconds" in document:
        integer_in(document, "timeout_seconds", 1, _TIMEOUT_MAX)
    if "background" in document and not isinstance(document["background"], bool):
        raise refused("background must be true or false", "background")
    return document


def _ids(document: Mapping[str, Any]) -> None:
    ids = _refs(document, "ids", MAX_BATCH)
    if not ids or "batch" in ids:  # as an id, "batch" would make a part of this very route
        raise refused(f"ids must name 1 to {MAX_BATCH} servers", "ids")


def _refs(document: Mapping[str, Any], member: str, most: int) -> list[str]:
    refs = document.get(member)
    if not isinstance(refs, list) or len(refs) > most or not all(is_ref(ref) for ref in refs):
        raise refused(f"{member} must be a list of at most {most} ids", member)
    return refs


_Reader = Callable[[bytes], dict[str, Any]]
_NAMED: Final[Mapping[str, _Reader]] = MappingProxyType({"create": _create, "update": _update})
_CHECKS: Final[Mapping[str, _Reader]] = MappingProxyType(
    {
        **_NAMED,
        "snapshot": _snapshot,
        "add_key": _add_key,
        "exec": _exec,
        "batch_create": _batch_create,
        "batch_delete": _batch_delete,
        "batch_exec": _batch_exec,
    }
)
JSON_BODIES: Final = frozenset(_CHECKS)
"""Routes whose bodies we have read as JSON, and so the vendor must too, whatever media type the agent named."""

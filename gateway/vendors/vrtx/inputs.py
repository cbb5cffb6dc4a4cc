"""What agents send to VRTX, checked by the document's own rules, and the mark of ours in a host name.

Must not know prices or answers.  Theory: on an account that all agents share, a body names what the document lets it
name and nothing else; and a create whose key has ended is found again by the first label of its host name.
"""

import re
from collections.abc import Collection
from typing import Any, Final

from gateway.account_ports import Order
from gateway.core.routes import Match
from gateway.core.strict_json import JsonError, dump_json, parse_json
from gateway.vendors.account import integer_in, mark, read_object, refuse_body, refused, text_in
from gateway.vendors.vrtx.routes import POWER_ACTIONS

__all__ = ["DEFAULT_NAME", "HOSTNAME", "canonical", "check_input", "is_uuid", "marked", "marked_name", "order"]

DEFAULT_NAME: Final = "vps"  # the name of a server that its agent gave none

_MEMBERS: Final = ("plan_id", "location_id", "template_slug", "hostname")
_MAX_ID: Final = 10**9
_SLUG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_MAX_LABEL: Final = 63
_MAX_HOSTNAME: Final = 253
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
HOSTNAME: Final = re.compile(rf"(?=.{{1,{_MAX_HOSTNAME}}}\Z){_LABEL}(?:\.{_LABEL})*", re.ASCII)
_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", re.ASCII)
_SHORT: Final = re.compile(r"[0-9A-Fa-f]{8}", re.ASCII)


def check_input(match: Match, body: bytes) -> None:
    """Raise Problem("input_refused"), naming the field, for a body that the document does not allow on this route."""
    name = match.route.name
    if name == "create":
        _order(body)
    elif name == "power":
        _power(body)
    else:
        refuse_body(body)


def order(body: bytes) -> Order:
    """Return what a create asks for. Raises Problem("input_refused")."""
    document = _order(body)
    return Order(kind=str(document["plan_id"]), name=document.get("hostname") or DEFAULT_NAME)


def marked(body: bytes, token: str) -> bytes:
    """Return a create's body with our mark in its host name, or with a name of ours where it has none.

    Raises Problem("input_refused") like check_input.
    """
    document = _order(body)
    name = document.get("hostname") or DEFAULT_NAME
    return dump_json({**document, "hostname": marked_name(name, token)})


def marked_name(hostname: str, token: str) -> str:
    """Return a host name with the token at the end of its first label: "app.example.com" -> "app-<token>.example.com".

    The first label is cut to fit; labels at the end go only where even the mark alone would make the name too long.
    """
    first, _, rest = hostname.partition(".")
    while rest and _MAX_HOSTNAME - len(rest) - 1 < len(token):
        rest = rest.rpartition(".")[0]
    room = min(_MAX_LABEL, _MAX_HOSTNAME - len(rest) - 1)
    return ".".join(filter(None, (mark(first, token, room), rest)))


def is_uuid(value: object) -> bool:
    """Tell whether a value is a server's full id."""
    return isinstance(value, str) and _UUID.fullmatch(value) is not None


def canonical(name: str, owned: Collection[str]) -> str | None:
    """Return the one of the agent's own servers that a full id or its first eight characters name, else None.

    The vendor takes eight characters for any server of the account, and theirs may be the same as another agent's: so
    they are looked for among the agent's own alone, and the full id is sent. Two of its own with the same eight: None.
    """
    if _UUID.fullmatch(name) is None and _SHORT.fullmatch(name) is None:
        return None
    asked = name.lower()
    found = [ref for ref in owned if ref.lower() == asked or (len(asked) == 8 and ref.lower().startswith(asked + "-"))]  # noqa: PLR2004 - of uuid_short
    return found[0] if len(found) == 1 else None


def _order(body: bytes) -> dict[str, Any]:
    document = read_object(body, _MEMBERS)
    integer_in(document, "plan_id", 1, _MAX_ID)
    integer_in(document, "location_id", 1, _MAX_ID)
    text_in(document, "template_slug", _SLUG, "a template's slug, such as ubuntu-24.04")
    if document.get("hostname") is not None:
        text_in(document, "hostname", HOSTNAME, f"a host name of at most {_MAX_HOSTNAME} characters (RFC 1123)")
    return document


def _power(body: bytes) -> None:
    # The document names the four actions and not the member. One member with one of four words names nothing else.
    try:
        document = parse_json(body)
    except JsonError as error:
        raise refused(f"the body is {error}", "body") from None
    words = list(document.values()) if isinstance(document, dict) else []
    if len(words) != 1 or not isinstance(words[0], str) or words[0] not in POWER_ACTIONS:
        raise refused(f"the body must hold one member alone, the action: one of {', '.join(POWER_ACTIONS)}", "action")

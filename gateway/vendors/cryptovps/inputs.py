"""What agents send to CryptoVPS, checked by the document's own rules before anything is promised or sent.

Must not know prices or answers.  Theory: a body goes to the vendor only as its document describes it, so what we checked,
marked and held money for is what the vendor reads.
"""

import re
from typing import Any, Final

from gateway.account_ports import Order, Part
from gateway.core.routes import Match, Pricing
from gateway.core.strict_json import JsonError, dump_json, parse_json
from gateway.vendors.account import choice_in, integer_in, mark, read_object, refuse_body, refused, text_in
from gateway.vendors.cryptovps.routes import PLANS, REGIONS

__all__ = ["LABEL", "check_input", "marked", "order", "password_in", "split"]

LABEL: Final = re.compile(r"[a-zA-Z0-9._-]{1,64}", re.ASCII)
_LABEL_RULE: Final = "1 to 64 of the characters a-z A-Z 0-9 . _ -"
_LABEL_MAX: Final = 64
_BULK_MAX: Final = 10
_SERVER_ID: Final = re.compile(r"[ -~]{1,128}", re.ASCII)
_CREATE_MEMBERS: Final = ("label", "planId", "regionId")
_BULK_MEMBERS: Final = (*_CREATE_MEMBERS, "count")
_BACKUP_MEMBERS: Final = ("serverId",)


def check_input(match: Match, body: bytes) -> None:
    """Raise Problem("input_refused"), naming the field, for a body that the document does not describe."""
    route = match.route
    if route.name == "create":
        _create(body)
    elif route.name == "bulk":
        _bulk(body)
    elif route.name == "backup":
        text_in(read_object(body, _BACKUP_MEMBERS), "serverId", _SERVER_ID, "the id of a server")
    elif route.pricing is not Pricing.LOCAL:
        refuse_body(body)


def order(match: Match, body: bytes) -> Order:
    """Return what a metered route is asked to make: a plan, or what a backup was made of.

    Raises Problem("input_refused") like check_input.
    """
    if match.route.name == "restore":
        refuse_body(body)
        return Order(None, "", from_ref=match.ref)
    document = _bulk(body) if match.route.name == "bulk" else _create(body)
    return Order(document["planId"], document["label"])


def marked(match: Match, body: bytes, token: str) -> bytes:
    """Return a create's body with the mark at the end of its label; the body of a route without a label as it is.

    Raises Problem("input_refused") like check_input.
    """
    if match.route.name != "create":
        return body
    document = _create(body)
    return dump_json({**document, "label": mark(document["label"], token, _LABEL_MAX)})


def split(match: Match, body: bytes) -> tuple[Part, ...]:
    """Return the single creates that a bulk order is made of, labelled -1 to -N as the vendor labels them.

    Raises Problem("input_refused"), and ValueError for a route that is no bulk route.
    """
    if not match.route.split:
        raise ValueError(f"{match.route.name}: no bulk route")
    document = _bulk(body)
    one = {name: document[name] for name in _CREATE_MEMBERS}
    return tuple(
        Part(index, "POST", "/servers", dump_json({**one, "label": f"{one['label']}-{index + 1}"}))
        for index in range(document["count"])
    )


def password_in(match: Match, body: bytes) -> tuple[str, str] | None:
    """Return (e-mail, password) of a login or a registration; None for any other route or body. Never raises."""
    if match.route.name not in {"login", "register"}:
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
    return _checked(read_object(body, _CREATE_MEMBERS))


def _bulk(body: bytes) -> dict[str, Any]:
    document = _checked(read_object(body, _BULK_MEMBERS))
    count = integer_in(document, "count", 1, _BULK_MAX)
    if len(f"{document['label']}-{count}") > _LABEL_MAX:
        raise refused(f"label must be at most {_LABEL_MAX} characters with its suffix -{count}", "label")
    return document


def _checked(document: dict[str, Any]) -> dict[str, Any]:
    text_in(document, "label", LABEL, _LABEL_RULE)
    choice_in(document, "planId", PLANS)
    choice_in(document, "regionId", REGIONS)
    return document

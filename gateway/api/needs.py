"""What an agent says that it needs of a server, read in one way wherever it may say it: quotes, servers, fleets.

Must not know vendors' plans or who asks.  Theory: whatever was misread here would be bought, so every member has one type
and one range, a member that does not exist is refused, and nothing may be said in two places.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from gateway.api import examples
from gateway.api.schemas import FLAG, INTEGER, TEXT, Schema, choice, named, optional, record, several
from gateway.core.plan import Need
from gateway.core.problems import Problem
from gateway.core.spec import ServerSpec
from gateway.core.strict_json import JsonError, parse_json
from gateway.server_ports import Feature

MAX_BODY_BYTES = 512 * 1024  # user data of 64 KiB, as JSON may have to escape it
MAX_USER_DATA_BYTES = 64 * 1024
MAX_MINUTES = 366 * 24 * 60
MIN_FOR_S, MAX_FOR_S = 60, 10 * 366 * 86_400
MAX_VCPU, MAX_MEMORY_MIB, MAX_DISK_GIB = 1_024, 16 * 1024 * 1024, 1024 * 1024
MAX_SSH_KEYS, MAX_VENDORS = 16, 32
MAX_NAME_SHOWN = 40

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/+@()-]{0,127}", re.ASCII)
_VENDOR = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", re.ASCII)
_PLAN = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}/[A-Za-z0-9][A-Za-z0-9 ._:+@-]{0,127}", re.ASCII)
_RATE = re.compile(r"(?:0|[1-9][0-9]{0,9})(?:\.[0-9]{1,12})?", re.ASCII)
_SSH_KEY = re.compile(r"sshk_[0-9A-Z]{26}", re.ASCII)
_SNAPSHOT = re.compile(r"snp_[0-9A-Z]{26}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)

RATE_IN: Schema = {
    "type": "string",
    "pattern": f"^{_RATE.pattern}$",
    "description": "exact decimal USD an hour, above zero",
}
NAME_IN: Schema = {"type": "string", "pattern": f"^{_NAME.pattern}$"}


def _count_in(most: int, least: int = 1) -> Schema:
    return {**INTEGER, "minimum": least, "maximum": most}


def _text_in(pattern: re.Pattern[str]) -> Schema:
    return {"type": "string", "pattern": f"^{pattern.pattern}$"}


def _texts_in(pattern: re.Pattern[str], most: int) -> Schema:
    return {**several(_text_in(pattern)), "maxItems": most, "uniqueItems": True}


NEED_MEMBERS: dict[str, Schema] = {
    "min_vcpu": _count_in(MAX_VCPU),
    "min_memory_mib": _count_in(MAX_MEMORY_MIB),
    "min_disk_gib": _count_in(MAX_DISK_GIB),
    "region": _text_in(_WORD),
    "image": _text_in(_WORD),
    "max_hourly": RATE_IN,
    "for_s": {
        **_count_in(MAX_FOR_S, MIN_FOR_S),
        "description": "for how long: decides between a term and an hourly price",
    },
    "vendors": _texts_in(_VENDOR, MAX_VENDORS),
    "not_vendors": _texts_in(_VENDOR, MAX_VENDORS),
    "features": {**several(choice(*Feature)), "uniqueItems": True, "description": "what its vendor must be able to do"},
    "sandbox": {**FLAG, "description": "whether a plan that is made for trying will do"},
}
NEED_BODY = named(
    "Need",
    {**optional(record(**NEED_MEMBERS), *NEED_MEMBERS), "description": "what matters; the rest may be anything"},
    examples.NEED,
)
SPEC_MEMBERS: dict[str, Schema] = {
    "plan": {**_text_in(_PLAN), "description": 'an id of GET /v1/plans, "vendor/plan"; this or `need`'},
    "need": NEED_BODY,
    "region": _text_in(_WORD),
    "image": _text_in(_WORD),
    "ssh_keys": {**_texts_in(_SSH_KEY, MAX_SSH_KEYS), "description": "ids of /v1/ssh-keys"},
    "user_data": {**TEXT, "maxLength": MAX_USER_DATA_BYTES, "description": "cloud-init, at most 64 KiB of UTF-8"},
    "minutes": {
        **_count_in(MAX_MINUTES),
        "description": "the time to prepay at first, where time is bought by the minute",
    },
}
"""What describes a server that is to be made; every member may be missing, but for one of `plan` and `need`."""
SNAPSHOT_MEMBER = "snapshot"


def parse_object(body: bytes) -> dict[str, Any]:
    """Return a body that is one JSON object. Raises Problem("bad_request")."""
    try:
        document = parse_json(body)
    except JsonError as error:
        raise bad(f"the body cannot be read: {error}", None) from None
    if not isinstance(document, dict):
        raise bad("the body must be one JSON object", None)
    return document


def check_members(members: Mapping[str, Any], at: str, allowed: Collection[str], needed: Collection[str] = ()) -> None:
    """Raise Problem("bad_request") for a member that does not exist, and for one that is missing."""
    unknown = sorted(members.keys() - set(allowed) - set(needed))
    if unknown:
        name = "".join(char for char in unknown[0][:MAX_NAME_SHOWN] if char.isprintable())
        known = ", ".join(sorted({*allowed, *needed}))
        raise bad(f"there is no member {name!r} here; known are {known}", _below(at, name))
    missing = set(needed) - members.keys()
    if missing:
        raise bad(f"{', '.join(sorted(missing))} must be given", at or None)


def parse_need(document: object, at: str = "need") -> Need:
    """Return a need. Raises Problem("bad_request") that names the member below `at`."""
    if not isinstance(document, dict):
        raise bad("must be an object", at)
    check_members(document, at, NEED_MEMBERS)
    return Need(
        min_vcpu=_count(document, "min_vcpu", at, MAX_VCPU),
        min_memory_mib=_count(document, "min_memory_mib", at, MAX_MEMORY_MIB),
        min_disk_gib=_count(document, "min_disk_gib", at, MAX_DISK_GIB),
        region=parse_word(document, "region", at),
        image=parse_word(document, "image", at),
        max_hourly=parse_rate(document, "max_hourly", at),
        for_s=_count(document, "for_s", at, MAX_FOR_S, MIN_FOR_S),
        vendors=_texts(document, "vendors", at, _VENDOR, MAX_VENDORS, "names of vendors of GET /v1/vendors"),
        not_vendors=_texts(document, "not_vendors", at, _VENDOR, MAX_VENDORS, "names of vendors of GET /v1/vendors"),
        features=_features(document, at),
        sandbox=parse_flag(document, "sandbox", at) or False,
    )


def parse_spec(members: Mapping[str, Any], known: Collection[str] = ()) -> ServerSpec:
    """Return what a body orders: one of `plan` and `need`, with what goes onto the server.

    `known` are further members that the caller reads itself; "snapshot" among them is read here, and stands for plan and
    need as well. Raises Problem("bad_request") for a member that is unknown, wrong, or said in two places.
    """
    check_members(members, "", {*SPEC_MEMBERS, *known})
    snapshot = ""
    if SNAPSHOT_MEMBER in known and SNAPSHOT_MEMBER in members:
        snapshot = _text(members, SNAPSHOT_MEMBER, "", _SNAPSHOT, "the id of a snapshot of yours") or ""
    if ("plan" in members) + ("need" in members) > 1 or not (snapshot or members.keys() & {"plan", "need"}):
        ways = "quote, plan, need and snapshot" if SNAPSHOT_MEMBER in known else "plan and need"
        raise bad(f"give one of {ways}", "plan")
    if "need" in members:
        need = parse_need(members["need"])
    else:
        plan = _text(members, "plan", "", _PLAN, 'an id of GET /v1/plans, "vendor/plan"')
        need = Need(plan=plan, sandbox=True)  # who names a plan knows what it is
    region, image = (_only_once(members, need, name) for name in ("region", "image"))
    return ServerSpec(
        need=replace(need, region=region, image=image),
        ssh_keys=_texts(members, "ssh_keys", "", _SSH_KEY, MAX_SSH_KEYS, "ids of /v1/ssh-keys"),
        user_data=_user_data(members),
        minutes=_count(members, "minutes", "", MAX_MINUTES),
        snapshot=snapshot,
    )


def parse_name(members: Mapping[str, Any], name: str = "name") -> str | None:
    """Return a server's name, as DNS takes a label: what every vendor takes. Raises Problem("bad_request")."""
    return _text(members, name, "", _NAME, "1 to 63 letters, digits and hyphens, no hyphen at either end")


def parse_word(members: Mapping[str, Any], name: str, at: str) -> str | None:
    """Return the name of something of a vendor's: a region, an image. Raises Problem("bad_request")."""
    return _text(members, name, at, _WORD, "a text of 1 to 128 letters, digits and ._:/+@()- or spaces")


def parse_rate(members: Mapping[str, Any], name: str, at: str) -> str | None:
    """Return an exact price an hour in USD as it was written, above zero. Raises Problem("bad_request")."""
    what = 'a price above zero, a decimal string with at most twelve decimals, such as "0.0053"'
    value = _text(members, name, at, _RATE, what)
    if value is not None and not value.strip("0."):
        raise bad(f"{name} is {what}", _below(at, name))
    return value


def parse_flag(members: Mapping[str, Any], name: str, at: str) -> bool | None:
    """Return true or false, None where it is not given. Raises Problem("bad_request")."""
    value = members.get(name)
    if name in members and type(value) is not bool:
        raise bad(f"{name} is true or false", _below(at, name))
    return value


def bad(detail: str, field: str | None) -> Problem:
    """Return the problem for a body that cannot be taken."""
    return Problem("bad_request", detail, field)


def _only_once(members: Mapping[str, Any], need: Need, name: str) -> str | None:
    said: str | None = getattr(need, name)
    value = parse_word(members, name, "")
    if value is not None and said is not None:
        raise bad(f"{name} is given twice, here and in need", name)
    return value if said is None else said


def _count(members: Mapping[str, Any], name: str, at: str, most: int, least: int = 1) -> int | None:
    if name not in members:
        return None
    value = members[name]
    if type(value) is not int or not least <= value <= most:
        raise bad(f"{name} is a whole number from {least} to {most}", _below(at, name))
    return value


def _text(members: Mapping[str, Any], name: str, at: str, pattern: re.Pattern[str], what: str) -> str | None:
    if name not in members:
        return None
    value = members[name]
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise bad(f"{name} is {what}", _below(at, name))
    return value


def _texts(
    members: Mapping[str, Any], name: str, at: str, pattern: re.Pattern[str], most: int, what: str
) -> tuple[str, ...]:
    values = members.get(name, [])
    if not isinstance(values, list) or len(values) > most:
        raise bad(f"{name} is a list of at most {most}: {what}", _below(at, name))
    for n, value in enumerate(values):
        if not isinstance(value, str) or pattern.fullmatch(value) is None:
            raise bad(f"{name} is a list of {what}", f"{_below(at, name)}/{n}")
    if len(set(values)) != len(values):
        raise bad(f"{name} names something twice", _below(at, name))
    return tuple(values)


def _features(members: Mapping[str, Any], at: str) -> tuple[str, ...]:
    known = re.compile("|".join(Feature))
    return _texts(members, "features", at, known, len(Feature), f"features: {', '.join(Feature)}")


def _user_data(members: Mapping[str, Any]) -> str:
    value = members.get("user_data", "")
    if not isinstance(value, str):
        raise bad("user_data is a text", "user_data")
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can spell and UTF-8 cannot
        raise bad("user_data is not Unicode text", "user_data") from None
    if size > MAX_USER_DATA_BYTES or "\0" in value:
        raise bad(f"user_data is a text of at most {MAX_USER_DATA_BYTES} bytes without NUL", "user_data")
    return value


def _below(at: str, name: str) -> str:
    return f"{at}/{name}" if at else name

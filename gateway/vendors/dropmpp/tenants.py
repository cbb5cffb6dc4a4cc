"""dropmpp's part in keeping agents apart on the one wallet: its refusals, what calls make, and how to find what they made.

Must not know who owns what.  Theory: the vendor takes no mark of ours, so a thing whose create was never answered is
known by what it must look like and when it was made; whether exactly one fits is for the caller to judge.
"""

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from hashlib import md5, sha256
from types import MappingProxyType
from typing import Any, Final

from gateway.core.routes import Match
from gateway.core.strict_json import dump_json, parse_json
from gateway.http.port import UpstreamResponse
from gateway.ports import Created, Found, Lost
from gateway.vendors.account import document_of, is_ref, segment, time_ms, usd_text
from gateway.vendors.dropmpp.answers import entries_of, size_gb
from gateway.vendors.dropmpp.inputs import minutes_of, size_of
from gateway.vendors.dropmpp.routes import CATALOGUE, FREE_HOURS, KEY, LISTS, SERVER, SNAPSHOT, state_of

__all__ = ["Tenants"]

_OK: Final = 200
_CREATED: Final = 201
_ACCEPTED: Final = 202
_NOT_FOUND: Final = 404
_MINUTE_MS: Final = 60_000
_SEARCHED: Final = MappingProxyType({"server_create": SERVER, "server_snapshot": SNAPSHOT, "key_create": KEY})


class Tenants:
    """Implements gateway.ports.Shared."""

    catalogue: Mapping[str, str] = CATALOGUE

    def missing(self, kind: str) -> tuple[int, object]:
        """Return the 404 of a thing that the vendor does not know."""
        return _NOT_FOUND, {"error": f"{kind} not found"}

    def plan_of(self, match: Match, body: bytes) -> str:
        """Return the size that a create asks for. A snapshot's size is known only when it is shown."""
        return size_of(body) if match.route.name == "server_create" else ""

    def show_target(self, kind: str, ref: str) -> str | None:
        """Return where a server's size or a snapshot's gigabytes are told; a key has no plan."""
        return None if kind == KEY else f"/v1/{LISTS[kind]}/{segment(ref)}"

    def search_target(self, match: Match) -> str | None:
        """Return the list in which a lost create, snapshot or key is found. Nothing shows what became of other calls."""
        kind = _SEARCHED.get(match.route.name)
        return None if kind is None else f"/v1/{LISTS[kind]}"

    def found(self, lost: Lost, answer: UpstreamResponse) -> tuple[Found, ...] | None:
        """Return the things of a list that a lost call may have made; None for a list that proves nothing.

        One entry that cannot be read, or that does not say when it was made, may be the one that is looked for.
        """
        kind = _SEARCHED.get(lost.match.route.name)
        document = document_of(answer) if answer.status == _OK else None
        entries = None if kind is None or document is None else entries_of(document, kind)
        if kind is None or entries is None or not all(is_ref(entry.get("id")) for entry in entries):
            return None
        if kind == KEY:
            return tuple(_keys(lost, entries))
        times = [_made_at_ms(kind, entry, lost) for entry in entries]
        if None in times:
            return None
        wanted = parse_json(lost.body) if lost.body else {}
        return tuple(
            _FOUND[kind](entry, lost)
            for entry, at_ms in zip(entries, times, strict=True)
            if at_ms is not None and lost.from_ms <= at_ms <= lost.until_ms and _fits(kind, lost, entry, wanted)
        )


def _made_at_ms(kind: str, entry: dict[str, Any], lost: Lost) -> int | None:
    at_ms = time_ms(entry.get("created_at"))
    if at_ms is not None or kind != SERVER:
        return at_ms
    paid_until_ms = time_ms(entry.get("paid_until"))
    return None if paid_until_ms is None else paid_until_ms - minutes_of(lost.body) * _MINUTE_MS


def _fits(kind: str, lost: Lost, entry: dict[str, Any], wanted: dict[str, Any]) -> bool:
    if kind == SNAPSHOT:
        return entry.get("source_server") == lost.match.ref and _agrees(entry, wanted, "name")
    return all(_agrees(entry, wanted, name) for name in ("size", "region", "image"))


def _agrees(entry: dict[str, Any], wanted: dict[str, Any], name: str) -> bool:
    """Say whether an entry does not contradict what was asked for: what either leaves out, it does not contradict."""
    return name not in wanted or name not in entry or entry[name] == wanted[name]


def _keys(lost: Lost, entries: list[dict[str, Any]]) -> Iterator[Found]:
    """Yield the keys of this name and fingerprint: no list says when a key was registered, and none is needed."""
    wanted = parse_json(lost.body)
    prints = set(_fingerprints(wanted["public_key"]))
    for entry in entries:
        if entry.get("name") == wanted["name"] and entry.get("fingerprint") in prints:
            shown = {name: entry[name] for name in ("id", "name", "fingerprint")}
            yield Found(Created(entry["id"], KEY, "active", None, None), _CREATED, dump_json(shown))


def _fingerprints(public_key: str) -> Iterator[str]:
    """Yield how a key's fingerprint may be written: MD5 or SHA-256, with or without the name of the digest."""
    try:
        blob = base64.b64decode(public_key.split(" ")[1], validate=True)
    except (binascii.Error, ValueError):
        return
    digits = md5(blob, usedforsecurity=False).hexdigest()
    colons = ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))
    unpadded = base64.b64encode(sha256(blob).digest()).decode().rstrip("=")
    yield from (colons, f"MD5:{colons}", f"SHA256:{unpadded}", unpadded)


def _found_server(entry: dict[str, Any], lost: Lost) -> Found:
    expires_at_ms = time_ms(entry.get("paid_until"))
    created = Created(
        entry["id"], SERVER, state_of(SERVER, entry.get("status")), None, expires_at_ms, plan=size_of(lost.body)
    )
    shown = {name: entry[name] for name in ("id", "status", "paid_until") if name in entry}
    bought = {"minutes_purchased": minutes_of(lost.body), "total_charged": usd_text(lost.charged_base)}
    return Found(created, _CREATED, dump_json({**shown, **bought}))


def _found_snapshot(entry: dict[str, Any], _: Lost) -> Found:
    expires_at_ms = time_ms(entry.get("expires_at"))
    state = state_of(SNAPSHOT, entry.get("status"))
    created = Created(entry["id"], SNAPSHOT, state, None, expires_at_ms, plan=size_gb(entry.get("size_gb")))
    shown = {name: entry[name] for name in ("id", "status") if name in entry}
    message = "Found after its answer was lost."
    return Found(created, _ACCEPTED, dump_json({**shown, "expires_in_hours": FREE_HOURS, "message": message}))


_FOUND: Final = MappingProxyType[str, Callable[[dict[str, Any], Lost], Found]](
    {SERVER: _found_server, SNAPSHOT: _found_snapshot}
)

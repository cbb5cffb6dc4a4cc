"""Reads a 402 as an x402 challenge, version 1 or 2.

It must not know which offer is wanted or who pays: that is `choose`. Theory: a 402 has five meanings and only a
text that says `x402Version` is a challenge; every other 402 is None, passed on, unpaid. One bad entry of `accepts`
does not spoil its neighbours: it is kept with the reason. The same 402 comes again and again, so parsing is a memo
over its bytes; where the resource's address differs each time, `accepts` is still the same, and is a memo of its own.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

from gateway.rails.codes import Problem
from gateway.rails.offer import Challenge, Offer, RejectedEntry
from gateway.rails.problems import ChallengeError
from gateway.rails.x402.entry import EntryError, parse_entry
from gateway.rails.x402.wire import WireError, clean_text, compact_json, decode_base64, load_object

if TYPE_CHECKING:
    from multidict import MultiMapping

__all__ = ["MAX_ACCEPTS", "MAX_BODY_BYTES", "MAX_HEADER_CHARS", "parse_challenge"]

MAX_HEADER_CHARS: Final = 64 * 1024
MAX_BODY_BYTES: Final = 256 * 1024
MAX_ACCEPTS: Final = 32
MAX_EXTENSIONS: Final = 32
MAX_RESOURCE_ECHO_CHARS: Final = 4_096

_V1: Final = 1
_V2: Final = 2
_PAYMENT_REQUIRED: Final = 402
_HEADER: Final = "PAYMENT-REQUIRED"
_LEGACY_HEADER: Final = "X-PAYMENT-REQUIRED"
_MARK: Final = b"x402Version"

# Longer texts are parsed each time, so that a vendor cannot fill our memory through the memo.
_MEMO_ENTRIES: Final = 256
_MEMO_BYTES: Final = 8 * 1024


def parse_challenge(status: int, headers: MultiMapping[str], body: bytes) -> Challenge | None:
    """The x402 challenge in an answer, or None when the answer is none; `headers` must be case-insensitive.

    Order: `PAYMENT-REQUIRED`, `X-PAYMENT-REQUIRED`, JSON body; the first that is there decides, by its own
    `x402Version`. An MPP challenge beside it (`WWW-Authenticate: Payment`) changes nothing, and alone it is None.
    Raises ChallengeError: `challenge_oversized`, `challenge_malformed`, `version_unknown`. The offers in the result
    are readable, not approved; `offers` may be empty, and `choose` says why.
    """
    if status != _PAYMENT_REQUIRED:
        return None
    header = _single(headers, _HEADER)
    if header is not None:
        return _read_header(header, "header", _HEADER)
    legacy = _single(headers, _LEGACY_HEADER)
    if legacy is not None and _is_challenge_text(legacy):
        return _read_header(legacy, "legacy_header", _LEGACY_HEADER)
    if _MARK not in body:
        # Some vendors name the legacy header but not its content; with no challenge anywhere, that is malformed.
        if legacy is not None:
            raise ChallengeError(Problem.CHALLENGE_MALFORMED, "it does not hold a challenge", _LEGACY_HEADER)
        return None
    if len(body) > MAX_BODY_BYTES:
        raise ChallengeError(Problem.CHALLENGE_OVERSIZED, f"the body is over {MAX_BODY_BYTES} bytes", "body")
    return (_parse_memo if len(body) <= _MEMO_BYTES else _parse_raw)("body", body)


def _single(headers: MultiMapping[str], name: str) -> str | None:
    """The header's value. Two different values are a way to show one price to us and another to somebody else."""
    values = headers.getall(name, ())
    if not values:
        return None
    if any(value != values[0] for value in values):
        raise ChallengeError(Problem.CHALLENGE_MALFORMED, "the header occurs twice with different values", name)
    return values[0].strip()


def _is_challenge_text(value: str) -> bool:
    """Whether the legacy header holds JSON in base64; elsewhere it is only a flag, and the body is the challenge."""
    if len(value) > MAX_HEADER_CHARS:
        return True
    try:
        return _MARK in decode_base64(value)
    except WireError:
        return False


def _read_header(value: str, place: str, name: str) -> Challenge:
    if len(value) > MAX_HEADER_CHARS:
        raise ChallengeError(Problem.CHALLENGE_OVERSIZED, f"the header is over {MAX_HEADER_CHARS} characters", name)
    return (_decode_memo if len(value) <= _MEMO_BYTES else _decode)(place, name, value)


def _decode(place: str, name: str, value: str) -> Challenge:
    try:
        raw = decode_base64(value)
    except WireError as error:
        raise ChallengeError(Problem.CHALLENGE_MALFORMED, str(error), name) from error
    return _parse_raw(place, raw)


def _parse_raw(place: str, raw: bytes) -> Challenge:
    try:
        document = load_object(raw)
    except WireError as error:
        raise ChallengeError(Problem.CHALLENGE_MALFORMED, str(error), place) from error
    version = _version(document)
    entries = document.get("accepts")
    if not isinstance(entries, list):
        raise ChallengeError(Problem.CHALLENGE_MALFORMED, "accepts is not a list", "accepts")
    if len(entries) > MAX_ACCEPTS:
        raise ChallengeError(Problem.CHALLENGE_OVERSIZED, f"accepts has over {MAX_ACCEPTS} entries", "accepts")
    offers, rejected = _sorted(version, entries)
    if version == _V1:
        return Challenge(offers, rejected, None, ())
    return Challenge(offers, rejected, _resource(document), _extensions(document))


_parse_memo = lru_cache(maxsize=_MEMO_ENTRIES)(_parse_raw)
_decode_memo = lru_cache(maxsize=_MEMO_ENTRIES)(_decode)


def _version(document: dict[str, Any]) -> Literal[1, 2]:
    version = document.get("x402Version")
    # `True == 1` and `1.0 == 1`: the type decides first.
    if type(version) is int:
        if version == _V1:
            return _V1
        if version == _V2:
            return _V2
    raise ChallengeError(Problem.VERSION_UNKNOWN, f"x402Version is {clean_text(version, 40)!r}", "x402Version")


_Sorted = tuple[tuple[Offer, ...], tuple[RejectedEntry, ...]]


def _sorted(version: Literal[1, 2], entries: list[Any]) -> _Sorted:
    text = compact_json(entries)
    return _sorted_memo(version, text) if len(text) <= _MEMO_BYTES else _sort_entries(version, entries)


def _sort_entries(version: Literal[1, 2], entries: list[Any]) -> _Sorted:
    offers: list[Offer] = []
    rejected: list[RejectedEntry] = []
    for index, entry in enumerate(entries):
        try:
            offers.append(parse_entry(version, entry))
        except EntryError as error:
            rejected.append(RejectedEntry(index, error.code, error.why, error.field))
    return tuple(offers), tuple(rejected)


@lru_cache(maxsize=_MEMO_ENTRIES)
def _sorted_memo(version: Literal[1, 2], text: str) -> _Sorted:
    """The entries as `text`, which is our own JSON of what was read strictly, so reading it again loses nothing."""
    return _sort_entries(version, json.loads(text))


def _resource(document: dict[str, Any]) -> str | None:
    """The v2 resource's JSON. Its echo is optional, so a huge one is left out."""
    value = document.get("resource")
    if not isinstance(value, dict):
        return None
    echo = compact_json(value)
    return echo if len(echo) <= MAX_RESOURCE_ECHO_CHARS else None


def _extensions(document: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    value = document.get("extensions")
    if value is None:
        return ()
    if not isinstance(value, dict) or len(value) > MAX_EXTENSIONS:
        raise ChallengeError(Problem.CHALLENGE_MALFORMED, f"not an object of at most {MAX_EXTENSIONS}", "extensions")
    return tuple((key, compact_json(item)) for key, item in value.items())

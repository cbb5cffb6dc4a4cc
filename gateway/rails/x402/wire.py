"""Base64 and JSON as strangers send them, bounded in size, depth and number length.

It knows nothing of payments. Theory: two parsers that read one text differently are a way to be paid twice or for
something else, so what JSON leaves open (duplicate keys, NaN, endless digits, depth) is refused, and never guessed.
"""

from __future__ import annotations

import binascii
import json
import math
import re
from typing import Any, Final

__all__ = ["MAX_DEPTH", "MAX_NUMBER_CHARS", "WireError", "clean_text", "compact_json", "decode_base64", "load_object"]

MAX_DEPTH: Final = 32
MAX_NUMBER_CHARS: Final = 80

# Possessive, and content with a missing closing quote: one pass however hostile the text is.
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")


class WireError(ValueError):
    """The text is not the bounded, unambiguous JSON object (or base64 of one) that it should be; says why."""


def decode_base64(text: str) -> bytes:
    """Bytes of `text` in the standard or the urlsafe alphabet, padded or not (x402 transports' rule for decoders).

    Raises WireError for any other character, white space included, and for an impossible length.
    """
    if _BASE64.fullmatch(text) is None:
        raise WireError("not base64")
    digits = text.rstrip("=")
    if len(text) != len(digits) and len(text) % 4:
        raise WireError("base64 padding is wrong")
    if "-" in digits or "_" in digits:
        digits = digits.replace("-", "+").replace("_", "/")
    try:
        return binascii.a2b_base64(digits + "=" * (-len(digits) % 4))
    except binascii.Error as error:
        raise WireError("not base64") from error


def load_object(raw: bytes) -> dict[str, Any]:
    """Parse `raw` as one JSON object in UTF-8. Raises WireError for what two parsers could read differently."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise WireError("not UTF-8") from error
    _refuse_depth(text)
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise WireError(f"not JSON: {error.msg} at character {error.pos}") from error
    if not isinstance(value, dict):
        raise WireError("not a JSON object")
    return value


def compact_json(value: object) -> str:
    """`value` as one line of ASCII JSON without spaces, keys in their own order: the form in which parts are echoed."""
    return _ENCODER.encode(value)


def clean_text(value: object, limit: int) -> str:
    """`value` as text safe to log and show: no control or direction-changing characters, at most `limit` characters.

    What is not a string is shown as JSON; None is ''. A vendor's words reach people and terminals only through this.
    """
    if value is None:
        return ""
    text = value if isinstance(value, str) else compact_json(value)
    if len(text) <= limit and text.isprintable():  # as nearly every text is: then it holds none of what is taken out
        return text.strip()
    text = _CONTROL.sub(" ", text[: limit * 2]).encode("utf-8", "replace").decode("utf-8").strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _refuse_depth(text: str) -> None:
    """Bound nesting before the recursive parser meets it; its own RecursionError depends on the caller's stack."""
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return
    depth = 0
    for char in _STRING.sub("", text):
        if char in "{[":
            depth += 1
            if depth > MAX_DEPTH:
                raise WireError(f"nested deeper than {MAX_DEPTH}")
        elif char in "}]":
            depth -= 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise WireError("a key occurs twice in one object")
    return result


def _bounded_int(digits: str) -> int:
    if len(digits) > MAX_NUMBER_CHARS:
        raise WireError(f"a number of more than {MAX_NUMBER_CHARS} characters")
    return int(digits)


def _finite_float(digits: str) -> float:
    value = float(digits) if len(digits) <= MAX_NUMBER_CHARS else math.inf
    if not math.isfinite(value):
        raise WireError("a number that is out of range")
    return value


def _no_constant(name: str) -> float:
    raise WireError(f"{name} is not JSON")


_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_bounded_int, parse_float=_finite_float, parse_constant=_no_constant
)

"""The spellings that MPP gives to bytes, objects and times: base64url, JSON without floats, RFC 3339.

It knows nothing of payments. Theory: a challenge's texts are echoed as they came and also acted upon, so a text that
has a second spelling or a second reading is refused: what the server gets back is then what we understood.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from gateway.core.times import parse_time_ms
from gateway.rails.x402.wire import WireError, load_object

__all__ = ["decode_base64url", "encode_base64url", "is_base64url", "load_request", "parse_rfc3339_ms"]

_BASE64URL = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def encode_base64url(data: bytes) -> str:
    """Bytes as base64url without padding."""
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def decode_base64url(text: str) -> bytes:
    """The bytes of base64url without padding, in its one spelling. Raises WireError for any other."""
    if _BASE64URL.fullmatch(text) is None:
        raise WireError("not base64url without padding")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise WireError("not base64url") from error
    if encode_base64url(data) != text:
        raise WireError("base64url with stray bits")
    return data


def is_base64url(text: str) -> bool:
    """Whether the text is spelled in the alphabet of base64url, whatever it holds."""
    return _BASE64URL.fullmatch(text) is not None


def load_request(raw: bytes) -> dict[str, Any]:
    """Parse one JSON object in UTF-8 of texts, integers, booleans, lists and objects. Raises WireError.

    Duplicate keys are refused, and so are floats: in a request that is canonical JSON with its amounts as text, they
    have no place.
    """
    document = load_object(raw)
    _refuse_floats(document)
    return document


def _refuse_floats(value: object) -> None:
    if isinstance(value, float):
        raise WireError("a number that is not an integer")
    if isinstance(value, dict):
        for item in value.values():
            _refuse_floats(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_floats(item)


def parse_rfc3339_ms(text: str) -> int:
    """Milliseconds since the epoch of an RFC 3339 time, cut below the millisecond. Raises WireError."""
    try:
        return parse_time_ms(text)
    except ValueError as error:
        raise WireError(str(error)) from error

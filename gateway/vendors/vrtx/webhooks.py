"""VRTX's deliveries as a receiver must take them: signed over their raw bytes, old ones and strange ones told apart.

Must not know queues, HTTP or records.  Theory: anyone can reach the door, so nothing is read before the signature holds;
and a signed event is a hint to look at the vendor, never proof: it may come twice, late, out of order, or not at all.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gateway.core.strict_json import JsonError, parse_json
from gateway.vendors.account import time_ms
from gateway.vendors.vrtx.inputs import is_uuid
from wallets.secret import Secret

__all__ = [
    "EVENTS",
    "MAX_BODY_BYTES",
    "MAX_FUTURE_MS",
    "MAX_PAST_MS",
    "SIGNATURE_HEADER",
    "Event",
    "EventError",
    "parse",
    "verify",
]

SIGNATURE_HEADER: Final = "X-Vrtx-Signature"
MAX_BODY_BYTES: Final = 16 * 1024  # the document's example has 300
MAX_PAST_MS: Final = 73 * 3_600_000  # deliveries are retried for 72 hours; one more for clocks and the last attempt
MAX_FUTURE_MS: Final = 300_000
EVENTS: Final = MappingProxyType(
    {
        "server.installing": "provisioning",
        "server.running": "running",
        "server.suspended": "suspended",
        "server.deleted": "destroyed",
    }
)
"""Each event of the document, and our word for the state that it tells of. A failed installation has none."""

_SIGNATURE: Final = re.compile(
    r"(?:sha256=)?([0-9A-Fa-f]{64})", re.ASCII
)  # the document shows no form; both are in use
_EVENT_ID: Final = re.compile(r"evt_[0-9A-Za-z]{8,64}", re.ASCII)


class EventError(ValueError):
    """A signed body that is no event, or one from outside the window. The message names nothing that it holds."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `id` is the same in every delivery of it; of two about one server the later `created_at_ms` counts."""

    id: str
    type: str
    uuid: str
    state: str
    created_at_ms: int


def verify(raw_body: bytes, signature_header: str | None, secrets: tuple[Secret[str], ...]) -> bool:
    """Tell whether one of the secrets signed these very bytes (HMAC-SHA256, in hex).

    Compares in constant time, with every secret whichever fits. False for a body over MAX_BODY_BYTES, which is not
    hashed; an empty secret fits nothing, for everybody knows it.
    """
    found = _SIGNATURE.fullmatch((signature_header or "").strip())
    if found is None or len(raw_body) > MAX_BODY_BYTES:
        return False
    told = bytes.fromhex(found.group(1))
    fits = False
    for secret in secrets:
        key = secret.reveal().encode("utf-8")
        right = hmac.compare_digest(hmac.new(key, raw_body, hashlib.sha256).digest(), told)
        fits |= right and bool(key)
    return fits


def parse(raw_body: bytes, now_ms: int) -> Event | None:
    """Return the event in a body whose signature holds; None for a type that the document does not have.

    Raises EventError for a body that is no such event, and for one that was created more than MAX_PAST_MS before or
    MAX_FUTURE_MS after `now_ms`: within that window its id tells whether it was seen, beyond it no memory has to last.
    """
    if len(raw_body) > MAX_BODY_BYTES:
        raise EventError("too large")
    try:
        document = parse_json(raw_body)
    except JsonError as error:
        raise EventError(str(error)) from None
    kind = document.get("type") if isinstance(document, dict) else None
    if not isinstance(kind, str):
        raise EventError("no event with a type")
    if kind not in EVENTS:
        return None
    event_id, data, created_at_ms = document.get("id"), document.get("data"), time_ms(document.get("created_at"))
    if not isinstance(event_id, str) or _EVENT_ID.fullmatch(event_id) is None:
        raise EventError("no event id")
    uuid = data.get("uuid") if isinstance(data, dict) else None
    if not isinstance(uuid, str) or not is_uuid(uuid):
        raise EventError("no server's id")
    if created_at_ms is None:
        raise EventError("no time of creation with its zone")
    if not -MAX_PAST_MS <= created_at_ms - now_ms <= MAX_FUTURE_MS:
        raise EventError("created outside the window")
    return Event(event_id, kind, uuid, EVENTS[kind], created_at_ms)

"""An agent's call on its way in, and the answer on its way out: what the proxy hands to `spend` and gets back.

Must not know aiohttp.  Theory: whatever identifies a purchase (who, what, where) is fixed here once, so that retries of
the same call can be recognised by comparing bytes.
"""

from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256

from gateway.core.records import ApiKey
from gateway.core.routes import Match
from gateway.http.port import BodyStream
from gateway.ports import Vendor

CHOOSING = frozenset({"accept", "accept-language"})
ANYTHING = "*/*"  # an Accept that says no more than none at all


@dataclass(frozen=True, slots=True)
class Call:
    """One request of an agent to a vendor's route.

    `target` is path and query as the agent wrote them after `/proxy/{vendor}`; `headers` are those that may reach the
    vendor; `max_charge_base` is USD. `stream` is set instead of `body` when the body is too
    large to be kept: then it can be sent once, and nothing is paid.
    """

    key: ApiKey
    request_id: str
    vendor: Vendor
    match: Match
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    stream: AsyncIterable[bytes] | None = None
    idempotency_key: str | None = None
    max_charge_base: int | None = None
    quote_only: bool = False

    @property
    def account_id(self) -> str:
        """The account that pays."""
        return self.key.account_id

    @property
    def fingerprint(self) -> bytes:
        """What makes two calls the same purchase: vendor, method, target, what chooses the answer's form, and body."""
        digest = sha256(b"gateway-call-v1")
        chosen = sorted((n.lower(), v) for n, v in self.headers if n.lower() in CHOOSING and v != ANYTHING)
        said = "\n".join(f"{name}:{value}" for name, value in chosen).encode("latin-1", "replace")
        for part in (self.vendor.name.encode(), self.method.encode(), self.target.encode(), said, self.body):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
        return digest.digest()


@dataclass(frozen=True, slots=True)
class Reply:
    """What the agent gets. `headers` are the vendor's that may pass; the API adds its own.

    `charge_base` is what the call costs (held now, captured at settlement); None when no money was involved.
    `delivered` is to be awaited once the agent has the whole answer.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    rest: BodyStream | None = None
    payment_id: str | None = None
    charge_base: int | None = None
    replayed: bool = False
    delivered: Callable[[], Awaitable[None]] | None = None

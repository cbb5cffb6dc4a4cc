"""An agent's call on its way in, and the answer on its way out: what the proxy hands to `spend` and gets back.

Must not know aiohttp.  Theory: whatever identifies a purchase (who, what, where) is fixed here once, so that retries of
the same call can be recognised by comparing bytes.
"""

from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

from gateway.account_ports import AccountVendor
from gateway.core.records import ApiKey
from gateway.core.routes import Match, Route
from gateway.core.strict_json import dump_json
from gateway.http.port import BodyStream
from gateway.ports import Vendor

CHOOSING = frozenset({"accept", "accept-language"})
ANYTHING = "*/*"  # an Accept that says no more than none at all


class Served(Protocol):
    """What every vendor behind the proxy has, however it is paid."""

    name: str
    origin: str
    routes: tuple[Route, ...]

    def match(self, method: str, raw_path: str) -> Match | None:
        """Return the declared route that a request matches."""
        ...

    def scrub(self, target: str) -> str:
        """Return the target without secrets, for records and logs."""
        ...


# Calls are not frozen, though nobody changes one: setting so many fields past a freeze is a hundredth of a free call.
@dataclass(slots=True, eq=False)
class AnyCall:
    """One request of an agent to a vendor's route.

    `target` is path and query as the agent wrote them after `/proxy/{vendor}`; `headers` are those that may reach the
    vendor; `max_charge_base` is USD. `stream` is set instead of `body` when the body is too
    large to be kept: then it can be sent once, and nothing is paid.
    """

    key: ApiKey
    request_id: str
    vendor: Served
    match: Match
    method: str
    target: str = field(repr=False)
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)
    stream: AsyncIterable[bytes] | None = None
    idempotency_key: str | None = None
    max_charge_base: int | None = None
    quote_only: bool = False
    part: int = 0  # of a bulk call, from 1: two equal parts are two purchases
    purpose: str = ""  # of a call of the neutral API: its claim, so that no proxied call is taken for it
    _fingerprint: bytes = field(default=b"", init=False, repr=False)

    @property
    def account_id(self) -> str:
        """The account that pays."""
        return self.key.account_id

    @property
    def fingerprint(self) -> bytes:
        """What makes two calls the same purchase: vendor, method, target, what chooses the answer's form, and body."""
        if not self._fingerprint:  # asked for more than once, and never by a call that cannot cost anything
            self._fingerprint = self._made_fingerprint()
        return self._fingerprint

    def _made_fingerprint(self) -> bytes:
        chosen = sorted((low, v) for n, v in self.headers if (low := n.lower()) in CHOOSING and v != ANYTHING)
        said = "\n".join([f"{name}:{value}" for name, value in chosen]).encode("latin-1", "replace")
        parts = (self.vendor.name.encode(), self.method.encode(), self.target.encode(), said, self.body)
        digest = sha256(b"gateway-call-v1" + b"".join([len(part).to_bytes(8, "big") + part for part in parts]))
        if self.part:
            digest.update(b"part %d" % self.part)
        if self.purpose:
            digest.update(b"purpose " + self.purpose.encode())
        return digest.digest()


@dataclass(slots=True, eq=False)
class Call(AnyCall):
    """A call to a vendor that asks for its money with a 402."""

    vendor: Vendor


@dataclass(slots=True, eq=False)
class AccountCall(AnyCall):
    """A call to a vendor that knows us by an account which all agents share.

    `email` is the address under which the agent logged in, "" where it came with its API key. `token` is set on a route
    that `opens`: a fresh token for this vendor alone, to be handed out in the answer.
    """

    vendor: AccountVendor
    email: str = field(default="", repr=False)
    token: str | None = field(default=None, repr=False)


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

    @classmethod
    def of_json(cls, status: int, document: object, headers: tuple[tuple[str, str], ...] = ()) -> "Reply":
        """Return a reply of our own making."""
        return cls(status, (("Content-Type", "application/json"), *headers), dump_json(document))

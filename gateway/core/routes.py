"""A vendor's routes as data: what each may cost, who may use it, and whether a credential may be shown to it twice.

Must not know the wire or the network.  Theory: what is true of a route for every call stands in its row, so the flow has
no branch that names a vendor, and a route that is not declared does not exist.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from types import MappingProxyType
from urllib.parse import unquote


class Represent(StrEnum):
    """Whether the same credential may be presented again to learn a lost answer."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"  # the document does not say: treated as no


class Ownership(StrEnum):
    """Who may call a route."""

    NONE = "none"  # about no resource: any key
    CREATES = "creates"  # what it makes belongs to the account that pays
    OWNER = "owner"  # about one resource: its account only


class Pricing(StrEnum):
    """Whether a 402 of this route may be paid."""

    FREE = "free"  # never pay: a challenge here is refused
    PRICED = "priced"
    MAYBE = "maybe"  # a vendor known by configuration alone: pay if asked, within the ceiling
    METERED = "metered"  # makes a thing that our account is charged for as long as it exists
    LOCAL = "local"  # speaks of the whole account: the gateway answers it, in the vendor's own shape
    CLOSED = "closed"  # declared by the document and refused here; `reason` says why


class Retry(StrEnum):
    """What may be done when the answer to a request is lost (the vendor's document, as data)."""

    SAFE = "safe"  # repeat it: it changes nothing, or nothing more the second time
    KEYED = "keyed"  # repeat it with the same idempotency key
    FIND = "find"  # never repeat it blindly: look in a list for our mark first
    NEVER = "never"


class Place(StrEnum):
    """Where a request names a thing."""

    PATH = "path"
    QUERY = "query"
    BODY = "body"


@dataclass(frozen=True, slots=True)
class Ref:
    """A place that names things of one kind: a path or query parameter, or a body's member (one id or a list of them).

    What an agent names there must be its own (P9); `optional` places may be absent.
    """

    place: Place
    name: str
    kind: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """Where an answer shows things of one kind: a member (or "" for the document itself), one or a list of them."""

    member: str
    kind: str
    id: str = "id"
    paged: bool = False  # a page of a longer list: all pages are read, filtered and cut anew


class Priority(IntEnum):
    """What goes first where a vendor's rate limit makes requests wait, the most urgent first."""

    RENEW = 0  # a server is lost without it
    DESTROY = 1  # money runs until it is done
    CREATE = 2
    CALL = 3
    POLL = 4


@dataclass(frozen=True, slots=True)
class Window:
    """How long an authorization for this route may be collectable, in seconds (design 6)."""

    min_s: int
    max_s: int

    def clamp(self, asked_s: int) -> int:
        """Return the vendor's wish within our bounds."""
        return max(self.min_s, min(self.max_s, asked_s))


@dataclass(frozen=True, slots=True)
class Route:
    """One route. `segments` are literal or `{name}`; a last segment `{name*}` takes the rest of the path."""

    name: str
    methods: tuple[str, ...]
    segments: tuple[str, ...]
    pricing: Pricing = Pricing.FREE
    ceiling_base: int = 0
    window: Window = field(default_factory=lambda: Window(120, 120))
    ownership: Ownership = Ownership.NONE
    ref_parameter: str | None = None
    represent: Represent = Represent.UNKNOWN
    renews: bool = False
    secret: bool = False  # its answers hold secrets: buffered, no-store
    safe: bool = False  # may be sent again by the client when a kept-alive connection was dead
    refs: tuple[Ref, ...] = ()  # what a request names, on an account or a wallet that all agents share
    listings: tuple[Listing, ...] = ()  # what an answer shows of it
    retry: Retry = Retry.NEVER
    priority: Priority = Priority.CALL
    scope: str = "calls"  # of the vendor's rate limits (gateway/core/rates.py)
    ends: bool = False  # destroys what its path names
    split: bool = False  # a bulk route: the module takes it apart, and each part is a call of its own
    opens: bool = False  # needs no key of the agent: it is how the vendor's own scripts log in
    public: bool = False  # the vendor answers it without credentials
    proof: bool = False  # costs nothing, and may ask who we are (MPP's zero-amount proof)
    raw: bool = False  # its request's body is no document but bytes, which may pass unread (a file)
    reason: str = ""  # why a closed route is closed


@dataclass(frozen=True, slots=True)
class Match:
    """A route that a request matched, with its path's parameters, decoded."""

    route: Route
    parameters: Mapping[str, str]

    @property
    def ref(self) -> str | None:
        """The resource that the path names."""
        name = self.route.ref_parameter
        return None if name is None else self.parameters[name]


_EMPTY: Mapping[str, str] = MappingProxyType({})


def match_route(routes: tuple[Route, ...], method: str, raw_path: str) -> Match | None:
    """Return the first route that fits, judged on the path as it will be sent.

    Segments are split before they are decoded, and a decoded segment that holds a slash, a dot segment, a NUL or a
    backslash matches nothing: the vendor's router must not see another path than ours.
    """
    if not raw_path.startswith("/"):
        return None
    parts = []
    for raw in raw_path[1:].split("/"):
        part = unquote(raw, errors="surrogateescape")
        if part in {".", ".."} or any(c in part for c in "/\\\0\r\n%") or not part.isprintable():
            return None
        parts.append(part)
    for route in routes:
        if method not in route.methods:
            continue
        found = _fit(route.segments, parts)
        if found is not None:
            return Match(route, found)
    return None


def _fit(segments: tuple[str, ...], parts: list[str]) -> Mapping[str, str] | None:
    if segments and segments[-1].endswith("*}"):
        if len(parts) < len(segments):
            return None
        head, rest = parts[: len(segments) - 1], "/".join(parts[len(segments) - 1 :])
        parts = [*head, rest]
    if len(parts) != len(segments):
        return None
    found: dict[str, str] = {}
    for segment, part in zip(segments, parts, strict=True):
        if segment.startswith("{"):
            if not part and not segment.endswith("*}"):
                return None
            found[segment.strip("{}*")] = part
        elif segment != part:
            return None
    return found or _EMPTY

"""A vendor's routes as data: what each may cost, who may use it, and whether a credential may be shown to it twice.

Must not know the wire or the network.  Theory: what is true of a route for every call stands in its row, so the flow has
no branch that names a vendor, and a route that is not declared does not exist.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
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


@dataclass(frozen=True, slots=True)
class Window:
    """How long an authorization for this route may be collectable, in seconds (DESIGN 6)."""

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
    backslash matches nothing: the vendor's router must not see another path than ours (x402.md 8.12).
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

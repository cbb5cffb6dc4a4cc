"""Where requests may go: one rule per vendor origin, and no address inside the operator's own network.

It must not open connections; clients ask it before they do. Theory: an agent chooses paths, a vendor chooses
redirects and DNS answers; so the origin is a configured constant, and the address is checked at the moment of
connecting, when a name can no longer change its meaning (server-side request forgery, DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urljoin, urlsplit

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = [
    "REDIRECTS",
    "EgressRule",
    "Network",
    "Origin",
    "Timeouts",
    "address_allowed",
    "leaves_origin",
    "resolve_location",
]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\]", re.ASCII)
# Not for the world although not every table says so: protocol assignments, 6to4's relays, documentation.
_SPECIAL: Final = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20")))
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of a vendor; nothing else of a URL."""

    scheme: Literal["https", "http"]
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Origin:
        """Read "https://host[:port]". Raises ValueError for a path, user info, query, fragment, or any other scheme."""
        if not text.isascii() or not text.isprintable() or " " in text:
            # urlsplit drops line breaks and tabs instead of refusing them.
            raise ValueError("an origin is printable ASCII")
        parts = urlsplit(text)
        if parts.scheme not in _DEFAULT_PORTS:
            raise ValueError("the scheme must be https or http")
        port = parts.port
        if (
            parts.path not in {"", "/"}
            or parts.query
            or parts.fragment
            or "@" in parts.netloc
            or "?" in text
            or "#" in text
        ):
            raise ValueError("an origin is a scheme, a host and a port, and nothing else")
        host = parts.netloc.removesuffix(f":{port}") if port is not None else parts.netloc
        if _HOST.fullmatch(host.lower()) is None or port == 0:
            raise ValueError("the host or the port is not well formed")
        scheme: Literal["https", "http"] = "https" if parts.scheme == "https" else "http"
        return cls(scheme, host.lower(), port or _DEFAULT_PORTS[scheme])

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """The value of the Host header: the port only where it is not the scheme's own."""
        return self.host if self.port == _DEFAULT_PORTS[self.scheme] else f"{self.host}:{self.port}"

    @property
    def connect_host(self) -> str:
        """The host as a resolver wants it: an IPv6 address without its brackets."""
        return self.host.strip("[]")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `connect_s` includes the wait for a free connection; `body_s` is the longest silence within a body.

    `total_s` bounds `send`; a body that is streamed on after it has `stream_s`.
    """

    connect_s: float = 5.0
    first_byte_s: float = 60.0
    body_s: float = 30.0
    total_s: float = 120.0
    stream_s: float = 3600.0

    def __post_init__(self) -> None:
        # A total that ends a connect attempt would blur the one line that matters: sent, or not.
        ordered = 0 < self.connect_s < self.total_s and 0 < self.first_byte_s <= self.total_s
        if not ordered or min(self.body_s, self.stream_s) <= 0:
            raise ValueError("time-outs must be positive, connect_s below total_s, first_byte_s at most total_s")


@dataclass(frozen=True, slots=True)
class EgressRule:
    """What one vendor's requests may do. `allow_private` and `allow_plain_http` are for sandboxes on loopback.

    `allow_networks` are those of the operator's own that may be reached although they are not public. Raises ValueError
    for plain http, or a private address as host, that the rule does not allow.
    """

    origin: Origin
    allow_private: bool = False
    allow_plain_http: bool = False
    max_connections: int = 32
    timeouts: Timeouts = field(default_factory=Timeouts)
    allow_networks: tuple[Network, ...] = ()
    resolver: Executor | None = field(default=None, compare=False)  # where names are looked up that strangers chose

    def __post_init__(self) -> None:
        if self.origin.scheme == "http" and not self.allow_plain_http:
            raise ValueError("plain http needs allow_plain_http")
        if self.max_connections < 1:
            raise ValueError("max_connections must be at least 1")
        if _is_literal(self.origin.connect_host) and not address_allowed(self, self.origin.connect_host):
            raise ValueError("an address that is not public needs allow_private")


def address_allowed(rule: EgressRule, address: str) -> bool:
    """Whether a connection may be opened to `address`, an IP address as text; what is no IP address is refused."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return rule.allow_private or _is_public(parsed) or any(parsed in network for network in rule.allow_networks)


def leaves_origin(origin: Origin, target: str, status: int, location: str | None) -> bool:
    """Whether an answer redirects away from `origin`. A Location that cannot be read counts as leaving."""
    return status in REDIRECTS and location is not None and resolve_location(origin, target, location) is None


def resolve_location(origin: Origin, target: str, location: str) -> str | None:
    """Path and query that a Location means when it is met on `target`, None if it leads away from `origin`.

    Browsers and libraries disagree about back-slashes, tabs and missing hosts ("http:///x"); whatever any of them would
    follow elsewhere leads away.
    """
    text = re.sub(r"[\x00-\x20]", "", location).replace("\\", "/")
    try:
        parts = urlsplit(text)
        if (parts.scheme or text.startswith("//")) and not parts.netloc:
            return None
        parts = urlsplit(urljoin(f"{origin}{target}", text))
        if Origin.parse(f"{parts.scheme}://{parts.netloc}") != origin or parts.path.startswith("//"):
            return None
    except ValueError:
        return None
    return f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Globally reachable, also where an IPv6 address wraps an IPv4 one (mapped, 6to4, Teredo, NAT64)."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return _is_public(inner)
        if address.is_site_local:
            return False
    special = any(address in network for network in _SPECIAL if network.version == address.version)
    return address.is_global and not (special or address.is_multicast or address.is_reserved)


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

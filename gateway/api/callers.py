"""Who asks, as far as an address tells: the peer, or whom the operator's own proxies name in X-Forwarded-For.

Must not know routes or limits.  Theory: anybody may send the header, and each proxy adds the address that it was called from
at its end; so it is read from the right, past the networks that the operator trusts, and the first address that lies
outside of them is the caller. Whatever stands to its left the caller itself may have written, so no more is read than proxies
can be in a row.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from aiohttp import web

from gateway.http.egress import Network

HEADER: Final = "X-Forwarded-For"
MAX_HOPS: Final = 32
"""How many entries are read: who is still inside of the trusted networks then is taken for the caller."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Callers:
    """Tells callers' addresses. `trusted` are the networks of the proxies in front of us; without any the peer counts."""

    def __init__(self, trusted: Iterable[Network] = ()) -> None:
        self._trusted = tuple(trusted)

    def address(self, request: web.BaseRequest) -> str | None:
        """Return the caller's address; None where the peer has none, as on a socket file.

        An entry that is no address ends the reading: then the proxy that passed it on is all that is known.
        """
        return self.named(request.remote, request.headers.getall(HEADER, ())) if self._trusted else request.remote

    def named(self, peer: str | None, forwarded: Sequence[str]) -> str | None:
        """Return the caller's address, of the peer's and the values of X-Forwarded-For in their order."""
        caller = _read(peer or "")
        if caller is None:
            return peer
        for entry in islice(_from_the_right(forwarded), MAX_HOPS):
            before = _read(entry) if self._is_trusted(caller) else None
            if before is None:
                break
            caller = before
        return str(caller)

    def _is_trusted(self, address: _Address) -> bool:
        return any(address in network for network in self._trusted)


def _from_the_right(forwarded: Sequence[str]) -> Iterator[str]:
    """Yield the entries of all values. The left end of a value that has more than `MAX_HOPS` is not taken apart."""
    for value in reversed(forwarded):
        yield from reversed(value.rsplit(",", MAX_HOPS))


def _read(text: str) -> _Address | None:
    """Return an address, an IPv4 one also where it is written as IPv6; some proxies add the port."""
    bare = text.strip()
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        found = ipaddress.ip_address(bare)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return found if mapped is None else mapped

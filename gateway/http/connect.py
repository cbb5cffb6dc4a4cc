"""The last gate before a connection: sockets are only made for addresses that the vendor's rule allows.

It must not know HTTP. Theory: a name is checked where it has become the very address that is connected to, so no second
DNS answer can differ from the one that was checked, and addresses written as names pass here as well.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from gateway.http.egress import address_allowed

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.http.egress import EgressRule

__all__ = ["AddressRefusedError", "socket_factory"]

AddressInfo = tuple[Any, Any, int, str, tuple[Any, ...]]
"""One answer of `getaddrinfo`: family, type, protocol, canonical name, socket address."""


class AddressRefusedError(OSError):
    """The address is inside the operator's network, and the vendor's rule does not allow that."""


def socket_factory(rule: EgressRule) -> Callable[[AddressInfo], socket.socket]:
    """A maker of sockets for aiohttp's connector, which calls it with the address that it is about to connect to.

    The maker raises AddressRefusedError for an address that `rule` does not allow.
    """

    def make(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, address = info
        if not address_allowed(rule, address[0]):
            raise AddressRefusedError("the vendor's name leads to an address that is not public")
        return socket.socket(family, kind, protocol)

    return make

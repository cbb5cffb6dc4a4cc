"""Which vendors the neutral API knows, and the translation of each.

Must not know flows.  Theory: whether a vendor has a translation is decided by its module alone, so a vendor that is known
by configuration alone (generic) has none, and everything about the others stands in their own packages.
"""

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final

from gateway.account_ports import AccountVendor
from gateway.ports import Vendor
from gateway.server_ports import ServerVendor
from gateway.vendors.cryptovps import CryptoVps
from gateway.vendors.cryptovps.servers import CryptoVpsServers
from gateway.vendors.dropmpp import DropMpp
from gateway.vendors.dropmpp.servers import DropMppServers
from gateway.vendors.litevps import LiteVps
from gateway.vendors.litevps.servers import LiteVpsServers
from gateway.vendors.vpsagent import VpsAgent
from gateway.vendors.vpsagent.servers import VpsAgentServers
from gateway.vendors.vrtx import Vrtx
from gateway.vendors.vrtx.servers import VrtxServers

__all__ = ["make_servers"]

_TRANSLATIONS: Final = MappingProxyType[type, Callable[[Any], ServerVendor]](
    {
        CryptoVps: CryptoVpsServers,
        LiteVps: LiteVpsServers,
        VpsAgent: VpsAgentServers,
        DropMpp: DropMppServers,
        Vrtx: VrtxServers,
    }
)


def make_servers(vendor: Vendor | AccountVendor) -> ServerVendor | None:
    """Return the neutral translation of a configured vendor, None for one that has none (the generic ones)."""
    make = _TRANSLATIONS.get(type(vendor))
    return None if make is None else make(vendor)

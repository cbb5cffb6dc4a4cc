"""Every use case of the vendor-neutral API, by name: what the HTTP side and the loops are handed.

Must not know how any of it is made.  Theory: one frozen value for all that belongs together, so a test builds exactly what
the service builds.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.flow.servers.acting import Acting
from gateway.flow.servers.catalogue import Catalogue
from gateway.flow.servers.doing import Doing
from gateway.flow.servers.fleets import Fleets
from gateway.flow.servers.keeping import Keeping
from gateway.flow.servers.keys import Keys
from gateway.flow.servers.ordering import Ordering
from gateway.flow.servers.quoting import Quoting
from gateway.flow.servers.renewing import Renewing
from gateway.flow.servers.seeing import Seeing
from gateway.flow.servers.snapshots import Snapshots
from gateway.flow.servers.telling import Telling
from gateway.server_ports import ServerVendor


@dataclass(frozen=True, slots=True)
class Neutral:
    """The use cases of the vendor-neutral API. `servers` are the vendors' translations, by name."""

    servers: Mapping[str, ServerVendor]
    keeping: Keeping
    doing: Doing
    catalogue: Catalogue
    quoting: Quoting
    ordering: Ordering
    seeing: Seeing
    acting: Acting
    snapshots: Snapshots
    keys: Keys
    renewing: Renewing
    fleets: Fleets
    telling: Telling

    async def drain(self, timeout_s: float) -> None:
        """Begin no order any more and wait for what has begun, at most that long for each part.

        The rest is found again at the next start.
        """
        self.ordering.stop()
        await self.doing.drain(timeout_s)
        await self.ordering.close(timeout_s)
        await self.renewing.drain(timeout_s)
        await self.fleets.drain(timeout_s)
        await self.seeing.drain(timeout_s)
        await self.catalogue.close()
        await self.telling.close(timeout_s)

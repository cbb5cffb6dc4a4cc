"""Every row that the service may have, those of being paid included: what documents and clients are compared with.

Rows are data, so nothing has to run behind them; what they do is tested beside each.
"""

from gateway.api import deposits, facilitator, incoming, refunds, topups, wallet_keys
from gateway.api.endpoint import Endpoint, Table
from tests.unit.gateway.api.bed import Bed

PAID: tuple[Endpoint, ...] = (
    *topups.ENDPOINTS,
    *refunds.ENDPOINTS,
    *incoming.ENDPOINTS,
    *deposits.ENDPOINTS,
    *wallet_keys.ENDPOINTS,
    *facilitator.rows(public=False),
)


def whole_table(bed: Bed) -> Table:
    """Return the routes of a service that is paid, too."""
    return Table((*bed.server.api.table.endpoints, *PAID))

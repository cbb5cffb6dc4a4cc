"""What runs at vendor accounts, and what is left there: by the books, and by the vendor's own word.

Must not ask a vendor anything.  Theory: the books say what everything must have cost by its tariff; the vendor says what it
has taken; an operator who sees the two side by side finds what neither would tell alone.
"""

from collections.abc import Mapping
from typing import Any

from gateway.core import chart
from gateway.core.ledger import Side
from gateway.core.money import format_amount
from gateway.core.problems import Problem
from gateway.core.records import MeterState
from gateway.core.runway import hourly_base
from gateway.operator import describe
from gateway.operator.paging import at_vendors, listed
from gateway.operator.params import Params
from gateway.operator.services import Services
from gateway.store import columns as col
from gateway.store import queries


async def meters(services: Services, params: Params) -> dict[str, Any]:
    """Return what is charged by time, the newest first; what is over as well if `all` is asked for."""
    asked = at_vendors(params)
    account_id, vendor = asked["account_id"], asked["vendor"]
    rows = await services.store.query(queries.METERS, asked)
    found = [describe.meter(col.meter_from(tuple(row.values()))) for row in rows]
    if not found and vendor and vendor not in services.routes:
        raise Problem("vendor_unknown", f"{vendor} is not in the configuration, and nothing ever ran there", "vendor")
    if not found and account_id and account_id not in services.store.view.agent_accounts:
        raise Problem("not_found", f"there is no account {account_id}")
    return listed("meters", found, asked["limit"])


async def vendor_balance(services: Services, params: Params) -> dict[str, Any]:
    """Return what is left at each vendor account, or at one: the books' figure, the vendor's, and what runs there."""
    wanted = params.optional_identifier("vendor")
    if wanted is not None and wanted not in services.account_vendors:
        raise Problem("vendor_unknown", f"there is no vendor account {wanted}", "vendor")
    rows = await services.store.query(queries.LEDGER_ACCOUNTS)
    by_code = {(row["code"], row["asset"]): row for row in rows}
    names = services.account_vendors if wanted is None else {wanted}
    return {"vendors": [_balance(services, by_code, name) for name in sorted(names)]}


def _balance(services: Services, by_code: Mapping[tuple[str, str], Mapping[str, Any]], name: str) -> dict[str, Any]:
    asset, view = chart.vendor_asset(name), services.store.view
    posted_base, reserved_base = _figures(by_code.get((chart.vendor(name), asset)))
    missing_base, _ = _figures(by_code.get((chart.vendor_suspense(name), asset)))
    said, running = view.vendor_balances.get(name), [m for m in view.meters.values() if m.vendor == name]
    return {
        "vendor": name,
        "books": format_amount(posted_base),
        "reserved": format_amount(reserved_base),
        "missing": format_amount(missing_base),
        "vendor_says": None if said is None else format_amount(said[0]),
        "said_at": None if said is None else describe.when(said[1]),
        "difference": None if said is None else format_amount(said[0] - posted_base),
        "things": len(running),
        "ending": sum(1 for meter in running if meter.state is MeterState.ENDING),
        "hourly": format_amount(hourly_base(running)),
    }


def _figures(row: Mapping[str, Any] | None) -> tuple[int, int]:
    """Return what a ledger account holds, and how much of it is reserved."""
    if row is None:
        return 0, 0
    held_base = row["debits_posted"] - row["credits_posted"]
    return (held_base, row["credits_pending"]) if row["side"] == Side.DEBIT else (-held_base, row["debits_pending"])

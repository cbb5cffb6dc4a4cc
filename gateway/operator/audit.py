"""What explains the books: the trace from anything to everything (P11), the balances, the journal's proof.

Must not change anything.  Theory: the journal's digests are recomputed from the first row each time that someone asks, and
compared with the head that the running service appends to.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from contracts.codec import to_hex
from gateway.core.journal import GENESIS, JournalError, verify
from gateway.core.ledger import Side
from gateway.core.money import USD, format_amount
from gateway.core.paid import Refund
from gateway.core.problems import Problem
from gateway.operator import describe
from gateway.operator.describe_paid import paid_record
from gateway.operator.params import Params
from gateway.operator.payments import whole_payment
from gateway.operator.services import Services
from gateway.store import queries

TRACE_MAX = 50
PAGE_ROWS = 1_000
GWEI_PER_COIN = 10**9
_HASH = re.compile(r"(?:0x)?([0-9a-fA-F]{64})", re.ASCII)
_NUMBER = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


async def trace(services: Services, params: Params) -> dict[str, Any]:
    """Return everything that belongs to what is named.

    A transaction, server, fleet, key, account, payment, top-up, receipt, refund, settlement, nonce or journal row.
    """
    what = params.text("what")
    if what.startswith("gk_"):
        raise Problem("bad_request", "this looks like an API key itself; trace the key's id (key_…)", "what")
    match, number = _HASH.fullmatch(what), _NUMBER.fullmatch(what)
    blob = bytes.fromhex(match[1]) if match is not None else None
    seq = int(what) if number is not None else 0
    asked = {"text": what, "blob": blob, "number": seq, "limit": TRACE_MAX + 1}
    rows = await services.store.query(queries.TRACE, asked)
    found_as: dict[str, list[str]] = {}
    for row in rows:
        found_as.setdefault(row["payment_id"], []).append(row["found_as"])
    answer = {
        "what": what,
        "payments": await _payments(services, found_as),
        "truncated": len(rows) > TRACE_MAX,
        "outflows": [describe.evidence(row) for row in await services.store.query(queries.TRACE_OUTFLOW, asked)],
        "paid": await _paid(services, asked),
        "journal_row": await _journal_row(services, seq),
        **_holder(services, what),
    }
    answer["resources"] = await _resources(services, answer["payments"])
    answer["servers"] = await _servers(services, what, answer["payments"])
    if not any(answer[part] for part in ("payments", "outflows", "paid", "journal_row", "key", "account", "servers")):
        raise Problem("not_found", "nothing is known under this")
    return answer


async def _payments(services: Services, found_as: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    payments = []
    for payment_id, places in sorted(found_as.items())[:TRACE_MAX]:
        payment = await services.store.payment(payment_id)
        if payment is not None:
            payments.append({"found_as": sorted(places), **await whole_payment(services, payment)})
    return payments


async def _paid(services: Services, asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the settlements, relayers' transactions, top-ups, receipts and refunds that belong to it."""
    places: dict[str, list[str]] = {}
    for row in (await services.store.query(queries.PAID_TRACE, asked))[:TRACE_MAX]:
        places.setdefault(row["id"], []).append(row["found_as"])
    store, found = services.store, []
    readers = {
        "stl": store.settlement,
        "rly": store.relay,
        "top": store.topup,
        "rcv": store.incoming,
        "ref": store.refund,
    }
    for record_id, found_as in sorted(places.items()):
        read = readers.get(record_id.partition("_")[0])
        record = None if read is None else await read(record_id)
        if record is not None:
            shown = {"found_as": sorted(found_as), **paid_record(record)}
            if isinstance(record, Refund):
                shown |= await _settlement_id(services, record, shown.pop("settlement_id"))
            found.append(shown)
    return found


async def _settlement_id(services: Services, refund: Refund, kept: str | None) -> dict[str, str]:
    """A refund that relayers collect has the settlement of its authorization, once there is one; one on Tempo has none."""
    identity = (refund.chain_id, refund.token, refund.till, refund.nonce)
    settlement = None if kept is not None else await services.store.settlement_of(identity)
    settlement_id = kept if settlement is None else settlement.id
    return {} if settlement_id is None else {"settlement_id": settlement_id}


async def _resources(services: Services, payments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    places = sorted({(p["vendor"], p["resource"]) for p in payments if p["resource"] is not None})
    found = [await services.store.resource(vendor, ref) for vendor, ref in places]
    return [describe.resource(each) for each in found if each is not None]


async def _servers(services: Services, what: str, payments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    named = await services.store.query(queries.SERVERS_NAMED, {"text": what, "limit": TRACE_MAX})
    found = {row["id"] for row in named} | {server_id for payment in payments for server_id in payment["servers"]}
    servers = [await services.store.server(server_id) for server_id in sorted(found)[:TRACE_MAX]]
    return [describe.server(each) for each in servers if each is not None]


async def _journal_row(services: Services, seq: int) -> dict[str, Any] | None:
    if seq == 0:
        return None
    rows = await services.store.query(queries.JOURNAL_PAGE, {"after": seq - 1, "limit": 1})
    return describe.journal_row(rows[0]) if rows and rows[0]["seq"] == seq else None


def _holder(services: Services, what: str) -> dict[str, Any]:
    view = services.store.view
    key, account = view.keys_by_id.get(what), view.agent_accounts.get(what)
    return {
        "key": None if key is None else describe.key(key),
        "account": None if account is None else {"id": account.id, "name": account.name},
    }


async def balances(services: Services, _params: Params) -> dict[str, Any]:
    """Return every ledger account: what it holds or owes, and how much of that is reserved."""
    rows = await services.store.query(queries.LEDGER_ACCOUNTS)
    accounts = []
    for row in rows:
        debit_side = row["side"] == Side.DEBIT
        posted_base = row["debits_posted"] - row["credits_posted"]
        reserved_base = row["credits_pending"] if debit_side else row["debits_pending"]
        own_base = posted_base if debit_side else -posted_base
        accounts.append(
            {
                "code": row["code"],
                "asset": row["asset"],
                "posted": _amount(row["asset"], own_base),
                "reserved": _amount(row["asset"], reserved_base),
                "available": _amount(row["asset"], own_base - reserved_base),
            }
        )
    return {"accounts": accounts, "currency": USD}


def _amount(asset: str, amount_base: int) -> str:
    """Gas is counted in gwei and shown in the chain's coin; everything else in millionths."""
    if not asset.startswith("gas:"):
        return format_amount(amount_base)
    whole, gwei = divmod(abs(amount_base), GWEI_PER_COIN)
    return f"{'-' if amount_base < 0 else ''}{whole}.{gwei:09d}"


async def journal_verify(services: Services, _params: Params) -> dict[str, Any]:
    """Recompute every digest up to the head as of now, every balance from every transfer, and hold each row to the journal.

    `verified` says whether all holds, `error` what was found first.
    """
    view = services.store.view
    last_seq, last_head = view.journal_seq, view.journal_head
    seq, head = 0, GENESIS
    error: str | None = None
    while seq < last_seq and error is None:
        page = await services.store.query(queries.JOURNAL_PAGE, {"after": seq, "limit": min(PAGE_ROWS, last_seq - seq)})
        try:
            seq, head = _verified_page(page, seq, head)
        except JournalError as broken:
            error = str(broken)
    if error is None and head != last_head:
        error = f"row {last_seq} is not the one that the service appended"
    if error is None:
        error = await services.store.contradiction()
    return {"verified": error is None, "rows": seq, "head": to_hex(head), "error": error}


def _verified_page(page: Sequence[Mapping[str, Any]], seq: int, head: bytes) -> tuple[int, bytes]:
    if not page:
        raise JournalError(f"row {seq + 1} is missing: the journal ends there")
    return verify([(row["seq"], row["body"], row["digest"]) for row in page], seq, head)


async def journal_export(services: Services, params: Params) -> dict[str, Any]:
    """Return one page of rows: `body` is the canonical text that the digest covers, ready to be checked elsewhere."""
    after = params.number("after", 0, 2**62)
    limit = params.number("limit", PAGE_ROWS, PAGE_ROWS, low=1)
    page = await services.store.query(queries.JOURNAL_PAGE, {"after": after, "limit": limit})
    rows = [{"seq": row["seq"], "body": row["body"].decode("ascii"), "digest": to_hex(row["digest"])} for row in page]
    return {"rows": rows, "next": rows[-1]["seq"] if rows and len(rows) == limit else None}

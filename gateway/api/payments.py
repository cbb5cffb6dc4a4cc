"""`/v1/payments` and `/v1/payments/{id}`: each purchase with its three axes, and everything that proves them.

Must not know how payments move.  Theory (P9, P11): from one id its owner reads the whole story, to the transaction and
the witnesses; for everybody else the id does not exist.
"""

import json
from typing import Any

from gateway.api import examples
from gateway.api.asked import page_of, query_of
from gateway.api.deps import ApiDeps
from gateway.api.endpoint import PAGE, Endpoint, Told, listed
from gateway.api.exchange import Exchange
from gateway.api.money import ENTRY, entry_view
from gateway.api.schemas import AMOUNT, ANY, HASH, INTEGER, TEXT, TIME, choice, maybe, named, page, record, several
from gateway.api.views import PAYMENT, RESOURCE, hex_or_none, payment_view, resource_view
from gateway.core.apikeys import READ
from gateway.core.chart import agent
from gateway.core.money import format_amount
from gateway.core.payment import Transfer
from gateway.core.problems import Problem
from gateway.core.records import Payment
from gateway.core.times import utc_text
from gateway.store import columns, queries

# What operators wrote about a payment (tasks, freezes, who decided a dispute) is not the agent's to read.
SHOWN_JOURNAL = ("payment.", "resource.", "server.")

EVIDENCE = record(
    kind=choice("settled", "canceled", "unused", "failed", "resolved"),
    chain_id=INTEGER,
    block_number=INTEGER,
    block_hash=HASH,
    block_time=TIME,
    tx_hash=maybe(HASH),
    log_index=maybe(INTEGER),
    value=AMOUNT,
    fee=AMOUNT,
    witnesses=several(TEXT),
)
_DETAIL = record(
    **PAYMENT["properties"],
    tx_hash=maybe(HASH),
    evidence=maybe(EVIDENCE),
    sighting=maybe(record(tx_hash=HASH, block_number=INTEGER)),
    chain=maybe(record(head=INTEGER, head_time=TIME, final=maybe(INTEGER))),
    attempts=several(record(seq=INTEGER, value=AMOUNT, valid_before=TIME, created_at=TIME)),
    entries=several(ENTRY),
    journal=several(record(seq=INTEGER, at=TIME, kind=TEXT, content=ANY, digest=HASH)),
    rental=maybe(RESOURCE),
    server=maybe(TEXT),
)

DETAIL = named("PaymentDetail", _DETAIL, examples.PAYMENT_DETAIL)


async def payments(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with the account's payments, newest first."""
    asked = page_of(query_of(exchange.query, PAGE), deps.settings)
    parameters = {"account_id": exchange.account_id, "before": asked.before, "limit": asked.limit + 1}
    rows = await deps.store.query(queries.PAYMENTS_OF_ACCOUNT, parameters)
    entries = [payment_view(columns.payment_from(tuple(row.values()))) for row in rows[: asked.limit]]
    return listed(entries, more=len(rows) > asked.limit)


async def payment(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with one payment of the account. Raises Problem("not_found")."""
    query_of(exchange.query, frozenset())
    payment_id = exchange.parameters["id"]
    found = await deps.store.payment(payment_id)
    if found is None or found.account_id != exchange.account_id:
        raise Problem("not_found", "there is no such payment of yours")
    exchange.payment_id = found.id
    proven = await _evidence(deps, found)
    sighting = deps.sightings(found) if found.axes.transfer is Transfer.PRESENTED else None
    return Told(
        {
            **payment_view(found),
            "tx_hash": None if proven is None else proven["tx_hash"],
            "evidence": proven,
            "sighting": None
            if sighting is None
            else {"tx_hash": hex_or_none(sighting.tx_hash), "block_number": sighting.block_number},
            "chain": _progress(deps, found),
            "attempts": await _attempts(deps, found),
            "entries": await _entries(deps, found),
            "journal": await _journal(deps, found),
            "rental": await _rental(deps, found),
            "server": await _server(deps, found),
        }
    )


async def _evidence(deps: ApiDeps, found: Payment) -> dict[str, Any] | None:
    rows = await deps.store.query(queries.EVIDENCE_OF_PAYMENT, {"payment_id": found.id})
    if not rows:
        return None
    row = rows[0]  # one closes a payment, the schema says so; a late one stands after it
    return {
        "kind": row["kind"],
        "chain_id": row["chain_id"],
        "block_number": row["block_number"],
        "block_hash": hex_or_none(row["block_hash"]),
        "block_time": utc_text(row["block_time_s"] * 1000),
        "tx_hash": hex_or_none(row["tx_hash"]),
        "log_index": row["log_index"],
        "value": format_amount(row["value_base"]),
        "fee": format_amount(row["fee_base"]),
        "witnesses": json.loads(row["witnesses"]),
    }


def _progress(deps: ApiDeps, found: Payment) -> dict[str, Any] | None:
    """How far the chain is, while an authorization may still be collected."""
    terms = found.authorization
    head = None if terms is None else deps.heads.get(terms.chain_id)
    if terms is None or head is None or found.axes.transfer is not Transfer.PRESENTED:
        return None
    final = deps.heads.final(terms.chain_id)
    return {
        "head": head.number,
        "head_time": utc_text(head.time_s * 1000),
        "final": None if final is None else final.number,
    }


async def _attempts(deps: ApiDeps, found: Payment) -> list[dict[str, Any]]:
    rows = await deps.store.query(queries.ATTEMPTS_OF_PAYMENT, {"payment_id": found.id})
    return [
        {
            "seq": row["seq"],
            "value": format_amount(row["value_base"]),
            "valid_before": utc_text(row["valid_before_s"] * 1000),
            "created_at": utc_text(row["created_at_ms"]),
        }
        for row in rows
    ]


async def _entries(deps: ApiDeps, found: Payment) -> list[dict[str, Any]]:
    """Return the account's own side of the postings, as its statement shows them."""
    code = agent(found.account_id)
    journal = await deps.store.query(queries.JOURNAL_OF_PAYMENT, {"payment_id": found.id})
    by_seq = {row["seq"]: row for row in journal}
    rows: list[dict[str, Any]] = []
    for row in await deps.store.query(queries.TRANSFERS_OF_PAYMENT, {"payment_id": found.id}):
        record_of_row = by_seq.get(row["journal_seq"])
        if code in (row["debit"], row["credit"]) and record_of_row is not None:
            named = {"payment_id": found.id, "subject_id": found.id}
            rows.append({**row, **named, "at_ms": record_of_row["at_ms"], "kind": record_of_row["kind"]})
    return [entry_view(row, code) for row in rows]


async def _journal(deps: ApiDeps, found: Payment) -> list[dict[str, Any]]:
    rows = await deps.store.query(queries.JOURNAL_OF_PAYMENT, {"payment_id": found.id})
    return [
        {
            "seq": row["seq"],
            "at": utc_text(row["at_ms"]),
            "kind": row["kind"],
            "content": json.loads(row["body"]),
            "digest": hex_or_none(row["digest"]),
        }
        for row in rows
        if row["kind"].startswith(SHOWN_JOURNAL)
    ]


async def _rental(deps: ApiDeps, found: Payment) -> dict[str, Any] | None:
    if found.resource_ref is None:
        return None
    resource = await deps.store.resource(found.vendor, found.resource_ref)
    if resource is None or resource.account_id != found.account_id:
        return None
    return resource_view(resource)


async def _server(deps: ApiDeps, found: Payment) -> str | None:
    """Return the id of the server of the neutral API that it was made for."""
    rows = await deps.store.query(queries.SERVERS_OF_PAYMENT, {"payment_id": found.id})
    return next((row["id"] for row in rows if row["account_id"] == found.account_id), None)


ENDPOINTS = (
    Endpoint(
        "GET", "/v1/payments", "The account's payments, newest first", payments, page(PAYMENT), scope=READ, query=PAGE
    ),
    Endpoint(
        "GET",
        "/v1/payments/{id}",
        "One payment: three axes, evidence, attempts, postings and journal",
        payment,
        DETAIL,
        scope=READ,
        problems=("not_found",),
    ),
)

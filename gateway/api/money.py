"""`/v1/balance` and `/v1/statement`: what an account has, and every movement that made it so.

Must not know how money moves.  Theory: balances are kept, not summed, and the statement is the ledger's own rows, so the
two always agree: available = credits - captures - open holds.
"""

from collections.abc import Mapping
from typing import Any

from gateway.api import examples
from gateway.api.asked import page_of, query_of
from gateway.api.deps import ApiDeps
from gateway.api.endpoint import PAGE, Endpoint, Told, listed
from gateway.api.exchange import Exchange
from gateway.api.schemas import AMOUNT, FLAG, INTEGER, TEXT, TIME, choice, maybe, named, page, record, several
from gateway.api.views import time_or_none
from gateway.core.apikeys import READ
from gateway.core.chart import agent
from gateway.core.ledger import Phase
from gateway.core.money import USD, format_amount
from gateway.core.problems import Problem
from gateway.core.records import Meter, MeterState
from gateway.core.runway import hourly_base, runs_out_ms
from gateway.core.times import utc_text
from gateway.store import queries

KINDS = ("credit", "hold", "capture", "void", "refund", "debit")
MAX_TRANSFER_ID = 2**63 - 1

THING = record(
    vendor=TEXT,
    ref=maybe(TEXT),
    name=TEXT,
    kind=TEXT,
    state=choice(*(state for state in MeterState if state is not MeterState.ENDED)),
    hourly={**TEXT, "description": "USD an hour, exactly; it may have more than six decimals"},
    held_until=maybe(TIME),
    warned=FLAG,
    unfunded=FLAG,
)
RUNNING = record(hourly=AMOUNT, things=several(THING), runs_out_at=maybe(TIME))
_BALANCE = record(
    account=TEXT,
    currency=choice(USD),
    available=AMOUNT,
    held=AMOUNT,
    spent=AMOUNT,
    refunded=AMOUNT,
    credited=AMOUNT,
    running=RUNNING,
)
BALANCE = named("Balance", _BALANCE, examples.BALANCE)
_ENTRY = record(
    id=TEXT,
    at=TIME,
    kind=choice(*KINDS),
    amount=AMOUNT,
    payment_id=maybe(TEXT),
    subject_id=maybe({**TEXT, "description": "what it is about: the payment, top-up, receipt or refund"}),
    hold_id=maybe(TEXT),
    journal_seq=INTEGER,
)

ENTRY = named("StatementEntry", _ENTRY, examples.ENTRY)


async def balance(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with one row of the ledger, so that its figures belong to the same instant."""
    query_of(exchange.query, frozenset())
    account_id = exchange.account_id
    rows = await deps.store.query(queries.SPENT, {"code": agent(account_id), "account_id": account_id})
    left, credited, held, refunded = (0, 0, 0, 0) if not rows else tuple(rows[0].values())
    return Told(
        {
            "account": account_id,
            "currency": USD,
            "available": format_amount(credited - left - held),
            "held": format_amount(held),
            "spent": format_amount(left - refunded),
            "refunded": format_amount(refunded),
            "credited": format_amount(credited),
            "running": _running(deps, account_id, credited - left - held),
        }
    )


def _running(deps: ApiDeps, account_id: str, available_base: int) -> dict[str, Any]:
    """Return what is charged by time: its price, and when the first of it can end for want of money, at the earliest."""
    meters = sorted(deps.store.view.meters_of.get(account_id, {}).values(), key=lambda meter: meter.id)
    return {
        "hourly": format_amount(hourly_base(meters)),
        "things": [_thing(meter) for meter in meters],
        "runs_out_at": time_or_none(runs_out_ms(meters, available_base, deps.periods)),
    }


def _thing(meter: Meter) -> dict[str, Any]:
    return {
        "vendor": meter.vendor,
        "ref": meter.ref,
        "name": meter.label,
        "kind": meter.kind,
        "state": meter.state.value,
        "hourly": meter.hourly,
        "held_until": time_or_none(meter.held_until_ms or None),
        "warned": meter.warned_at_ms is not None,
        "unfunded": meter.unfunded_at_ms is not None,
    }


async def statement(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with the account's ledger rows in the order in which they were booked."""
    asked = page_of(query_of(exchange.query, PAGE), deps.settings)
    after = 0 if asked.after is None else _transfer_id(asked.after)
    account_id = exchange.account_id
    rows = await deps.store.query(
        queries.STATEMENT, {"account_id": account_id, "after": after, "limit": asked.limit + 1}
    )
    entries = [entry_view(row, agent(account_id)) for row in rows[: asked.limit]]
    return listed(entries, more=len(rows) > asked.limit)


def entry_view(row: Mapping[str, Any], code: str) -> dict[str, Any]:
    """Return one ledger row as the account's owner reads it. `hold_id` is the entry that a capture or void closes."""
    return {
        "id": str(row["id"]),
        "at": utc_text(row["at_ms"]),
        "kind": _kind(row, code),
        "amount": format_amount(row["amount_base"]),
        "payment_id": row["payment_id"],
        "subject_id": row["subject_id"],
        "hold_id": None if row["pending_id"] is None else str(row["pending_id"]),
        "journal_seq": row["journal_seq"],
    }


def _kind(row: Mapping[str, Any], code: str) -> str:
    phase = Phase(row["phase"])
    if phase is Phase.VOID:  # the house bears what the vendor collected: the agent's hold goes back either way
        return "refund" if row["kind"] == "payment.refunded" else "void"
    if phase is Phase.DIRECT:
        return "credit" if row["credit"] == code else "debit"
    return "hold" if phase is Phase.PENDING else "capture"


def _transfer_id(text: str) -> int:
    if not (
        text.isascii() and text.isdigit() and len(text) <= len(str(MAX_TRANSFER_ID)) and int(text) <= MAX_TRANSFER_ID
    ):
        raise Problem("bad_request", "after is the `next` of an earlier page", "after")
    return int(text)


ENDPOINTS = (
    Endpoint("GET", "/v1/balance", "What the account has, holds, has spent and runs", balance, BALANCE, scope=READ),
    Endpoint(
        "GET",
        "/v1/statement",
        "Every movement of the balance, oldest first",
        statement,
        page(ENTRY),
        scope=READ,
        query=PAGE,
        query_schemas={"after": {**TEXT, "pattern": "^[0-9]{1,18}$", "description": "`next` of the page before"}},
    ),
)

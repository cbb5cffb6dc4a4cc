"""`/v1/receipts`: the money that came in for an account, each with the transfer that proves it.

Must not know how money is found on a chain.  Theory: a receipt is a final block's word, so it never changes but for what
went back of it; whoever wants a refund names one.
"""

from typing import Any, Final

from contracts.codec import Address, checksum
from gateway.api.asked import page_of, query_of
from gateway.api.deps import ApiDeps
from gateway.api.endpoint import PAGE, Endpoint, Told, listed
from gateway.api.exchange import Exchange
from gateway.api.schemas import ADDRESS, AMOUNT, FLAG, HASH, INTEGER, TEXT, TIME, choice, maybe, named, page, record
from gateway.api.views import hex_or_none
from gateway.core.apikeys import READ
from gateway.core.money import format_amount
from gateway.core.paid import Incoming, ReceiptState
from gateway.core.problems import Problem
from gateway.core.times import utc_text

EXAMPLE: Final = {
    "id": "rcv_01M82FFA16Q5BSPEDPY918G55G",
    "at": "2026-11-22T20:34:29.011Z",
    "state": "credited",
    "amount": "5.000000",
    "refunded": "0.000000",
    "refundable": True,
    "topup": "top_01M82FF9ZW1M7RHZGSYAVNEC17",
    "asset": "eip155:8453/erc20:0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
    "value": "5.000000",
    "from": "0x8EcBd65228930060363c70854dA7D37d57fFC358",
    "till": "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc",
    "transaction": "0x2d6cf9debb084773d48128cc31b70013096b4259963461f2b876528a5b604640",
    "log_index": 12,
    "block_number": 21000000,
    "block_time": "2026-11-22T20:14:31.000Z",
}
RECEIPT = named(
    "Receipt",
    record(
        id=TEXT,
        at={**TIME, "description": "when it was booked"},
        state=choice(*ReceiptState),
        amount={**AMOUNT, "description": "USD"},
        refunded={**AMOUNT, "description": "USD of it that went back, or is on its way back"},
        refundable={**FLAG, "description": "whether its sender signed it: only then may it go back, and only there"},
        topup=maybe(TEXT),
        asset={**TEXT, "description": "CAIP-19"},
        value={**AMOUNT, "description": "in the token"},
        transaction=HASH,
        log_index=INTEGER,
        block_number=INTEGER,
        block_time=TIME,
        till=ADDRESS,
        **{"from": ADDRESS},
    ),
    EXAMPLE,
)


async def list_receipts(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with what came in for the account, in the order in which it was booked. Raises Problem."""
    asked = page_of(query_of(exchange.query, PAGE), deps.settings)
    found = await deps.store.receipts_of(exchange.account_id, asked.after or "", asked.limit + 1)
    entries = [receipt_view(incoming) for incoming in found[: asked.limit]]
    return listed(entries, more=len(found) > asked.limit)


async def show_receipt(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with one of the account's receipts. Raises Problem."""
    query_of(exchange.query, frozenset())
    found = await deps.store.incoming(exchange.parameters["id"])
    if found is None or found.account_id != exchange.account_id:
        raise Problem("not_found", "there is no such receipt of yours")
    return Told(receipt_view(found))


def receipt_view(incoming: Incoming) -> dict[str, Any]:
    """Return a receipt as its account reads it."""
    return {
        "id": incoming.id,
        "at": utc_text(incoming.at_ms),
        "state": incoming.state.value,
        "amount": format_amount(incoming.amount_base),
        "refunded": format_amount(incoming.refunded_base),
        "refundable": incoming.refundable,
        "topup": incoming.topup_id,
        "asset": incoming.asset,
        "value": format_amount(incoming.value_base),
        "from": checksum(Address(incoming.sender)),
        "till": checksum(Address(incoming.till)),
        "transaction": hex_or_none(incoming.tx_hash),
        "log_index": incoming.log_index,
        "block_number": incoming.block_number,
        "block_time": utc_text(incoming.block_time_s * 1000),
    }


ENDPOINTS = (
    Endpoint(
        "GET", "/v1/receipts", "What came in for the account", list_receipts, page(RECEIPT), scope=READ, query=PAGE
    ),
    Endpoint("GET", "/v1/receipts/{id}", "One of them", show_receipt, RECEIPT, scope=READ, problems=("not_found",)),
)


def endpoints(deps: ApiDeps) -> tuple[Endpoint, ...]:
    """Return the routes of a service that takes money in, none of another."""
    return ENDPOINTS if deps.deposits is not None else ()

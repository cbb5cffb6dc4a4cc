"""Payments as the operator sees them, and the two decisions that are theirs: a held dispute, and what nothing proves.

Must not know how a payment moves.  Theory: everything known of a payment is one answer, so nobody has to join tables in
their head while money is stuck.
"""

from typing import Any

from contracts.codec import to_hex
from gateway.core.commands import ResolveDispute
from gateway.core.decide_close import NO_CHAIN
from gateway.core.payment import Charge
from gateway.core.problems import Problem
from gateway.core.records import Payment
from gateway.flow.unproven import Said
from gateway.operator import describe
from gateway.operator.paging import PAGE_MAX, before_of, listed
from gateway.operator.params import Params
from gateway.operator.posting import post
from gateway.operator.services import Services
from gateway.store import columns as col
from gateway.store import queries


async def payments_list(services: Services, params: Params) -> dict[str, Any]:
    """Return payments, the newest first; of one account, or only those whose hold is open."""
    limit = params.number("limit", 50, PAGE_MAX, low=1)
    account_id, only_open = params.optional_identifier("account"), params.flag("open")
    page: dict[str, Any] = {"before": before_of(params), "limit": limit}
    if account_id is None:
        rows = await services.store.query(queries.PAYMENTS, {**page, "open": int(only_open)})
    elif only_open:
        raise Problem("bad_request", "open and account cannot be asked for together", "open")
    else:
        rows = await services.store.query(queries.PAYMENTS_OF_ACCOUNT, {**page, "account_id": account_id})
        if not rows and account_id not in services.store.view.agent_accounts:
            raise Problem("not_found", f"there is no account {account_id}")
    payments = [describe.payment(col.payment_from(tuple(row.values()))) for row in rows]
    return listed("payments", payments, limit)


async def payments_show(services: Services, params: Params) -> dict[str, Any]:
    """Return everything about one payment."""
    payment = await _payment(services, params.identifier("payment"))
    return {"payment": await whole_payment(services, payment)}


async def _payment(services: Services, payment_id: str) -> Payment:
    payment = await services.store.payment(payment_id)
    if payment is None:
        raise Problem("not_found", f"there is no payment {payment_id}")
    return payment


async def payments_resolve(services: Services, params: Params) -> dict[str, Any]:
    """Close a held dispute: `captured`, the agent pays, or `refunded`, the house does.

    With `left` end a payment that its chain calls used and nothing proves: that much left the wallet for it (nothing, where
    it was called off: then the hold goes back), `tx` the transaction where there is one, `resolution` how that is known.
    """
    wanted = params.text("charge")
    charge = next((each for each in (Charge.CAPTURED, Charge.REFUNDED) if each.value == wanted), None)
    if charge is None:
        raise Problem("bad_resolution", "a dispute ends captured or refunded", "charge")
    payment_id = params.identifier("payment")
    if params.optional_text("left") is not None:
        return {"payment": await whole_payment(services, await _resolve_unproven(services, params, payment_id, charge))}
    if params.optional_text("tx") is not None or params.optional_text("resolution") is not None:
        raise Problem("bad_request", "a dispute is decided by its charge alone; tx and resolution go with left", "left")
    command = ResolveDispute(payment_id, charge, params.by, services.clock.now_ms())
    done = await post(services, command)
    if done.payment is None:
        raise AssertionError("a resolution leaves a payment")
    return {"payment": await whole_payment(services, done.payment)}


async def _resolve_unproven(services: Services, params: Params, payment_id: str, charge: Charge) -> Payment:
    said = Said(
        charge=charge,
        left_base=params.amount("left", allow_zero=True),
        tx_hash=params.optional_hash("tx"),
        words=params.text("resolution"),
        by=params.by,
    )
    terms = (await _payment(services, payment_id)).authorization
    if terms is None:
        raise Problem("not_unproven", NO_CHAIN)
    resolver = services.unproven.get(terms.chain_id)
    if resolver is None:
        raise Problem("not_ready", f"only a running gateway with chain {terms.chain_id} can see it: start it, then ask")
    return await resolver.resolve(payment_id, said)


async def whole_payment(services: Services, payment: Payment) -> dict[str, Any]:
    """Return a payment with its evidence, attempts, transfers and journal rows, and the servers that it was made for."""
    store, of_payment = services.store, {"payment_id": payment.id}
    evidence = [describe.evidence(row) for row in await store.query(queries.EVIDENCE_OF_PAYMENT, of_payment)]
    return {
        **describe.payment(payment),
        "tx_hash": next((row["tx_hash"] for row in evidence if row["tx_hash"] is not None), None),
        "token": None if payment.authorization is None else to_hex(payment.authorization.token),
        "evidence": evidence,
        "attempts": [describe.attempt(row) for row in await store.query(queries.ATTEMPTS_OF_PAYMENT, of_payment)],
        "transfers": [describe.transfer(row) for row in await store.query(queries.TRANSFERS_OF_PAYMENT, of_payment)],
        "journal": [describe.journal_row(row) for row in await store.query(queries.JOURNAL_OF_PAYMENT, of_payment)],
        "servers": [row["id"] for row in await store.query(queries.SERVERS_OF_PAYMENT, of_payment)],
    }

"""Servers as agents read them: where each is, until when, what it cost and costs, and how its payments stand.

Must not know handlers.  Theory: the state of a server and the states of its money are different facts and stand apart, so
no reader has to guess which of them a word is about.
"""

from typing import Any

from gateway.api import examples
from gateway.api.deps import ApiDeps
from gateway.api.plans import neutral_of
from gateway.api.schemas import AMOUNT, FLAG, INTEGER, TEXT, TIME, choice, maybe, named, record
from gateway.api.views import time_or_none
from gateway.core.money import format_amount
from gateway.core.payment import Charge, Delivery, Transfer
from gateway.core.records import Payment
from gateway.core.renewal import STUCK, Why, lapse_reason
from gateway.core.renewal_claim import RenewalClaim
from gateway.core.server import Server, ServerState, Wanted
from gateway.core.times import utc_text
from gateway.server_ports import Action

PAYMENT = record(id=TEXT, delivery=choice(*Delivery), transfer=choice(*Transfer), charge=choice(*Charge))
_SERVER = record(
    id=TEXT,
    name=TEXT,
    state=choice(*ServerState),
    reason=TEXT,
    wanted=choice(*Wanted),
    vendor=TEXT,
    plan=TEXT,
    region=maybe(TEXT),
    image=maybe(TEXT),
    address=maybe(TEXT),
    ref={**maybe(TEXT), "description": "the vendor's own id of it"},
    expires_at={**maybe(TIME), "description": "until when it is paid for; null while it is paid as it runs"},
    expires_because={**maybe(TEXT), "description": "why it ends then, as far as that is known now"},
    keep_until=maybe(TIME),
    auto_renew=FLAG,
    max_total=maybe(AMOUNT),
    spent={**AMOUNT, "description": "captured so far, renewals and actions included"},
    held=AMOUNT,
    payment={**maybe(PAYMENT), "description": "the newest payment of its order"},
    renewal=record(state=choice("none", "open", "stuck"), payment_id=maybe(TEXT)),
    fleet=maybe(TEXT),
    quote=maybe(TEXT),
    created_at=TIME,
    ready_at=maybe(TIME),
    ended_at=maybe(TIME),
    as_of={**TIME, "description": "when its vendor last showed it, or it last changed"},
    version=INTEGER,
    links={
        **record(self=TEXT, proxy=maybe(TEXT)),
        "description": "`proxy`: the vendor's own route of it, below this gateway",
    },
)

SERVER = named("Server", _SERVER, examples.SERVER)


async def server_view(deps: ApiDeps, server: Server) -> dict[str, Any]:
    """Return a server as its agent reads it."""
    cost = await deps.store.server_cost(server)
    payment = None if server.payment_id is None else await deps.store.payment(server.payment_id)
    return {
        "id": server.id,
        "name": server.name,
        "state": server.state.value,
        "reason": server.reason,
        "wanted": server.wanted.value,
        "vendor": server.vendor,
        "plan": f"{server.vendor}/{server.plan}",
        "region": server.region or None,
        "image": server.image or None,
        "address": server.address or None,
        "ref": server.ref,
        "expires_at": time_or_none(server.expires_at_ms),
        "expires_because": _because(server),
        "keep_until": time_or_none(server.keep_until_ms),
        "auto_renew": server.auto_renew,
        "max_total": None if server.max_total_base is None else format_amount(server.max_total_base),
        "spent": format_amount(cost.captured_base),
        "held": format_amount(cost.held_base),
        "payment": None if payment is None else _payment_view(payment),
        "renewal": await _renewal_view(deps, server),
        "fleet": server.fleet_id,
        "quote": server.quote_id,
        "created_at": utc_text(server.created_at_ms),
        "ready_at": time_or_none(server.ready_at_ms),
        "ended_at": time_or_none(server.ended_at_ms),
        "as_of": utc_text(neutral_of(deps).seeing.as_of_ms(server)),
        "version": server.version,
        "links": {"self": f"/v1/servers/{server.id}", "proxy": _proxy_link(deps, server)},
    }


def _because(server: Server) -> str | None:
    """Return why its paid time ends when it does, or why it ended; None where it goes on, or nobody knows."""
    if not server.open:
        return server.reason or None
    if server.expires_at_ms is None:
        return None
    known = lapse_reason(server)
    if known:
        return known
    if not server.auto_renew:
        return Why.NOT_RENEWED.value
    over = server.keep_until_ms is not None and server.expires_at_ms >= server.keep_until_ms
    return Why.KEEP_UNTIL.value if over else None


def _payment_view(payment: Payment) -> dict[str, Any]:
    return {
        "id": payment.id,
        "delivery": payment.axes.delivery.value,
        "transfer": payment.axes.transfer.value,
        "charge": payment.axes.charge.value,
    }


async def _renewal_view(deps: ApiDeps, server: Server) -> dict[str, Any]:
    claim = RenewalClaim.read(server.renewal)
    if claim is None:
        return {"state": "none", "payment_id": None}
    claimed = await deps.store.claimed(server.account_id, claim.key)
    state = "stuck" if STUCK in server.warned else "open"
    return {"state": state, "payment_id": None if claimed is None else claimed.payment_id}


def _proxy_link(deps: ApiDeps, server: Server) -> str | None:
    """Return where the vendor's own API tells of it. No secret of the server's is in it (P10)."""
    vendor = neutral_of(deps).servers.get(server.vendor)
    if vendor is None or server.ref is None:
        return None
    return f"/proxy/{server.vendor}{vendor.ask(Action.SHOW, server.ref, {}).target}"

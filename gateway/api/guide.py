"""`/llms.txt` and `/.well-known/agent.json`: what an agent that reads nothing else needs, as a page and as data.

Must not know handlers.  Theory: whoever has this page and a key must get through a server's whole life; so it shows the
calls in their order with their bodies, names what money does at each, and says what to do when an answer does not come.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.api.endpoint import Endpoint
from gateway.api.proxy import PREFIX
from gateway.core.routes import Pricing
from gateway.flow.call import Served
from gateway.server_ports import Feature, ServerVendor

SUMMARY = (
    "One key and one prepaid balance for servers that are sold for crypto. Say what you need, get a quote, get a server, keep it "
    "as long as you want it and never longer, at any vendor. Money is held until the vendor has really been paid, and goes "
    "back if it never is. Or send a vendor's own requests to /proxy/<vendor>."
)


def llms_text(endpoints: Iterable[Endpoint], vendors: Mapping[str, Served], servers: Mapping[str, ServerVendor]) -> str:
    """Return what a language model needs to use this gateway, on one page."""
    return "\n".join(
        part.strip("\n") + "\n"
        for part in (
            f"# Agent payment gateway\n\n> {SUMMARY}\n",
            _BASICS,
            _SERVERS if servers else "",
            _what_each_can(servers),
            _proxy_part(vendors),
            _MONEY,
            _TOP_UP if any(each.path == TOP_UP_ROUTE for each in endpoints) else "",
            _TROUBLE,
        )
        if part
    )


def agent_document(
    endpoints: Iterable[Endpoint], vendors: Mapping[str, Served], servers: Mapping[str, ServerVendor]
) -> dict[str, Any]:
    """Return the same as data: where things are, how to show the key, and what can be done at which vendor."""
    return {
        "name": "agent-payment-gateway",
        "description": SUMMARY,
        "documentation": {"llms": "/llms.txt", "openapi": "/openapi.json"},
        "authentication": {
            "schemes": ["bearer", "x-api-key", "basic"],
            "header": "Authorization: Bearer <key>",
        },
        "money": {"currency": "USD", "format": "decimal string, at most six decimals", "cap_header": "X-Max-Charge"},
        "idempotency_header": "Idempotency-Key",
        "mcp": {"command": "gateway mcp", "transports": ["stdio", "streamable-http"]},
        "vendors": {
            name: {
                "proxy": PREFIX + name,
                "features": _features(servers[name]) if name in servers else None,
                "billing": servers[name].features.billing.value if name in servers else None,
            }
            for name, _ in sorted(vendors.items())
        },
        "routes": [
            {"method": each.method, "path": each.path, "summary": each.summary, "scope": each.scope}
            for each in endpoints
        ],
    }


def _features(vendor: ServerVendor) -> dict[str, str]:
    return {feature.value: vendor.features.does[feature] for feature in Feature}


def _what_each_can(servers: Mapping[str, ServerVendor]) -> str:
    if not servers:
        return ""
    lines = [
        "## What each vendor can do",
        "",
        "Anything else answers 501 `capability_missing` and names the vendors that can.",
        "",
    ]
    for name, vendor in sorted(servers.items()):
        can = ", ".join(feature.value for feature in Feature if vendor.features.can(feature)) or "create"
        lines.append(f"- {name} ({vendor.features.billing.value}): {can}")
    return "\n".join(lines)


def _proxy_part(vendors: Mapping[str, Served]) -> str:
    if not vendors:
        return ""
    lines = [_PROXY.strip("\n"), ""]
    for name, vendor in sorted(vendors.items()):
        timed = ", charged by time" if any(route.pricing is Pricing.METERED for route in vendor.routes) else ""
        lines.append(f"- {PREFIX}{name}: {len(vendor.routes)} routes{timed}")
    return "\n".join(lines)


TOP_UP_ROUTE = "/v1/topups"

_TOP_UP = """
## More balance

- `POST /v1/topups` {"amount": "5.00"} answers 402 with all that a wallet needs: x402 version 2 (header PAYMENT-REQUIRED) and 1 \
(the body), and MPP (WWW-Authenticate). Pay it with any stock client, which repeats the request by itself with the payment. `GET \
/v1/topups` shows what you bought. Fixed amounts answer a plain GET: `/v1/topups/packs/<name>`.
- 200: paid and in a block; `credit` is `pending` until that block is final, then `available`. 202: nobody knows yet; do not \
pay again, ask the address in `Location`. 402 again: nothing was taken. 409: this order has another payment, and yours was not \
touched.
- No key? Pay without one: the paying wallet's account is opened. `POST /v1/wallet-keys` gives it a key for a signature \
(header SIGN-IN-WITH-X).
- `POST /v1/refunds` {"topup": "top_..."} with an Idempotency-Key sends what you have not used back to the wallet that \
paid; it takes a key with the scope `proxy` and no budget. `GET /v1/deposits` tells of plain transfers, \
`GET /v1/receipts` what came in.
"""

_BASICS = """
## Basics

- Send your API key as `Authorization: Bearer <key>` (or `X-Api-Key`).
- Bodies and answers are JSON. Money is a decimal string in USD ("9.990000"); an hourly price may have more \
decimals. Times are RFC 3339 in UTC.
- An error is an RFC 9457 problem document: branch on `code`; `detail` says what is wrong, `field` where, `remedy` \
what to do.
- Lists answer {"entries": [...], "next": cursor or null}; ask again with `?after=<next>`.
- `Idempotency-Key: <your own text>` on a POST makes it safe to send again. POST /v1/servers, POST /v1/fleets and \
restoring a snapshot to a new server demand one.
- `X-Max-Charge: 5.00` refuses what costs more at first, unpaid; and a fleet whose budget is more.
"""

_SERVERS = """
## A server, from need to end

1. What have I got? `GET /v1/balance`

2. What is there? `GET /v1/plans?min_memory_mib=2048&max_hourly=0.05` (cheapest first; costs nothing). Other \
filters: min_vcpu, min_disk_gib, region, image, vendor, feature, sandbox.

3. What would it cost? Spends nothing; binds the price until `expires_at`, for any number of orders:
`POST /v1/quotes` {"need": {"min_vcpu": 1, "min_memory_mib": 1024, "for_s": 86400, "features": ["exec"]}}
A need may have min_vcpu, min_memory_mib, min_disk_gib, region, image, max_hourly, vendors, not_vendors, \
features (ask for `credentials`, `ssh_keys` or `exec`, else you may get a server with no way in), for_s (how long \
you will want it: for comparing prices, not a limit), sandbox (true: plans made for trying will do). Or send \
{"plan": "vendor/plan"}. Optional beside it: region, image, ssh_keys, user_data, minutes (how much time to prepay \
where time is bought by the minute).

4. An SSH key, if you want one on it: `POST /v1/ssh-keys` {"name": "me", "public_key": "ssh-ed25519 AAAA..."} -> id \
`sshk_...`

5. Rent it, and wait until it can be used: `POST /v1/servers?wait=running&timeout_s=300` with `Idempotency-Key: \
rent-1`
{"quote": "quo_...", "name": "box-1", "keep_until": "2027-01-31T00:00:00Z", "max_total": "20.00"}
With "need", "plan" or "snapshot" in place of "quote" you may also give the optional members of step 3; auto_renew \
goes with any.
-> {"id": "srv_...", "state": "running", "address": "...", ...}. Another state: not ready yet, see 6; but `failed` \
is an end: `reason` says why, and nothing more will come.

6. Wait on: `GET /v1/servers/srv_...?wait=running&timeout_s=300` (at most 300 s; also wait=settled). Header `X-Wait` \
says reached, ended or timeout. Only this and step 5 wait; look again for snapshots, fleets and actions. Or follow \
events: `GET /v1/servers/srv_...` or `GET /v1/events` with `Accept: text/event-stream`; a stream begins now, \
`Last-Event-ID: evt_...` makes it begin after that event.

7. Get in: `GET /v1/servers/srv_.../credentials`. Run a command where the vendor has `exec`: `POST \
/v1/servers/srv_.../exec` {"command": "uname -a"} -> {"job": {"state", "exit_code", "stdout", "stderr"}}; \
{"background": true} for long ones, then `GET /v1/servers/srv_.../jobs/<id>`. Files: `GET` and `PUT \
/v1/servers/srv_.../files?path=/root/x`.

8. Start, stop, reboot: `POST /v1/servers/srv_.../actions` {"action": "reboot"}. Some vendors charge for it; time \
that was prepaid is not given back.

9. Keep it: with `keep_until` the gateway keeps paying for it and destroys it then, where the vendor can; with \
"auto_renew": true alone it keeps paying. Never above `max_total`. Without either, what is paid by the hour or \
minute runs until you destroy it or your balance ends, and what is prepaid ends with its time. Events \
`server.warning` tell before an end.
Change it: `PATCH /v1/servers/srv_...` {"keep_until": "...", "auto_renew": false, "max_total": "30.00"} (null takes \
a limit away).
Buy paid time now, where the vendor has `renew`: `POST /v1/servers/srv_.../renewals` {"until": "..."}, or {"units": \
1}: a unit is the vendor's, one minute or one whole term (GET /v1/vendors says which). `expires_at` moves when the \
vendor has done it, at some only after work of its staff; `server.renewal_failed` says when it did not.

10. Snapshots, where the vendor has them: `POST /v1/servers/srv_.../snapshots` {"name": "before"}; wait until it is \
`available` (`GET /v1/snapshots/snp_...`). Back in place: stop the server, wait for `stopped`, `POST \
/v1/snapshots/snp_.../restore` {}, start it. To a new server: `POST /v1/servers` {"snapshot": "snp_...", "name": \
"...", "max_total": "..."}. `DELETE /v1/snapshots/snp_...` ends one; destroying a server may leave a snapshot that \
the vendor makes by itself.

11. End it: `DELETE /v1/servers/srv_...`, then wait for `destroyed`. Where a vendor sells terms that cannot be ended \
this answers 501: PATCH {"auto_renew": false, "keep_until": null}, and it ends with its term, at `expires_at`.

States: ordering, order_unknown, provisioning, running, stopping, stopped, starting, rebooting, suspended, grace, \
error, unknown, destroying. Ended: destroyed, lapsed (paid time ran out; `reason` says why), failed (never came to \
be), lost (the vendor denies it). `order_unknown` means that a vendor may have made it: nothing else is bought until \
that is known. Just wait.

Several at once: `POST /v1/fleets` {"name": "f", "count": 3, "need": {...}, "until": "...", "budget": "50.00"} keeps \
three alive until then and replaces those that fail, at any vendor, for at most the budget. `DELETE \
/v1/fleets/flt_...` ends it and its servers.

Be told: `POST /v1/webhooks` {"url": "https://...", "events": ["server.*", "balance.*"]} (Standard Webhooks \
signatures). Events about one record come in order, and again while you do not answer 2xx: handle each id once.

All yours: `GET /v1/servers?open=true`, `/v1/snapshots`, `/v1/ssh-keys`, `/v1/fleets`, `/v1/webhooks`.
"""

_PROXY = """
## A vendor's own API

Use the vendor's own documentation with its origin replaced by the path below. Where its scripts log in, the \
password is your API key; the API key as Bearer works too. `Prefer: quote` answers with the price and spends \
nothing. GET /v1/vendors says what each can do and what is refused here, with the reason; POST /v1/explain-402 says \
what a vendor's 402 means and whether it would be paid.
"""

_MONEY = """
## Money

- Answers say `X-Balance-Available`; one that spends also `X-Payment-Id` and `X-Charge`: what is held for it at first.
- Money is held first and charged when the vendor has provably been paid; what a vendor never collects comes back. \
GET /v1/payments/{id} shows where a payment is; a server's `state` and its `payment` are separate things.
- What is charged by time runs until you destroy it, or until your balance cannot hold its next period: then it is \
stopped or destroyed. `X-Balance-Low: <time>` on an answer warns of that.
- GET /v1/statement lists every entry: credit, hold, capture, void. A capture takes its amount and ends its hold: \
the rest of the hold is free again without an entry of its own.
"""

_TROUBLE = """
## When something goes wrong

- No answer, 503 or 504 `outcome_unknown`: send the same request again with the same Idempotency-Key. You are not \
charged twice.
- 402 `insufficient_balance`: the balance does not cover it. 409 `price_above_max_charge`: dearer than your cap. 409 \
`quote_expired`: ask anew.
- 409 `no_plan_fits`: `candidates_lost` says why each plan lost.
- 502 `price_unknown`: the operator has not approved that price; another plan or vendor will do, trying again will \
not.
- 429: wait as long as Retry-After says.
- The same as tools for MCP: `gateway mcp`. GET /openapi.json describes every route.
"""

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


def llms_text(vendors: Mapping[str, Served], servers: Mapping[str, ServerVendor]) -> str:
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


_BASICS = """
## Basics

- Send your API key as `Authorization: Bearer <key>` (or `X-Api-Key`).
- Bodies and answers are JSON. Money is a decimal string in USD ("9.990000"), times are RFC 3339 in UTC.
- An error is an RFC 9457 problem document: branch on `code`; `detail` says what is wrong, `field` where, `remedy`
  what to do.
- Lists answer {"entries": [...], "next": cursor or null}; ask again with `?after=<next>`.
- `Idempotency-Key: <your own text>` on a POST makes it safe to send again. POST /v1/servers and /v1/fleets demand one.
- `X-Max-Charge: 5.00` refuses anything dearer, unpaid.
"""

_SERVERS = """
## A server, from need to end

1. What have I got? `GET /v1/balance`
2. What is there? `GET /v1/plans?min_memory_mib=2048&max_hourly=0.05` (cheapest first; costs nothing)
3. What would it cost? Spends nothing, binds the price until `expires_at`:
   `POST /v1/quotes` {"need": {"min_vcpu": 1, "min_memory_mib": 1024, "for_s": 86400}}
   (a need may have min_vcpu, min_memory_mib, min_disk_gib, arch, region, image, max_hourly, for_s, vendors,
   not_vendors,
   features, sandbox; or send {"plan": "vendor/plan"} instead)
4. An SSH key, if you want one on it: `POST /v1/ssh-keys` {"name": "me", "public_key": "ssh-ed25519 AAAA..."} -> id
   `sshk_...`
5. Rent it, and wait until it can be used:
   `POST /v1/servers?wait=running&timeout_s=300` with `Idempotency-Key: rent-1`
   {"quote": "quo_...", "name": "box-1", "keep_until": "2027-01-31T00:00:00Z", "max_total": "20.00"}
   (or "need"/"plan" in place of "quote"; optional: region, image, ssh_keys, user_data, minutes, auto_renew)
   -> {"id": "srv_...", "state": "running", "address": "...", ...}. 202 and another state: it is not ready yet, see 6.
6. Wait on: `GET /v1/servers/srv_...?wait=running&timeout_s=300` (long poll). Header `X-Wait` says reached, ended or
   timeout.
   Or follow events: `GET /v1/servers/srv_...` or `GET /v1/events` with `Accept: text/event-stream`.
7. Get in: `GET /v1/servers/srv_.../credentials`; run a command where the vendor does that:
   `POST /v1/servers/srv_.../exec` {"command": "uname -a"} -> {"job": {"state", "exit_code", "stdout", "stderr"}}
8. Start, stop, reboot: `POST /v1/servers/srv_.../actions` {"action": "reboot"}
9. Keep it: with `keep_until` (or "auto_renew": true) the gateway renews it, never past `keep_until`, never above
   `max_total`.
   Change that with `PATCH /v1/servers/srv_...` {"keep_until": "...", "auto_renew": false, "max_total": "30.00"}.
   Buy paid time now: `POST /v1/servers/srv_.../renewals` {"units": 1} (where `renew` is among the vendor's features).
10. Snapshots: `POST /v1/servers/srv_.../snapshots` {"name": "before"}; `GET /v1/snapshots`; `POST
    /v1/snapshots/snp_.../restore` {}
11. End it: `DELETE /v1/servers/srv_...`, then wait for `destroyed`. Where a vendor sells terms that cannot be ended,
    this answers 501:
    set {"auto_renew": false, "keep_until": null} and it ends with its term.

States: ordering, order_unknown, provisioning, running, stopping, stopped, starting, rebooting, suspended, grace,
error, unknown,
destroying; ended: destroyed, lapsed (paid time ran out; `reason` says why), failed (never came to be), lost (the
vendor denies it).
`order_unknown` means that a vendor may have made it: nothing else is bought until that is known. Just wait.

Several at once: `POST /v1/fleets` {"name": "f", "count": 3, "need": {...}, "until": "...", "budget": "50.00"} keeps
three alive until then,
replaces those that fail, at any vendor, for at most the budget. `DELETE /v1/fleets/flt_...` ends it.
Be told: `POST /v1/webhooks` {"url": "https://...", "events": ["server.*", "balance.*"]} (Standard Webhooks signatures).
"""

_PROXY = """
## A vendor's own API

Use the vendor's own documentation with its origin replaced by the path below. Where its scripts log in, the password
is your API
key; the API key as Bearer works too. `Prefer: quote` answers with the price and spends nothing. GET /v1/vendors says
what each can
do and what is refused here, with the reason; POST /v1/explain-402 says what a vendor's 402 means and whether it would
be paid.
"""

_MONEY = """
## Money

- Answers say `X-Balance-Available`; one that spends also `X-Payment-Id` and `X-Charge`.
- Money is held first and charged when the vendor has provably been paid; what a vendor never collects comes back.
  GET /v1/payments/{id} shows where a payment is; a server's `state` and its `payment` are separate things.
- What is charged by time runs until you destroy it, or until your balance cannot hold its next period: then it is
  stopped or
  destroyed. `X-Balance-Low: <time>` on an answer warns of that.
- GET /v1/statement lists every entry.
"""

_TROUBLE = """
## When something goes wrong

- No answer, 503 or 504 `outcome_unknown`: send the same request again with the same Idempotency-Key. You are not
  charged twice.
- 402 `insufficient_balance`: the balance does not cover it. 409 `price_above_max_charge`: dearer than your cap. 409
  `quote_expired`: ask anew.
- 409 `no_plan_fits`: `candidates_lost` says why each plan lost.
- 429: wait as long as Retry-After says.
- GET /openapi.json describes every route.
"""

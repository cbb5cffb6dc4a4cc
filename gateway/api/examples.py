"""What requests and answers look like: one example of each shape that /openapi.json names.

Must not know how any of it is made.  Theory: whoever reads a schema without an example guesses, and what is guessed about
money is wrong; a test holds each against its shape and against what the running service answers.
"""

from typing import Any, Final

Example = dict[str, Any]

_PAYMENT_ID: Final = "pay_01M82FFA16Q5BSPEDPY918G55G"
_SERVER_ID: Final = "srv_01M82FFA0K0DES0HY4ZMZQ8HB8"
_QUOTE_ID: Final = "quo_01M82FF9ZW1M7RHZGSYAVNEC17"
_KEY_ID: Final = "key_01M82FF94XHJFCH65KXKZ2P4SN"
_NOW: Final = "2026-11-22T20:34:29.011Z"
_LATER: Final = "2026-11-22T20:34:33.193Z"
_REF: Final = "6c487636-87fb-4999-8f3b-ef34edbf48c2"
_PUBLIC_KEY: Final = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh me@example"

# requests

NEED: Final[Example] = {"min_vcpu": 1, "min_memory_mib": 1024, "for_s": 86_400}
QUOTE_BODY: Final[Example] = {"need": NEED}
ORDER: Final[Example] = {
    "quote": _QUOTE_ID,
    "name": "box-1",
    "keep_until": "2027-01-31T00:00:00Z",
    "max_total": "20.00",
}
CHANGE: Final[Example] = {"keep_until": "2027-02-28T00:00:00Z", "max_total": "30.00"}
ACTION: Final[Example] = {"action": "reboot"}
EXEC: Final[Example] = {"command": "uname -a", "timeout_s": 30}
RENEWAL: Final[Example] = {"units": 1}
SNAPSHOT_BODY: Final[Example] = {"name": "before-upgrade"}
RESTORE: Final[Example] = {}
SSH_KEY_BODY: Final[Example] = {"name": "me", "public_key": _PUBLIC_KEY}
FLEET_BODY: Final[Example] = {
    "name": "workers",
    "count": 3,
    "need": NEED,
    "until": "2027-01-31T00:00:00Z",
    "budget": "50.00",
}
FLEET_CHANGE: Final[Example] = {"count": 2, "budget": "60.00"}
WEBHOOK_BODY: Final[Example] = {
    "url": "https://agent.example/hooks",
    "events": ["server.*", "balance.*"],
    "description": "tell the scheduler",
}
WEBHOOK_CHANGE: Final[Example] = {"disabled": False}
KEY_BODY: Final[Example] = {
    "name": "worker",
    "scopes": ["read"],
    "budgets": [{"limit": "20.00", "window_s": 86_400}],
}
EXPLAIN: Final[Example] = {
    "vendor": "vpsagent",
    "method": "POST",
    "path": "/rent",
    "request_body": '{"sku": "sandbox_1h"}',
    "response": {
        "status": 402,
        "headers": {"Content-Type": "application/json"},
        "body": '{"x402Version": 1, "accepts": []}',
    },
}

# what can be had

PLAN: Final[Example] = {
    "id": "vrtx/1",
    "vendor": "vrtx",
    "plan": "1",
    "name": "1 vCPU",
    "vcpu": 1,
    "memory_mib": 3072,
    "disk_gib": 20,
    "regions": ["new-york-usa-1", "frankfurt-de-4"],
    "images": [{"id": "ubuntu-24.04", "name": "Ubuntu 24.04 LTS", "ttl_s": None}],
    "billing": "hourly",
    "price": {
        "hourly": "0.0053",
        "monthly": "3.920000",
        "setup": "0.000000",
        "term": None,
        "term_s": None,
        "currency": "USD",
        "as_of": "2026-11-22T20:34:28.152Z",
        "source": "api",
    },
    "sandbox": False,
    "available": True,
}
VENDOR: Final[Example] = {
    "name": "vrtx",
    "base_path": "/proxy/vrtx",
    "payment": ["account"],
    "capabilities": {
        "onboarding_without_human": "no",
        "auth": "bearer token from the console, no expiry documented; optional allow-list of addresses",
        "charged": "the account, postpaid by invoice, hourly or monthly; which of the two is not documented",
        "money_on_wire": "JSON numbers",
        "meaning_of_402": "overdue invoice",
        "catalogue": "plans, locations, templates of a location",
        "create_idempotency": "Idempotency-Key (UUID), 24 hours",
        "list_servers": "yes, in pages of at most 100",
        "bulk": "no",
        "power": "start, shutdown, restart, kill; repeated calls queue",
        "destroy": "yes, implied by the document; when it stops the bill is unknown",
        "extend": "implicit, by invoice",
        "snapshots": "unknown",
        "ssh_keys": "unknown",
        "root_password": "yes",
        "cloud_init": "no",
        "exec": "no",
        "webhooks": "server.installing, .running, .suspended, .deleted; none for a failure",
        "rate_limit": "120 in 60 s and 30 in 10 s, of the account",
        "async_states": "status null, installing, suspended; state running, stopped; password generating, ready",
    },
    "account": {
        "period_s": 3600,
        "rule": "started_units",
        "unit_s": 3600,
        "while_running": False,
        "warn_periods": 24,
        "when_unfunded": "destroy",
        "grace_s": 0,
    },
    "routes": [
        {
            "name": "create",
            "methods": ["POST"],
            "path": "/api/v2/servers",
            "pricing": "metered",
            "ceiling": "5.000000",
            "ownership": "creates",
            "secret": False,
            "retry": "keyed",
        }
    ],
    "health": {"state": "ok", "since": "2026-11-22T20:45:48.532Z", "reason": ""},
    "limits": {
        "rates": [{"limit": 120, "window_s": 60, "scope": "*"}, {"limit": 30, "window_s": 10, "scope": "*"}],
        "calls_at_once": 1000,
    },
    "features": {
        "list": "yes",
        "destroy": "yes",
        "start": "yes",
        "stop": "yes",
        "reboot": "yes",
        "renew": "no",
        "credentials": "yes",
        "ssh_keys": "unknown",
        "user_data": "no",
        "images": "yes",
        "regions": "yes",
        "exec": "no",
        "jobs": "no",
        "files": "no",
        "snapshots": "unknown",
        "snapshot_delete": "unknown",
        "restore_in_place": "unknown",
        "restore_to_new": "unknown",
    },
    "billing": "hourly",
    "unit_s": 3600,
    "renew": None,
    "snapshots": None,
    "hold_max_s": 3600,
    "refundable": "what is held for hours that have not begun when it is destroyed",
    "pays": "by_time",
    "name_pattern": "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?",
}
STALE: Final[Example] = {"vendor": "vpsagent", "as_of": "2026-11-22T14:15:00.000Z", "reason": "vendor_unreachable"}
QUOTE: Final[Example] = {
    "id": _QUOTE_ID,
    "vendor": "vrtx",
    "plan": PLAN,
    "region": "new-york-usa-1",
    "image": "ubuntu-24.04",
    "minutes": None,
    "lines": [{"what": "held for the first period; used at 0.0053 an hour", "amount": "0.005300"}],
    "first_charge": "0.005300",
    "running_cost": {"hourly": "0.0053", "monthly": "3.920000"},
    "refundable": "what is held for hours that have not begun when it is destroyed",
    "hold_max_s": 3600,
    "pays": "by_time",
    "expires_at": "2026-11-22T20:44:28.988Z",
    "candidates_lost": [
        {
            "plan": "litevps/814db0b6-0178-5354-9c3b-4ba00a51ec71",
            "reason": "memory",
            "detail": "needed are 1024 MiB of memory, it has 512",
        }
    ],
}

# servers

SERVER: Final[Example] = {
    "id": _SERVER_ID,
    "name": "box-1",
    "state": "running",
    "reason": "",
    "wanted": "kept",
    "vendor": "vrtx",
    "plan": "vrtx/1",
    "region": "new-york-usa-1",
    "image": "ubuntu-24.04",
    "address": "203.0.113.50",
    "ref": _REF,
    "expires_at": None,
    "expires_because": None,
    "keep_until": "2027-01-31T00:00:00.000Z",
    "auto_renew": True,
    "max_total": "20.000000",
    "spent": "0.000000",
    "held": "0.005300",
    "payment": {"id": _PAYMENT_ID, "delivery": "delivered", "transfer": "presented", "charge": "held"},
    "renewal": {"state": "none", "payment_id": None},
    "fleet": None,
    "quote": _QUOTE_ID,
    "created_at": _NOW,
    "ready_at": _LATER,
    "ended_at": None,
    "as_of": _LATER,
    "version": 3,
    "links": {"self": f"/v1/servers/{_SERVER_ID}", "proxy": f"/proxy/vrtx/api/v2/servers/{_REF}"},
}
CREDENTIALS: Final[Example] = {"username": "root", "password": "a-password-that-the-vendor-made"}
JOB: Final[Example] = {
    "id": "ab2bcb02-9d49-449f-8cd7-43e511da709c",
    "state": "done",
    "exit_code": 0,
    "stdout": "Linux box-1 6.12.0 x86_64 GNU/Linux\n",
    "stderr": "",
}
SNAPSHOT: Final[Example] = {
    "id": "snp_01KAP6A0B2C4D6E8F0G2H4J6K8",
    "server": _SERVER_ID,
    "vendor": "litevps",
    "ref": "before-upgrade",
    "name": "before-upgrade",
    "state": "available",
    "created_at": _LATER,
    "expires_at": None,
    "size_gib": None,
    "as_of": _LATER,
}
SSH_KEY: Final[Example] = {
    "id": "sshk_01KAP5T3A5B7C9D1E3F5G7H9J1",
    "name": "me",
    "public_key": _PUBLIC_KEY,
    "fingerprint": "SHA256:TGIk2D1DFZBKmjWssB2+Qdiona/OUK1TSuWAAHMK+n0",
    "installed": ["litevps"],
    "created_at": _NOW,
}
FLEET: Final[Example] = {
    "id": "flt_01KAP6F1G3H5J7K9M1N3P5Q7R9",
    "name": "workers",
    "state": "active",
    "reason": "",
    "count": 3,
    "alive": 3,
    "servers": [_SERVER_ID, "srv_01KAP6F2G4H6J8K0M2N4P6Q8R0", "srv_01KAP6F2H5J7K9M1N3P5Q7R9S1"],
    "until": "2027-01-31T00:00:00.000Z",
    "budget": "50.000000",
    "spent": "0.015900",
    "held": "0.015900",
    "made": 3,
    "created_at": _NOW,
    "ended_at": None,
    "need": NEED,
}

# being told

EVENT: Final[Example] = {
    "type": "server.running",
    "timestamp": _LATER,
    "data": {"id": "evt_412", "server_id": _SERVER_ID, "vendor": "vrtx", "state": "running", "ref": _REF},
}
WEBHOOK: Final[Example] = {
    "id": "hook_01KAP7A1B3C5D7E9F1G3H5J7K9",
    "url": "https://agent.example/hooks",
    "events": ["server.*", "balance.*"],
    "description": "tell the scheduler",
    "disabled": False,
    "disabled_reason": "",
    "created_at": _NOW,
    "deleted_at": None,
    "previous_secret_until": None,
}
SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwq1Yz0Xk5bNE="  # noqa: S105 - nobody's
NEW_WEBHOOK: Final[Example] = {**WEBHOOK, "secret": SECRET}
NEW_SECRET: Final[Example] = {"id": WEBHOOK["id"], "secret": SECRET}
TESTED: Final[Example] = {"id": WEBHOOK["id"], "event": "evt_413"}
DELIVERY: Final[Example] = {
    "event": "evt_412",
    "state": "delivered",
    "attempts": 1,
    "due_at": None,
    "last_status": 204,
    "last_error": "",
    "created_at": _LATER,
    "done_at": _LATER,
}

# money and rights

BALANCE: Final[Example] = {
    "account": "acc_agent",
    "currency": "USD",
    "available": "49.994700",
    "held": "0.005300",
    "spent": "0.000000",
    "refunded": "0.000000",
    "credited": "50.000000",
    "running": {
        "hourly": "0.005300",
        "things": [
            {
                "vendor": "vrtx",
                "ref": _REF,
                "name": "box-1",
                "kind": "1",
                "state": "running",
                "hourly": "0.0053",
                "held_until": "2026-11-22T21:15:01.000Z",
                "warned": False,
                "unfunded": False,
            }
        ],
        "runs_out_at": "2027-07-31T12:15:01.000Z",
    },
}
ENTRY: Final[Example] = {
    "id": "2",
    "at": _NOW,
    "kind": "hold",
    "amount": "0.005300",
    "payment_id": _PAYMENT_ID,
    "subject_id": _PAYMENT_ID,
    "hold_id": None,
    "journal_seq": 14,
}
PAYMENT: Final[Example] = {
    "id": _PAYMENT_ID,
    "created_at": _NOW,
    "closed_at": None,
    "vendor": "vrtx",
    "route": "create",
    "method": "POST",
    "path": "/api/v2/servers",
    "key_id": _KEY_ID,
    "request_id": "req_01a204f7a3c1269f7c59f210bc547a9d",
    "idempotency_key": f"create {_SERVER_ID} 0",
    "delivery": "delivered",
    "transfer": "presented",
    "charge": "held",
    "fault": "none",
    "vendor_status": 201,
    "disputed": False,
    "hold": "0.005300",
    "captured": "0.000000",
    "resource": {"vendor": "vrtx", "ref": _REF},
    "kind": "account",
    "authorization": None,
    "period": {
        "meter": "met_01M82FFA1N7Q2T4W6Y8A0C2E4G",
        "period": 1,
        "asset": "account:vrtx",
        "value": "0.005300",
        "settled": "0.000000",
        "starts_at": _NOW,
        "ends_at": "2026-11-22T21:15:00.000Z",
    },
}
RESOURCE: Final[Example] = {
    "vendor": "vrtx",
    "ref": _REF,
    "kind": "1",
    "state": "running",
    "expires_at": None,
    "as_of": _LATER,
    "payment_id": _PAYMENT_ID,
    "open_renewal": None,
}
PAYMENT_DETAIL: Final[Example] = {
    **PAYMENT,
    "tx_hash": None,
    "evidence": None,
    "sighting": None,
    "chain": None,
    "attempts": [],
    "entries": [ENTRY],
    "journal": [],
    "rental": RESOURCE,
    "server": _SERVER_ID,
}
KEY: Final[Example] = {
    "id": _KEY_ID,
    "name": "worker",
    "scopes": ["read"],
    "budgets": [
        {
            "id": "bud_01KAP5Q0B2C4D6E8F0G2H4J6K8",
            "limit": "20.000000",
            "used": "0.000000",
            "window_s": 86_400,
            "vendor": None,
            "route": None,
            "window_ends_at": None,
        }
    ],
    "created_at": _NOW,
    "revoked_at": None,
}
NEW_KEY: Final[Example] = {**KEY, "key": f"gk_{_KEY_ID}_{'x' * 43}"}
EXPLAINED: Final[Example] = {
    "meaning": "unknown",
    "would_pay": False,
    "why": "the challenge offers nothing",
    "rail": None,
    "amount_base": None,
    "amount": None,
    "asset": None,
    "network": None,
    "payee": None,
    "charge": None,
    "price_expected": None,
    "item": None,
    "problem": "no_offer",
    "checks": [{"check": "meaning", "passed": False, "detail": "the challenge offers nothing"}],
}

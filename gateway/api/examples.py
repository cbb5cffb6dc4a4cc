"""What requests and answers look like: one example of each shape that /openapi.json names.

Must not know how any of it is made.  Theory: whoever reads a schema without an example guesses, and what is guessed about
money is wrong; a test holds each against its shape and against what the running service answers.
"""

from typing import Any, Final

Example = dict[str, Any]

_PAYMENT_ID: Final = "pay_01KAP5RZ9XV7M3Q2T8W4B6N0CD"
_SERVER_ID: Final = "srv_01KAP5RZ8T2K5M9P3R7V1X4Y6Z"
_QUOTE_ID: Final = "quo_01KAP5RY4C6E8G0J2N4Q6S8V0W"
_KEY_ID: Final = "key_01KAP5Q0A1B2C3D4E5F6G7H8J9"
_NOW: Final = "2026-11-22T20:15:00.000Z"
_LATER: Final = "2026-11-22T20:15:06.412Z"
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
    "id": "cryptovps/vc2-1c-1gb",
    "vendor": "cryptovps",
    "plan": "vc2-1c-1gb",
    "name": "Cloud Compute 1 GB",
    "vcpu": 1,
    "memory_mib": 1024,
    "disk_gib": 25,
    "arch": None,
    "regions": ["ams", "fra"],
    "images": [],
    "billing": "hourly",
    "price": {
        "hourly": "0.0083",
        "monthly": "6.000000",
        "setup": "0.000000",
        "term": None,
        "term_s": None,
        "currency": "USD",
        "as_of": _NOW,
        "source": "api",
    },
    "sandbox": False,
    "available": True,
}
STALE: Final[Example] = {"vendor": "vpsagent", "as_of": "2026-11-22T14:15:00.000Z", "reason": "vendor_unreachable"}
QUOTE: Final[Example] = {
    "id": _QUOTE_ID,
    "vendor": "cryptovps",
    "plan": PLAN,
    "region": "ams",
    "image": None,
    "minutes": None,
    "lines": [{"what": "the first hour", "amount": "0.008300"}],
    "first_charge": "0.008300",
    "running_cost": {"hourly": "0.0083", "monthly": "6.000000"},
    "refundable": "what has not run of the period when it is destroyed",
    "hold_max_s": 3600,
    "pays": "by_time",
    "expires_at": "2026-11-22T20:25:00.000Z",
    "candidates_lost": [
        {"plan": "vrtx/1", "reason": "memory", "detail": "512 MiB, 1024 are needed"},
    ],
}

# servers

SERVER: Final[Example] = {
    "id": _SERVER_ID,
    "name": "box-1",
    "state": "running",
    "reason": "",
    "wanted": "kept",
    "vendor": "cryptovps",
    "plan": "cryptovps/vc2-1c-1gb",
    "region": "ams",
    "image": None,
    "address": "203.0.113.7",
    "ref": "c1f3a9d2",
    "expires_at": None,
    "expires_because": None,
    "keep_until": "2027-01-31T00:00:00.000Z",
    "auto_renew": True,
    "max_total": "20.000000",
    "spent": "0.000000",
    "held": "0.008300",
    "payment": {"id": _PAYMENT_ID, "delivery": "delivered", "transfer": "presented", "charge": "held"},
    "renewal": {"state": "none", "payment_id": None},
    "fleet": None,
    "quote": _QUOTE_ID,
    "created_at": _NOW,
    "ready_at": _LATER,
    "ended_at": None,
    "as_of": _LATER,
    "version": 4,
    "links": {"self": f"/v1/servers/{_SERVER_ID}", "proxy": "/proxy/cryptovps/servers/c1f3a9d2"},
}
CREDENTIALS: Final[Example] = {"username": "root", "password": "a-password-that-the-vendor-made"}
JOB: Final[Example] = {
    "id": "job-1",
    "state": "done",
    "exit_code": 0,
    "stdout": "Linux box-1 6.12.0 x86_64 GNU/Linux\n",
    "stderr": "",
    "truncated": False,
}
SNAPSHOT: Final[Example] = {
    "id": "snp_01KAP6A0B2C4D6E8F0G2H4J6K8",
    "server": _SERVER_ID,
    "vendor": "cryptovps",
    "ref": "bkp-41",
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
    "fingerprint": "SHA256:VnAd8uUxwpCI0gYvzMlMvDhoBbEOVfTmmVZqBTbFnZM",
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
    "spent": "0.024900",
    "held": "0.024900",
    "made": 3,
    "created_at": _NOW,
    "ended_at": None,
    "need": NEED,
}

# being told

EVENT: Final[Example] = {
    "type": "server.running",
    "timestamp": _LATER,
    "data": {"id": "evt_412", "server_id": _SERVER_ID, "vendor": "cryptovps", "state": "running", "ref": "c1f3a9d2"},
}
WEBHOOK: Final[Example] = {
    "id": "whk_01KAP7A1B3C5D7E9F1G3H5J7K9",
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
    "available": "49.991700",
    "held": "0.008300",
    "spent": "0.000000",
    "credited": "50.000000",
    "running": {
        "hourly": "0.008300",
        "things": [
            {
                "vendor": "cryptovps",
                "ref": "c1f3a9d2",
                "name": "box-1",
                "kind": "vc2-1c-1gb",
                "state": "running",
                "hourly": "0.0083",
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
    "amount": "0.008300",
    "payment_id": _PAYMENT_ID,
    "hold_id": None,
    "journal_seq": 14,
}
PAYMENT: Final[Example] = {
    "id": _PAYMENT_ID,
    "created_at": _NOW,
    "closed_at": None,
    "vendor": "cryptovps",
    "route": "deploy",
    "method": "POST",
    "path": "/servers",
    "key_id": _KEY_ID,
    "request_id": "5d0c2f4e8a1b4c3d",
    "idempotency_key": None,
    "delivery": "delivered",
    "transfer": "presented",
    "charge": "held",
    "fault": "none",
    "vendor_status": 202,
    "disputed": False,
    "hold": "0.008300",
    "captured": "0.000000",
    "resource": {"vendor": "cryptovps", "ref": "c1f3a9d2"},
    "kind": "account",
    "authorization": None,
    "period": {
        "meter": "mtr_01KAP5RZ9Y1A2B3C4D5E6F7G8H",
        "period": 1,
        "asset": "account:cryptovps",
        "value": "0.008300",
        "settled": "0.000000",
        "starts_at": _NOW,
        "ends_at": "2026-11-22T21:15:00.000Z",
    },
}
RESOURCE: Final[Example] = {
    "vendor": "cryptovps",
    "ref": "c1f3a9d2",
    "kind": "vc2-1c-1gb",
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

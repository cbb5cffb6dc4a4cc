"""The tools, as data: which route each one is, what it takes, whether it may spend, and whether it is done once.

Must not know MCP's wire or HTTP.  Theory: a row holds all that is true of a tool, so the list that a model reads, the
check of what it sends and the request that leaves cannot disagree.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 1}
LIST: Schema = {"type": "array", "items": TEXT}
AMOUNT: Schema = {
    "type": "string",
    "pattern": r"^(0|[1-9][0-9]{0,9})(\.[0-9]{1,6})?$",
    "description": "USD, a decimal in quotes",
}
TIME: Schema = {"type": "string", "format": "date-time", "description": "RFC 3339, UTC"}
STATE: Schema = {"type": "string", "description": "a server's state, such as running"}
NEED: Schema = {
    "type": "object",
    "additionalProperties": False,
    "description": "what the server must have; leave out what does not matter",
    "properties": {
        "min_vcpu": COUNT,
        "min_memory_mib": COUNT,
        "min_disk_gib": COUNT,
        "region": TEXT,
        "image": TEXT,
        "max_hourly": {"type": "string", "description": "USD an hour, a decimal in quotes"},
        "for_s": {**COUNT, "description": "for how many seconds it is needed: decides which plan is cheapest"},
        "vendors": LIST,
        "not_vendors": LIST,
        "features": {**LIST, "description": "such as exec, snapshots, reboot, ssh_keys, user_data, credentials"},
        "sandbox": {**FLAG, "description": "whether plans made for trying will do"},
    },
}
_CLAIM: Schema = {
    "type": "string",
    "pattern": "^[!-~]{1,200}$",
    "description": "choose one for each thing you want and send the same one when you try again: it is done once",
}
_CAP: Schema = {**AMOUNT, "description": "the most that this call may cost at first, in USD; dearer is refused unpaid"}
_SPEC: dict[str, Schema] = {
    "region": TEXT,
    "image": TEXT,
    "ssh_keys": {**LIST, "description": "ids of add_ssh_key"},
    "user_data": TEXT,
    "minutes": {**COUNT, "description": "time to prepay at first, where the vendor sells minutes"},
}
_NULLABLE: dict[str, Schema] = {
    "keep_until": {"anyOf": [TIME, {"type": "null"}]},
    "auto_renew": FLAG,
    "max_total": {"anyOf": [AMOUNT, {"type": "null"}]},
}
_LASTING: dict[str, Schema] = {
    "keep_until": {**TIME, "description": "the server is kept alive until then and destroyed then"},
    "auto_renew": FLAG,
    "max_total": {**AMOUNT, "description": "the most that it may cost altogether, in USD"},
}


@dataclass(frozen=True, slots=True)
class ApiTool:
    """One tool. Members of the arguments go into the path, the query and the body as named here.

    What `spends` demands a cap and an idempotency key; what `claims` the key alone.
    """

    name: str
    description: str
    method: str
    path: str
    query: Mapping[str, Schema] = field(default_factory=dict)
    body: Mapping[str, Schema] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    spends: bool = False
    claims: bool = False
    destroys: bool = False

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names in its path."""
        return tuple(part[1:-1] for part in self.path.split("/") if part.startswith("{"))

    @property
    def input_schema(self) -> Schema:
        """What the arguments must be, as JSON Schema."""
        properties = {**dict.fromkeys(self.parameters, TEXT), **self.query, **self.body}
        required = [*self.parameters, *self.required]
        demanded = {"idempotency_key": _CLAIM} if self.spends or self.claims else {}
        if self.spends:
            demanded["max_charge"] = _CAP
        properties |= demanded
        required += demanded
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    def target(self, arguments: Mapping[str, Any]) -> str:
        """Return path and query of the request for arguments that fit the schema."""
        path = self.path
        for name in self.parameters:
            path = path.replace("{" + name + "}", quote(arguments[name], safe=""))
        given = {name: _text(arguments[name]) for name in self.query if name in arguments}
        return path + ("?" + urlencode(given) if given else "")

    def content(self, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the request's body, None for a method without one."""
        if self.method in {"GET", "DELETE"}:
            return None
        return {name: arguments[name] for name in self.body if name in arguments}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


_PAGE: dict[str, Schema] = {"after": {**TEXT, "description": "`next` of the page before"}, "limit": COUNT}
_WAIT: dict[str, Schema] = {"wait": STATE, "timeout_s": {**COUNT, "description": "the longest wait"}}
_SERVER = "/v1/servers/{server_id}"

TOOLS: tuple[ApiTool, ...] = (
    ApiTool("get_balance", "What is available, held and spent, and what runs.", "GET", "/v1/balance"),
    ApiTool("list_statement", "Every entry of the account's statement.", "GET", "/v1/statement", _PAGE),
    ApiTool("list_payments", "Payments, newest first.", "GET", "/v1/payments", _PAGE),
    ApiTool("get_payment", "One payment with its evidence.", "GET", "/v1/payments/{payment_id}"),
    ApiTool("list_vendors", "The vendors and what each can and cannot do.", "GET", "/v1/vendors"),
    ApiTool(
        "list_plans",
        "Plans of all vendors that fit, cheapest first. Reading them costs nothing.",
        "GET",
        "/v1/plans",
        {
            "min_vcpu": COUNT,
            "min_memory_mib": COUNT,
            "min_disk_gib": COUNT,
            "region": TEXT,
            "max_hourly": TEXT,
            "vendor": TEXT,
            "feature": TEXT,
            "sandbox": FLAG,
            **_PAGE,
        },
    ),
    ApiTool(
        "quote_server",
        "A binding quote for a need, or for one plan as vendor/plan: what it costs, what comes back, why others lost. Spends "
        "nothing; buy with the quote's id before it expires.",
        "POST",
        "/v1/quotes",
        body={"need": NEED, "plan": TEXT, **_SPEC},
    ),
    ApiTool(
        "create_server",
        "Order a server: give exactly one of quote, plan or need. wait=running answers once it can be used.",
        "POST",
        "/v1/servers",
        _WAIT,
        {"name": TEXT, "quote": TEXT, "plan": TEXT, "need": NEED, "snapshot": TEXT, **_SPEC, **_LASTING},
        ("name",),
        spends=True,
    ),
    ApiTool(
        "list_servers",
        "The account's servers.",
        "GET",
        "/v1/servers",
        {"state": STATE, "vendor": TEXT, "open": FLAG, **_PAGE},
    ),
    ApiTool("get_server", "One server; with wait it answers when that state is reached.", "GET", _SERVER, _WAIT),
    ApiTool(
        "update_server",
        "Change how long a server is kept, whether it renews, and what it may cost altogether; null takes a limit away.",
        "PATCH",
        _SERVER,
        body={"name": TEXT, **_NULLABLE},
    ),
    ApiTool("destroy_server", "Destroy a server and its data.", "DELETE", _SERVER, destroys=True),
    ApiTool(
        "act_on_server",
        "Start, stop or reboot a server. Some vendors charge for it.",
        "POST",
        _SERVER + "/actions",
        body={"action": {"type": "string", "enum": ["start", "stop", "reboot"]}},
        required=("action",),
        spends=True,
    ),
    ApiTool("get_credentials", "The ways into a server. They are secrets.", "GET", _SERVER + "/credentials"),
    ApiTool(
        "run_command",
        "Run a command on a server, where the vendor does that. Never repeated by itself: see list_jobs after a lost answer.",
        "POST",
        _SERVER + "/exec",
        body={"command": TEXT, "timeout_s": COUNT, "background": FLAG},
        required=("command",),
    ),
    ApiTool("list_jobs", "The commands that ran or run on a server.", "GET", _SERVER + "/jobs"),
    ApiTool("get_job", "One command with its output.", "GET", _SERVER + "/jobs/{job_id}"),
    ApiTool("cancel_job", "Cancel a running command.", "DELETE", _SERVER + "/jobs/{job_id}", destroys=True),
    ApiTool(
        "renew_server",
        "Buy more of a server's paid time now: whole units of its vendor, or until a time.",
        "POST",
        _SERVER + "/renewals",
        body={"units": COUNT, "until": TIME},
        spends=True,
    ),
    ApiTool("list_renewals", "What a server's renewals cost and became.", "GET", _SERVER + "/renewals"),
    ApiTool(
        "create_snapshot",
        "Make a snapshot of a server.",
        "POST",
        _SERVER + "/snapshots",
        body={"name": TEXT},
        spends=True,
    ),
    ApiTool("list_snapshots", "The account's snapshots.", "GET", "/v1/snapshots", _PAGE),
    ApiTool("get_snapshot", "One snapshot.", "GET", "/v1/snapshots/{snapshot_id}"),
    ApiTool("delete_snapshot", "Delete a snapshot.", "DELETE", "/v1/snapshots/{snapshot_id}", destroys=True),
    ApiTool(
        "restore_snapshot",
        "Restore a snapshot: in place, or to a new server, as its vendor does; create_server with snapshot bounds a new one.",
        "POST",
        "/v1/snapshots/{snapshot_id}/restore",
        body={"name": TEXT},
        spends=True,
        destroys=True,
    ),
    ApiTool(
        "add_ssh_key",
        "Keep a public SSH key; name its id when you order a server.",
        "POST",
        "/v1/ssh-keys",
        body={"name": TEXT, "public_key": TEXT},
        required=("name", "public_key"),
    ),
    ApiTool("list_ssh_keys", "The account's public keys.", "GET", "/v1/ssh-keys", _PAGE),
    ApiTool("delete_ssh_key", "Forget a public key.", "DELETE", "/v1/ssh-keys/{key_id}", destroys=True),
    ApiTool(
        "create_fleet",
        "Keep a number of servers of one need alive until a time, for at most a budget.",
        "POST",
        "/v1/fleets",
        body={"name": TEXT, "count": COUNT, "need": NEED, "until": TIME, "budget": AMOUNT, **_SPEC},
        required=("name", "count", "need", "until", "budget"),
        spends=True,
    ),
    ApiTool("list_fleets", "The account's fleets.", "GET", "/v1/fleets", _PAGE),
    ApiTool("get_fleet", "One fleet.", "GET", "/v1/fleets/{fleet_id}"),
    ApiTool(
        "update_fleet",
        "Change a fleet's count, end or budget.",
        "PATCH",
        "/v1/fleets/{fleet_id}",
        body={"count": COUNT, "until": TIME, "budget": AMOUNT},
    ),
    ApiTool("end_fleet", "End a fleet and destroy its servers.", "DELETE", "/v1/fleets/{fleet_id}", destroys=True),
    ApiTool("list_topups", "Purchases of credit, newest first.", "GET", "/v1/topups", _PAGE),
    ApiTool(
        "get_topup",
        "How a purchase of credit stands; credit says whether it can be spent: none, pending or available.",
        "GET",
        "/v1/topups/{topup_id}",
    ),
    ApiTool("list_receipts", "What came in for the account, each with its transfer.", "GET", "/v1/receipts", _PAGE),
    ApiTool(
        "refund",
        "Send unused balance back to the wallet that paid it in: give exactly one of receipt or topup; without an amount "
        "all that can go back goes.",
        "POST",
        "/v1/refunds",
        body={"receipt": TEXT, "topup": TEXT, "amount": AMOUNT},
        claims=True,
    ),
    ApiTool("list_refunds", "Refunds, newest first.", "GET", "/v1/refunds", _PAGE),
    ApiTool("get_refund", "One refund.", "GET", "/v1/refunds/{refund_id}"),
    ApiTool(
        "get_deposits",
        "How to pay in by a plain transfer: addresses, memos, and whose transfers are credited here.",
        "GET",
        "/v1/deposits",
    ),
    ApiTool("list_events", "What happened, oldest first.", "GET", "/v1/events", {"types": TEXT, **_PAGE}),
)
BY_NAME: Mapping[str, ApiTool] = {tool.name: tool for tool in TOOLS}

"""Events: the journal as the agent that it concerns may read it.

Must not know who listens or how events travel.  Theory: an event is a reading of one journal row and nothing else, so it is
told in the order in which things happened, the same each time, and to the account that it concerns only (P9); a row, or a
member of one, that nobody has put on a list here is not told.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from gateway.core.money import format_amount
from gateway.core.times import utc_text

ID_PREFIX: Final = "evt_"
FAMILIES: Final = ("balance", "fleet", "key", "payment", "refund", "server", "snapshot", "topup", "webhook")
TEST, DISABLED = "webhook.test", "webhook.disabled"
MAX_TEXT_CHARS: Final = 1_000
MAX_ITEMS: Final = 100

PATTERN_TEXT: Final = rf"(?:\*|(?:{'|'.join(FAMILIES)})\.(?:\*|[a-z][a-z_]{{0,39}}))"
ID_TEXT: Final = rf"{ID_PREFIX}(0|[1-9][0-9]{{0,17}})"

_PATTERN = re.compile(PATTERN_TEXT, re.ASCII)
_ID = re.compile(ID_TEXT, re.ASCII)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose payment or metered thing a row is about, with what never changes about it."""

    account_id: str
    vendor: str = ""
    route: str = ""
    key_id: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A journal row to be read: `content` is its body, `owner` of the payment or the meter that it names, if any."""

    seq: int
    at_ms: int
    kind: str
    payment_id: str | None
    content: Mapping[str, Any]
    owner: Owner | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to something of an account."""

    account_id: str
    seq: int
    type: str
    at_ms: int
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Its id: the same however often it is told."""
        return event_id(self.seq)

    @property
    def subject(self) -> str:
        """The record that it is about: one of a family that has ids, or else the account's own (its balance)."""
        family = self.type.partition(".")[0]
        return f"{family} {self.data.get(f'{family}_id', '')}"

    def document(self) -> dict[str, Any]:
        """Return the event as it is sent (the payload of Standard Webhooks 1.0.0)."""
        return {"type": self.type, "timestamp": utc_text(self.at_ms), "data": {"id": self.id, **self.data}}


def event_id(seq: int) -> str:
    """Return the id of the event that a journal row is read as."""
    return f"{ID_PREFIX}{seq}"


def seq_of(text: str) -> int | None:
    """Return the journal row that an event's id names, or None for what is no id."""
    found = _ID.fullmatch(text)
    return None if found is None else int(found[1])


def is_pattern(text: str) -> bool:
    """Say whether a text chooses events: a type, "<family>.*", or "*"."""
    return _PATTERN.fullmatch(text) is not None


def chosen(patterns: Iterable[str], kind: str) -> bool:
    """Say whether any pattern chooses this type of event."""
    family = kind.partition(".")[0] + ".*"
    return any(pattern in ("*", kind, family) for pattern in patterns)


def project(row: Row) -> Event | None:
    """Read a row as an event; None where it concerns no agent, or tells nothing that another row does not."""
    told = TOLD.get(row.kind)
    if told is not None:
        kind, read = told
        account_id = row.content.get("account_id") if row.owner is None else row.owner.account_id
        data = read(row)
    elif row.kind.partition(".")[0] in RECORDS:
        kind, account_id, data = row.kind, row.content.get("account_id"), _record(row)
    else:
        return None
    return Event(account_id, row.seq, kind, row.at_ms, data) if isinstance(account_id, str) else None


# how each kind of row is read


def _payment(row: Row) -> dict[str, Any]:
    owner = row.owner or Owner("")
    names = {"vendor": owner.vendor, "route": owner.route, "key_id": owner.key_id, "request_id": owner.request_id}
    return {"payment_id": row.payment_id, **{name: value for name, value in names.items() if value}}


def _held(row: Row) -> dict[str, Any]:
    content = row.content
    period = {"meter": content["meter_id"], "period": content["period"]} if "meter_id" in content else {}
    return {**_payment(row), "hold": format_amount(content["hold_base"]), "resource": content["resource_ref"], **period}


def _settled(row: Row) -> dict[str, Any]:
    content = row.content
    told = {name: content[name] for name in ("chain_id", "tx_hash", "block_number")}
    return {**_payment(row), **told, "value": format_amount(content["value_base"])}


def _closed(row: Row) -> dict[str, Any]:
    content = row.content
    amounts = {"captured": format_amount(content["captured_base"]), "hold": format_amount(content["hold_base"])}
    return {**_payment(row), **amounts}


def _disputed(row: Row) -> dict[str, Any]:
    return {**_payment(row), "hold": format_amount(row.content["hold_base"])}


def _credited(row: Row) -> dict[str, Any]:
    return {"amount": format_amount(row.content["amount_base"])}


def _deposited(row: Row) -> dict[str, Any]:
    told = {name: row.content[name] for name in ("chain_id", "tx_hash") if name in row.content}
    return {"amount": format_amount(row.content["amount_base"]), "receipt_id": row.content["receipt_id"], **told}


def _topup(row: Row) -> dict[str, Any]:
    names = ("topup_id", "state", "rail", "chain_id", "tx_hash", "receipt_id", "reason")
    return {**{name: row.content[name] for name in names}, "amount": format_amount(row.content["amount_base"])}


def _topup_credited(row: Row) -> dict[str, Any]:
    return {**_topup(row), "amount": format_amount(row.content["credited_base"])}


def _refund(row: Row) -> dict[str, Any]:
    names = ("refund_id", "receipt_id", "state", "chain_id", "to", "tx_hash", "reason")
    return {**{name: row.content[name] for name in names}, "amount": format_amount(row.content["amount_base"])}


def _runs_out(row: Row) -> dict[str, Any]:
    owner, content = row.owner or Owner(""), row.content
    ends = {"held_until": utc_text(content["held_until_ms"])} if content["held_until_ms"] else {}
    return {"vendor": owner.vendor, "resource": content["ref"], "meter": content["meter_id"], **ends}


def _key(row: Row) -> dict[str, Any]:
    return {name: row.content[name] for name in ("key_id", "scopes") if name in row.content}


def _hook(row: Row) -> dict[str, Any]:
    return {"webhook_id": row.content["hook_id"]}


def _hook_disabled(row: Row) -> dict[str, Any]:
    return {**_hook(row), "reason": row.content["disabled_reason"]}


def _record(row: Row) -> dict[str, Any]:
    """Return what may be shown of a record's row: members on the list, money and times as text."""
    told: dict[str, Any] = {}
    for name, value in row.content.items():
        if name in SHOWN:
            told |= _member(name, value)
    return told


def _member(name: str, value: object) -> dict[str, Any]:
    if name.endswith("_base") and type(value) is int:
        return {name.removesuffix("_base"): format_amount(value)}
    if name.endswith("_ms"):
        return {name.removesuffix("_ms"): utc_text(value) if type(value) is int else None}
    if isinstance(value, str):
        return {name: value[:MAX_TEXT_CHARS]}
    if isinstance(value, list):
        return {name: [item[:MAX_TEXT_CHARS] for item in value[:MAX_ITEMS] if isinstance(item, str)]}
    return {name: value} if value is None or isinstance(value, int) else {}


TOLD: Final[Mapping[str, tuple[str, Callable[[Row], dict[str, Any]]]]] = MappingProxyType(
    {
        "payment.held": ("payment.held", _held),
        "payment.settled": ("payment.settled", _settled),
        "payment.captured": ("payment.captured", _closed),
        "payment.voided": ("payment.voided", _closed),
        "payment.refunded": ("payment.refunded", _closed),
        "dispute.held": ("payment.disputed", _disputed),
        "account.credited": ("balance.credited", _credited),
        "incoming.credited": ("balance.credited", _deposited),
        "incoming.claimed": ("balance.credited", _deposited),
        "topup.seen": ("topup.seen", _topup),
        "topup.credited": ("topup.credited", _topup_credited),
        "topup.failed": ("topup.failed", _topup),
        "refund.settled": ("refund.settled", _refund),
        "refund.dead": ("refund.dead", _refund),
        "meter.warned": ("balance.low", _runs_out),
        "meter.unfunded": ("balance.exhausted", _runs_out),
        "key.added": ("key.added", _key),
        "key.revoked": ("key.revoked", _key),
        "hook.tested": (TEST, _hook),
        "hook.disabled": (DISABLED, _hook_disabled),
    }
)
"""The kinds of journal rows that are told, each as which type of event."""

RECORDS: Final = ("fleet", "server", "snapshot")
"""Records whose every row is told under its own name: `server.running`."""

NOT_TOLD: Final = frozenset(
    {
        # its agent has the answer, and the rows that follow in the same commit tell what became of the money
        "payment.outcome",
        "payment.dead",
        "dispute.resolved",
        "unproven.resolved",
        "payment.late_log",
        "meter.billed",
        "meter.never_began",
        "meter.started",
        "meter.changed",
        "meter.ending",
        "meter.ended",
        "proof.signed",
        "resource.created",
        "resource.changed",
        # the agent itself did it, just now
        "account.opened",
        "quote.*",
        "ssh_key.*",
        "hook.created",
        "hook.changed",
        "hook.rotated",
        "hook.deleted",
        # the house's own money, wallets and vendor accounts
        "payment.fee",
        "meter.lost",
        "float.received",
        "float.missing",
        "outflow.unknown",
        "vendor.deposit",
        "vendor.short",
        "vendor.event",
        # being paid: what was only begun, whose answer the agent has, and the house's own part
        "settlement.*",
        "topup.ordered",
        "topup.paying",
        "topup.expired",
        "topup.reopened",
        "topup.lent",
        "topup.unlent",
        "incoming.unclaimed",
        "incoming.capital",
        "refund.held",
        "refund.sent",
        "till.moved",
        "wallet.bound",
        "sign_in.taken",
        "seller.set",
        "seller.ended",
        # what operators decide and are asked
        "freeze.set",
        "freeze.lifted",
        "task.opened",
        "task.closed",
        "payee.approved",
        "price.approved",
    }
)
"""The kinds that are not told, by decision: a kind that is on neither list fails a test."""

SHOWN: Final = frozenset(
    {
        "server_id",
        "snapshot_id",
        "fleet_id",
        "quote_id",
        "payment_id",
        "renewal_payment_id",
        "vendor",
        "plan",
        "region",
        "ref",
        "name",
        "state",
        "raw_state",
        "wanted",
        "reason",
        "warning",
        "said",
        "count",
        "made",
        "units",
        "attempt",
        "amount_base",
        "budget_base",
        "expires_at_ms",
        "until_ms",
        "due_at_ms",
    }
)
"""The members of records' rows that their owner sees; `_base` is money and `_ms` a time, told without these endings."""

KEPT_BACK: Final = frozenset({"account_id", "at_ms", "kind", "renewal"})
"""Members of records' rows that are not shown, by decision: one that is on neither list fails a test."""

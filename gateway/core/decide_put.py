"""The neutral API's records: kept new, replaced by their next version, and told to those who want to hear of it.

Must not know what moves a server or who reads the journal.  Theory: every change names the version that it was computed
from, so two flows that move one record cannot undo each other, and each version leaves one journal row, so that events
are readings of the journal and never a second truth.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace

from gateway.core.book import Book
from gateway.core.commands import KEY_USED, Attached, Done, FanOut, ForgetDeliveries, Put, PutDelivery, Refused, Result
from gateway.core.kept import FLEET, HOOK, QUOTE, SERVER, is_over, kind_of, order_of, version_of
from gateway.core.money import MAX_AMOUNT_BASE
from gateway.core.server import (
    Candidate,
    Fleet,
    Hook,
    HookDelivery,
    HookDeliveryState,
    Kept,
    Quote,
    Server,
    Snapshot,
    SshKey,
)

FIXED = ("account_id", "created_at_ms", "client_token", "fingerprint", "server_id")
FINGERPRINT_BYTES = 32
LARGEST = 2**53  # of any number: what every reader of the journal's JSON holds exactly, and every row
RESERVED = ("at_ms", "kind")
ENDPOINT_DELETED = "the endpoint was deleted"


def decide_put(book: Book, command: Put) -> Result:
    """Keep a record: a new one, or the version after the one that is kept.

    The journal row is found by the payment that `detail` names, else by the server's newest. Raises ValueError for a change
    of what never changes, an end without its time (or a time without the end), and a detail that contradicts the record: a
    bug of the caller's, not an answer.
    """
    record, kind = command.record, kind_of(command.record)
    kept = book.kept(kind, record.id)
    repeated = _earlier_order(book, record) if kept is None else None
    if repeated is not None:
        return repeated
    if version_of(record) != (0 if kept is None else version_of(kept)) + 1:
        return Refused("changed_meanwhile", f"another change of {record.id} came first; read it again")
    _check(record)
    refusal = (
        _value_refusal(record)
        or (_new_refusal(book, record) if kept is None else _change_refusal(kept, record))
        or _ref_refusal(book, record)
    )
    if refusal is not None:
        return refusal
    content = _content(command, kind)
    book.put_kept(record)
    if isinstance(record, Hook) and is_over(record):
        _give_up(book, record.id, command.at_ms)
    book.journal(command.at_ms, f"{kind}.{command.event}", _payment_of(command), content)
    return Done()


def decide_fan_out(book: Book, command: FanOut) -> Result:
    """Make deliveries due and move the cursor; what is due to an endpoint that is deleted by now is due to nobody.

    Raises ValueError for a cursor beyond the journal, or a delivery of another account's endpoint (P9).
    """
    if command.seq <= book.told_seq:
        return Done(changed=False)
    if command.seq > book.chain.seq:
        raise ValueError(f"the journal ends at {book.chain.seq}: nobody can have read row {command.seq}")
    book.put_told(command.seq)
    for delivery in command.deliveries:
        hook = book.hooks.get(delivery.hook_id)
        if hook is not None:
            _check_delivery(hook, delivery)
            book.put_delivery(delivery)
    return Done()


def decide_delivery(book: Book, command: PutDelivery) -> Result:
    """Keep what became of a delivery; one that is due to an endpoint that is deleted by now is refused as not found.

    Raises ValueError for a delivery of another account's endpoint (P9).
    """
    delivery = command.delivery
    hook = book.kept(HOOK, delivery.hook_id)
    pending = delivery.state is HookDeliveryState.PENDING
    if not isinstance(hook, Hook) or (pending and is_over(hook)):
        return Refused("not_found", "there is no such endpoint")
    _check_delivery(hook, delivery)
    refusal = _value_refusal(delivery)
    if refusal is None:
        book.put_delivery(delivery)
    return refusal or Done()


def decide_forgetting(book: Book, command: ForgetDeliveries) -> Result:
    """Let done deliveries go. What is pending is in memory and stays; what is done is nobody's money, and no row names it."""
    book.rows.forgotten_deliveries = (command.done_before_ms, command.at_most)
    return Done()


# whether it may be kept


def _earlier_order(book: Book, record: Kept) -> Result | None:
    """Return what an order's client token stands for already: a token is an Idempotency-Key of the account's, used once."""
    own = order_of(record)
    if own is None or not isinstance(record, Server | Fleet):
        return None
    order = book.order(record.account_id, record.client_token)
    if order is not None and (order.kind, order.fingerprint) == (own.kind, own.fingerprint):
        return Attached(order.record_id)
    if order is not None or book.claim(record.account_id, record.client_token) is not None:
        return Refused("idempotency_conflict", KEY_USED)
    return None


def _check(record: Kept) -> None:
    if isinstance(record, Server | Fleet):
        if (record.ended_at_ms is not None) != is_over(record):
            raise ValueError(f"{record.id} is {record.state} and ended at {record.ended_at_ms}")
        if len(record.fingerprint) != FINGERPRINT_BYTES:
            raise ValueError(f"the fingerprint of {record.id} is no digest")


def _value_refusal(record: Kept | HookDelivery) -> Refused | None:
    """Refuse what no row can hold: an agent's or a vendor's text must not stop the store, whoever failed to check it."""
    for name, value in _values(record):
        if isinstance(value, str) and not _is_text(value):
            return Refused("bad_request", f"{name} holds characters that are no text")
        if isinstance(value, int):
            most = MAX_AMOUNT_BASE if name.endswith("_base") else LARGEST
            if not 0 <= value <= most:
                return Refused("bad_request", f"{name} must lie between 0 and {most}")
    return None


def _values(record: Kept | HookDelivery | Candidate) -> Iterator[tuple[str, object]]:
    for field in fields(record):
        value = getattr(record, field.name)
        parts = value if isinstance(value, tuple) else (value,)
        for part in parts:
            if isinstance(part, Candidate):
                yield from _values(part)
            else:
                yield field.name, part


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, as JSON's escapes can write it
        return False
    return True


def _new_refusal(book: Book, record: Kept) -> Refused | None:
    """P9: everything that a new record hangs on is its account's own."""
    if record.account_id not in book.agent_accounts:
        return Refused("not_found", "there is no such account")
    if isinstance(record, Server | Fleet):
        key = book.keys.get(record.key_id)
        if key is None or key.account_id != record.account_id:
            return Refused("key_revoked", "this API key is not one of the account's")
    for kind, record_id in _named(record):
        named = book.kept(kind, record_id)
        if named is None or named.account_id != record.account_id:
            return Refused("not_found", f"there is no {kind} {record_id} of yours")
    return None


def _named(record: Kept) -> Iterator[tuple[str, str]]:
    if isinstance(record, Snapshot):
        yield SERVER, record.server_id
    if isinstance(record, Server) and record.fleet_id is not None:
        yield FLEET, record.fleet_id
    if isinstance(record, Server) and record.quote_id is not None:
        yield QUOTE, record.quote_id


def _change_refusal(kept: Kept, record: Kept) -> Refused | None:
    for name in FIXED:
        if getattr(record, name, None) != getattr(kept, name, None):
            raise ValueError(f"{name} of {record.id} never changes")
    if is_over(kept) and not is_over(record):
        return Refused("changed_meanwhile", f"{record.id} has ended and stays so")
    if isinstance(kept, Server) and isinstance(record, Server) and kept.renewal not in {"", record.renewal}:
        # Shared by the planner and the agent: whoever comes second waits for what the first one began.
        return None if not record.renewal else Refused("changed_meanwhile", f"a renewal of {record.id} is under way")
    return None


def _ref_refusal(book: Book, record: Kept) -> Refused | None:
    """P9, P13: one thing at a vendor is one open server's, and its account's."""
    if not isinstance(record, Server) or record.ref is None or not record.open:
        return None
    place = (record.vendor, record.ref)
    holder = book.server_refs.get(place)
    if holder == record.id:
        return None
    thing = book.resource(*place)
    if holder is not None or (thing is not None and thing.account_id != record.account_id):
        return Refused("changed_meanwhile", f"{record.ref} at {record.vendor} is another server's already")
    return None


def _check_delivery(hook: Hook, delivery: HookDelivery) -> None:
    if delivery.account_id != hook.account_id:
        raise ValueError(f"a delivery of {delivery.account_id} to {hook.id}, which is {hook.account_id}'s")


# what is left of it


def _give_up(book: Book, hook_id: str, at_ms: int) -> None:
    """Nobody is at a deleted endpoint: what was due to it is not tried again."""
    due = [each for place, each in book.deliveries.items() if place[0] == hook_id]
    for delivery in due:
        given_up = replace(delivery, state=HookDeliveryState.GIVEN_UP, last_error=ENDPOINT_DELETED, done_at_ms=at_ms)
        book.put_delivery(given_up)


def _payment_of(command: Put) -> str | None:
    named = command.detail.get("payment_id")
    if isinstance(named, str):
        return named
    return command.record.payment_id if isinstance(command.record, Server) else None


def _content(command: Put, kind: str) -> dict[str, object]:
    record = command.record
    content: dict[str, object] = {"account_id": record.account_id, f"{kind}_id": record.id, **_facts(record)}
    for name, value in command.detail.items():
        if name in RESERVED or (name in content and content[name] != value):
            raise ValueError(f"the detail of {kind}.{command.event} says another {name} than the record")
        content[name] = value
    content.pop("payment_id", None)  # the journal's own column
    return content


def _facts(record: Kept) -> Mapping[str, object]:
    """Return what the journal says of a record: no secret, and nothing that only its owner wrote for the vendor."""
    match record:
        case Server():
            return {
                "vendor": record.vendor,
                "plan": record.plan,
                "state": record.state.value,
                "ref": record.ref,
                "reason": record.reason,
                "expires_at_ms": record.expires_at_ms,
                "fleet_id": record.fleet_id,
            }
        case Quote():
            return {"vendor": record.candidate.vendor, "plan": record.candidate.plan}
        case Snapshot():
            return {
                "server_id": record.server_id,
                "vendor": record.vendor,
                "state": record.state,
                "ref": record.ref,
            }
        case Fleet():
            return {"state": record.state.value, "reason": record.reason}
        case SshKey():
            return {"fingerprint": record.fingerprint}
        case Hook():
            return {"disabled_reason": record.disabled_reason}

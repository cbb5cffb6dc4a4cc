"""Events: every kind of journal row is told or not told on purpose, and says nothing that its reader may not know."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from gateway.core.decide_topup import EVENTS as TOPUP_EVENTS
from gateway.core.events import (
    FAMILIES,
    KEPT_BACK,
    NOT_TOLD,
    RECORDS,
    SHOWN,
    TOLD,
    Event,
    Owner,
    Row,
    chosen,
    event_id,
    is_pattern,
    project,
    seq_of,
)
from gateway.core.kept import KINDS
from gateway.core.payment import Charge
from tests.factories import NOW_MS

ROOT = Path(__file__).parents[4]
KIND = re.compile(r"[a-z_]+\.[a-z_]+")
NO_DETAILS = {"keys", "hooks", "telling", "delivering", "runner"}  # what these write is not told member by member
MADE = {
    "f'settlement.{command.event}'": {"settlement.*"},
    "f'topup.{command.event}'": {f"topup.{event}" for event in TOPUP_EVENTS},
    "f'incoming.{state.value}'": {"incoming.credited", "incoming.unclaimed", "incoming.capital"},
}
OWNER = Owner("acc_1", "vpsagent", "rent", "key_1", "req_1")


def _row(kind: str, content: dict[str, Any], owner: Owner | None = OWNER, payment_id: str | None = "pay_1") -> Row:
    return Row(7, NOW_MS, kind, payment_id, {"at_ms": NOW_MS, "kind": kind, "payment_id": payment_id, **content}, owner)


def _told(kind: str, content: dict[str, Any], owner: Owner | None = OWNER) -> Event:
    event = project(_row(kind, content, owner))
    assert event is not None
    return event


def _written_kinds() -> set[str]:
    """Return every kind that a decision writes: the texts in the second place of `book.journal`, by whatever name."""
    found: set[str] = set()
    for path in (ROOT / "gateway/core").glob("*.py"):
        tree = ast.parse(path.read_text())
        for function in [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]:
            calls = [n for n in ast.walk(function) if isinstance(n, ast.Call)]
            journals = [c for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr == "journal"]
            for call in journals:
                found |= _kinds_of(call.args[1], function)
    return found


def _kinds_of(node: ast.expr, function: ast.FunctionDef) -> set[str]:
    if isinstance(node, ast.Constant):
        return {str(node.value)}
    if isinstance(node, ast.JoinedStr):
        text = ast.unparse(node)
        if "charge.value" in text:
            return {f"payment.{charge.value}" for charge in Charge}
        if text in MADE:
            return MADE[text]
        assert "command.event" in text, f"a kind is made in a way that this test does not know: {text}"
        return {f"{kind}.*" for kind in KINDS.values()}
    assert isinstance(node, ast.Name), ast.unparse(node)
    texts = [n.value for n in ast.walk(function) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return {text for text in texts if KIND.fullmatch(text)}


def test_every_kind_of_row_is_told_or_not_told_on_purpose() -> None:
    """A new decision must say whether agents hear of it."""
    written = _written_kinds()
    assert {"payment.held", "meter.unfunded", "freeze.set", "server.*", "hook.*", "task.opened"} <= written
    hooks = {kind for kind in (*TOLD, *NOT_TOLD) if kind.startswith("hook.")}
    decided = {*TOLD, *NOT_TOLD, *(f"{record}.*" for record in RECORDS), "hook.*"}
    assert {kind for kind in written if kind.partition(".")[0] + ".*" not in decided} - decided == set()
    assert hooks == {f"hook.{event}" for event in ("created", "changed", "deleted", "rotated", "tested", "disabled")}


def test_nothing_is_decided_twice_or_for_nothing() -> None:
    """The two lists do not overlap, and name only rows that exist."""
    assert not TOLD.keys() & NOT_TOLD
    assert not SHOWN & KEPT_BACK
    written = _written_kinds()
    gone = {kind for kind in {*TOLD, *NOT_TOLD} if kind not in written and not kind.startswith("hook.")}
    assert gone == set()


def test_every_detail_of_a_record_is_shown_or_kept_back_on_purpose() -> None:
    """What a use case writes beside a server, a snapshot or a fleet is on a list."""
    names: set[str] = set()
    own = {"event", "payment", "payment_id", "update"}  # parameters of the helpers themselves
    for path in (ROOT / "gateway/flow/servers").glob("*.py"):
        if path.stem in NO_DETAILS:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr
            if called in {"put", "place", "change", "move", "_change", "_over"}:
                names |= {keyword.arg for keyword in node.keywords if keyword.arg is not None} - own
            named = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id
            if named in {"said", "stuck", "detail", "paid"}:
                names |= _keys_of(node.value)
    assert {"warning", "due_at_ms", "attempt", "raw_state"} <= names
    assert names - SHOWN - KEPT_BACK == set()


def _keys_of(value: ast.expr) -> set[str]:
    dicts = [node for node in ast.walk(value) if isinstance(node, ast.Dict)]
    return {str(key.value) for found in dicts for key in found.keys if isinstance(key, ast.Constant)}


def _content(kind: str) -> dict[str, Any]:
    """Return members that any row of this kind may have."""
    record = kind.partition(".")[0]
    ids = {"meter_id": "mtr_1", "topup_id": "top_1", "refund_id": "ref_1", "key_id": "key_2", "hook_id": "hook_1"}
    paid = {
        "state": "x",
        "rail": "x402",
        "chain_id": 1,
        "tx_hash": "0x",
        "receipt_id": "rcv_1",
        "reason": "",
        "to": "0x",
    }
    amounts = dict.fromkeys(("hold_base", "value_base", "captured_base", "amount_base", "credited_base"), 1)
    more = {
        "period": 1,
        "resource_ref": None,
        "block_number": 1,
        "ref": "r",
        "held_until_ms": None,
        "disabled_reason": "gone",
    }
    return {"account_id": "acc_1", **ids, **paid, **amounts, **more, f"{record}_id": f"{record}_1"}


@pytest.mark.parametrize("kind", [*sorted(TOLD), *(f"{record}.changed" for record in RECORDS)])
def test_every_event_names_the_record_that_it_is_about(kind: str) -> None:
    """By the id that its subscriber knows it by: those about one are sent in order. An account has one balance."""
    event = _told(kind, _content(kind))
    family = event.type.partition(".")[0]
    named = "" if family == "balance" else event.data[f"{family}_id"]
    assert event.subject == f"{family} {named}"
    assert named or family == "balance"


def test_payment_is_told_with_amounts_as_text() -> None:
    """A hold says what it is for and how much, by the payment's own ids."""
    event = _told(
        "payment.held", {"account_id": "acc_1", "hold_base": 9_990_000, "resource_ref": None, "wallet": "0x1"}
    )
    assert event.document() == {
        "type": "payment.held",
        "timestamp": "2027-01-15T08:00:00.000Z",
        "data": {
            "id": "evt_7",
            "payment_id": "pay_1",
            "vendor": "vpsagent",
            "route": "rent",
            "key_id": "key_1",
            "request_id": "req_1",
            "hold": "9.990000",
            "resource": None,
        },
    }


def test_settlement_names_its_transaction_and_no_fee_or_witness() -> None:
    """What the wallet paid and who was asked is the house's."""
    content = {
        "evidence": "settled",
        "chain_id": 8453,
        "block_number": 12,
        "block_hash": "0xaa",
        "tx_hash": "0xbb",
        "value_base": 1,
        "fee_base": 77,
        "witnesses": ["rpc-secret-host"],
    }
    data = _told("payment.settled", content).data
    assert (data["tx_hash"], data["value"]) == ("0xbb", "0.000001")
    assert not {"fee", "fee_base", "witnesses"} & data.keys()


@pytest.mark.parametrize("charge", ["captured", "voided", "refunded"])
def test_ends_of_holds_are_told(charge: str) -> None:
    """Each with what was captured of what was held."""
    event = _told(f"payment.{charge}", {"charge": charge, "captured_base": 5, "hold_base": 9})
    assert (event.type, event.data["captured"], event.data["hold"]) == (f"payment.{charge}", "0.000005", "0.000009")


def test_disputes_and_credits_are_told_without_the_operators_words() -> None:
    """Who decided and what was noted stays inside."""
    assert _told("dispute.held", {"vendor": "v", "hold_base": 9}).type == "payment.disputed"
    content = {"account_id": "acc_1", "amount_base": 1_000_000, "reference": "r", "note": "vip", "by": "root"}
    event = _told("account.credited", content, None)
    assert (event.type, event.account_id, dict(event.data)) == ("balance.credited", "acc_1", {"amount": "1.000000"})


@pytest.mark.parametrize(("kind", "told"), [("meter.warned", "balance.low"), ("meter.unfunded", "balance.exhausted")])
def test_a_balance_that_runs_out_is_told_to_the_meters_owner(kind: str, told: str) -> None:
    """The row names no account; its meter does."""
    content = {"meter_id": "mtr_1", "ref": "vm-1", "held_until_ms": NOW_MS}
    event = _told(kind, content)
    assert (event.type, event.account_id) == (told, "acc_1")
    assert event.data["held_until"] == "2027-01-15T08:00:00.000Z"
    assert project(_row(kind, content, owner=None)) is None


def test_records_show_what_is_on_the_list_and_nothing_else() -> None:
    """Money and times become text; texts are bounded; what nobody has listed is not told."""
    content = {
        "account_id": "acc_1",
        "server_id": "srv_1",
        "vendor": "vrtx",
        "state": "running",
        "expires_at_ms": NOW_MS,
        "due_at_ms": None,
        "budget_base": 1,
        "said": "x" * 5_000,
        "renewal": "renew srv_1 1",
        "sealed": "secret",
        "loss_base": 5,
        "reason": {"nested": 1},
    }
    data = dict(_told("server.running", content, None).data)
    assert len(data.pop("said")) == 1_000
    assert data == {
        "payment_id": "pay_1",
        "server_id": "srv_1",
        "vendor": "vrtx",
        "state": "running",
        "expires_at": "2027-01-15T08:00:00.000Z",
        "due_at": None,
        "budget": "0.000001",
    }


@pytest.mark.parametrize(
    "kind", [*sorted(NOT_TOLD - {"quote.*", "ssh_key.*"}), "quote.made", "ssh_key.added", "new.kind"]
)
def test_what_is_not_told_is_nobodys_event(kind: str) -> None:
    """Even where the row names an account."""
    assert project(_row(kind, {"account_id": "acc_1"})) is None


def test_a_row_without_an_account_is_nobodys_event() -> None:
    """It is not told to everybody instead."""
    assert project(_row("server.running", {"server_id": "srv_1"}, None)) is None


@pytest.mark.parametrize("text", ["*", "server.*", "server.renewal_failed", "payment.held", "webhook.test"])
def test_patterns_that_choose_events(text: str) -> None:
    """A type, a family, or everything."""
    assert is_pattern(text)


@pytest.mark.parametrize(
    "text", ["", "server", "server.", "*.*", "task.*", "Server.*", "server.run*", "server.*\n", "**"]
)
def test_patterns_that_are_none(text: str) -> None:
    """What would never choose anything is refused when it is given."""
    assert not is_pattern(text)


def test_patterns_choose_by_type_family_or_everything() -> None:
    """No prefix within a name counts."""
    assert all(chosen([pattern], "server.running") for pattern in ("*", "server.*", "server.running"))
    assert not any(chosen([pattern], "server.running") for pattern in ("server.run", "payment.*", "server.stopped"))
    assert {kind.partition(".")[0] for kind, _ in TOLD.values()} | set(RECORDS) == set(FAMILIES)


def test_ids_name_rows_in_one_spelling() -> None:
    """An id is read back, and nothing else is."""
    assert seq_of(event_id(42)) == 42
    assert [seq_of(text) for text in ("evt_042", "evt_", "42", "evt_-1", "evt_1 ", "evt_" + "9" * 19)] == [None] * 6


def test_being_paid_is_told_with_amounts_as_text() -> None:
    """A credit, a deposit and a refund name their record, their amount and their transaction, and no more."""
    order = {
        "account_id": "acc_1",
        "topup_id": "top_1",
        "state": "credited",
        "rail": "x402",
        "chain_id": 8453,
        "tx_hash": "0x1",
        "receipt_id": "rcv_1",
        "reason": "",
        "amount_base": 5_000_000,
        "credited_base": 4_000_000,
        "till": "0x2",
        "records": {},
    }
    told = _told("topup.credited", order, None)
    shown = {"topup_id", "state", "rail", "chain_id", "tx_hash", "receipt_id", "reason", "amount", "id"}
    assert told.document()["data"].keys() == shown
    assert told.data["amount"] == "4.000000"
    assert _told("topup.seen", order, None).data["amount"] == "5.000000"
    deposit = _told("incoming.credited", order, None)
    assert (deposit.type, deposit.data.keys()) == ("balance.credited", {"amount", "receipt_id", "chain_id", "tx_hash"})
    claimed = {"account_id": "acc_1", "receipt_id": "rcv_1", "amount_base": 1}
    assert _told("incoming.claimed", claimed, None).data == {"amount": "0.000001", "receipt_id": "rcv_1"}
    back = {**order, "refund_id": "ref_1", "to": "0x3"}
    assert _told("refund.settled", back, None).data["amount"] == "5.000000"
    assert project(_row("topup.seen", {**order, "account_id": None}, None)) is None

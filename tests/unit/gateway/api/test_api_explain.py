"""`POST /v1/explain-402` over HTTP: the judgement in its shape, for the right keys, of bounded questions, and no trace."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest

from contracts.codec import checksum
from contracts.tokens import BASE_USDC
from gateway.api.deps import Accounts
from gateway.api.explain import (
    ANSWER,
    MAX_ANSWER_BODY_BYTES,
    MAX_BODY_BYTES,
    MAX_HEADER_CHARS,
    MAX_HEADER_NAMES,
    MAX_HEADER_VALUES,
    MAX_REQUEST_BODY_BYTES,
)
from gateway.core.problems import PROBLEM_BASE
from gateway.core.vendor_tokens import VendorTokens
from gateway.store.sqlite import SqliteStore
from tests.fakes.broker import EchoBroker
from tests.meaning_cases import Case, account_vendors, load_cases
from tests.unit.gateway.api.bed import PAYEE, PRICE_BASE, Bed, Got, challenge, opened
from tests.unit.gateway.api.shape import check, followed
from wallets.secret import Secret

ROUTE = "/v1/explain-402"
STRANGER = "0x976EA74026E726554dB657fA54763abd0C3a0aa9"
CASES, ACCOUNTS = load_cases(), account_vendors()


def question(document: Any = None, **changes: Any) -> dict[str, Any]:
    """Return a question about the shop's own challenge, or about another body."""
    body = json.dumps(challenge() if document is None else document)
    response = {"status": 402, "headers": {"Content-Type": "application/json"}, "body": body}
    asked = {"vendor": "shop", "method": "POST", "path": "/priced", "response": response}
    return {**asked, **changes}


def of(**changes: Any) -> dict[str, Any]:
    """Return a question whose response is changed."""
    asked = question()
    return {**asked, "response": {**asked["response"], **changes}}


async def explain(bed: Bed, document: Any, key: str | None = None) -> Got:
    """Ask."""
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return await bed.ask("POST", ROUTE, key, data=io.BytesIO(raw))


async def told(bed: Bed, document: Any) -> Any:
    """Ask what must be answered, in the answer's shape."""
    got = await explain(bed, document)
    assert got.status == 200, got.body
    check(got.json, ANSWER)
    return got.json


async def test_a_sound_challenge_would_be_paid(bed: Bed) -> None:
    """Every member of the answer, for the shop's own 402."""
    found = await told(bed, question())
    checks = found.pop("checks")
    why = found.pop("why")
    assert "would be paid" in why
    assert found == {
        "meaning": "x402_challenge",
        "would_pay": True,
        "rail": "x402",
        "amount_base": str(PRICE_BASE),
        "amount": "0.250000",
        "asset": BASE_USDC.asset_id,
        "network": "base",
        "payee": checksum(PAYEE),
        "charge": "0.250000",
        "price_expected": None,
        "item": None,
        "problem": None,
    }
    assert all(each["passed"] for each in checks)
    assert [each["check"] for each in checks][:4] == ["status", "meaning", "request", "offer"]


async def test_it_says_what_the_call_then_does(bed: Bed) -> None:
    """The same 402 through the proxy: paid where it said so, refused with the same type where it said so."""
    assert (await told(bed, question()))["would_pay"]
    assert (await bed.ask("POST", "/proxy/shop/priced")).status == 200
    strange = await told(bed, question(challenge(payTo=STRANGER)))
    assert (strange["would_pay"], strange["problem"]) == (False, f"{PROBLEM_BASE}payee_not_allowed")
    assert strange["payee"] == STRANGER


async def test_nothing_is_done(bed: Bed) -> None:
    """P3, P8: no payment, hold, task or journal row, and not a word to the vendor, whether it would be paid or not."""
    view = bed.store.view
    before = (view.journal_seq, view.journal_head, dict(view.balances), dict(view.open_payments))
    for document in (challenge(), challenge(payTo=STRANGER), {"error": "insufficient balance"}):
        await told(bed, question(document))
    assert (view.journal_seq, view.journal_head, dict(view.balances), dict(view.open_payments)) == before
    assert await bed.store.query("SELECT * FROM tasks") == []
    assert bed.shop.sold == 0
    assert not bed.shop.paid.is_set()


async def test_a_free_route_that_asks_for_money_is_refused(bed: Bed) -> None:
    """The problem of the call itself, without its task."""
    found = await told(bed, question(path="/free/x"))
    assert (found["would_pay"], found["problem"]) == (False, f"{PROBLEM_BASE}unexpected_challenge")


async def test_headers_may_be_lists_and_any_case(bed: Bed) -> None:
    """A version 2 header under another spelling, and one header with two values."""
    entry = {**challenge()["accepts"][0], "amount": str(PRICE_BASE), "network": "eip155:8453"}
    entry.pop("maxAmountRequired")
    text = base64.b64encode(
        json.dumps({"x402Version": 2, "resource": {"url": "http://s"}, "accepts": [entry]}).encode()
    )
    found = await told(bed, of(headers={"payment-REQUIRED": text.decode(), "Retry-After": ["1", "7"]}, body="{}"))
    assert (found["network"], found["problem"]) == ("eip155:8453", f"{PROBLEM_BASE}payment_deferred")
    assert "7 s" in found["why"]
    found = await told(bed, of(headers={"PAYMENT-REQUIRED": [text.decode(), "e30="]}, body="{}"))
    assert found["problem"] == f"{PROBLEM_BASE}challenge_malformed"


async def test_after_a_payment_it_is_never_a_bill(bed: Bed) -> None:
    """The same bytes, after a credential."""
    found = await told(bed, question(after_payment=True))
    assert (found["meaning"], found["would_pay"]) == ("payment_invalid", False)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_golden_answers_in_the_shops_mouth_are_answered_in_shape(bed: Bed, case: Case) -> None:
    """Whatever a vendor may say, the answer is a verdict in the documented shape; only its own payee would be paid."""
    found = await told(bed, {**question(), "response": case.response})
    assert not found["would_pay"]


@pytest.mark.parametrize("case", [case for case in CASES if case.vendor in ACCOUNTS], ids=lambda case: case.name)
async def test_account_vendors_are_explained_as_well(tmp_path: Path, case: Case) -> None:
    """Their 402 is the operator's: 503 to the agent, and no figure of the operator's account in the answer."""

    def accounts(store: SqliteStore) -> Accounts:
        return Accounts(ACCOUNTS, EchoBroker(store), VendorTokens(Secret(b"\x31" * 32)))

    async with opened(tmp_path, accounts=accounts) as bed:
        got = await explain(bed, case.question)
    assert got.status == 200, got.body
    check(got.json, ANSWER)
    assert (got.json["meaning"], got.json["would_pay"]) == (case.expect["meaning"], False)
    assert got.json["problem"] == f"{PROBLEM_BASE}vendor_account_empty"
    assert got.json["payee"] is None
    assert "0.04" not in got.body.decode()


async def test_a_closed_route_is_closed_here_too(tmp_path: Path) -> None:
    """What the gateway refuses to pass on is not explained either: the reason is."""

    def accounts(store: SqliteStore) -> Accounts:
        return Accounts(ACCOUNTS, EchoBroker(store), VendorTokens(Secret(b"\x31" * 32)))

    async with opened(tmp_path, accounts=accounts) as bed:
        got = await explain(bed, question(vendor="litevps", method="POST", path="/api/billing/add-funds"))
    assert got.code == "route_closed"


async def test_a_strange_token_has_no_decimals_of_ours(bed: Bed) -> None:
    """An amount in a token that is not ours is base units alone."""
    found = await told(bed, question(challenge(asset=STRANGER)))
    assert (found["amount"], found["amount_base"], found["asset"]) == (None, str(PRICE_BASE), STRANGER)
    assert found["problem"] == f"{PROBLEM_BASE}asset_not_allowed"


async def test_scopes_are_those_of_the_proxy(bed: Bed) -> None:
    """A key that may not spend at the vendor may not ask either; a key for it alone may."""
    assert (await explain(bed, question(), await bed.new_key("read", "keys"))).code == "scope_missing"
    assert (await explain(bed, question(), await bed.new_key("proxy:other"))).code == "scope_missing"
    assert (await explain(bed, question(), await bed.new_key("proxy:shop"))).status == 200
    assert (await bed.bare("POST", ROUTE, json=question())).code == "key_missing"


async def test_unknown_places_are_named(bed: Bed) -> None:
    """A vendor or a route that is not there."""
    assert (await explain(bed, question(vendor="nobody"))).code == "vendor_unknown"
    assert (await explain(bed, question(path="/nowhere"))).code == "route_not_declared"
    assert (await explain(bed, question(method="PATCH"))).code == "route_not_declared"


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (b"", None),
        (b"[]", None),
        (b'{"vendor": "shop", "vendor": "shop"}', None),
        (b'{"vendor": "\\ud800"}', None),
        ({}, None),
        ({**question(), "more": 1}, None),
        (question(vendor=1), "vendor"),
        (question(vendor="x" * 65), "vendor"),
        (question(method="get"), "method"),
        (question(path="priced"), "path"),
        (question(path="/a b"), "path"),
        (question(path="/é"), "path"),
        (question(path="/" + "a" * 16_384), "path"),
        (question(request_body=1), "request_body"),
        (question(request_body="x" * (MAX_REQUEST_BODY_BYTES + 1)), "request_body"),
        (question(request_body="é" * (MAX_REQUEST_BODY_BYTES // 2 + 1)), "request_body"),
        (question(after_payment=1), "after_payment"),
        (question(response=[]), "response"),
        (question(response={"status": 402}), "response"),
        (of(more=1), "response"),
        (of(status=True), "response/status"),
        (of(status="402"), "response/status"),
        (of(status=402.0), "response/status"),
        (of(status=99), "response/status"),
        (of(status=600), "response/status"),
        (of(body=None), "response/body"),
        (of(body="x" * (MAX_ANSWER_BODY_BYTES + 1)), "response/body"),
        (of(headers=[]), "response/headers"),
        (of(headers={"": "x"}), "response/headers"),
        (of(headers={"a b": "x"}), "response/headers"),
        (of(headers={"a" * 65: "x"}), "response/headers"),
        (of(headers={"a": 1}), "response/headers"),
        (of(headers={"a": ["x", 1]}), "response/headers"),
        (of(headers={"a": "x\r\nb: y"}), "response/headers"),
        (of(headers={"a": "\0"}), "response/headers"),
        (of(headers={f"a{n}": "x" for n in range(MAX_HEADER_NAMES + 1)}), "response/headers"),
        (of(headers={"a": ["x"] * (MAX_HEADER_VALUES + 1)}), "response/headers"),
        (of(headers={"a": "x" * MAX_HEADER_CHARS}), "response/headers"),
    ],
)
async def test_bad_questions_name_what_is_wrong(bed: Bed, document: Any, field: str | None) -> None:
    """One spelling, one type and one size for each part; 400 otherwise, with the member's name."""
    got = await explain(bed, document)
    assert (got.status, got.code) == (400, "bad_request")
    assert got.json.get("field") == field


async def test_what_is_within_the_limits_is_read(bed: Bed) -> None:
    """The largest body, the most values and the longest headers are judged, not refused."""
    headers = {"a": ["x"] * MAX_HEADER_VALUES}
    assert (await told(bed, of(headers=headers)))["would_pay"]
    assert (await told(bed, of(headers={"a": "x" * (MAX_HEADER_CHARS - 1)})))["would_pay"]
    assert (await told(bed, of(body="x" * MAX_ANSWER_BODY_BYTES)))["meaning"] == "unknown"


async def test_a_question_of_a_mebibyte_is_too_large(bed: Bed) -> None:
    """413 before anything is parsed."""
    got = await explain(bed, b" " * (MAX_BODY_BYTES + 1))
    assert got.code == "body_oversized"


async def test_a_query_is_refused(bed: Bed) -> None:
    """What is not taken is not ignored."""
    got = await bed.ask("POST", f"{ROUTE}?verbose=1", json=question())
    assert got.code == "bad_request"


async def test_the_route_is_described(bed: Bed) -> None:
    """The OpenAPI page has its body and its answer."""
    document = (await bed.bare("GET", "/openapi.json")).json
    described = followed(document, document["paths"][ROUTE]["post"])
    content = described["responses"]["200"]["content"]["application/json"]["schema"]
    assert set(content["properties"]) == set(ANSWER["properties"])
    assert set(described["requestBody"]["content"]["application/json"]["schema"]["required"]) == {
        "vendor",
        "method",
        "path",
        "response",
    }

"""The seller's wire shapes of x402: what the reference SDK reads of them, what it sends back, and what is refused."""

import base64
import json
import os
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from contracts.codec import Address, checksum
from contracts.tokens import BASE_USDC, Token
from gateway.rails.x402.order_ref import Order, OrderMarks, order_id
from gateway.rails.x402.payment import Rejected, read_payment
from gateway.rails.x402.selling import (
    MAX_PAYMENT_CHARS,
    V1,
    V2,
    Asking,
    Paid,
    PaymentHeaderError,
    Price,
    accepts,
    body_members,
    echo_mismatch,
    identifier_of,
    matching,
    order_token_of,
    payment_required,
    read_header,
    receipt_header,
)

ROOT = Path(__file__).parents[5]
BUYER = ROOT / "tests/tools/x402_buyer.py"
TILL, PAYER = Address(b"\x5e" * 20), Address(b"\x11" * 20)
ASKING = Asking("https://pay.example/v1/topups", "credit", (Price(BASE_USDC, TILL, 5_000_000),), 300, "order-token")
UNNAMED = Token(31337, Address(b"\x01" * 20), "TST", "Test", "1", 6)


def buyer(asking: Asking, *receipts: str) -> Any:
    """Let the reference SDK read a 402 and pay it."""
    python = os.environ.get("SANDBOX_PYTHON", str(ROOT / ".venv-sandbox/bin/python"))
    given = {
        "header": payment_required(asking),
        "body": json.dumps(body_members(asking) | {"type": "a problem", "status": 402}),
        "key": "0x" + "31" * 32,
        "receipts": receipts,
    }
    done = subprocess.run(
        [python, str(BUYER)], input=json.dumps(given), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def encoded(document: object) -> str:
    """Write a payment header."""
    return base64.b64encode(json.dumps(document).encode()).decode()


def test_the_reference_sdk_reads_and_pays_what_we_ask() -> None:
    """Both parsers give our documents back whole; both clients' payments are payments of ours, by our strict reader."""
    seen = receipt_header(V2, BASE_USDC, tx_hash=b"\xab" * 32, payer=PAYER, amount_base=5_000_000)[1]
    pending = receipt_header(V1, BASE_USDC, tx_hash=None, payer=PAYER, reason="settlement_pending")[1]
    answer = buyer(ASKING, seen, pending)
    assert answer["v2"] == json.loads(base64.b64decode(payment_required(ASKING)))
    assert answer["v1"] == body_members(ASKING)
    for name, version in (("paid_v2", V2), ("paid_v1", V1)):
        paid = read_header(encoded(answer[name]))
        assert paid.version == version
        assert not echo_mismatch(paid)
        ((price, entry),) = matching(ASKING, paid)
        assert price.token is BASE_USDC
        exact = read_payment(version, paid.document, entry, {BASE_USDC.key: BASE_USDC})
        assert not isinstance(exact, Rejected), exact
        assert (exact.authorization.pay_to, exact.authorization.value_base) == (TILL, 5_000_000)
    assert order_token_of(read_header(encoded(answer["paid_v2"]))) == "order-token"
    assert order_token_of(read_header(encoded(answer["paid_v1"]))) is None
    good, waiting = answer["receipts"]
    assert (good["success"], good["transaction"], good["amount"]) == (True, "0x" + "ab" * 32, "5000000")
    assert (waiting["success"], waiting["transaction"], waiting["network"]) == (False, "", "base")
    assert waiting["errorReason"] == "settlement_pending"


def test_version_1_names_no_chain_that_it_has_no_name_for() -> None:
    """A CAIP-2 name in a version 1 body is refused by stock clients: such a chain is offered in version 2 only."""
    both = Asking("https://x/", "", (Price(UNNAMED, TILL, 1), Price(BASE_USDC, TILL, 1)), 300, "t")
    assert [entry["network"] for entry in accepts(both, V1)] == ["base"]
    assert [entry["network"] for entry in accepts(both, V2)] == ["eip155:31337", "eip155:8453"]


def test_nothing_is_null_and_the_header_is_small() -> None:
    """A null `outputSchema` breaks a stock client; a header over a few KB does not arrive everywhere."""
    assert "null" not in json.dumps(body_members(ASKING))
    assert "outputSchema" not in json.dumps(body_members(ASKING))
    assert len(payment_required(ASKING)) < 2_048


@pytest.mark.parametrize("padding", ["=", ""])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_both_alphabets_with_and_without_padding_are_read(encode: Any, padding: str) -> None:
    """x402's transports: decoders take them all."""
    raw = encode(json.dumps({"x402Version": 2, "n": "??>>~~"}).encode()).decode()
    assert read_header(raw if padding else raw.rstrip("=")).version == V2


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "e30=",
        "%%%",
        "A" * (MAX_PAYMENT_CHARS + 1),
        encoded([]),
        encoded({"x402Version": "2"}),
        encoded({"x402Version": 2.0}),
        encoded({"x402Version": True}),
        encoded({"x402Version": 3}),
        base64.b64encode(b'{"x402Version":1,"x402Version":2}').decode(),
        base64.b64encode(b"\xff\xfe").decode(),
    ],
)
def test_what_is_no_payment_is_refused(value: str) -> None:
    """Never an exception that is not ours, whatever came."""
    with pytest.raises(PaymentHeaderError):
        read_header(value)


def accepted(**changes: Any) -> Paid:
    """Return a version 2 payment that accepts our entry, changed."""
    return Paid(V2, {"x402Version": 2, "accepted": accepts(ASKING, V2)[0] | changes})


def test_an_echo_may_hold_more_and_nothing_else() -> None:
    """Addresses in any case and an `extra` with more in it are ours; without our order in it the price still counts."""
    extra = accepts(ASKING, V2)[0]["extra"]
    assert matching(ASKING, accepted(payTo=checksum(TILL).lower()))
    assert matching(ASKING, accepted(extra=extra | {"memo": "mine"}))
    assert matching(ASKING, accepted(extra={"name": "USD Coin", "version": "2"}))
    for changed in (
        {"extra": extra | {"order": "another"}},
        {"extra": "text"},
        {"maxTimeoutSeconds": True},
        {"amount": 5_000_000},
        {"scheme": None},
    ):
        assert matching(ASKING, accepted(**changed)) == ()
    assert matching(ASKING, Paid(V2, {"accepted": "all of it"})) == ()
    assert matching(ASKING, Paid(V1, {"scheme": "exact", "network": "eip155:8453"})) == ()


def test_identifiers_have_one_alphabet() -> None:
    """16 to 128 of it; absent is absent, and anything else an error."""

    def paid(identifier: object) -> Paid:
        return Paid(V2, {"extensions": {"payment-identifier": {"info": {"required": False, "id": identifier}}}})

    assert identifier_of(paid("pay_7d5d747be160e280")) == "pay_7d5d747be160e280"
    assert identifier_of(paid(None)) is None
    assert identifier_of(Paid(V1, {"extensions": {}})) is None
    assert identifier_of(Paid(V2, {"extensions": "none"})) is None
    for bad in (
        "x" * 15,
        "x" * 129,
        "with space 12345678",
        1234567890123456,
        "pay_ümlaut_123456",
        "pay_0123456789abc\n",
    ):
        with pytest.raises(PaymentHeaderError):
            identifier_of(paid(bad))


def test_an_order_comes_back_only_as_it_left() -> None:
    """The mark binds id, account, amount, pack and end: no character of a token can be changed."""
    marks = OrderMarks(lambda message: sha256(b"key" + message).digest())
    order = Order(order_id(1_800_000_000_000, b"\x01" * 10), "acc_1", 5_000_000, "five", 1_800_000_300_000)
    token = marks.token(order)
    assert marks.read(token, 5_000_000, "five") == order
    assert marks.read(token, 5_000_001, "five") is None
    assert marks.read(token, 5_000_000, "") is None
    for at, char in enumerate(token):
        other = "0" if char != "0" else "1"
        assert marks.read(token[:at] + other + token[at + 1 :], 5_000_000, "five") is None
    for nothing in (None, 5, "", "top_.a.1.m", token + "=", "x" * 600, token.replace(".", ""), "tøp"):
        assert marks.read(nothing, 5_000_000, "five") is None


def test_an_order_of_nobody_is_nobodys() -> None:
    """Without an account the token names none, and a dotted account is read back whole."""
    marks = OrderMarks(lambda message: sha256(message).digest())
    for account_id in (None, "a.b.c"):
        order = Order(order_id(1_800_000_000_000, b"\x02" * 10), account_id, 1, "", 1_800_000_000_000)
        assert marks.read(marks.token(order), 1, "") == order

"""Reading 402s: every place and dialect of a challenge, and every bad input of which the system must not become poorer."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from contracts.codec import parse_address
from gateway.rails.codes import Problem
from gateway.rails.offer import Challenge
from gateway.rails.problems import ChallengeError
from gateway.rails.x402 import challenge as subject
from gateway.rails.x402.challenge import MAX_ACCEPTS, MAX_BODY_BYTES, MAX_HEADER_CHARS, parse_challenge

SDK = json.loads((Path(__file__).parents[4] / "vectors/x402/sdk.json").read_text())
USDC = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
PAYEE = "0x8eCbd65228930060363C70854da7D37D57ffC358"

ENTRY_V1: dict[str, Any] = {
    "scheme": "exact",
    "network": "base",
    "maxAmountRequired": "9990000",
    "amount": "9990000",
    "resource": "https://vpsagent.example/rent",
    "payTo": PAYEE,
    "maxTimeoutSeconds": 900,
    "asset": USDC,
    "extra": {"name": "USD Coin", "version": "2"},
}
ENTRY_V2: dict[str, Any] = {
    "scheme": "exact",
    "network": "eip155:8453",
    "amount": "10000",
    "payTo": PAYEE,
    "maxTimeoutSeconds": 60,
    "asset": USDC,
    "extra": {"name": "USD Coin", "version": "2"},
}


def b64(document: object) -> str:
    """Base64 of the JSON of a document."""
    return base64.b64encode(json.dumps(document).encode()).decode()


def v1(*entries: object, **also: object) -> bytes:
    """A v1 body with these entries."""
    return json.dumps({"x402Version": 1, "accepts": list(entries), "error": None} | also).encode()


def read(body: bytes = b"", status: int = 402, **headers: str) -> Challenge | None:
    """Parse an answer; underscores in header names stand for hyphens."""
    return parse_challenge(status, CIMultiDict({k.replace("_", "-"): v for k, v in headers.items()}), body)


def only_rejection(entry: object, version: int = 1) -> Problem:
    """Why the only entry of a challenge is no offer."""
    challenge = read(json.dumps({"x402Version": version, "accepts": [entry]}).encode())
    assert challenge is not None
    assert challenge.offers == ()
    return challenge.rejected[0].code


def error_of(body: bytes = b"", **headers: str) -> ChallengeError:
    """The error that a challenge raises."""
    with pytest.raises(ChallengeError) as caught:
        read(body, **headers)
    return caught.value


def outcome(body: bytes, **headers: str) -> tuple[Challenge | None, Problem | None]:
    """A challenge, or the code of its refusal."""
    try:
        return read(body, **headers), None
    except ChallengeError as error:
        return None, error.code


def test_vpsagent_dialect_is_read_from_the_body() -> None:
    """Both amount fields, a null error and a short network name make one offer in our terms."""
    challenge = read(v1(ENTRY_V1))
    assert challenge is not None
    assert (challenge.rejected, challenge.resource_json, challenge.extensions) == ((), None, ())
    (offer,) = challenge.offers
    assert offer.version == 1
    assert (offer.chain_id, offer.amount_base, offer.max_timeout_s) == (8453, 9_990_000, 900)
    assert (offer.asset, offer.pay_to) == (parse_address(USDC), parse_address(PAYEE))
    assert (offer.wire_network, offer.wire_pay_to, offer.accepted_json) == ("base", PAYEE, "")


def test_sdk_seller_v2_header_is_read() -> None:
    """Offers, resource and extensions of an SDK seller survive, and the echo is the entry itself."""
    challenge = read(b"{}", payment_required=SDK["v2_header"])
    assert challenge is not None
    assert [offer.version for offer in challenge.offers] == [2, 2]
    assert [offer.chain_id for offer in challenge.offers] == [84532, 8453]
    sent = json.loads(base64.b64decode(SDK["v2_header"]))
    assert [json.loads(offer.accepted_json) for offer in challenge.offers] == sent["accepts"]
    assert challenge.resource_json is not None
    assert json.loads(challenge.resource_json) == sent["resource"]
    assert {key: json.loads(value) for key, value in challenge.extensions} == sent["extensions"]


@pytest.mark.parametrize("place", ["payment_required", "x_payment_required", "body"])
def test_sdk_v1_challenge_is_read_wherever_it_stands(place: str) -> None:
    """Version 1 may come in the new header, the legacy header or the body, and says the same in each."""
    challenge = read(SDK["v1_body"].encode()) if place == "body" else read(b"", **{place: SDK["v1_header"]})
    assert challenge is not None
    assert (challenge.offers[0].version, challenge.offers[0].amount_base) == (1, 9_990_000)


def test_v2_header_wins_over_a_v1_body() -> None:
    """Where a seller speaks both versions the newer is paid."""
    challenge = read(v1(ENTRY_V1), payment_required=SDK["v2_header"])
    assert challenge is not None
    assert {offer.version for offer in challenge.offers} == {2}


def test_v2_in_the_body_is_tolerated() -> None:
    """The SDK refuses a v2 body; we read it, since its content is unambiguous."""
    challenge = read(json.dumps({"x402Version": 2, "accepts": [ENTRY_V2]}).encode())
    assert challenge is not None
    assert (challenge.offers[0].version, challenge.offers[0].amount_base) == (2, 10_000)


@pytest.mark.parametrize("flag", ["true", "required", "e30=", "!!"])
def test_legacy_header_that_is_only_a_flag_leaves_the_body_to_decide(flag: str) -> None:
    """A legacy header that holds no challenge does not hide the one in the body."""
    challenge = read(v1(ENTRY_V1), x_payment_required=flag)
    assert challenge is not None
    assert challenge.offers[0].amount_base == 9_990_000


@pytest.mark.parametrize(
    "body", [b"", b"<html>pay</html>", b'{"error":{"code":"OVERDUE_INVOICE"}}', b"\xff\xfe", b"[]"]
)
def test_a_402_that_is_no_challenge_is_none(body: bytes) -> None:
    """Invoices, balances and web pages are passed on, never paid."""
    assert read(body) is None
    assert read(body, www_authenticate='Payment id="x", method="tempo"') is None


@pytest.mark.parametrize("status", [200, 400, 401, 403, 500])
def test_only_a_402_is_a_challenge(status: int) -> None:
    """The same text under another status asks for nothing."""
    assert read(v1(ENTRY_V1), status=status, payment_required=SDK["v2_header"]) is None


def test_an_mpp_challenge_beside_it_changes_nothing() -> None:
    """A seller may offer x402 and MPP together."""
    assert read(v1(ENTRY_V1), www_authenticate='Payment id="x"') is not None


@pytest.mark.parametrize("alphabet", ["standard", "urlsafe"])
@pytest.mark.parametrize("padded", [True, False])
def test_base64_is_read_in_both_alphabets(alphabet: str, padded: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Header encoders differ; all four forms mean the same bytes."""
    resource = {"url": "Ã¿Ã¾~~~???>>>"}
    text = json.dumps({"x402Version": 2, "accepts": [ENTRY_V2], "resource": resource}, ensure_ascii=False)
    encode = base64.b64encode if alphabet == "standard" else base64.urlsafe_b64encode
    value = encode(text.encode()).decode()
    challenge = read(payment_required=value if padded else value.rstrip("="))
    assert challenge is not None
    assert json.loads(challenge.resource_json or "") == resource


@pytest.mark.parametrize("value", ["", "*", "a", "eyJ4", "e30=\u00e9", "e30==", "e3 0=", b64([]), b64("x"), b64(None)])
def test_a_header_that_cannot_be_read_is_malformed(value: str) -> None:
    """Wrong base64, or JSON that is no object, is refused even with a readable body: two opinions are one too many."""
    error = error_of(v1(ENTRY_V1), payment_required=value)
    assert error.code is Problem.CHALLENGE_MALFORMED


@pytest.mark.parametrize(
    "text",
    [
        '{"x402Version":1,"accepts":[]',
        '{"x402Version":1,"x402Version":2,"accepts":[]}',
        '{"x402Version":1,"accepts":[{"amount":"1","amount":"2"}]}',
        '{"x402Version":1,"accepts":[],"n":NaN}',
        '{"x402Version":1,"accepts":[],"n":1e999}',
        '{"x402Version":1,"accepts":[],"n":' + "9" * 5000 + "}",
        '{"x402Version":1,"accepts":[],"n":' + "[" * 40 + "]" * 40 + "}",
        '{"x402Version":1,"accepts":[],"n":' + '{"a":' * 100_000,
        '{"x402Version":1}',
        '{"x402Version":1,"accepts":{}}',
        '{"x402Version":1,"accepts":null}',
        '{"x402Version":2,"accepts":[],"extensions":[]}',
        '\ufeff{"x402Version":1,"accepts":[]}',
    ],
)
def test_ambiguous_or_hostile_json_is_malformed(text: str) -> None:
    """Duplicate keys, NaN, endless numbers, depth and cut texts are refused as one class, without a crash."""
    assert error_of(text.encode()[:MAX_BODY_BYTES]).code is Problem.CHALLENGE_MALFORMED


def test_body_that_is_not_utf8_is_malformed() -> None:
    """Bytes that are no text are not guessed at."""
    assert error_of(b'{"x402Version":1,"accepts":[],"error":"\xff"}').code is Problem.CHALLENGE_MALFORMED


def test_brackets_inside_strings_are_not_depth() -> None:
    """The bound on nesting counts structure, not text."""
    challenge = read(v1(ENTRY_V1 | {"description": '{"[\\' * 200}))
    assert challenge is not None
    assert len(challenge.offers) == 1


def test_scanning_hostile_quotes_takes_linear_time() -> None:
    """A header made of escaped quotes that never close ends at once; a quadratic scan would take minutes."""
    text = '{"x402Version":1,"a":' + "[" * 40 + '"' + '\\"' * ((MAX_BODY_BYTES - 100) // 2)
    assert error_of(text.encode()).code is Problem.CHALLENGE_MALFORMED


def test_oversized_challenges_are_refused() -> None:
    """Header, body and number of entries have named limits."""
    assert error_of(payment_required="A" * (MAX_HEADER_CHARS + 1)).code is Problem.CHALLENGE_OVERSIZED
    assert error_of(x_payment_required="A" * (MAX_HEADER_CHARS + 1)).code is Problem.CHALLENGE_OVERSIZED
    assert error_of(v1(ENTRY_V1, pad="x" * MAX_BODY_BYTES)).code is Problem.CHALLENGE_OVERSIZED
    assert error_of(v1(*[ENTRY_V1] * (MAX_ACCEPTS + 1))).code is Problem.CHALLENGE_OVERSIZED


def test_a_large_402_page_without_a_challenge_is_passed_on() -> None:
    """Size alone does not make a challenge."""
    assert read(b"x" * (MAX_BODY_BYTES + 1)) is None


def test_two_different_headers_are_refused() -> None:
    """A proxy that shows one price to us and another to somebody else is not resolved by luck."""
    headers = CIMultiDict([("PAYMENT-REQUIRED", SDK["v2_header"]), ("payment-required", SDK["v1_header"])])
    with pytest.raises(ChallengeError) as caught:
        parse_challenge(402, headers, b"")
    assert caught.value.code is Problem.CHALLENGE_MALFORMED


@pytest.mark.parametrize("version", [0, 3, -1, "1", 1.0, True, None, [1], {}])
def test_unknown_versions_are_refused(version: object) -> None:
    """Only the integers 1 and 2 are versions that we speak."""
    assert (
        error_of(json.dumps({"x402Version": version, "accepts": [ENTRY_V1]}).encode()).code is Problem.VERSION_UNKNOWN
    )


BAD_AMOUNTS = [
    0.5,
    10000,
    10000.0,
    "0.5",
    "-1",
    "+1",
    "1e6",
    "1E6",
    "010",
    "00",
    "0",
    "",
    " 1",
    "1 ",
    "1\n",
    "1_000",
    "0x10",
    "\uff11\uff10",
    "\u0661",
    "9" * 78,
    "9" * 79,
    str(2**256),
    "1" * 5000,
    "Infinity",
    "NaN",
    True,
    [],
    {},
]


@pytest.mark.parametrize("amount", BAD_AMOUNTS, ids=repr)
@pytest.mark.parametrize("version", [1, 2])
def test_bad_amounts_are_refused(amount: object, version: int) -> None:
    """Whatever is not a plain positive decimal uint256 in a string is not money."""
    entry = (
        ENTRY_V1 | {"maxAmountRequired": amount, "amount": amount} if version == 1 else ENTRY_V2 | {"amount": amount}
    )
    assert only_rejection(entry, version) is Problem.AMOUNT_MALFORMED


def test_the_largest_uint256_is_an_amount() -> None:
    """The bound is the token's, not 78 digits."""
    challenge = read(v1(ENTRY_V1 | {"maxAmountRequired": str(2**256 - 1), "amount": str(2**256 - 1)}))
    assert challenge is not None
    assert challenge.offers[0].amount_base == 2**256 - 1


def test_amount_fields_must_agree() -> None:
    """A challenge with two prices is refused in both versions; one field alone will do."""
    assert only_rejection(ENTRY_V1 | {"amount": "9990001"}) is Problem.AMOUNT_FIELDS_DIFFER
    assert only_rejection(ENTRY_V2 | {"maxAmountRequired": "1"}, 2) is Problem.AMOUNT_FIELDS_DIFFER
    assert only_rejection(ENTRY_V1 | {"amount": 9990000}) is Problem.AMOUNT_MALFORMED
    for dropped in ("amount", "maxAmountRequired"):
        challenge = read(v1({key: value for key, value in ENTRY_V1.items() if key != dropped}))
        assert challenge is not None
        assert challenge.offers[0].amount_base == 9_990_000
    assert only_rejection(ENTRY_V1 | {"amount": None, "maxAmountRequired": None}) is Problem.AMOUNT_MALFORMED


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"scheme": "upto"}, Problem.UNSUPPORTED_SCHEME),
        ({"scheme": "Exact"}, Problem.UNSUPPORTED_SCHEME),
        ({"scheme": None}, Problem.OFFER_MALFORMED),
        ({"network": "solana"}, Problem.UNKNOWN_NETWORK),
        ({"network": "Base"}, Problem.UNKNOWN_NETWORK),
        ({"network": "eip155:08453"}, Problem.UNKNOWN_NETWORK),
        ({"network": "eip155:8453\n"}, Problem.UNKNOWN_NETWORK),
        ({"network": 8453}, Problem.OFFER_MALFORMED),
        ({"asset": "0x833589"}, Problem.ADDRESS_MALFORMED),
        ({"asset": "0x" + "00" * 20}, Problem.ADDRESS_MALFORMED),
        ({"asset": None}, Problem.ADDRESS_MALFORMED),
        ({"payTo": "0x" + "00" * 20}, Problem.ADDRESS_MALFORMED),
        ({"payTo": PAYEE + '","value":"1'}, Problem.ADDRESS_MALFORMED),
        ({"payTo": PAYEE[:-1] + "9"}, Problem.ADDRESS_MALFORMED),
        ({"payTo": "vitalik.eth"}, Problem.ADDRESS_MALFORMED),
        ({"payTo": USDC}, Problem.ADDRESS_MALFORMED),
        ({"maxTimeoutSeconds": "900"}, Problem.TIMEOUT_MALFORMED),
        ({"maxTimeoutSeconds": 900.0}, Problem.TIMEOUT_MALFORMED),
        ({"maxTimeoutSeconds": True}, Problem.TIMEOUT_MALFORMED),
        ({"maxTimeoutSeconds": 0}, Problem.TIMEOUT_MALFORMED),
        ({"maxTimeoutSeconds": -1}, Problem.TIMEOUT_MALFORMED),
        ({"maxTimeoutSeconds": 10**15}, Problem.TIMEOUT_MALFORMED),
        ({"maxTimeoutSeconds": None}, Problem.TIMEOUT_MALFORMED),
        ({"extra": {"assetTransferMethod": "permit2"}}, Problem.UNSUPPORTED_TRANSFER),
        ({"extra": {"assetTransferMethod": []}}, Problem.UNSUPPORTED_TRANSFER),
        ({"extra": {"paymentFlow": "escrow"}}, Problem.UNSUPPORTED_TRANSFER),
        ({"extra": {"paymentFlow": {}}}, Problem.UNSUPPORTED_TRANSFER),
    ],
    ids=repr,
)
def test_entries_that_cannot_be_read_say_why(change: dict[str, Any], code: Problem) -> None:
    """Each field that is wrong has its own code, in both versions."""
    assert only_rejection(ENTRY_V1 | change) is code
    assert only_rejection(ENTRY_V2 | change, 2) is code


@pytest.mark.parametrize("entry", [None, "x", 1, [], True])
def test_entries_that_are_no_objects_are_rejected(entry: object) -> None:
    """`accepts` may hold anything; what is no object is no offer."""
    assert only_rejection(entry) is Problem.OFFER_MALFORMED


def test_one_bad_entry_does_not_spoil_its_neighbours() -> None:
    """The good entry is an offer, and of each other the place and the reason are kept."""
    challenge = read(v1({"scheme": "upto"}, ENTRY_V1, ENTRY_V1 | {"network": "solana"}))
    assert challenge is not None
    assert [offer.wire_network for offer in challenge.offers] == ["base"]
    assert [(entry.raw_index, entry.code, entry.field) for entry in challenge.rejected] == [
        (0, Problem.UNSUPPORTED_SCHEME, "scheme"),
        (2, Problem.UNKNOWN_NETWORK, "network"),
    ]


def test_caip2_in_a_v1_body_keeps_the_servers_spelling() -> None:
    """Some v1 servers name networks as v2 does; the credential must repeat that."""
    challenge = read(v1(ENTRY_V1 | {"network": "eip155:8453"}))
    assert challenge is not None
    assert (challenge.offers[0].chain_id, challenge.offers[0].wire_network) == (8453, "eip155:8453")


@pytest.mark.parametrize("extra", [None, "{}", [], {"name": 5, "version": "v" * 500}, {"paymentFlow": "upfront"}])
def test_extra_is_only_a_hint(extra: object) -> None:
    """The token's domain comes from our table, so a strange `extra` costs nothing."""
    challenge, plain = read(v1(ENTRY_V1 | {"extra": extra})), read(v1(ENTRY_V1))
    assert challenge is not None
    assert plain is not None
    assert challenge.offers == plain.offers


def test_an_entry_too_large_to_echo_is_rejected() -> None:
    """A v2 entry travels back in a header; one that cannot is no offer."""
    assert only_rejection(ENTRY_V2 | {"extra": {"pad": "x" * 9000}}, 2) is Problem.OFFER_OVERSIZED


def test_a_servers_words_are_made_safe() -> None:
    """Control and direction-changing characters, lone surrogates and length cannot reach a terminal or a log."""
    error = error_of(
        json.dumps({"x402Version": "pay\x1b[31m\r\n\u202enow \ud800" + "x" * 1000, "accepts": []}).encode()
    )
    assert len(error.message) < 80
    assert error.message.isprintable()
    assert "pay [31m now ?" in error.message
    as_object = error_of(json.dumps({"x402Version": {"code": 7}, "accepts": []}).encode())
    assert '{"code":7}' in as_object.message


def test_the_same_bytes_are_parsed_once() -> None:
    """A repeated 402 is the same record; a large one is never kept."""
    body = v1(ENTRY_V1, nonce="memo")
    assert read(body) is read(bytes(bytearray(body)))
    large = v1(ENTRY_V1, pad="x" * 10_000)
    assert read(large) is not read(large)
    assert read(large) == read(large)


def test_entries_are_read_once_whatever_the_resource_is() -> None:
    """A server that names the whole URL makes a new 402 for every query, and the same offers in each."""
    documents = (
        {"x402Version": 2, "resource": {"url": f"https://seller.example/?n={n}"}, "accepts": [ENTRY_V2]} for n in (1, 2)
    )
    first, second = (read(json.dumps(document).encode()) for document in documents)
    assert first is not None
    assert second is not None
    assert first.resource_json != second.resource_json
    assert first.offers[0] is second.offers[0]
    assert first.offers == subject._sort_entries(2, [ENTRY_V2])[0]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(
    changes=st.dictionaries(st.sampled_from([*ENTRY_V1, "outputSchema"]), json_values), version=st.sampled_from([1, 2])
)
def test_no_entry_makes_the_parser_fall_over(changes: dict[str, Any], version: int) -> None:
    """Whatever JSON stands in an entry, it is an offer or a rejection, and an offer's money is a positive uint256."""
    raw = json.dumps({"x402Version": version, "accepts": [ENTRY_V1 | changes]}).encode()
    challenge, code = outcome(raw)
    if challenge is None:
        assert code is Problem.CHALLENGE_MALFORMED  # an integer or a float beyond the bounds
        return
    assert len(challenge.offers) + len(challenge.rejected) == 1
    assert all(0 < offer.amount_base < 2**256 for offer in challenge.offers)


@settings(max_examples=150, deadline=None)
@given(noise=st.binary(max_size=200))
def test_no_bytes_make_the_parser_fall_over(noise: bytes) -> None:
    """Garbage is None or a typed refusal, in every place."""
    body = b'{"x402Version"' + noise
    for place in ({}, {"payment_required": noise.decode("latin-1")}, {"x_payment_required": b64("x402Version")}):
        challenge, code = outcome(body, **place)
        assert challenge is None
        assert code in {Problem.CHALLENGE_MALFORMED, Problem.VERSION_UNKNOWN}


def test_the_memo_is_bounded() -> None:
    """A vendor that changes its 402 each time cannot fill our memory."""
    for number in range(400):
        read(v1(ENTRY_V1, n=number))
        read(v1(ENTRY_V1 | {"description": str(number)}))
    assert subject._parse_memo.cache_info().currsize <= 256
    assert subject._sorted_memo.cache_info().currsize <= 256

"""Credentials as strangers send them: found, opened and refused by type, whatever the bytes are."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.codec import parse_address
from contracts.tokens import BASE_USDC
from gateway.rails.mpp.issuing import Seal, SealedTexts, body_digest, issue
from gateway.rails.mpp.presented import MAX_CREDENTIAL_CHARS, Presented, find_credential, open_credential
from gateway.rails.mpp.refusing import CredentialRefused, MppProblem
from gateway.rails.mpp.text import encode_base64url
from gateway.rails.mpp.verifying import Window, verify_authorization, verify_identity, verify_transaction
from tests.unit.gateway.rails.mpp.mpp_bed import EXPIRES_MS, GONE, NOW_MS, REALM, b64url
from tests.unit.gateway.rails.mpp.test_mpp_issuing import CHARGE, OPAQUE, SEAL

PAYLOAD = {"type": "transaction", "signature": "0x76"}


def challenge(charge: Any = CHARGE, seal: Seal = SEAL) -> dict[str, str]:
    """Return the challenge object that a client repeats."""
    challenge_id, t = issue(seal, charge)
    texts = {name: getattr(t, name) for name in ("realm", "method", "intent", "request", "expires", "digest", "opaque")}
    return {"id": challenge_id, **{name: text for name, text in texts.items() if text}} | (
        {"header": t.header} if t.header else {}
    )


def credential(payload: Any = None, source: Any = GONE, charge: Any = CHARGE, **changes: Any) -> str:
    """Return a credential; changes are of the challenge."""
    said = {k: v for k, v in (challenge(charge) | changes).items() if v is not GONE}
    document = {"challenge": said, "payload": PAYLOAD if payload is None else payload}
    return b64url(document if source is GONE else document | {"source": source})


def refused(text: str, realm: str = REALM) -> MppProblem:
    """Open what must not open."""
    with pytest.raises(CredentialRefused) as caught:
        open_credential(text, SEAL, realm)
    return caught.value.problem


def test_a_credential_is_found_among_other_schemes() -> None:
    """In either header, in any case, beside a key; none is none."""
    assert find_credential([]) is None
    assert find_credential(["Bearer agp_1", "Basic cGF5bWVudDo="]) is None
    assert find_credential(["Paymentx abc", "Bearer payment"]) is None
    for values in (["Payment abc"], ["Bearer k", "payment  abc"], ["Bearer k, PAYMENT abc"], ["Payment abc, Bearer k"]):
        assert find_credential(values) == "abc"


@pytest.mark.parametrize(
    "values", [["Payment a", "Payment a"], ["Payment a, Payment b"], ["Payment", "Bearer k,payment b"]]
)
def test_two_credentials_are_a_bad_request(values: list[str]) -> None:
    """However they are joined: 400, and neither is settled."""
    with pytest.raises(CredentialRefused) as caught:
        find_credential(values)
    assert (caught.value.problem, caught.value.problem.status) == (MppProblem.BAD_REQUEST, 400)


def test_what_we_sealed_is_read() -> None:
    """Everything that decides comes from the sealed texts; payload and source are the payer's."""
    presented = open_credential(credential(source="did:x", description="not sealed"), SEAL, REALM)
    assert (presented.method, presented.chain_id, presented.amount_base) == ("tempo", 42431, 10_000)
    assert (presented.currency, presented.pay_to) == (CHARGE.token.address, CHARGE.pay_to)
    assert (presented.expires_at_ms, presented.external_id, presented.opaque) == (EXPIRES_MS, "top_1", OPAQUE)
    assert (presented.payload, presented.source) == (PAYLOAD, "did:x")
    padded = credential() + "=" * (-len(credential()) % 4)
    assert open_credential(padded, SEAL, REALM).payload == PAYLOAD


@pytest.mark.parametrize(
    "text",
    [
        *("", "=", "abc!", "ab c", "a" * (MAX_CREDENTIAL_CHARS + 1), b64url("[]"), b64url("{"), b64url("{}")),
        *(b64url({"challenge": {}, "payload": []}), b64url({"challenge": "x", "payload": {}}), b64url('{"a":1,"a":1}')),
        *(encode_base64url(b"\xff{}"), b64url("[" * 5_000)),
    ],
)
def test_what_is_no_credential(text: str) -> None:
    """No base64url, no JSON object, doubled keys, other shapes, too long, too deep."""
    assert refused(text) is MppProblem.MALFORMED_CREDENTIAL


@pytest.mark.parametrize(
    "changes",
    [
        {"id": GONE},
        {"id": 5},
        {"realm": ""},
        {"request": {}},
        {"opaque": {"n": "abc"}},
        {"expires": "é"},
        {"digest": []},
        {"request": "a" * 20_000},
    ],
)
def test_challenges_of_other_shapes(changes: Any) -> None:
    """Each text is text, of bounded length."""
    assert refused(credential(**changes)) is MppProblem.MALFORMED_CREDENTIAL


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "x"},
        {"request": b64url({"amount": "1"})},
        {"expires": "2027-01-06T12:00:00Z"},
        {"digest": GONE},
        {"digest": body_digest(b"other")},
        {"opaque": b64url({"order": "top_2", "r": "topup"})},
        {"opaque": GONE},
        {"method": "evm"},
        {"intent": "session"},
        {"header": "Payment-Authorization"},
        {"header": "Cookie"},
        {"request": "not base64!"},
    ],
)
def test_a_changed_challenge_is_not_ours(changes: Any) -> None:
    """No text can be changed, added or taken away."""
    assert refused(credential(**changes)) is MppProblem.INVALID_CHALLENGE


def test_another_realm_or_secret_is_not_ours() -> None:
    """A challenge of another site, also one with the same secret."""
    assert refused(credential(), "elsewhere.test") is MppProblem.INVALID_CHALLENGE
    assert refused(credential(charge=replace(CHARGE, realm="elsewhere.test"))) is MppProblem.INVALID_CHALLENGE
    with pytest.raises(CredentialRefused):
        open_credential(credential(), Seal([b"x" * 32]), REALM)


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        (SealedTexts(REALM, "tempo", "session", b64url({})), MppProblem.METHOD_UNSUPPORTED),
        (SealedTexts(REALM, "card", "charge", b64url({})), MppProblem.METHOD_UNSUPPORTED),
        (SealedTexts(REALM, "tempo", "charge", b64url({})), MppProblem.INVALID_CHALLENGE),
        (SealedTexts(REALM, "tempo", "charge", b64url("[]"), opaque=b64url({})), MppProblem.INVALID_CHALLENGE),
        (
            SealedTexts(REALM, "tempo", "charge", b64url({"methodDetails": {"chainId": True}}), opaque=b64url({})),
            MppProblem.INVALID_CHALLENGE,
        ),
        (
            SealedTexts(REALM, "tempo", "charge", b64url({"methodDetails": 5, "amount": 5}), opaque=b64url({"n": 1})),
            MppProblem.INVALID_CHALLENGE,
        ),
    ],
)
def test_what_another_version_sealed_is_refused(texts: SealedTexts, problem: MppProblem) -> None:
    """A right seal over what we would not say now: by type, never by accident."""
    names = ("realm", "method", "intent", "request", "expires", "digest", "opaque")
    said = {"id": SEAL.make(texts)} | {name: getattr(texts, name) for name in names if getattr(texts, name)}
    assert refused(b64url({"challenge": said, "payload": {}})) is problem


def test_expiry_and_body() -> None:
    """Over is over, to the millisecond; the body is the one that was asked for, and none is none."""
    presented = open_credential(credential(), SEAL, REALM)
    presented.require_current(EXPIRES_MS - 1)
    presented.require_body(b"{}")
    with pytest.raises(CredentialRefused) as caught:
        presented.require_current(EXPIRES_MS)
    assert caught.value.problem is MppProblem.PAYMENT_EXPIRED
    for wrong in (b"", b"{ }"):
        with pytest.raises(CredentialRefused) as caught:
            presented.require_body(wrong)
        assert caught.value.problem is MppProblem.INVALID_CHALLENGE
    bare = open_credential(credential(charge=replace(CHARGE, digest="")), SEAL, REALM)
    bare.require_body(b"")
    with pytest.raises(CredentialRefused):
        bare.require_body(b"{}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.sampled_from(["type", "signature", "from", "to", "value", "validAfter", "validBefore", "nonce", "hash"])
PAYLOADS = st.fixed_dictionaries(
    {"type": st.sampled_from(["transaction", "authorization", "proof", "hash"]) | JSON}
).flatmap(
    lambda known: st.dictionaries(FIELDS, JSON | st.from_regex(r"0x[0-9a-f]{0,140}"), max_size=8).map(
        lambda d: d | known
    )
)


@given(st.text(max_size=200) | st.binary(max_size=300).map(encode_base64url) | JSON.map(json.dumps).map(b64url))
def test_no_text_breaks_the_reader(text: str) -> None:
    """Whatever stands after the scheme is a typed refusal: nobody has our seal by chance."""
    with pytest.raises(CredentialRefused) as caught:
        open_credential(find_credential([f"Payment {text}"]) or "", SEAL, REALM)
    assert caught.value.detail


@given(JSON, JSON, st.sampled_from(["id", "realm", "request", "expires", "digest", "opaque", "header", "method"]))
def test_no_challenge_or_payload_breaks_the_reader(value: Any, payload: Any, name: str) -> None:
    """A challenge of ours with one member replaced by anything, and any payload."""
    try:
        opened = open_credential(credential(payload, **{name: value}), SEAL, REALM)
    except CredentialRefused:
        return
    assert opened.challenge_id == challenge()["id"]


@given(PAYLOADS, st.none() | st.text(max_size=80), st.sampled_from(["tempo", "evm", "proof"]))
def test_no_payload_breaks_the_judges(payload: dict[str, Any], source: str | None, kind: str) -> None:
    """Under a challenge of ours every payload that is made up is a typed refusal: nothing is taken by chance."""
    charge = replace(CHARGE, amount_base=0) if kind == "proof" else CHARGE
    charge = replace(CHARGE, token=BASE_USDC) if kind == "evm" else charge
    opened: Presented = open_credential(credential(payload, source, charge), SEAL, REALM)
    for judge in (
        lambda: verify_transaction(opened, NOW_MS // 1000, Window()),
        lambda: verify_authorization(opened, BASE_USDC, NOW_MS // 1000, Window()),
        lambda: verify_identity(opened),
    ):
        with pytest.raises(CredentialRefused) as caught:
            judge()
        assert caught.value.problem.status == 402


def test_currency_and_recipient_are_whole() -> None:
    """They come out as bytes, however their checksums are written."""
    presented = open_credential(credential(charge=replace(CHARGE, token=BASE_USDC)), SEAL, REALM)
    assert presented.currency == parse_address("0x833589fcd6edb6e08f4c7c32d4f71b54bda02913")

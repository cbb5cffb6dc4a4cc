"""Challenges that we give out: sealed as the reference says, read by our own payer and by the reference SDKs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from multidict import CIMultiDict

from contracts.codec import parse_address
from contracts.tokens import BASE_USDC, MODERATO_PATHUSD
from gateway.rails.mpp.challenge import parse_mpp
from gateway.rails.mpp.credential import authorization_payload, encode_credential, proof_payload
from gateway.rails.mpp.header import read_payment_params
from gateway.rails.mpp.issuing import Charge, Seal, SealedTexts, body_digest, canonical_json, challenge_header, issue
from gateway.rails.mpp.receipt import read_mpp_transaction
from gateway.rails.mpp.receipting import RECEIPT_HEADER, payment_receipt
from gateway.rails.mpp.refusing import MppProblem, problem_document
from gateway.rails.mpp.text import encode_base64url
from gateway.rails.offer import MppOffer
from tests.unit.gateway.rails.mpp.mpp_bed import EXPIRES_MS, PAY_TO, REALM, read_request
from tests.unit.gateway.rails.mpp.test_mpp_credential import MPPX_PEER, PYMPP_PEER, SIGNATURE, authorization, run_peer

ROOT = Path(__file__).parents[5]
SECRET = b"test-vector-secret-minimum-32-byte-secret"
SEAL = Seal([SECRET])
OPAQUE = {"order": "top_1", "n": "abc", "r": "topup"}
CHARGE = Charge(MODERATO_PATHUSD, PAY_TO, 10_000, REALM, EXPIRES_MS, OPAQUE, "top_1", body_digest(b"{}"))


def offer_of(*lines: str) -> tuple[MppOffer, ...]:
    """Return what our own payer reads in challenges."""
    challenge = parse_mpp(402, CIMultiDict([("WWW-Authenticate", line) for line in lines]))
    assert challenge is not None
    assert challenge.rejected == ()
    return challenge.offers + challenge.proofs


@pytest.mark.parametrize(
    ("more", "challenge_id"),
    [
        ({}, "6QDs0BmhrI_v67iWeCMvGqQJEFQ6ErWKlk7zi5xL6t0"),
        ({"expires": "2025-01-06T12:00:00Z"}, "ZcHgfEi5_Qyda9NQwUzamsCgCcWXw6N6EH2NLyaSTlg"),
        ({"header": "Payment-Authorization"}, "re8MIMJYpIJ0r_aiizscg6ghtipQM8IpOa_NtpwIU8E"),
    ],
)
def test_the_seal_is_the_references(more: dict[str, str], challenge_id: str) -> None:
    """The seal covers seven slots, eight with a header of its own."""
    request = encode_base64url(canonical_json({"amount": "1000000"}))
    texts = SealedTexts(REALM, "tempo", "charge", request, **more)
    assert SEAL.make(texts) == challenge_id
    assert SEAL.made(challenge_id, texts)
    assert not SEAL.made(challenge_id, replace(texts, realm="elsewhere"))


@pytest.mark.parametrize("name", ["plain", "evm", "proof", "header"])
def test_challenges_of_the_reference_bear_the_same_seal(name: str) -> None:
    """What mppx gave out under the same secret is ours too: nothing in the slots differs."""
    line = json.loads((ROOT / "tests/vectors/mpp/mppx.json").read_text())[name]
    (params,) = read_payment_params([line])
    values = dict(params.values)
    challenge_id = values.pop("id")
    assert SEAL.made(challenge_id, SealedTexts(**values))


def test_secrets_are_rotated_and_not_shown() -> None:
    """A new first secret seals, an old one still checks; short ones are refused; nothing prints one."""
    new = b"n" * 32
    both = Seal([new, SECRET])
    challenge_id, texts = issue(SEAL, CHARGE)
    assert both.made(challenge_id, texts)
    assert not Seal([new]).made(challenge_id, texts)
    assert both.make(texts) == Seal([new]).make(texts)
    assert "secret" not in repr(SEAL)
    for wrong in ([], [b"short"]):
        with pytest.raises(ValueError, match="32 bytes"):
            Seal(wrong)


def test_slots_cannot_be_shifted() -> None:
    """Eight slots that read as seven under the same MAC are refused: the separator stands in no slot."""
    challenge_id, texts = issue(SEAL, replace(CHARGE, digest="", beside_bearer=True))
    shifted = replace(texts, header="", digest="|Payment-Authorization")
    assert "|".join(shifted.slots) == "|".join(texts.slots)
    assert not SEAL.made(challenge_id, shifted)
    assert not SEAL.made(challenge_id, replace(texts, header="", opaque=f"{texts.header}|{texts.opaque}"))


def test_a_challenge_is_read_by_our_own_payer() -> None:
    """Everything that was asked for comes back: amount, token, payee, chain, mode, end, digest, order, header."""
    challenge_id, texts = issue(SEAL, CHARGE)
    evm_id, evm = issue(SEAL, replace(CHARGE, token=BASE_USDC, amount_base=1_500_000, beside_bearer=True))
    proof_id, proof = issue(SEAL, replace(CHARGE, amount_base=0, external_id=""))
    tempo, other, zero = offer_of(
        challenge_header(challenge_id, texts, 'Credit, "5"'),
        challenge_header(evm_id, evm),
        challenge_header(proof_id, proof),
    )
    assert (tempo.method, tempo.chain_id, tempo.asset, tempo.pay_to) == (
        "tempo",
        42431,
        MODERATO_PATHUSD.address,
        PAY_TO,
    )
    assert (tempo.amount_base, tempo.modes, tempo.fee_payer, tempo.splits) == (10_000, ("pull",), False, ())
    assert (tempo.expires_at_ms, tempo.realm, tempo.challenge_id) == (EXPIRES_MS, REALM, challenge_id)
    echo = dict(tempo.echo)
    assert read_request(echo["request"])["externalId"] == "top_1"
    assert (echo["digest"], tempo.header) == (CHARGE.digest, "Authorization")
    assert echo["description"] == 'Credit, "5"'
    assert (other.method, other.asset, other.header) == ("evm", BASE_USDC.address, "Payment-Authorization")
    assert (zero.is_proof, zero.challenge_id) == (True, proof_id)


def test_amounts_and_texts_that_cannot_be_asked_for() -> None:
    """Less than nothing, nothing on a chain without proofs, a realm with the separator, a text that is no header."""
    for wrong in (replace(CHARGE, amount_base=-1), replace(CHARGE, amount_base=0, token=BASE_USDC)):
        with pytest.raises(ValueError, match="not asked for"):
            issue(SEAL, wrong)
    with pytest.raises(ValueError, match="separator"):
        issue(SEAL, replace(CHARGE, realm="a|b"))
    with pytest.raises(ValueError, match="ASCII"):
        challenge_header(*issue(SEAL, CHARGE), "two\nlines")


def test_a_receipt_is_read_by_our_own_payer() -> None:
    """The hash; and all else that it says is what the protocol names: challenge, order, chain and time."""
    value = payment_receipt(
        method="tempo",
        challenge_id="abc",
        reference=b"\xcd" * 32,
        chain_id=42431,
        external_id="top_1",
        at_ms=1_767_700_740_123,
    )
    assert "=" not in value
    assert read_mpp_transaction(CIMultiDict({RECEIPT_HEADER: value})) == b"\xcd" * 32
    assert read_request(value) == {
        "status": "success",
        "method": "tempo",
        "timestamp": "2026-01-06T11:59:00.123Z",
        "reference": "0x" + "cd" * 32,
        "challengeId": "abc",
        "chainId": 42431,
        "externalId": "top_1",
    }


def test_problems_are_the_protocols() -> None:
    """Types of paymentauth.org; two of them are no 402."""
    document = problem_document(MppProblem.PAYMENT_EXPIRED, "too late", "abc")
    assert document["type"] == "https://paymentauth.org/problems/payment-expired"
    assert (document["status"], document["challengeId"]) == (402, "abc")
    assert "challengeId" not in problem_document(MppProblem.BAD_REQUEST, "two")
    assert {kind for kind in MppProblem if kind.status == 400} == {
        MppProblem.METHOD_UNSUPPORTED,
        MppProblem.BAD_REQUEST,
    }
    assert all(problem_document(kind, "why")["title"] for kind in MppProblem)


def test_the_reference_sdks_read_challenges_and_keep_the_seal() -> None:
    """What mppx and pympp decode of credentials for our challenges still bears our seal, with its digest and its header."""
    charges = [
        CHARGE,
        replace(CHARGE, amount_base=0, beside_bearer=True),
        replace(CHARGE, token=BASE_USDC, amount_base=1_500_000),
    ]
    offers = offer_of(*(challenge_header(*issue(SEAL, charge)) for charge in charges))
    source = "did:pkh:eip155:42431:0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
    raw = {"type": "transaction", "signature": "0x76" + "ab" * 100}
    payloads = [raw, authorization_payload(authorization(), SIGNATURE), proof_payload(SIGNATURE)]
    offers = tuple(sorted(offers, key=lambda offer: (offer.is_proof, offer.method == "evm")))
    values = [encode_credential(o, p, source)[1] for o, p in zip(offers, payloads, strict=True)]
    assert parse_address(offers[1].wire_pay_to) == PAY_TO
    for command in (MPPX_PEER, PYMPP_PEER):
        answers = run_peer([*command, "verify"], values)
        assert [answer["sealed"] for answer in answers] == [True, True, True]

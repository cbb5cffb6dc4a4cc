"""Credentials that the reference sellers take: every text echoed, their seal unbroken, and none that must not exist."""

import base64
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contracts.codec import parse_address
from contracts.eip3009 import Authorization
from contracts.tokens import BASE_USDC
from gateway.rails.mpp.credential import (
    authorization_payload,
    charge_payload,
    did_source,
    encode_credential,
    hash_payload,
    proof_payload,
)
from gateway.rails.offer import MppOffer
from tests.unit.gateway.rails.mpp.mpp_bed import MPPX, OTHER, PAY_TO, PAYEE, PYMPP, line, offered

ROOT = Path(__file__).parents[5]
PAYER = parse_address("0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf")
SOURCE = "did:pkh:eip155:42431:0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
RAW_TX = b"\x76" + bytes(range(200))
SPONSORED_TX = b"\x78" + bytes(range(200))
SIGNATURE = bytes(range(64)) + b"\x1b"
TX_HASH = b"\xcd" * 32


def offer_of(text: str) -> MppOffer:
    """The only offer or proof of a field line."""
    challenge = offered(text)
    (offer,) = challenge.offers + challenge.proofs
    return offer


def authorization(**changes: Any) -> Authorization:
    """What the evm vector asks for."""
    fields: dict[str, Any] = {
        "token": BASE_USDC,
        "authorizer": PAYER,
        "pay_to": PAY_TO,
        "value_base": 1_500_000,
        "valid_after": 0,
        "valid_before": 1_767_700_800,
        "nonce": b"\x11" * 32,
    }
    return Authorization(**fields | changes)


def decoded(value: str) -> dict[str, Any]:
    """The JSON in a credential: one scheme, base64url without padding."""
    scheme, token = value.split(" ")
    assert (scheme, "=" in token) == ("Payment", False)
    document = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    assert isinstance(document, dict)
    return document


def run_peer(command: list[str], given: object = None) -> Any:
    """Ask a reference SDK, in its own interpreter."""
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


MPPX_PEER = ["node", str(ROOT / "tests/tools/mppx_peer.mjs")]
PYMPP_PEER = [
    os.environ.get("PYMPP_PYTHON", str(ROOT / ".venv-pympp/bin/python")),
    str(ROOT / "tests/tools/pympp_peer.py"),
]


def test_a_credential_repeats_the_challenge_character_for_character() -> None:
    """Each known parameter as it came, the payload, and who pays; nothing else."""
    name, value = encode_credential(offer_of(MPPX["plain"]), charge_payload(RAW_TX), SOURCE)
    assert name == "Authorization"
    assert decoded(value) == {
        "challenge": {
            "id": "LlpGRTKs49ThNP8IcGXa_X5s1wqykckkoVE0AW0jr1M",
            "realm": "api.example.com",
            "method": "tempo",
            "intent": "charge",
            "request": MPPX["plain"].split('request="')[1].split('"')[0],
            "expires": "2026-01-06T12:00:00.000Z",
            "opaque": "eyJuIjoiYWJjIiwiciI6InBhaWQifQ",
        },
        "payload": {"type": "transaction", "signature": "0x" + RAW_TX.hex()},
        "source": SOURCE,
    }


def test_the_header_is_the_one_that_the_server_names() -> None:
    """`Payment-Authorization` leaves Authorization to the caller."""
    assert encode_credential(offer_of(MPPX["header"]), charge_payload(RAW_TX), SOURCE)[0] == "Payment-Authorization"
    assert encode_credential(offer_of(line(header="AUTHORIZATION")), charge_payload(RAW_TX), None)[0] == "Authorization"


def test_the_same_inputs_make_the_same_bytes() -> None:
    """A credential is a pure function: stored once, shown as often as needed."""
    offer = offer_of(MPPX["described"])
    assert encode_credential(offer, charge_payload(RAW_TX), SOURCE) == encode_credential(
        offer_of(MPPX["described"]), charge_payload(RAW_TX), SOURCE
    )


def test_payloads_are_the_specifications() -> None:
    """Every value is text; addresses carry their checksum."""
    assert hash_payload(TX_HASH) == {"type": "hash", "hash": "0x" + "cd" * 32}
    assert proof_payload(SIGNATURE) == {"type": "proof", "signature": "0x" + SIGNATURE.hex()}
    assert authorization_payload(authorization(), SIGNATURE) == {
        "type": "authorization",
        "from": "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf",
        "to": PAYEE,
        "value": "1500000",
        "validAfter": "0",
        "validBefore": "1767700800",
        "nonce": "0x" + "11" * 32,
        "signature": "0x" + SIGNATURE.hex(),
    }
    assert did_source(42431, PAYER) == SOURCE


@pytest.mark.parametrize(
    "make",
    [
        lambda: charge_payload(b"\x02" + RAW_TX[1:]),
        lambda: charge_payload(b"\x76"),
        lambda: charge_payload(b""),
        lambda: hash_payload(TX_HASH[1:]),
        lambda: proof_payload(SIGNATURE[1:]),
        lambda: authorization_payload(authorization(), SIGNATURE + b"\0"),
        lambda: did_source(1, parse_address(OTHER)[1:]),  # type: ignore[arg-type]
    ],
)
def test_a_payload_of_the_wrong_size_or_kind_is_never_made(make: Any) -> None:
    """Lengths and transaction types are checked where the text is made."""
    with pytest.raises(ValueError, match=r"not a Tempo|expected"):
        make()


@pytest.mark.parametrize(
    ("vector", "payload", "source"),
    [
        ("plain", proof_payload(SIGNATURE), SOURCE),
        ("proof", charge_payload(RAW_TX), SOURCE),
        ("proof", proof_payload(SIGNATURE), None),
        ("evm", charge_payload(RAW_TX), SOURCE),
        ("evm", hash_payload(TX_HASH), SOURCE),
        ("plain", authorization_payload(authorization(value_base=10_000), SIGNATURE), SOURCE),
        ("evm", authorization_payload(authorization(value_base=1_500_001), SIGNATURE), SOURCE),
        ("evm", authorization_payload(authorization(pay_to=parse_address(OTHER)), SIGNATURE), SOURCE),
        ("split", hash_payload(TX_HASH), SOURCE),
        ("push", charge_payload(RAW_TX), SOURCE),
        ("plain", charge_payload(SPONSORED_TX), SOURCE),
        ("plain", {"type": "keyAuthorization", "signature": "0x"}, SOURCE),
        ("plain", {}, SOURCE),
    ],
)
def test_a_credential_that_must_not_exist_is_never_made(vector: str, payload: Any, source: str | None) -> None:
    """A proof is no payment, a payment no proof, and each pays what the offer asks in a way that it takes."""
    with pytest.raises(ValueError, match=r"proof|payload|pay|transactions?"):
        encode_credential(offer_of(MPPX[vector]), payload, source)


def test_a_hash_is_not_sent_where_only_pulling_is_taken() -> None:
    """A seller that names `pull` alone has no use for a hash."""
    offer = replace(offer_of(MPPX["either"]), modes=("pull",))
    with pytest.raises(ValueError, match="takes no transaction"):
        encode_credential(offer, hash_payload(TX_HASH), SOURCE)


def test_mppx_takes_every_kind_of_credential() -> None:
    """Its decoder, its payload schema and its seal over the challenge accept what we send."""
    cases = [
        ("plain", charge_payload(RAW_TX)),
        ("described", charge_payload(RAW_TX)),
        ("header", charge_payload(RAW_TX)),
        ("split", charge_payload(SPONSORED_TX)),
        ("push", hash_payload(TX_HASH)),
        ("proof", proof_payload(SIGNATURE)),
        ("bare_proof", proof_payload(SIGNATURE)),
        ("evm", authorization_payload(authorization(), SIGNATURE)),
    ]
    values = [encode_credential(offer_of(MPPX[name]), payload, SOURCE)[1] for name, payload in cases]
    answers = run_peer([*MPPX_PEER, "verify"], values)
    assert [(answer["sealed"], answer["payload"], answer["source"]) for answer in answers] == [
        (True, dict(payload), SOURCE) for _, payload in cases
    ]
    assert answers[1]["description"] == dict(offer_of(MPPX["described"]).echo)["description"]


def test_pympp_takes_our_credentials() -> None:
    """The same by the other SDK."""
    names = ["plain", "described", "header"]
    values = [encode_credential(offer_of(PYMPP[name]), charge_payload(RAW_TX), SOURCE)[1] for name in names]
    expected = {"sealed": True, "payload": dict(charge_payload(RAW_TX)), "source": SOURCE}
    assert run_peer([*PYMPP_PEER, "verify"], values) == [expected] * 3


def test_a_changed_echo_breaks_the_sellers_seal() -> None:
    """The oracle does tell: another realm in the echo is not what it has sealed."""
    offer = offer_of(MPPX["plain"])
    forged = replace(offer, echo=tuple((k, "api.other.com" if k == "realm" else v) for k, v in offer.echo))
    (answer,) = run_peer([*MPPX_PEER, "verify"], [encode_credential(forged, charge_payload(RAW_TX), SOURCE)[1]])
    assert answer["sealed"] is False


def test_the_vectors_are_what_the_sdks_say() -> None:
    """The committed texts are the output of the pinned SDKs."""
    assert run_peer([*MPPX_PEER, "challenges"]) == MPPX
    assert run_peer([*PYMPP_PEER, "challenges"]) == PYMPP

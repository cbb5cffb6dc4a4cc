"""Credentials: what is sent is what was asked, byte for byte repeatable, and accepted by the reference SDK."""

import base64
import json
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

from contracts.codec import Address, checksum, parse_address
from contracts.eip3009 import Authorization, purchase_nonce
from contracts.signature import address_of, load_key, sign_digest
from contracts.tokens import BASE_SEPOLIA_USDC, BASE_USDC
from gateway.rails.offer import Challenge, Offer
from gateway.rails.x402.challenge import parse_challenge
from gateway.rails.x402.credential import MAX_ECHO_CHARS, encode_payment

ROOT = Path(__file__).parents[5]
PEER = ROOT / "tests/tools/x402_peer.py"
VECTORS = ROOT / "tests/vectors/x402/sdk.json"
SDK = json.loads(VECTORS.read_text())
KEY = load_key(b"\x01" * 32)
IDENTIFIER = "pay_7d5d747be160e280504c099d984bcfe0"


def sdk_challenge(name: str) -> Challenge:
    """A challenge of the reference SDK's seller."""
    challenge = parse_challenge(402, CIMultiDict({"PAYMENT-REQUIRED": SDK[name]}), b"")
    assert challenge is not None
    return challenge


def authorize(offer: Offer, **changes: Any) -> tuple[Authorization, bytes]:
    """A signed authorization for an offer, valid now."""
    token = BASE_USDC if offer.chain_id == BASE_USDC.chain_id else BASE_SEPOLIA_USDC
    wallet = address_of(KEY)
    fields = {
        "token": token,
        "authorizer": wallet,
        "pay_to": offer.pay_to,
        "value_base": offer.amount_base,
        "valid_after": 0,
        "valid_before": int(time.time()) + 600,
        "nonce": purchase_nonce(token.chain_id, token.address, wallet, "purchase-1"),
    }
    authorization = Authorization(**(fields | changes))
    return authorization, sign_digest(KEY, authorization.digest)


def decoded(value: str) -> dict[str, Any]:
    """The JSON in a credential; standard alphabet, padded."""
    document = json.loads(base64.b64decode(value, validate=True))
    assert isinstance(document, dict)
    return document


def run_peer(command: str, given: object = None) -> Any:
    """Ask the reference SDK, in its own interpreter."""
    python = os.environ.get("SANDBOX_PYTHON", str(ROOT / ".venv-sandbox/bin/python"))
    done = subprocess.run(
        [python, str(PEER), command], input=json.dumps(given), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_v1_credential_has_exactly_the_specified_shape() -> None:
    """X-PAYMENT carries scheme, the server's network name, and the authorization in decimal strings and hex."""
    challenge = sdk_challenge("v1_header")
    offer = challenge.offers[0]
    authorization, signature = authorize(offer)
    name, value = encode_payment(challenge, offer, authorization, signature)
    assert name == "X-PAYMENT"
    assert decoded(value) == {
        "x402Version": 1,
        "scheme": "exact",
        "network": "base",
        "payload": {
            "signature": "0x" + signature.hex(),
            "authorization": {
                "from": checksum(address_of(KEY)),  # facilitators on web3.py take no other spelling
                "to": offer.wire_pay_to,
                "value": "9990000",
                "validAfter": "0",
                "validBefore": str(authorization.valid_before),
                "nonce": "0x" + authorization.nonce.hex(),
            },
        },
    }
    assert b" " not in base64.b64decode(value)


def test_v2_credential_echoes_entry_resource_and_extensions() -> None:
    """PAYMENT-SIGNATURE repeats what the server said, and adds our identifier to the extension that takes one."""
    challenge = sdk_challenge("v2_header")
    offer = challenge.offers[1]
    name, value = encode_payment(challenge, offer, *authorize(offer), payment_identifier=IDENTIFIER)
    sent, said = decoded(value), decoded(SDK["v2_header"])
    assert name == "PAYMENT-SIGNATURE"
    assert sent["accepted"] == said["accepts"][1]
    assert sent["resource"] == said["resource"]
    said["extensions"]["payment-identifier"]["info"]["id"] = IDENTIFIER
    assert sent["extensions"] == said["extensions"]
    assert set(sent) == {"x402Version", "payload", "accepted", "resource", "extensions"}


def test_what_the_server_did_not_say_is_not_sent() -> None:
    """Without resource and extensions there are none, and an identifier is not pressed on a server that asked for none."""
    said = {"x402Version": 2, "accepts": [decoded(SDK["v2_header"])["accepts"][1]]}
    challenge = parse_challenge(402, CIMultiDict(), json.dumps(said).encode())
    assert challenge is not None
    offer = challenge.offers[0]
    _, value = encode_payment(challenge, offer, *authorize(offer), payment_identifier=IDENTIFIER)
    assert set(decoded(value)) == {"x402Version", "payload", "accepted"}


def test_a_long_echo_is_left_out_but_for_our_identifier() -> None:
    """Schemas of any size must not make the request header too large for the way to the seller."""
    said = decoded(SDK["v2_header"])
    said["extensions"]["bazaar"] = {"info": {}, "schema": "x" * MAX_ECHO_CHARS}
    challenge = parse_challenge(402, CIMultiDict(), json.dumps(said).encode())
    assert challenge is not None
    offer = challenge.offers[1]
    _, value = encode_payment(challenge, offer, *authorize(offer), payment_identifier=IDENTIFIER)
    assert list(decoded(value)["extensions"]) == ["payment-identifier"]
    assert len(value) < 8_000


@pytest.mark.parametrize("advertised", [None, [], "x", {"info": []}, {}])
def test_a_strange_identifier_extension_is_echoed_unchanged(advertised: object) -> None:
    """We add our id where the specification has a place for it, and nowhere else."""
    said = decoded(SDK["v2_header"]) | {"extensions": {"payment-identifier": advertised}}
    challenge = parse_challenge(402, CIMultiDict(), json.dumps(said).encode())
    assert challenge is not None
    offer = challenge.offers[1]
    _, value = encode_payment(challenge, offer, *authorize(offer), payment_identifier=IDENTIFIER)
    assert decoded(value)["extensions"] == {"payment-identifier": advertised}


def test_a_credential_is_repeatable() -> None:
    """The same inputs make the same bytes."""
    challenge = sdk_challenge("v2_header")
    authorization, signature = authorize(challenge.offers[1])
    first = encode_payment(challenge, challenge.offers[1], authorization, signature)
    assert first == encode_payment(challenge, challenge.offers[1], authorization, signature)


@pytest.mark.parametrize(
    "changes",
    [
        {"value_base": 9_990_001},
        {"value_base": 9_989_999},
        {"pay_to": Address(b"\x22" * 20)},
        {"token": BASE_SEPOLIA_USDC},
    ],
    ids=str,
)
def test_an_authorization_that_pays_something_else_is_never_encoded(changes: dict[str, Any]) -> None:
    """The last line before the wire: amount, payee and token are those of the offer."""
    challenge = sdk_challenge("v1_header")
    with pytest.raises(ValueError, match="authorization"):
        encode_payment(challenge, challenge.offers[0], *authorize(challenge.offers[0], **changes))


def test_a_signature_of_another_length_is_never_encoded() -> None:
    """Our wallets are externally owned accounts: 65 bytes, or something went wrong."""
    challenge = sdk_challenge("v1_header")
    authorization, signature = authorize(challenge.offers[0])
    with pytest.raises(ValueError, match="65 bytes"):
        encode_payment(challenge, challenge.offers[0], authorization, signature[:64])


def test_the_payee_keeps_the_servers_spelling() -> None:
    """Servers that compare payTo as text get their own text back."""
    lower = "0x" + parse_address("0x8eCbd65228930060363C70854da7D37D57ffC358").hex()
    said = decoded(SDK["v1_header"])
    said["accepts"][0]["payTo"] = lower
    challenge = parse_challenge(402, CIMultiDict(), json.dumps(said).encode())
    assert challenge is not None
    _, value = encode_payment(challenge, challenge.offers[0], *authorize(challenge.offers[0]))
    assert decoded(value)["payload"]["authorization"]["to"] == lower


def test_the_reference_sdk_accepts_our_credentials() -> None:
    """SDK decoder, seller's matching, extension echo and facilitator signature check all say yes, in both versions."""
    asked: list[dict[str, Any]] = []
    for name, index in (("v1_header", 0), ("v2_header", 0), ("v2_header", 1)):
        challenge = sdk_challenge(name)
        offer = challenge.offers[index]
        _, value = encode_payment(challenge, offer, *authorize(offer), payment_identifier=IDENTIFIER)
        asked.append({"header": value, "challenge_header": SDK[name], "index": index})
    first, sepolia, base = run_peer("verify", asked)
    payer = "0x" + address_of(KEY).hex()
    assert (first["valid"], first["reason"], first["payer"].lower()) == (True, None, payer)
    for answer, index in ((sepolia, 0), (base, 1)):
        assert (answer["valid"], answer["reason"], answer["payer"].lower()) == (True, None, payer)
        assert (answer["matched"], answer["echo"], answer["identifier"]) == (index, True, IDENTIFIER)
        assert answer["resource"] == "https://seller.example/report"


def test_the_reference_sdk_would_refuse_a_wrong_signature() -> None:
    """The check above can fail: a signature over other terms does not pass."""
    challenge = sdk_challenge("v2_header")
    offer = challenge.offers[1]
    authorization, _ = authorize(offer)
    _, signature = authorize(offer, valid_before=authorization.valid_before + 1)
    _, value = encode_payment(challenge, offer, authorization, signature)
    (answer,) = run_peer("verify", [{"header": value, "challenge_header": SDK["v2_header"], "index": 1}])
    assert not answer["valid"]
    assert "signature" in answer["reason"]


def test_the_committed_vectors_are_what_the_reference_sdk_says() -> None:
    """The vectors are the SDK's output, not ours."""
    assert run_peer("challenges") == SDK


def test_offers_of_one_challenge_do_not_mix() -> None:
    """An authorization for the testnet offer does not pay the mainnet offer of the same challenge."""
    challenge = sdk_challenge("v2_header")
    authorization, signature = authorize(challenge.offers[0])
    with pytest.raises(ValueError, match="another token"):
        encode_payment(challenge, replace(challenge.offers[1], amount_base=20_000), authorization, signature)

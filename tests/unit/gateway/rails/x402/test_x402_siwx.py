"""sign-in-with-x: what stock clients sign is what we rebuild, and nothing else is an answer."""

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from contracts.codec import checksum, parse_address
from contracts.signature import address_of, load_key, recover_address, sign_digest
from contracts.tokens import BASE_USDC
from gateway.rails.x402.siwx import EXTENSION, SignIn, SignInDesk, SignInRefused
from wallets.secret import Secret

NOW_MS = 1_800_000_000_000
URI = "https://gw.example:8443/v1/wallet-keys"
KEY = load_key(b"\x11" * 32)
STOCK = (  # what @x402/extensions 2.27.0 made of the challenge of NOW_MS, with this key
    "eyJkb21haW4iOiJndy5leGFtcGxlOjg0NDMiLCJhZGRyZXNzIjoiMHgxOUU3RTM3NkU3QzIxM0I3RTdlN2U0NmNjNzBBNWREMDg2REFmZjJBIiwi"
    "c3RhdGVtZW50IjoiU2lnbiBpbiB0byBnZXQgYW4gQVBJIGtleSBvZiB0aGlzIHdhbGxldCdzIGFjY291bnQuIiwidXJpIjoiaHR0cHM6Ly9ndy5l"
    "eGFtcGxlOjg0NDMvdjEvd2FsbGV0LWtleXMiLCJ2ZXJzaW9uIjoiMSIsImNoYWluSWQiOiJlaXAxNTU6ODQ1MyIsInR5cGUiOiJlaXAxOTEiLCJu"
    "b25jZSI6IjAwMDEwMjAzMDQwNTA2MDdhYmI0YTg5NjcwMjBhOTUxIiwiaXNzdWVkQXQiOiIyMDI3LTAxLTE1VDA4OjAwOjAwLjAwMFoiLCJleHBp"
    "cmF0aW9uVGltZSI6IjIwMjctMDEtMTVUMDg6MDU6MDAuMDAwWiIsInNpZ25hdHVyZSI6IjB4NTFlZGQwY2Y3NmRhYTM4MmEwM2JiZDc3YWZmMDlk"
    "NzIwMDM2MTZmYTEwNjMzM2ViNjY5OTFjMDJjYTM3Nzc2MzY3OTJlOGIzNjkxOTYzOGYyNTIwMDBlZmYzYjY0ZGE0MmRlZjFiZjc5MGI3YzgyMDFm"
    "ODJlN2UwNmQ1YzJiNDIxYiJ9"
)
TEXT = """gw.example:8443 wants you to sign in with your Ethereum account:
0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A

Sign in to get an API key of this wallet's account.

URI: https://gw.example:8443/v1/wallet-keys
Version: 1
Chain ID: 8453
Nonce: 0001020304050607abb4a8967020a951
Issued At: 2027-01-15T08:00:00.000Z
Expiration Time: 2027-01-15T08:05:00.000Z"""


def desk(**changes: Any) -> SignInDesk:
    """Return a desk of the gateway at gw.example."""
    made: dict[str, Any] = {
        "secret": Secret(b"s" * 32),
        "domain": "gw.example:8443",
        "uri": URI,
        "chain_ids": (8453, 4217),
    }
    return SignInDesk(**(made | changes))


def members() -> dict[str, Any]:
    """Return what the stock client sent."""
    found: dict[str, Any] = json.loads(base64.b64decode(STOCK))
    return found


def header(document: object) -> str:
    """Return a header's value."""
    return base64.b64encode(json.dumps(document).encode()).decode()


def read(document: Mapping[str, Any], now_ms: int = NOW_MS + 1_000) -> SignIn:
    """Read what was sent."""
    return desk().read(header(document), now_ms)


def test_a_stock_clients_header_is_taken() -> None:
    """The text that it signed is rebuilt to the letter, so its signature recovers to its address."""
    found = desk().read(STOCK, NOW_MS + 1_000)
    assert found.text == TEXT
    assert (found.address, found.chain_id) == (address_of(KEY), 8453)
    assert recover_address(found.digest, found.signature) == found.address
    assert found.nonce == "0001020304050607abb4a8967020a951"


def test_what_is_asked_is_what_is_read() -> None:
    """Any challenge of ours may be signed, for any of its chains; it holds for five minutes and no longer."""
    asked = desk().extension(NOW_MS, b"\x01" * 8)[EXTENSION]
    info = asked["info"]
    answer = {**info, "address": checksum(address_of(KEY)), "chainId": "eip155:4217", "type": "eip191"}
    found = read(answer | {"signature": "0x" + bytes(65).hex()}, NOW_MS + 299_999)
    signature = sign_digest(KEY, found.digest)
    signed = read(answer | {"signature": "0x" + signature.hex()}, NOW_MS + 299_999)
    assert recover_address(signed.digest, signed.signature) == address_of(KEY)
    assert signed.text.splitlines()[7] == "Chain ID: 4217"
    with pytest.raises(SignInRefused, match="over"):
        read(answer | {"signature": "0x" + signature.hex()}, NOW_MS + 300_000)


@pytest.mark.parametrize(
    "change",
    [
        {"domain": "evil.example"},
        {"uri": "https://gw.example:8443/v1/other"},
        {"uri": "https://evil.example/v1/wallet-keys"},
        {"version": "2"},
        {"type": "ed25519"},
        {"chainId": "eip155:1"},
        {"chainId": "8453"},
        {"nonce": "00" * 16},
        {"nonce": ""},
        {"nonce": "0001020304050607abb4a8967020a95\u0661"},
        {"issuedAt": "2027-01-15T08:00:01.000Z"},
        {"expirationTime": "2028-01-15T08:05:00.000Z"},
        {"expirationTime": None},
        {"statement": "Send all your money."},
        {"statement": None},
        {"address": "0x12"},
        {"address": "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2a"},
        {"signature": "0xzz"},
        {"signature": "0x" + "00" * 4_097},
        {"notBefore": "2027-01-15T08:00:00.000Z"},
        {"resources": ["https://evil.example"]},
        {"requestId": "\ud800"},
        {"domain": 1},
    ],
)
def test_whatever_is_not_our_challenge_is_refused(change: dict[str, Any]) -> None:
    """Wrong domain, address, time, chain or statement, and every member that we did not say."""
    assert read(members())
    with pytest.raises(SignInRefused):
        read(members() | change)


def test_v_of_zero_and_one_is_taken() -> None:
    """Wallets write it in both ways."""
    stock = members()
    raw = bytes.fromhex(stock["signature"][2:])
    low = "0x" + (raw[:64] + bytes((raw[64] - 27,))).hex()
    assert read(stock | {"signature": low}).signature == raw


@pytest.mark.parametrize("text", ["", "!", "e30", base64.b64encode(b"[]").decode(), "A" * 16_385, "{}"])
def test_what_cannot_be_read_is_refused(text: str) -> None:
    """Never an error of ours."""
    with pytest.raises(SignInRefused):
        desk().read(text, NOW_MS)


def test_another_gateways_challenge_is_none() -> None:
    """The nonce is made with our secret, over our own name."""
    for other in (desk(secret=Secret(b"o" * 32)), desk(chain_ids=(4217,))):
        with pytest.raises(SignInRefused):
            other.read(STOCK, NOW_MS + 1_000)


def test_the_402_names_a_payment_of_nothing_for_clients_that_look_for_one() -> None:
    """They take the chain from `accepts`; without a till there is none."""
    till = parse_address("0x9965507d1a55bcc2695c58ba16fb37d819b0a4dc")
    made = desk(till=(BASE_USDC, till))
    told = json.loads(base64.b64decode(made.header(made.extension(NOW_MS, bytes(8)))))
    assert [(entry["network"], entry["amount"]) for entry in told["accepts"]] == [("eip155:8453", "0")]
    assert told["accepts"][0]["payTo"] == checksum(till)
    assert json.loads(base64.b64decode(desk().header({})))["accepts"] == []

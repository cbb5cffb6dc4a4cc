"""Web3 Secret Storage v3: the JSON key file of geth, MetaMask and others, in and out.

Must not know our own keystore. Theory: eth-account does the cryptography; we bound the cost that a foreign file may ask
for before it runs, and check that the key is of the address that the file names.
"""

import json
from typing import Any

from contracts.codec import parse_address, to_hex
from contracts.signature import address_of, load_key
from wallets.eth_library import eth_account
from wallets.secret import Secret

MAX_BYTES = 16 * 1024
MAX_SCRYPT_MEMORY_BYTES = 2**30
MAX_SCRYPT_P = 16
MAX_PBKDF2_ROUNDS = 10_000_000
EXPORT_N = 2**18
CIPHER = "aes-128-ctr"


class V3Error(Exception):
    """A v3 file cannot be read, is too costly to open, or the passphrase is wrong."""


def import_v3(raw: str | bytes, passphrase: Secret[str]) -> Secret[bytes]:
    """Return the private key inside a v3 JSON file. Raises V3Error; nothing of the key is in its message."""
    if len(raw) > MAX_BYTES:
        raise V3Error(f"v3 file: larger than {MAX_BYTES} bytes")
    try:
        body = json.loads(raw)
        crypto = {label.lower(): value for label, value in body.items()}["crypto"]
        if crypto["cipher"] != CIPHER:
            # The MAC does not cover this field, and eth-account does not look at it.
            raise V3Error("v3 file: unknown cipher")
        _check_cost(crypto["kdf"], crypto["kdfparams"])
        named = body.get("address")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise V3Error("v3 file: not Web3 Secret Storage JSON of version 3") from None
    try:
        key = Secret(bytes(eth_account().Account.decrypt(body, passphrase.reveal())))
        address = address_of(load_key(key.reveal()))
        matches = not named or parse_address("0x" + str(named).removeprefix("0x").lower()) == address
    except (ValueError, KeyError, TypeError, NotImplementedError):
        raise V3Error("v3 file: wrong passphrase, or the file is damaged") from None
    if not matches:
        raise V3Error("v3 file: the key inside is of another address")
    return key


def export_v3(key: Secret[bytes], passphrase: Secret[str], scrypt_n: int = EXPORT_N) -> str:
    """Write a private key as v3 JSON (scrypt, AES-128-CTR), as other wallets read it."""
    body: dict[str, Any] = eth_account().Account.encrypt(
        key.reveal(), passphrase.reveal(), kdf="scrypt", iterations=scrypt_n
    )
    body["address"] = to_hex(address_of(load_key(key.reveal()))).removeprefix("0x")
    return json.dumps(body)


def _check_cost(kdf: str, params: dict[str, Any]) -> None:
    """Refuse a derivation that would take the machine's memory or minutes of its time."""
    if kdf == "scrypt":
        n, r, p = (params[label] for label in "nrp")
        if not all(type(value) is int and value > 0 for value in (n, r, p)):
            raise V3Error("v3 file: malformed scrypt cost")
        if 128 * n * r > MAX_SCRYPT_MEMORY_BYTES or p > MAX_SCRYPT_P:
            raise V3Error("v3 file: asks for too costly a derivation")
    elif kdf == "pbkdf2":
        if type(params["c"]) is not int or not 0 < params["c"] <= MAX_PBKDF2_ROUNDS:
            raise V3Error("v3 file: asks for too costly a derivation")
    else:
        raise V3Error("v3 file: unknown key derivation")

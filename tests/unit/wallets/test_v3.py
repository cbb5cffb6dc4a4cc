"""Web3 v3 files go in and out as eth-account reads and writes them."""

import json
from typing import Any

import pytest
from eth_account import Account

from wallets.secret import Secret
from wallets.v3 import V3Error, export_v3, import_v3

KEY = Secret(b"\x07" * 32)
PASSPHRASE = Secret("correct horse")


def v3_file(kdf: str = "scrypt", iterations: int = 2**12) -> dict[str, Any]:
    """Return a v3 file that eth-account made."""
    made: dict[str, Any] = Account.encrypt(KEY.reveal(), PASSPHRASE.reveal(), kdf=kdf, iterations=iterations)
    return made


@pytest.mark.parametrize(("kdf", "iterations"), [("scrypt", 2**12), ("pbkdf2", 1000)])
def test_reads_what_eth_account_writes(kdf: str, iterations: int) -> None:
    """Both derivations of the format are read, from text or bytes."""
    text = json.dumps(v3_file(kdf, iterations))
    assert import_v3(text, PASSPHRASE).reveal() == KEY.reveal()
    assert import_v3(text.encode(), PASSPHRASE).reveal() == KEY.reveal()


def test_eth_account_reads_what_we_write() -> None:
    """An exported file opens in eth-account and names its address; ours reads it back."""
    text = export_v3(KEY, PASSPHRASE, scrypt_n=2**12)
    body = json.loads(text)
    assert bytes(Account.decrypt(body, PASSPHRASE.reveal())) == KEY.reveal()
    assert "0x" + body["address"] == Account.from_key(KEY.reveal()).address.lower()
    assert import_v3(text, PASSPHRASE).reveal() == KEY.reveal()


def test_a_wrong_passphrase_is_a_named_error() -> None:
    """The error says so and holds neither key nor passphrase."""
    with pytest.raises(V3Error, match="wrong passphrase") as caught:
        import_v3(json.dumps(v3_file()), Secret("wrong-pass"))
    assert "wrong-pass" not in str(caught.value)


def test_a_key_of_another_address_is_refused() -> None:
    """The file's address must be that of the key inside."""
    with pytest.raises(V3Error, match="another address"):
        import_v3(json.dumps(v3_file() | {"address": "22" * 20}), PASSPHRASE)


@pytest.mark.parametrize(
    ("kdf", "change"),
    [
        ("scrypt", {"n": 2**24}),
        ("scrypt", {"n": 2**18, "r": 64}),
        ("scrypt", {"p": 17}),
        ("scrypt", {"n": "4096"}),
        ("scrypt", {"n": -1}),
        ("pbkdf2", {"c": 10**9}),
        ("pbkdf2", {"c": 0}),
        ("pbkdf2", {"c": "1000"}),
    ],
)
def test_costly_files_are_refused_before_they_run(kdf: str, change: dict[str, Any]) -> None:
    """A foreign file cannot ask for gigabytes or hours."""
    body = v3_file(kdf, 2**12)
    body["crypto"]["kdfparams"].update(change)
    with pytest.raises(V3Error):
        import_v3(json.dumps(body), PASSPHRASE)


@pytest.mark.parametrize(
    "raw", ["", "[]", "{}", "null", '{"crypto": 1}', '{"crypto": {"kdf": "md5", "kdfparams": {}}}', " " * 20000]
)
def test_malformed_files_are_named_errors(raw: str) -> None:
    """Whatever is not a v3 file is a V3Error and no other exception."""
    with pytest.raises(V3Error):
        import_v3(raw, PASSPHRASE)


@pytest.mark.parametrize("path", ["version", "cipher", "mac", "ciphertext", "kdfparams.salt", "kdfparams.dklen"])
def test_damaged_files_are_named_errors(path: str) -> None:
    """A field of the wrong kind is a V3Error, also where eth-account would raise something else."""
    for value in (None, 7, "zz", []):
        body = v3_file()
        *parents, leaf = path.split(".")
        place = body if leaf == "version" else body["crypto"]
        for parent in parents:
            place = place[parent]
        place[leaf] = value
        with pytest.raises(V3Error):
            import_v3(json.dumps(body), PASSPHRASE)

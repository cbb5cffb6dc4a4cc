"""The keystore: opens with its passphrase only, notices every change, never loses or replaces a file."""

import json
from pathlib import Path
from typing import Any

import pytest

from contracts.codec import Address, parse_address, to_hex
from contracts.signature import SignatureError, address_of, load_key
from wallets.keyfile import KeystoreError, Kind, ScryptParams, WrongPassphraseError
from wallets.keystore import Keystore
from wallets.secret import Secret

PASSPHRASE = Secret("correct horse battery staple")
KEY = Secret(b"\x07" * 32)
ADDRESS = address_of(load_key(KEY.reveal()))
FAST_N = 2**14


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A keystore with one wallet and one watched address."""
    path = tmp_path / "keys"
    store = Keystore(path)
    store.create(PASSPHRASE, FAST_N)
    store.add_wallet(PASSPHRASE, KEY)
    store.add_watch_only(Address(b"\x22" * 20))
    return path


def edit(path: Path, change: Any) -> None:
    """Rewrite a file's JSON through ``change``."""
    body = json.loads(path.read_text())
    change(body)
    path.write_text(json.dumps(body))


def wallet_file(directory: Path) -> Path:
    """Return the file of the one wallet."""
    return directory / f"{to_hex(ADDRESS)}.json"


def test_unlocks_everything_at_once(directory: Path) -> None:
    """Data key, wallet keys and watched addresses come back, also for another process's view of the directory."""
    unlocked = Keystore(directory).unlock(PASSPHRASE)
    assert len(unlocked.data_key.reveal()) == 32
    assert unlocked.keys[ADDRESS].reveal() == KEY.reveal()
    assert unlocked.watched == {Address(b"\x22" * 20)}
    assert Keystore(directory).list_wallets() == {ADDRESS: Kind.WALLET, Address(b"\x22" * 20): Kind.WATCH}
    assert Keystore(directory).open_key(PASSPHRASE, ADDRESS).reveal() == KEY.reveal()


def test_p10_nothing_on_disk_or_in_repr_is_a_key(directory: Path) -> None:
    """P10: neither the files nor the unlocked record's repr hold the key or the passphrase."""
    unlocked = Keystore(directory).unlock(PASSPHRASE)
    everything = repr(unlocked) + "".join(path.read_text() for path in directory.iterdir())
    assert KEY.reveal().hex() not in everything
    assert unlocked.data_key.reveal().hex() not in everything
    assert PASSPHRASE.reveal() not in everything


def test_files_are_private_and_nothing_else_is_left(directory: Path) -> None:
    """Directory 0700, files 0600, no drafts."""
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}
    assert {path.suffix for path in directory.iterdir()} == {".json"}


def test_a_wrong_passphrase_opens_and_adds_nothing(directory: Path) -> None:
    """Unlocking fails, and no wallet can be added under a second passphrase."""
    store = Keystore(directory)
    before = sorted(directory.iterdir())
    with pytest.raises(WrongPassphraseError):
        store.unlock(Secret("wrong"))
    with pytest.raises(WrongPassphraseError):
        store.new_wallet(Secret("wrong"))
    assert sorted(directory.iterdir()) == before


def test_new_wallets_are_random_and_usable(directory: Path) -> None:
    """Each new wallet has its own key, of the address that it is filed under."""
    store = Keystore(directory)
    addresses = {store.new_wallet(PASSPHRASE), store.new_wallet(PASSPHRASE)}
    keys = store.unlock(PASSPHRASE).keys
    assert len(addresses) == 2
    assert all(address_of(load_key(keys[address].reveal())) == address for address in addresses)


def test_a_key_is_never_replaced(directory: Path) -> None:
    """Creating again, adding again, or watching a wallet we hold leaves the file as it was."""
    store = Keystore(directory)
    before = {path: path.read_bytes() for path in directory.iterdir()}
    for attempt in (
        lambda: store.create(PASSPHRASE, FAST_N),
        lambda: store.add_wallet(PASSPHRASE, KEY),
        lambda: store.add_watch_only(ADDRESS),
    ):
        with pytest.raises(KeystoreError, match="exists already"):
            attempt()
    assert {path: path.read_bytes() for path in directory.iterdir()} == before


@pytest.mark.parametrize(
    ("section", "field"), [("cipher", "ciphertext"), ("cipher", "nonce"), ("kdf", "salt"), ("kdf", "n")]
)
def test_an_altered_file_does_not_open(directory: Path, section: str, field: str) -> None:
    """Ciphertext, nonce, salt and cost are all bound."""

    def change(body: dict[str, Any]) -> None:
        value = body[section][field]
        body[section][field] = value * 2 if isinstance(value, int) else ("B" if value[0] == "A" else "A") + value[1:]

    edit(wallet_file(directory), change)
    with pytest.raises(WrongPassphraseError):
        Keystore(directory).unlock(PASSPHRASE)


def test_a_file_under_another_name_does_not_open(directory: Path) -> None:
    """Neither a renamed file, nor one whose name field follows the new name, nor a wallet as data key is taken."""
    other = "0x" + "33" * 20
    renamed = directory / f"{other}.json"
    wallet_file(directory).rename(renamed)
    with pytest.raises(KeystoreError, match="another name"):
        Keystore(directory).unlock(PASSPHRASE)
    edit(renamed, lambda body: body.update(name=other))
    with pytest.raises(WrongPassphraseError):
        Keystore(directory).unlock(PASSPHRASE)
    edit(renamed, lambda body: body.update(name="data.key", kind="data-key"))
    renamed.rename(directory / "data.key.json")
    with pytest.raises(WrongPassphraseError):
        Keystore(directory).unlock(PASSPHRASE)


@pytest.mark.parametrize(
    "change",
    [
        {"n": 2**13},
        {"n": 2**21},
        {"n": 2**17 + 1},
        {"n": 0},
        {"n": 2**20, "r": 16},
        {"r": 0},
        {"r": 17},
        {"p": 5},
        {"p": -1},
        {"n": "131072"},
        {"n": True},
        {"n": 131072.0},
    ],
)
def test_planted_costs_are_refused_before_scrypt_runs(directory: Path, change: dict[str, Any]) -> None:
    """A file cannot make us spend the machine's memory, nor weaken the derivation."""
    edit(wallet_file(directory), lambda body: body["kdf"].update(change))
    with pytest.raises(KeystoreError):
        Keystore(directory).list_wallets()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"format": 2, "kind": "wallet", "name": "x"}',
        b'{"format": 1, "kind": "wallet", "name": "x"}',
        b'{"format": 1, "kind": [], "name": "x"}',
        b'{"format": 1, "kind": "wallet", "name": "x", "kdf": 1, "cipher": []}',
        b" " * 5000,
    ],
)
def test_malformed_files_are_named_errors(directory: Path, content: bytes) -> None:
    """Whatever lies there instead of a file is a KeystoreError and no other exception."""
    wallet_file(directory).write_bytes(content)
    with pytest.raises(KeystoreError):
        Keystore(directory).unlock(PASSPHRASE)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_files_open_to_others_are_refused(directory: Path, mode: int) -> None:
    """A key that others could read is not used silently."""
    wallet_file(directory).chmod(mode)
    with pytest.raises(KeystoreError, match="chmod 600"):
        Keystore(directory).unlock(PASSPHRASE)


def test_a_directory_that_others_may_write_is_refused(directory: Path) -> None:
    """Others could plant or remove wallets there."""
    directory.chmod(0o770)
    with pytest.raises(KeystoreError, match="chmod 700"):
        Keystore(directory).unlock(PASSPHRASE)


def test_links_and_missing_stores_are_errors(directory: Path, tmp_path: Path) -> None:
    """A link in a file's place is not followed; a store that is not there says so."""
    target = tmp_path / "elsewhere.json"
    wallet_file(directory).rename(target)
    wallet_file(directory).symlink_to(target)
    with pytest.raises(KeystoreError):
        Keystore(directory).unlock(PASSPHRASE)
    assert not Keystore(tmp_path / "none").exists()
    assert Keystore(directory).exists()
    with pytest.raises(KeystoreError):
        Keystore(tmp_path / "none").unlock(PASSPHRASE)


def test_only_keys_are_taken(directory: Path) -> None:
    """Bytes that are no secp256k1 key are refused before anything is written."""
    with pytest.raises(SignatureError):
        Keystore(directory).add_wallet(PASSPHRASE, Secret(bytes(32)))
    with pytest.raises(KeystoreError, match="watch-only"):
        Keystore(directory).open_key(PASSPHRASE, parse_address("0x" + "22" * 20))


def test_the_default_cost_is_the_documented_one() -> None:
    """N = 2^17, r = 8, p = 1 unless told otherwise."""
    params = ScryptParams(bytes(16))
    assert (params.n, params.r, params.p) == (131072, 8, 1)

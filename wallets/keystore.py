"""The keystore directory: one sealed file per wallet, and the sealed data key that protects the database's secrets.

Must not know networks, policies or the database. Theory: a file appears whole or not at all and is never overwritten,
because a key that is lost is money that is lost. All files share the data key's salt, so that one scrypt opens them
all, and adding a wallet first opens the data key: no wallet can end up under another passphrase.
"""

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from contracts.codec import Address, CodecError, parse_address, to_hex
from contracts.signature import address_of, load_key
from wallets.keyfile import (
    MAX_FILE_BYTES,
    SALT_BYTES,
    SECRET_BYTES,
    KeyDerivation,
    KeyFile,
    KeystoreError,
    Kind,
    ScryptParams,
    open_file,
    seal_file,
)
from wallets.secret import Secret

DATA_KEY_NAME = "data.key"
DEFAULT_N = 2**17


@dataclass(frozen=True, slots=True)
class Unlocked:
    """Everything that the process needs for its life: the data key, each wallet's key, and who is only watched."""

    data_key: Secret[bytes]
    keys: Mapping[Address, Secret[bytes]]
    watched: frozenset[Address]


class Keystore:
    """A directory of sealed keys. Methods touch the disk and, where they take a passphrase, run scrypt once."""

    def __init__(self, directory: Path, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._directory = directory
        self._random_bytes = random_bytes

    def create(self, passphrase: Secret[str], scrypt_n: int = DEFAULT_N) -> None:
        """Make the directory (mode 0700) and seal a new random data key in it. Raises KeystoreError if there is one."""
        params = ScryptParams(self._random_bytes(SALT_BYTES), scrypt_n)
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _fsync_directory(self._directory.parent)
        self._check_directory()
        secret = Secret(self._random_bytes(SECRET_BYTES))
        self._write(
            seal_file(Kind.DATA_KEY, DATA_KEY_NAME, secret, KeyDerivation(passphrase), params, self._random_bytes)
        )

    def exists(self) -> bool:
        """Return whether ``create`` was completed here."""
        return self._path(DATA_KEY_NAME).exists()

    def list_wallets(self) -> dict[Address, Kind]:
        """Return every wallet's address with WALLET or WATCH, in order of address; needs no passphrase.

        Raises KeystoreError when any file is not what its name says.
        """
        return {parse_address(file.name): file.kind for file in self._files() if file.kind is not Kind.DATA_KEY}

    def new_wallet(self, passphrase: Secret[str]) -> Address:
        """Make a random key, seal it durably, and return its address. Raises KeystoreError."""
        return self.add_wallet(passphrase, Secret(self._random_bytes(SECRET_BYTES)))

    def add_wallet(self, passphrase: Secret[str], key: Secret[bytes]) -> Address:
        """Seal a given key durably and return its address. Raises KeystoreError, SignatureError for a non-key."""
        address = address_of(load_key(key.reveal()))
        derivation = KeyDerivation(passphrase)
        data_key = self._read(DATA_KEY_NAME)
        open_file(data_key, derivation)
        if data_key.sealed is None:
            raise KeystoreError(f"{DATA_KEY_NAME}: holds no key")
        params = data_key.sealed.scrypt
        self._write(seal_file(Kind.WALLET, to_hex(address), key, derivation, params, self._random_bytes))
        return address

    def add_watch_only(self, address: Address) -> None:
        """Record an address whose key is elsewhere. Raises KeystoreError if the address is known already."""
        self._check_directory()
        self._write(KeyFile(Kind.WATCH, to_hex(address), None))

    def open_key(self, passphrase: Secret[str], address: Address) -> Secret[bytes]:
        """Return one wallet's key, for export. Raises KeystoreError, WrongPassphraseError."""
        return _open_wallet(self._read(to_hex(address)), KeyDerivation(passphrase))

    def unlock(self, passphrase: Secret[str]) -> Unlocked:
        """Open everything, once, at start. Raises KeystoreError, WrongPassphraseError: it is all or nothing."""
        derivation = KeyDerivation(passphrase)
        data_key = open_file(self._read(DATA_KEY_NAME), derivation)
        wallets = [file for file in self._files() if file.kind is not Kind.DATA_KEY]
        return Unlocked(
            data_key=data_key,
            keys={
                parse_address(file.name): _open_wallet(file, derivation) for file in wallets if file.kind is Kind.WALLET
            },
            watched=frozenset(parse_address(file.name) for file in wallets if file.kind is Kind.WATCH),
        )

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"

    def _files(self) -> list[KeyFile]:
        self._check_directory()
        return [self._read(path.name.removesuffix(".json")) for path in sorted(self._directory.glob("*.json"))]

    def _check_directory(self) -> None:
        try:
            status = self._directory.stat()
        except OSError as error:
            raise KeystoreError(f"{self._directory}: {error.strerror}") from None
        if not stat.S_ISDIR(status.st_mode):
            raise KeystoreError(f"{self._directory}: not a directory")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise KeystoreError(f"{self._directory}: others may write to it; use chmod 700")

    def _read(self, name: str) -> KeyFile:
        path = self._path(name)
        try:
            # Neither a link nor a FIFO may stand in for the file.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise KeystoreError(f"{path}: {error.strerror}") from None
        try:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode) or mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise KeystoreError(f"{path}: must be a regular file that others cannot open; use chmod 600")
            file = KeyFile.from_json(os.read(descriptor, MAX_FILE_BYTES + 1), str(path))
        finally:
            os.close(descriptor)
        if file.name != name or (file.kind is Kind.DATA_KEY) != (name == DATA_KEY_NAME):
            raise KeystoreError(f"{path}: its content is of another name or kind")
        if file.kind is not Kind.DATA_KEY:
            try:
                parse_address(name, str(path))
            except CodecError as error:
                raise KeystoreError(str(error)) from None
        return file

    def _write(self, file: KeyFile) -> None:
        """Write a whole new file: content, name and directory durable; an existing name is never replaced."""
        path = self._path(file.name)
        draft = path.with_suffix(f".{self._random_bytes(8).hex()}.draft")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                content = file.to_json()
                if os.write(descriptor, content) != len(content):
                    raise KeystoreError(f"{path}: no space left")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.link(draft, path)
        except FileExistsError:
            raise KeystoreError(f"{path}: exists already") from None
        except OSError as error:
            raise KeystoreError(f"{path}: {error.strerror}") from None
        finally:
            draft.unlink(missing_ok=True)
        _fsync_directory(self._directory)


def _open_wallet(file: KeyFile, derivation: KeyDerivation) -> Secret[bytes]:
    key = open_file(file, derivation)
    if to_hex(address_of(load_key(key.reveal()))) != file.name:
        raise KeystoreError(f"{file.name}: the key inside is of another address")
    return key


def _fsync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""The keystore's verbs: making, importing, exporting and listing wallets.

Must not know what a wallet pays for.  Theory: keys pass between the keystore and a file or a pipe, never through arguments,
which every user of the machine can read; a running server loads its keys once, so each verb that adds one says so.
"""

import argparse
import os
import re
import sys
from pathlib import Path

from contracts.codec import Address, CodecError, ContractError, checksum, parse_address, parse_bytes32
from gateway.cli.exits import CliError, Exit
from gateway.cli.output import print_json, table
from gateway.cli.setting import configured_keys, read_config, read_secret
from gateway.config import Config
from wallets.keyfile import KeystoreError
from wallets.keystore import Keystore
from wallets.passphrase import PassphraseError, parse_passphrase_source
from wallets.secret import Secret
from wallets.v3 import V3Error, export_v3, import_v3

RAW_KEY = re.compile(r"(0x)?[0-9a-fA-F]{64}", re.ASCII)
MAX_KEY_FILE_BYTES = 16 * 1024


def new(arguments: argparse.Namespace) -> Exit:
    """Make a random key and seal it. Raises CliError."""
    config = read_config(arguments.config)
    try:
        address = Keystore(config.keystore.directory).new_wallet(read_secret(config.keystore.passphrase))
    except KeystoreError as error:
        raise CliError(Exit.CONFIG, str(error)) from None
    return _added(config, address, as_json=arguments.json)


def bring(arguments: argparse.Namespace) -> Exit:
    """Seal a key from a file or standard input. Raises CliError."""
    config = read_config(arguments.config)
    raw = _read(arguments.source)
    key = _v3_key(raw, arguments.v3_passphrase) if arguments.v3 else _raw_key(raw)
    try:
        address = Keystore(config.keystore.directory).add_wallet(read_secret(config.keystore.passphrase), key)
    except KeystoreError as error:
        raise CliError(Exit.CONFIG, str(error)) from None
    except ContractError as error:
        raise CliError(Exit.USAGE, str(error)) from None
    return _added(config, address, as_json=arguments.json)


def _added(config: Config, address: Address, *, as_json: bool) -> Exit:
    named = _named(config).get(address)
    if as_json:
        print_json({"address": checksum(address), "configured_as": named})
        return Exit.OK
    print(checksum(address))
    if named is None:
        print(
            "Write it into the configuration: as the address of [wallets.<name>] it pays, of [tills.<name>] it receives,"
        )
        print("of [relayers.<name>] it pays gas. One address, one of them.")
    print("A running server loads it when it is started again.")
    return Exit.OK


def _named(config: Config) -> dict[Address, str]:
    """Return what each address is configured as: a wallet by its name, a till or relayer by its table's."""
    return {address: label.removeprefix("wallets.") for address, label in configured_keys(config).items()}


def listing(arguments: argparse.Namespace) -> Exit:
    """Show the keystore's wallets, and those that the configuration names and it lacks. Raises CliError."""
    config = read_config(arguments.config)
    try:
        kinds = Keystore(config.keystore.directory).list_wallets()
    except KeystoreError as error:
        raise CliError(Exit.CONFIG, str(error)) from None
    named = _named(config)
    rows = [
        {"address": checksum(address), "kind": kind.value, "configured_as": named.get(address)}
        for address, kind in kinds.items()
    ]
    missing = [checksum(address) for address in named if address not in kinds]
    if arguments.json:
        print_json({"wallets": rows, "missing": missing})
    else:
        print("\n".join(table(rows, ("address", "kind", "configured_as"))))
        for address in missing:
            print(f"{address} is configured and not in the keystore")
    return Exit.OK


def take(arguments: argparse.Namespace) -> Exit:
    """Write a key as a new file of v3 JSON. Raises CliError."""
    config = read_config(arguments.config)
    address = _address(arguments.address)
    passphrase = _source(arguments.v3_passphrase)
    keystore = Keystore(config.keystore.directory)
    try:
        if address not in keystore.list_wallets():
            raise CliError(Exit.NOT_FOUND, f"{checksum(address)} is not in the keystore")
        key = keystore.open_key(read_secret(config.keystore.passphrase), address)
    except KeystoreError as error:
        raise CliError(Exit.CONFIG, str(error)) from None
    _write_new(arguments.out, export_v3(key, passphrase))
    if arguments.json:
        print_json({"address": checksum(address), "file": str(arguments.out)})
    else:
        print(f"{checksum(address)} in {arguments.out}")
    return Exit.OK


def watch(arguments: argparse.Namespace) -> Exit:
    """Record an address of ours whose key is elsewhere. Raises CliError."""
    config = read_config(arguments.config)
    address = _address(arguments.address)
    try:
        Keystore(config.keystore.directory).add_watch_only(address)
    except KeystoreError as error:
        raise CliError(Exit.CONFIG, str(error)) from None
    if arguments.json:
        print_json({"address": checksum(address), "kind": "watch"})
    else:
        print(f"{checksum(address)} is watched")
    return Exit.OK


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except CodecError as error:
        raise CliError(Exit.USAGE, str(error)) from None


def _source(text: str | None) -> Secret[str]:
    if text is None:
        raise CliError(Exit.USAGE, "--v3 needs --v3-passphrase")
    try:
        return read_secret(parse_passphrase_source(text))
    except PassphraseError as error:
        raise CliError(Exit.USAGE, str(error)) from None


def _read(source: str) -> Secret[bytes]:
    if RAW_KEY.fullmatch(source):  # a key where a file was asked for: others may have seen it, nobody gets it repeated
        raise CliError(Exit.USAGE, "this is a key, not a file: others can read arguments, so take another key")
    try:
        if source == "-":
            raw = Secret(sys.stdin.buffer.read(MAX_KEY_FILE_BYTES + 1))
        else:
            with Path(source).open("rb") as file:
                raw = Secret(file.read(MAX_KEY_FILE_BYTES + 1))
    except OSError as error:
        raise CliError(Exit.USAGE, f"{source}: {error.strerror}") from None
    if len(raw.reveal()) > MAX_KEY_FILE_BYTES:
        raise CliError(Exit.USAGE, f"{source}: too large for a key")
    return raw


def _raw_key(raw: Secret[bytes]) -> Secret[bytes]:
    try:
        return Secret(parse_bytes32(raw.reveal().decode("ascii").strip()))
    except (CodecError, UnicodeDecodeError):
        raise CliError(Exit.USAGE, "the key must be 0x and 64 hex digits; a v3 JSON file needs --v3") from None


def _v3_key(raw: Secret[bytes], source: str | None) -> Secret[bytes]:
    try:
        return import_v3(raw.reveal(), _source(source))
    except V3Error as error:
        raise CliError(Exit.FAILED, str(error)) from None


def _write_new(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CliError(Exit.FAILED, f"{path}: {error.strerror}") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())

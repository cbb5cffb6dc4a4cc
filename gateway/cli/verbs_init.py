"""`gateway init`: the configuration, the keystore and the database of a new installation.

Must not know what a server does with them.  Theory: setting up makes what is missing and overwrites nothing, so it can be run
again by a script that does not know how far it came.
"""

import argparse
import asyncio
import os
import secrets
import sqlite3
from pathlib import Path

from gateway.cli.exits import CliError, Exit
from gateway.cli.output import print_json
from gateway.cli.setting import config_path, read_config, read_secret
from gateway.config import Config
from gateway.store.core import StoreBroken
from gateway.store.load import BookBroken
from gateway.store.sqlite import SqliteStore, StoreInUse
from wallets.keyfile import KeystoreError
from wallets.keystore import Keystore
from wallets.passphrase import PassphraseError, SourceKind, parse_passphrase_source

TEMPLATE = """\
# Every key is in config.example.toml, with an example and the reason for it, and in docs/configuration.md, with its default.
data_dir = {data_dir}

[keystore]
passphrase = {passphrase}

# To pay a vendor, describe its chain (two independent providers), a token, a wallet and the vendor itself:
#
# [chains.base]
# chain_id = 8453
# rpc = ["https://${{BASE_RPC_1}}", "https://${{BASE_RPC_2}}"]
#
# [tokens.base-usdc]
#
# [wallets.main]                      # `gateway wallet new` prints the address
# address = "0x…"
# tokens = ["base-usdc"]
# max_value = "100"
#
# [vendors.example]
# kind = "x402"
# base_url = "https://api.example.com"
# wallet = "main"
# tokens = ["base-usdc"]
# payees = ["0x…"]
# ceiling = "5"
#
# A vendor that knows you by an account needs no chain; seal the login with `gateway vendor credentials cryptovps`:
#
# [vendors.cryptovps]
# kind = "cryptovps"
# base_url = "https://api.cryptovps.example"
# ceiling = "1"
#
# For agents to buy credit, with two more addresses of `gateway wallet new` (docs/topups.md):
#
# [tills.main]                        # receives, and gives back
# address = "0x…"
# tokens = ["base-usdc"]
#
# [relayers.one]                      # pays gas: send it ether
# address = "0x…"
# chains = ["base"]
#
# [facilitator]
# tokens = ["base-usdc"]
#
# [topups]
# packs = {{ one = "1" }}
"""


def init(arguments: argparse.Namespace) -> Exit:
    """Make configuration, keystore and database where they are missing. Raises CliError."""
    made: list[str] = []
    path = config_path(arguments.config)
    if not path.exists():
        _write_config(path, arguments.data_dir, arguments.passphrase)
        made.append(str(path))
    config = read_config(str(path))
    made += _make_data_dir(config)
    made += _make_passphrase(config)
    made += _make_keystore(config)
    made += _make_database(config)
    if arguments.json:
        print_json({"config": str(path), "made": made})
        return Exit.OK
    for each in made:
        print(f"made {each}")
    print("Nothing was missing." if not made else f"Next: gateway --config {path} wallet new")
    return Exit.OK


def _write_config(path: Path, data_dir: str, passphrase: str) -> None:
    try:
        parse_passphrase_source(passphrase)
    except PassphraseError as error:
        raise CliError(Exit.USAGE, f"--passphrase: {error}") from None
    text = TEMPLATE.format(data_dir=_quoted(data_dir), passphrase=_quoted(passphrase))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise CliError(Exit.CONFIG, f"{path}: {error.strerror}") from None


def _quoted(text: str) -> str:
    """Return a text as TOML writes it, so that what was asked for is what is read: no escapes, no ${…}."""
    if not text.isprintable() or not text:
        raise CliError(Exit.USAGE, "a path or a passphrase source must be printable and not empty")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{escaped}"'


def _make_data_dir(config: Config) -> list[str]:
    path = config.data_dir
    if path.is_dir():
        return []
    try:
        path.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise CliError(Exit.CONFIG, f"{path}: {error.strerror}") from None
    return [str(path)]


def _make_passphrase(config: Config) -> list[str]:
    source = config.keystore.passphrase
    path = Path(source.name)
    if source.kind is not SourceKind.FILE or path.exists() or Keystore(config.keystore.directory).exists():
        return []
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise CliError(Exit.CONFIG, f"{path}: {error.strerror}") from None
    return [str(path)]


def _make_keystore(config: Config) -> list[str]:
    keystore = Keystore(config.keystore.directory)
    if keystore.exists():
        return []
    try:
        keystore.create(read_secret(config.keystore.passphrase))
    except KeystoreError as error:
        raise CliError(Exit.CONFIG, str(error)) from None
    except OSError as error:
        raise CliError(Exit.CONFIG, f"{config.keystore.directory}: {error.strerror}") from None
    return [str(config.keystore.directory)]


def _make_database(config: Config) -> list[str]:
    if config.store.path.exists():
        return []

    async def create() -> None:
        store = await SqliteStore.open(config.store.path, config.book_rules())
        await store.close()

    try:
        asyncio.run(create())
    except (StoreInUse, StoreBroken, BookBroken, sqlite3.Error) as error:
        raise CliError(Exit.UNREACHABLE, str(error)) from None
    except OSError as error:
        raise CliError(Exit.CONFIG, f"{config.store.path}: {error.strerror}") from None
    return [str(config.store.path)]

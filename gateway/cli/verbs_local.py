"""The verbs that look at this machine: whether the server lives, and whether the configuration can be used.

Must not know what the server does, and changes nothing.  Theory: whoever asks these is a supervisor or an operator in a hurry,
so neither the database nor the server's own modules are loaded for them. What a start would refuse of keys, passphrase and
credentials is said here already: whoever checks a file before the old server is stopped must not learn it afterwards.
"""

import argparse
import http.client
import os

from contracts.codec import checksum
from gateway.cli.exits import CliError, Exit
from gateway.cli.output import print_json
from gateway.cli.setting import config_path, configured_keys, read_config
from gateway.config import Config
from gateway.vendor_credentials import CredentialsError, load, saved
from wallets.keyfile import KeystoreError, Kind
from wallets.keystore import Keystore
from wallets.passphrase import CREDENTIALS_DIRECTORY, PassphraseError, SourceKind, read_passphrase
from wallets.sealing import Sealer

HEALTH_TIMEOUT_S = 3.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - read, not bound


def health(arguments: argparse.Namespace) -> Exit:
    """Ask the running gateway whether it lives. Raises CliError."""
    server = read_config(arguments.config).server
    host = _EVERYWHERE.get(server.host, server.host)
    connection = http.client.HTTPConnection(host, server.port, timeout=HEALTH_TIMEOUT_S)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException):
        raise CliError(Exit.UNREACHABLE, f"nobody answers at {host}:{server.port}") from None
    finally:
        connection.close()
    if status != http.HTTPStatus.OK:
        raise CliError(Exit.FAILED, f"/healthz answered {status}")
    if arguments.json:
        print_json({"healthy": True})
    else:
        print("healthy")
    return Exit.OK


def check(arguments: argparse.Namespace) -> Exit:
    """Read the configuration and hold it against the keystore, which is opened as a start opens it. Raises CliError."""
    config = read_config(arguments.config)
    keystore = Keystore(config.keystore.directory)
    try:
        kinds = keystore.list_wallets()
    except KeystoreError as error:
        raise CliError(Exit.CONFIG, f"{error}; make it with `gateway init`") from None
    problems = [
        f"{label}: {checksum(address)} has no key in {config.keystore.directory}; "
        "make or import it with `gateway wallet`"
        for address, label in configured_keys(config).items()
        if kinds.get(address) is not Kind.WALLET
    ]
    sealer, faults = _opened(config, keystore)
    problems += faults
    problems += _credential_faults(config, sealer)
    if problems:
        raise CliError(Exit.CONFIG, *problems)
    if arguments.json:
        parts = {name: sorted(getattr(config, name)) for name in ("chains", "tokens", "wallets", "vendors")}
        print_json({"ok": True, "keystore_opened": sealer is not None, **parts})
        return Exit.OK
    print(f"{config_path(arguments.config)} can be used")
    if sealer is None:
        print(f"The keystore was not opened: {config.keystore.passphrase} is for the service alone.")
    return Exit.OK


def _opened(config: Config, keystore: Keystore) -> tuple[Sealer | None, list[str]]:
    """Open the keystore; return what opens credentials, or what is wrong, or neither where only the service can know."""
    source = config.keystore.passphrase
    if source.kind is SourceKind.CREDENTIAL and CREDENTIALS_DIRECTORY not in os.environ:
        return None, []  # systemd shows it to its unit and to nobody else
    try:
        return Sealer(keystore.unlock(read_passphrase(source, os.environ)).data_key), []
    except PassphraseError as error:
        return None, [f"keystore.passphrase: {error}"]
    except KeystoreError as error:
        return None, [f"keystore.passphrase: {source} does not open {config.keystore.directory}: {error}"]


def _credential_faults(config: Config, sealer: Sealer | None) -> list[str]:
    faults = []
    for name in config.account_vendors():
        if not saved(config.keystore.directory, name):
            faults.append(
                f"vendors.{name}: no credentials are saved for it; save them with `gateway vendor credentials {name}`"
            )
        elif sealer is not None:
            try:
                load(config.keystore.directory, name, sealer)
            except CredentialsError as error:
                faults.append(f"vendors.{name}: {error}")
    return faults

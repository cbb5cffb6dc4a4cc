"""The verbs that look at this machine: whether the server lives, and whether the configuration can be used.

Must not know what the server does, and changes nothing.  Theory: whoever asks these is a supervisor or an operator in a hurry,
so neither the database nor the server's own modules are loaded for them.
"""

import argparse
import http.client

from contracts.codec import checksum
from gateway.cli.exits import CliError, Exit
from gateway.cli.output import print_json
from gateway.cli.setting import config_path, read_config
from gateway.vendor_credentials import saved
from wallets.keyfile import KeystoreError, Kind
from wallets.keystore import Keystore

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
    """Read the configuration and hold it against the keystore. Raises CliError."""
    config = read_config(arguments.config)
    try:
        kinds = Keystore(config.keystore.directory).list_wallets()
    except KeystoreError as error:
        raise CliError(Exit.CONFIG, f"{error}; make it with `gateway init`") from None
    problems = [
        f"wallets.{wallet.name}: {checksum(wallet.address)} has no key in {config.keystore.directory}; "
        "make or import it with `gateway wallet`"
        for wallet in config.wallets.values()
        if kinds.get(wallet.address) is not Kind.WALLET
    ]
    problems += [
        f"vendors.{name}: no credentials are saved for it; save them with `gateway vendor credentials {name}`"
        for name in config.account_vendors()
        if not saved(config.keystore.directory, name)
    ]
    if problems:
        raise CliError(Exit.CONFIG, *problems)
    if arguments.json:
        parts = {name: sorted(getattr(config, name)) for name in ("chains", "tokens", "wallets", "vendors")}
        print_json({"ok": True, **parts})
    else:
        print(f"{config_path(arguments.config)} can be used")
    return Exit.OK

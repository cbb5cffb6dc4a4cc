"""The configuration as commands get it: found, read, and checked against the vendors' modules.

Must not know what a command does with it.  Theory: what the modules would refuse when the server starts is said by every
command that reads the file, with the key and its line.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from contracts.codec import Address
from gateway.cli.exits import CliError, Exit
from gateway.config import Config, ConfigError, load_config
from gateway.settings.checks import Finding
from gateway.vendor_config import make_account_vendor, make_vendor
from wallets.passphrase import PassphraseError, PassphraseSource, read_passphrase
from wallets.secret import Secret

CONFIG_VARIABLE = "GATEWAY_CONFIG"
DEFAULT_CONFIG = "gateway.toml"


def config_path(given: str | None) -> Path:
    """Return the configuration's path: as given, or from the environment, or gateway.toml here."""
    return Path(given or os.environ.get(CONFIG_VARIABLE) or DEFAULT_CONFIG)


def read_config(given: str | None) -> Config:
    """Read the configuration. Raises CliError with every problem on a line of its own."""
    try:
        return load_config(config_path(given), os.environ, _vendor_findings)
    except ConfigError as error:
        document = {
            "type": "urn:gateway:cli:config",
            "title": "The configuration cannot be used",
            "detail": error.problems[0],
            "problems": list(error.problems),
        }
        raise CliError(Exit.CONFIG, *error.problems, document=document) from None


def configured_keys(config: Config) -> dict[Address, str]:
    """Return the table that names each address of ours, all of whose keys a start needs: `wallets.main`, `tills.main`."""
    named = {wallet.address: f"wallets.{wallet.name}" for wallet in config.wallets.values()}
    named |= {till.address: f"tills.{till.name}" for till in config.tills.values()}
    return named | {relayer.address: f"relayers.{relayer.name}" for relayer in config.relayers.values()}


def read_secret(source: PassphraseSource) -> Secret[str]:
    """Read a passphrase. Raises CliError."""
    try:
        return read_passphrase(source, os.environ)
    except PassphraseError as error:
        raise CliError(Exit.CONFIG, str(error)) from None


def _vendor_findings(config: Config) -> Iterator[Finding]:
    for name, vendor in config.vendors.items():
        try:
            if vendor.kind.by_account:
                make_account_vendor(vendor, config.account_terms(name))
            else:
                make_vendor(vendor, config.vendor_terms(name))
        except ValueError as error:
            route = next((r for r in vendor.routes if str(error).startswith((f"{r}:", f"'{r}'"))), None)
            place = ("vendors", name) if route is None else ("vendors", name, "routes", route)
            yield place, str(error), f"see the routes of kind {vendor.kind.value} in docs/configuration.md"

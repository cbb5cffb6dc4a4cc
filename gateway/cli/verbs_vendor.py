"""The vendors' verbs that need the keystore: the operator's credentials at vendors, and what each vendor can do.

Must not know what a credential opens.  Theory: a secret passes from a terminal that does not echo, from a file or from a
pipe into the keystore, and never through an argument; it is never printed, and a login only so far as it can be told apart.
"""

import argparse
import getpass
import sys
from pathlib import Path
from typing import Any

from gateway.cli.exits import CliError, Exit
from gateway.cli.operate import call
from gateway.cli.output import fields, print_json, table
from gateway.cli.setting import read_config, read_secret
from gateway.config import Config, VendorConfig, VendorKind
from gateway.core.login import Credentials
from gateway.vendor_config import make_account_vendor, make_vendor
from gateway.vendor_credentials import MAX_WEBHOOK_SECRETS, CredentialsError, VendorSecrets, load, save, saved
from gateway.vendors.capabilities import told_by
from gateway.vendors.litevps.vendor import STANDING_TOKEN_PREFIX
from wallets.keyfile import KeystoreError
from wallets.keystore import Keystore
from wallets.sealing import Sealer
from wallets.secret import Secret

MAX_SECRET_BYTES = 4096
MIN_WEBHOOK_CHARS = 16
MAX_LOGIN_CHARS = 254
LIST_COLUMNS = ("name", "kind", "origin", "paid_from", "credentials", "login", "webhook_secrets")


def listing(arguments: argparse.Namespace) -> Exit:
    """Show the vendors, and whether the operator's credentials are there. Raises CliError."""
    config = read_config(arguments.config)
    stored = [name for name in config.account_vendors() if saved(config.keystore.directory, name)]
    sealer = _sealer(config) if stored else None
    rows = [_row(config, vendor, sealer) for _, vendor in sorted(config.vendors.items())]
    if arguments.json:
        print_json({"vendors": rows})
        return Exit.OK
    print("\n".join(table(rows, LIST_COLUMNS)))
    if arguments.capabilities:
        for row in rows:
            print("\n".join(["", row["name"], *fields(row["capabilities"], "  ")]))
    return Exit.OK


def _row(config: Config, vendor: VendorConfig, sealer: Sealer | None) -> dict[str, Any]:
    by_account = vendor.kind.by_account
    row: dict[str, Any] = {
        "name": vendor.name,
        "kind": vendor.kind.value,
        "origin": str(vendor.base_url),
        "paid_from": "account" if by_account else f"wallet {vendor.wallet}",
        "credentials": None,
        "login": None,
        "webhook_secrets": None,
        "capabilities": told_by(
            make_account_vendor(vendor, config.account_terms(vendor.name))
            if by_account
            else make_vendor(vendor, config.vendor_terms(vendor.name))
        ),
    }
    if not by_account:
        return row
    if sealer is None or not saved(config.keystore.directory, vendor.name):
        return {**row, "credentials": "missing", "webhook_secrets": 0}
    try:
        secrets = load(config.keystore.directory, vendor.name, sealer)
    except CredentialsError:
        return {**row, "credentials": "unreadable"}
    if secrets is None:
        raise AssertionError("it was there a moment ago")
    login = masked(secrets.credentials.login)
    return {**row, "credentials": "sealed", "login": login, "webhook_secrets": len(secrets.webhook_secrets)}


def masked(login: str) -> str | None:
    """Return as much of a login as tells two of one's own apart; None for a token that has none."""
    name, at, host = login.partition("@")
    return f"{name[:1]}…{at}{host}" if login else None


def enter_credentials(arguments: argparse.Namespace) -> Exit:
    """Seal the operator's login, or token, at a vendor. Raises CliError."""
    config = read_config(arguments.config)
    vendor = _account_vendor(config, arguments.name)
    sealer = _sealer(config)
    earlier = _earlier(config, vendor.name, sealer)
    secret = _secret(arguments.secret_file, "Token" if vendor.kind is VendorKind.VRTX else "Password, or token")
    login = _login(vendor, arguments.login, secret)
    other = earlier is not None and earlier.credentials.login not in ("", login) and login != ""
    if other and not arguments.same_account:
        _require_nothing_runs(config, vendor.name)
    _save(
        config,
        vendor.name,
        VendorSecrets(Credentials(login, secret), earlier.webhook_secrets if earlier else ()),
        sealer,
    )
    if arguments.json:
        print_json({"vendor": vendor.name, "login": masked(login), "replaced": earlier is not None})
        return Exit.OK
    print(f"Sealed for {vendor.name}{f', login {masked(login)}' if login else ''}.")
    print("A running server uses them when it is started again.")
    return Exit.OK


def enter_webhook_secret(arguments: argparse.Namespace) -> Exit:
    """Seal the secret that a vendor signs its webhooks with. Raises CliError."""
    config = read_config(arguments.config)
    vendor = _account_vendor(config, arguments.name)
    if vendor.kind is not VendorKind.VRTX:
        raise CliError(Exit.USAGE, f"a vendor of kind {vendor.kind.value} sends no webhooks")
    sealer = _sealer(config)
    earlier = _earlier(config, vendor.name, sealer)
    if earlier is None:
        command = f"gateway vendor credentials {vendor.name}"
        raise CliError(Exit.FAILED, f"{vendor.name} has no credentials yet: save them first with `{command}`")
    secret = _secret(arguments.secret_file, "Webhook secret")
    if len(secret.reveal()) < MIN_WEBHOOK_CHARS:
        raise CliError(Exit.USAGE, f"a webhook secret has at least {MIN_WEBHOOK_CHARS} characters")
    secrets = earlier.with_webhook_secret(secret)
    _save(config, vendor.name, secrets, sealer)
    count = len(secrets.webhook_secrets)
    if arguments.json:
        print_json({"vendor": vendor.name, "webhook_secrets": count})
        return Exit.OK
    print(f"Sealed for {vendor.name}: {count} of at most {MAX_WEBHOOK_SECRETS} are taken, the newest first.")
    print("A running server uses them when it is started again.")
    return Exit.OK


def _account_vendor(config: Config, name: str) -> VendorConfig:
    vendor = config.vendors.get(name)
    if vendor is None:
        raise CliError(Exit.NOT_FOUND, f"there is no [vendors.{name}] in the configuration")
    if not vendor.kind.by_account:
        what = f"vendors.{name} is paid from a wallet: it has no account, and needs no credentials"
        raise CliError(Exit.USAGE, what)
    return vendor


def _sealer(config: Config) -> Sealer:
    try:
        return Sealer(Keystore(config.keystore.directory).unlock(read_secret(config.keystore.passphrase)).data_key)
    except KeystoreError as error:
        raise CliError(Exit.CONFIG, str(error)) from None


def _earlier(config: Config, name: str, sealer: Sealer) -> VendorSecrets | None:
    """What does not open with this keystore is replaced: nobody can use it."""
    try:
        return load(config.keystore.directory, name, sealer)
    except CredentialsError:
        return None


def _save(config: Config, name: str, secrets: VendorSecrets, sealer: Sealer) -> None:
    try:
        save(config.keystore.directory, name, secrets, sealer)
    except (CredentialsError, OSError) as error:
        raise CliError(Exit.CONFIG, str(error)) from None


def _require_nothing_runs(config: Config, name: str) -> None:
    """Another account does not show what runs at the old one: it would be taken for gone, and cost the house for ever."""
    running = call(config, "meters", {"vendor": name, "limit": 1})["meters"]
    if running:
        raise CliError(
            Exit.FAILED,
            f"this is another login, and things run at {name} under the old one: end them first (`gateway meters`), "
            "or say --same-account if the account is the same",
        )


def _login(vendor: VendorConfig, given: str | None, secret: Secret[str]) -> str:
    """Return the login that goes with a secret; "" for a token that needs none."""
    if vendor.kind is VendorKind.VRTX or (
        vendor.kind is VendorKind.LITEVPS and secret.reveal().startswith(STANDING_TOKEN_PREFIX)
    ):
        if given is not None:
            raise CliError(Exit.USAGE, "this is a token that needs no login: leave --login away")
        if not secret.reveal().isascii() or " " in secret.reveal():  # it goes into a header
            raise CliError(Exit.USAGE, "a token has visible ASCII characters only")
        return ""
    if given is None and sys.stdin.isatty():
        given = _asked_for_login()
    if not given or len(given) > MAX_LOGIN_CHARS or not given.isprintable() or given != given.strip():
        token = f", unless with a token ({STANDING_TOKEN_PREFIX}…)" if vendor.kind is VendorKind.LITEVPS else ""
        what = f"a vendor of kind {vendor.kind.value} is logged in to{token}"
        raise CliError(Exit.USAGE, f"write --login EMAIL: {what}")
    return given


def _asked_for_login() -> str:
    sys.stderr.write("Login: ")  # standard output holds the answer and nothing else
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def _secret(source: str | None, prompt: str) -> Secret[str]:
    """Read a secret of one line. No message repeats it, nor the source: somebody may have written the one for the other."""
    try:
        text = getpass.getpass(f"{prompt}: ") if source is None and sys.stdin.isatty() else _read(source or "-")
    except EOFError:
        raise CliError(Exit.USAGE, "no secret was given: nothing was changed") from None
    if not text or not text.isprintable() or text != text.strip():
        raise CliError(Exit.USAGE, "the secret must be one line of printable characters, without blanks around it")
    return Secret(text)


def _read(source: str) -> str:
    try:
        if source == "-":
            raw = sys.stdin.buffer.read(MAX_SECRET_BYTES + 1)
        else:
            with Path(source).open("rb") as file:
                raw = file.read(MAX_SECRET_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "this is no path"
        raise CliError(Exit.USAGE, f"--secret-file: {reason}") from None
    if len(raw) > MAX_SECRET_BYTES:
        raise CliError(Exit.USAGE, f"--secret-file: more than {MAX_SECRET_BYTES} bytes are no secret of a vendor's")
    try:
        return raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise CliError(Exit.USAGE, "--secret-file: not UTF-8") from None

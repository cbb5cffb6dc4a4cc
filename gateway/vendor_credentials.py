"""The operator's credentials at vendors, sealed beside the wallets' keys: written by the command line, read at the start.

Must not know what a vendor does with them.  Theory: like keys they are sealed with the keystore's data key and bound to
the vendor's name, so a copied file opens for nobody, and not for another vendor.
"""

import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.core.login import Credentials
from wallets.sealing import Sealer, SealError
from wallets.secret import Secret

FOLDER = "vendors"
MAX_FILE_BYTES = 64 * 1024
MAX_WEBHOOK_SECRETS = 3
_NAME = re.compile(r"[a-z0-9_-]{1,64}", re.ASCII)


class CredentialsError(Exception):
    """The credentials of a vendor are missing, or cannot be opened; the message says what to do."""


@dataclass(frozen=True, slots=True)
class VendorSecrets:
    """What is kept for one vendor: the account, and the secrets that its webhooks are signed with, newest first."""

    credentials: Credentials
    webhook_secrets: tuple[Secret[str], ...] = ()

    def with_webhook_secret(self, secret: Secret[str]) -> "VendorSecrets":
        """Return it with a newest webhook secret; the oldest beyond three goes, and a known one only moves to the front."""
        others = (each for each in self.webhook_secrets if each.reveal() != secret.reveal())
        return replace(self, webhook_secrets=(secret, *others)[:MAX_WEBHOOK_SECRETS])


def save(directory: Path, vendor: str, secrets: VendorSecrets, sealer: Sealer) -> None:
    """Seal and write, replacing what was there; durable when it returns. Raises CredentialsError, OSError."""
    document = {
        "login": secrets.credentials.login,
        "secret": secrets.credentials.secret.reveal(),
        "webhook_secrets": [secret.reveal() for secret in secrets.webhook_secrets],
    }
    path = _path(directory, vendor)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    draft = path.with_suffix(".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(sealer.seal(json.dumps(document).encode(), _context(vendor)))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def saved(directory: Path, vendor: str) -> bool:
    """Say whether anything was ever saved for a vendor; whether it opens is another question."""
    return _path(directory, vendor).exists()


def load(directory: Path, vendor: str, sealer: Sealer) -> VendorSecrets | None:
    """Return a vendor's secrets, None if none were ever saved. Raises CredentialsError for a file that does not open."""
    try:
        with _path(directory, vendor).open("rb") as file:
            sealed = file.read(MAX_FILE_BYTES)
    except FileNotFoundError:
        return None
    try:
        document = json.loads(sealer.open(sealed, _context(vendor)))
    except SealError:
        raise CredentialsError(
            f"the credentials of {vendor} do not open with this keystore: save them again with "
            f"`gateway vendor credentials {vendor}`"
        ) from None
    credentials = Credentials(document["login"], Secret(document["secret"]))
    return VendorSecrets(credentials, tuple(Secret(each) for each in document["webhook_secrets"]))


def _path(directory: Path, vendor: str) -> Path:
    if _NAME.fullmatch(vendor) is None:
        raise CredentialsError(f"{vendor!r} is no vendor's name")
    return directory / FOLDER / f"{vendor}.sealed"


def _context(vendor: str) -> bytes:
    return f"vendor-credentials:{vendor}".encode()

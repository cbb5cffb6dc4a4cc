"""Where the keystore's passphrase comes from: an environment variable, a file, or a systemd credential.

Must not know keystores. Theory: the source is configuration and may be shown; the passphrase is read once at start and
lives in a ``Secret``. A file that others can read has already leaked, so it is refused rather than warned about.
"""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from wallets.secret import Secret

MAX_BYTES = 4096
CREDENTIALS_DIRECTORY = "CREDENTIALS_DIRECTORY"


class PassphraseError(Exception):
    """The passphrase cannot be had from its configured source; the message never holds any of it."""


class SourceKind(StrEnum):
    """The kinds of source, as they are spelled in configuration before the colon."""

    ENV = "env"
    FILE = "file"
    CREDENTIAL = "credential"


@dataclass(frozen=True, slots=True)
class PassphraseSource:
    """Which variable, path or credential holds the passphrase."""

    kind: SourceKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


def parse_passphrase_source(text: str) -> PassphraseSource:
    """Read ``env:NAME``, ``file:/path`` or ``credential:name``. Raises PassphraseError.

    A credential's name is a plain file name: it must not climb out of systemd's directory.
    """
    kind, colon, name = text.partition(":")
    if not colon or kind not in set(SourceKind) or not name or "\0" in name:
        raise PassphraseError("passphrase source: expected env:NAME, file:/path or credential:name")
    if kind == SourceKind.CREDENTIAL and (name in {".", ".."} or "/" in name):
        raise PassphraseError("passphrase source: a credential is named without a path")
    return PassphraseSource(SourceKind(kind), name)


def read_passphrase(source: PassphraseSource, environ: Mapping[str, str]) -> Secret[str]:
    """Read the passphrase; one trailing line end is dropped. Raises PassphraseError.

    Refused: nothing there, empty, over 4 KiB, not UTF-8, holding a NUL or an inner line end; and a file that is not a
    regular one, is owned by another user than us or root, or is open to its group (a systemd credential may be, since
    an ACL shows as group rights) or the world.
    """
    if source.kind is SourceKind.FILE:
        return _read_file(Path(source.name), source, forbidden=stat.S_IRWXG | stat.S_IRWXO)
    variable = source.name if source.kind is SourceKind.ENV else CREDENTIALS_DIRECTORY
    value = Secret(environ[variable]) if variable in environ else None
    del environ  # its repr shows every variable
    if value is None:
        raise PassphraseError(f"{source}: {variable} is not set")
    if source.kind is SourceKind.ENV:
        return _checked(value, source)
    return _read_file(Path(value.reveal()) / source.name, source, forbidden=stat.S_IWGRP | stat.S_IRWXO)


# Below and above, no frame that raises holds the passphrase in a plain local: tracebacks may show locals, and a
# UnicodeDecodeError carries the bytes that it failed on.


def _read_file(path: Path, source: PassphraseSource, *, forbidden: int) -> Secret[str]:
    try:
        # Non-blocking, so that a FIFO in the file's place cannot hang the start.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise PassphraseError(f"{source}: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise PassphraseError(f"{source}: not a regular file")
        if status.st_uid not in {0, os.geteuid()}:
            raise PassphraseError(f"{source}: owned by another user")
        if status.st_mode & forbidden:
            raise PassphraseError(f"{source}: open to others (mode {stat.S_IMODE(status.st_mode):04o}); use chmod 600")
        raw = Secret(os.read(descriptor, MAX_BYTES + 1))
    finally:
        os.close(descriptor)
    text = _decode(raw)
    if text is None:
        raise PassphraseError(f"{source}: not UTF-8")
    return _checked(text, source)


def _decode(raw: Secret[bytes]) -> Secret[str] | None:
    try:
        return Secret(raw.reveal().decode("utf-8"))
    except UnicodeDecodeError:
        return None


def _checked(text: Secret[str], source: PassphraseSource) -> Secret[str]:
    line = Secret(text.reveal().removesuffix("\n").removesuffix("\r"))
    problem = _problem(line)
    if problem is not None:
        raise PassphraseError(f"{source}: {problem}")
    return line


def _problem(line: Secret[str]) -> str | None:
    value = line.reveal()
    if not value:
        return "empty"
    if len(value) > MAX_BYTES:
        return f"longer than {MAX_BYTES} characters"
    if not value.isprintable():
        return "holds control characters, undecodable bytes or more than one line"
    return None

"""Where a passphrase may come from, and which places have leaked already."""

import os
import traceback
from pathlib import Path

import pytest

from wallets.passphrase import PassphraseError, PassphraseSource, SourceKind, parse_passphrase_source, read_passphrase


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    """A passphrase file that only its owner can read."""
    path = tmp_path / "pass"
    path.write_text("correct horse\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("env:GATEWAY_PASSPHRASE", PassphraseSource(SourceKind.ENV, "GATEWAY_PASSPHRASE")),
        ("file:/etc/x:y", PassphraseSource(SourceKind.FILE, "/etc/x:y")),
        ("credential:keystore", PassphraseSource(SourceKind.CREDENTIAL, "keystore")),
    ],
)
def test_sources_are_spelled_with_their_kind(text: str, source: PassphraseSource) -> None:
    """The text of configuration and the value object are one to one."""
    assert parse_passphrase_source(text) == source
    assert str(source) == text


@pytest.mark.parametrize(
    "text", ["", "env", "env:", "hunter2", "pass:x", "credential:../x", "credential:..", "credential:/x", "file:a\0b"]
)
def test_refuses_other_sources(text: str) -> None:
    """A literal passphrase is no source, and is not repeated; a credential stays in its directory."""
    with pytest.raises(PassphraseError) as caught:
        parse_passphrase_source(text)
    assert "hunter2" not in str(caught.value)


def test_reads_each_source(secret_file: Path) -> None:
    """Variable, file and credential give the same passphrase without its line end."""
    environ = {"P": "correct horse", "CREDENTIALS_DIRECTORY": str(secret_file.parent)}
    for text in ("env:P", f"file:{secret_file}", "credential:pass"):
        assert read_passphrase(parse_passphrase_source(text), environ).reveal() == "correct horse"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644])
def test_refuses_a_file_open_to_others(secret_file: Path, mode: int) -> None:
    """Any right of group or world means it has leaked."""
    secret_file.chmod(mode)
    with pytest.raises(PassphraseError, match="open to others"):
        read_passphrase(PassphraseSource(SourceKind.FILE, str(secret_file)), {})


def test_a_credential_may_show_group_rights_only(secret_file: Path) -> None:
    """The ACL of systemd shows as group read; rights of the world are refused there too."""
    environ = {"CREDENTIALS_DIRECTORY": str(secret_file.parent)}
    source = PassphraseSource(SourceKind.CREDENTIAL, "pass")
    secret_file.chmod(0o440)
    assert read_passphrase(source, environ).reveal() == "correct horse"
    secret_file.chmod(0o444)
    with pytest.raises(PassphraseError, match="open to others"):
        read_passphrase(source, environ)


def test_refuses_what_is_no_file(tmp_path: Path) -> None:
    """A missing file, a directory and a FIFO (which must not hang the start) are errors."""
    os.mkfifo(tmp_path / "fifo", 0o600)
    for name in ("missing", ".", "fifo"):
        with pytest.raises(PassphraseError):
            read_passphrase(PassphraseSource(SourceKind.FILE, str(tmp_path / name)), {})


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb", b"a\0b", b"\xff\xfe", b"x" * 4097])
def test_refuses_odd_content(secret_file: Path, content: bytes) -> None:
    """Empty, several lines, NUL, not UTF-8 and too long are mistakes, and are not repeated in the error."""
    secret_file.write_bytes(content)
    with pytest.raises(PassphraseError) as caught:
        read_passphrase(PassphraseSource(SourceKind.FILE, str(secret_file)), {})
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    shown = [entry.locals for entry in frames.stack if entry.locals and "content" not in entry.locals]
    assert len(shown) >= 2
    assert not content.strip() or content[:100].decode("latin-1") not in str(shown)
    assert caught.value.__context__ is None


def test_refuses_missing_variables() -> None:
    """An unset or empty variable, or no credentials directory, is an error that names the source."""
    with pytest.raises(PassphraseError, match="env:P"):
        read_passphrase(PassphraseSource(SourceKind.ENV, "P"), {})
    with pytest.raises(PassphraseError, match="empty"):
        read_passphrase(PassphraseSource(SourceKind.ENV, "P"), {"P": ""})
    with pytest.raises(PassphraseError, match="CREDENTIALS_DIRECTORY"):
        read_passphrase(PassphraseSource(SourceKind.CREDENTIAL, "x"), {})


def test_p10_a_refused_variable_is_not_in_the_traceback() -> None:
    """P10: neither the value nor the environment that it came from is a local of a raising frame."""
    with pytest.raises(PassphraseError) as caught:
        read_passphrase(PassphraseSource(SourceKind.ENV, "P"), {"P": "hunter2\nhunter2"})
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert "hunter2" not in str([entry.locals for entry in frames.stack[1:]])

"""The journal as an auditor takes it away, and the proof that it was not altered, with the server or far from it.

Must not know what rows mean.  Theory: an export is lines of (seq, canonical body, digest); whoever has the file can repeat
every digest, and one digest noted elsewhere pins everything before it.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TextIO

from contracts.codec import CodecError, parse_bytes32, to_hex
from gateway.cli.exits import CliError, Exit
from gateway.cli.operate import call
from gateway.cli.output import print_json
from gateway.cli.setting import read_config
from gateway.cli.shape import verified
from gateway.config import Config
from gateway.core.journal import GENESIS, JournalError, verify
from gateway.core.strict_json import parse_json


def prove(arguments: argparse.Namespace) -> Exit:
    """Recompute every digest of the journal, or of an exported file. Raises CliError."""
    answer = (
        _verify_file(arguments.file) if arguments.file else call(read_config(arguments.config), "journal_verify", {})
    )
    expected = _digest(arguments.head)
    if expected is not None and answer["verified"] and answer["head"] != expected:
        answer = {**answer, "verified": False, "error": "the last row is not the one whose digest was given"}
    if arguments.json:
        print_json(answer)
    else:
        print("\n".join(verified(answer)))
    return Exit.OK if answer["verified"] else Exit.FAILED


def _digest(text: str | None) -> str | None:
    try:
        return None if text is None else to_hex(parse_bytes32(text))
    except CodecError as error:
        raise CliError(Exit.USAGE, f"--head: {error}") from None


def _verify_file(path: Path) -> dict[str, Any]:
    seq, head = 0, GENESIS
    try:
        with path.open("rb") as file:
            for row in _rows(file):
                seq, head = verify([row], seq, head)
    except OSError as error:
        raise CliError(Exit.UNREACHABLE, f"{path}: {error.strerror}") from None
    except JournalError as error:
        return {"verified": False, "rows": seq, "head": to_hex(head), "error": str(error)}
    return {"verified": True, "rows": seq, "head": to_hex(head), "error": None}


def _rows(file: Iterable[bytes]) -> Iterator[tuple[int, bytes, bytes]]:
    for number, line in enumerate(file, 1):
        try:
            yield _row(line)
        except (ValueError, KeyError, TypeError):
            raise JournalError(f"line {number} is not a row of an export") from None


def _row(line: bytes) -> tuple[int, bytes, bytes]:
    """Read one line strictly: what two readers could read in two ways proves nothing to the second."""
    row = parse_json(line)
    seq, body = row["seq"], row["body"]
    if type(seq) is not int or not isinstance(body, str):
        raise TypeError("a row has a number and a text")
    return seq, body.encode("ascii"), parse_bytes32(row["digest"])


def export(arguments: argparse.Namespace) -> Exit:
    """Write the journal as JSON lines. Raises CliError."""
    rows = _pages(read_config(arguments.config), arguments.after)
    if arguments.json and arguments.out is None:
        print_json({"rows": list(rows)})
        return Exit.OK
    count, head = 0, None
    with _opened(arguments.out) as out:
        for row in rows:
            out.write(json.dumps(row, separators=(",", ":")) + "\n")
            count, head = count + 1, row["digest"]
    if arguments.json:
        print_json({"file": str(arguments.out), "rows": count, "head": head})
    elif arguments.out is not None:
        print(f"{count} rows in {arguments.out}, head {head or '-'}")
    return Exit.OK


def _opened(path: Path | None) -> AbstractContextManager[TextIO]:
    if path is None:
        return nullcontext(sys.stdout)
    try:
        return os.fdopen(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w", encoding="ascii"
        )
    except OSError as error:
        raise CliError(Exit.FAILED, f"{path}: {error.strerror}") from None


def _pages(config: Config, after: int) -> Iterator[dict[str, Any]]:
    cursor: int | None = after
    while cursor is not None:
        answer = call(config, "journal_export", {"after": cursor})
        yield from answer["rows"]
        cursor = answer["next"]

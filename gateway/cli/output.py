"""What a command prints: one JSON document for programs, or plain tables for people; errors apart, on standard error.

Must not know any command.  Theory: standard output holds the answer and nothing else, so it can be piped as it is.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.cli.exits import CliError


def print_json(document: object) -> None:
    """Print one JSON document."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def print_error(error: CliError, *, as_json: bool) -> None:
    """Print an error on standard error, as a problem document where JSON was asked for."""
    if as_json:
        document = {**error.document, "exit_code": int(error.exit_code)}
        print(json.dumps(document, indent=2, ensure_ascii=False), file=sys.stderr)
        return
    for line in error.lines:
        print(f"gateway: {line}", file=sys.stderr)


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """Return rows as aligned columns with a heading; "(none)" where there are no rows."""
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    if not cells:
        return ["(none)"]
    heading = [column.replace("_", " ").upper() for column in columns]
    widths = [max(len(line[place]) for line in (heading, *cells)) for place in range(len(columns))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (heading, *cells)
    ]


def fields(record: Mapping[str, Any], indent: str = "") -> list[str]:
    """Return a record as one line a field; records and lists inside it are indented below their name."""
    lines: list[str] = []
    width = max((len(name) for name in record), default=0)
    for name, value in record.items():
        label = name.replace("_", " ")
        if isinstance(value, Mapping) and value:
            lines += [f"{indent}{label}", *fields(value, indent + "  ")]
        elif isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value):
            lines.append(f"{indent}{label}")
            for number, each in enumerate(value, 1):
                lines += [f"{indent}  {number}.", *fields(each, indent + "    ")]
        else:
            lines.append(f"{indent}{label.ljust(width)}  {_cell(value)}")
    return lines


def _cell(value: object) -> str:
    if value is None or value in ([], {}, ()):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_cell(each) for each in value)
    return _printable(str(value))


def _printable(text: str) -> str:
    """Vendors' and agents' words must not move the operator's cursor."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)

"""How each operator's answer looks to people. Programs take --json and never see this.

Must not change what an answer says.  Theory: a table for many, lines for one, and the one thing that must not be missed
said last.
"""

from collections.abc import Callable
from typing import Any

from gateway.cli.output import fields, table

Shape = Callable[[dict[str, Any]], list[str]]

PAYMENT_COLUMNS = (
    "id", "account", "vendor", "route", "delivery", "transfer", "charge", "hold", "captured", "created_at",
)  # fmt: skip


def listed(name: str, *columns: str) -> Shape:
    """Return a shape for a page of records under `name`."""

    def lines(answer: dict[str, Any]) -> list[str]:
        more = answer.get("next")
        return [*table(answer[name], columns), *([f"more follow {more}"] if more else [])]

    return lines


def one(name: str) -> Shape:
    """Return a shape for a single record under `name`."""
    return lambda answer: fields(answer[name])


def changed(name: str, done: str, repeated: str) -> Shape:
    """Return a shape for a change: the record, and whether anything was changed at all."""

    def lines(answer: dict[str, Any]) -> list[str]:
        record = answer[name]
        shown = fields(record) if isinstance(record, dict) else [str(record)]
        return [*shown, done if answer["changed"] else repeated]

    return lines


def new_key(answer: dict[str, Any]) -> list[str]:
    """Return the key's record and its text."""
    return [
        *fields(answer["key"]),
        "",
        answer["secret"],
        "",
        "This is shown once. Keep it now; only its digest is stored.",
    ]


def trace(answer: dict[str, Any]) -> list[str]:
    """Return everything that was found, part by part."""
    found = {name: value for name, value in answer.items() if value and name != "truncated"}
    lines = fields(found)
    return [*lines, "There are more payments than are shown."] if answer["truncated"] else lines


def verified(answer: dict[str, Any]) -> list[str]:
    """Return the journal's verdict."""
    if answer["verified"]:
        return [f"The journal holds: {answer['rows']} rows, head {answer['head']}"]
    return [f"THE JOURNAL DOES NOT HOLD after {answer['rows']} rows: {answer['error']}"]

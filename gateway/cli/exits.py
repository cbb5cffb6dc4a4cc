"""How a command ends: exit codes that scripts can branch on, and the one error that carries them.

Must not know any command.  Theory: a script has to tell "it said no" from "it could not be asked".
"""

from enum import IntEnum
from typing import Any


class Exit(IntEnum):
    """Exit codes; docs/cli.md promises them."""

    OK = 0
    FAILED = 1  # asked, and refused or failed; nothing was changed unless the error says so
    USAGE = 2  # the command line or a parameter is wrong
    CONFIG = 3  # the configuration, the keystore or the passphrase cannot be used
    UNREACHABLE = 4  # neither a server nor the database could be reached
    NOT_FOUND = 5  # the thing that was named does not exist


_BY_PROBLEM = {
    "not_found": Exit.NOT_FOUND,
    "vendor_unknown": Exit.NOT_FOUND,
    "bad_request": Exit.USAGE,
    "bad_resolution": Exit.USAGE,
}


class CliError(Exception):
    """The end of a command that did not succeed: exit code, lines for people, a document for programs."""

    def __init__(self, exit_code: Exit, *lines: str, document: dict[str, Any] | None = None) -> None:
        super().__init__("\n".join(lines))
        self.exit_code, self.lines = exit_code, lines
        self.document = document or {
            "type": f"urn:gateway:cli:{exit_code.name.lower()}",
            "title": exit_code.name.lower().replace("_", " "),
            "detail": "\n".join(lines),
        }


def problem_error(document: dict[str, Any]) -> CliError:
    """Return the error that a problem document of an operator's call means."""
    code = str(document.get("type", "")).rpartition(":")[2]
    lines = [f"{document.get('title', 'the call failed')}: {document.get('detail', '')}"]
    exit_code, remedy = _BY_PROBLEM.get(code, Exit.FAILED), document.get("remedy")
    if remedy and exit_code is not Exit.NOT_FOUND:  # an agent's way to look, and an operator has others
        lines.append(f"({remedy})")
    return CliError(exit_code, *lines, document=document)

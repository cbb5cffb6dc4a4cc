"""One operator's call, wherever it can be answered: by the running server, or here when none runs.

Must not know what the calls mean, nor how they are carried out.  Theory: whoever holds the database's lock answers. The socket
is tried first; only if nobody listens there are the calls themselves loaded, and this process takes the lock for one of them.
"""

import errno
import http.client
import json
import os
import socket
from collections.abc import Mapping
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from typing import Any

from gateway.cli.exits import CliError, Exit, problem_error
from gateway.config import Config

TIMEOUT_S = 60.0
READ_WHOLE = frozenset({"journal_verify"})  # take as long as the books are large: no time is too long
HERE = "gateway.cli.here"
_ABSENT = frozenset({errno.ENOENT, errno.ECONNREFUSED})


def call(config: Config, name: str, parameters: Mapping[str, object]) -> dict[str, Any]:
    """Run one call and return its answer. Raises CliError."""
    answer = ask_server(config.server.operator_socket, name, parameters)
    if answer is None:
        # By name and now: the store and the calls take longer to load than the server takes to answer.
        answer = import_module(HERE).run(config, name, parameters)
    return answer


def ask_server(path: Path, name: str, parameters: Mapping[str, object]) -> dict[str, Any] | None:
    """Return the answer of the server that listens at `path`; None if none does. Raises CliError."""
    connection = _Connection(path, None if name in READ_WHOLE else TIMEOUT_S)
    try:
        connection.connect()
    except OSError as error:
        connection.close()
        if error.errno in _ABSENT:
            return None
        raise CliError(Exit.UNREACHABLE, f"{path}: {error.strerror or error}") from None
    try:
        connection.request("POST", f"/operator/{name}", json.dumps(dict(parameters)))
        response = connection.getresponse()
        document = _document(response.read())
    except (OSError, http.client.HTTPException):
        raise CliError(
            Exit.UNREACHABLE, f"{path}: the server did not answer; the call may or may not have been carried out"
        ) from None
    finally:
        connection.close()
    if response.status != HTTPStatus.OK:
        raise problem_error(document)
    return document


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket. Theory: the library's own client would take longer to load than the server to answer."""

    def __init__(self, path: Path, timeout_s: float | None) -> None:
        super().__init__("operator", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect. Raises OSError."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self._path))


def _document(raw: bytes) -> dict[str, Any]:
    try:
        document = json.loads(raw)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise CliError(Exit.FAILED, "the server's answer cannot be read; see its log")
    return document

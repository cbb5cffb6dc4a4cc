"""One operator's call, wherever it can be answered: by the running server, or here when none runs.

Must not know what the calls mean.  Theory: whoever holds the database's lock answers. The socket is tried first; if nobody
listens there, this process takes the lock for the length of one call, and if another holds it, that is said.
"""

import asyncio
import errno
import json
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from gateway.cli.exits import CliError, Exit, problem_error
from gateway.config import Config
from gateway.core.problems import Problem
from gateway.operator.registry import operate
from gateway.operator.services import Services, routes_of
from gateway.operator.socket import user_name
from gateway.store.core import StoreBroken
from gateway.store.load import BookBroken
from gateway.store.sqlite import SqliteStore, StoreInUse
from gateway.system import SystemClock, SystemEntropy
from gateway.vendor_config import make_account_vendor, make_vendor

TIMEOUT_S = 60.0
READ_WHOLE = frozenset({"journal_verify"})  # take as long as the books are large: no time is too long
_SQLITE = b"SQLite format 3\0"
_ABSENT = frozenset({errno.ENOENT, errno.ECONNREFUSED})


def call(config: Config, name: str, parameters: Mapping[str, object]) -> dict[str, Any]:
    """Run one call and return its answer. Raises CliError."""
    return asyncio.run(_call(config, name, parameters))


async def _call(config: Config, name: str, parameters: Mapping[str, object]) -> dict[str, Any]:
    answer = await _ask_server(config, name, parameters)
    return await _run_here(config, name, parameters) if answer is None else answer


async def _ask_server(config: Config, name: str, parameters: Mapping[str, object]) -> dict[str, Any] | None:
    path = config.server.operator_socket
    timeout = aiohttp.ClientTimeout(total=None if name in READ_WHOLE else TIMEOUT_S)
    connector = aiohttp.UnixConnector(str(path))
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.post(f"http://operator/operator/{name}", json=dict(parameters)) as response,
        ):
            document = _document(await response.read())
    except aiohttp.ClientConnectorError as error:
        if error.os_error.errno in _ABSENT:
            return None
        raise CliError(Exit.UNREACHABLE, f"{path}: {os.strerror(error.os_error.errno or 0)}") from None
    except (aiohttp.ClientError, TimeoutError):
        raise CliError(
            Exit.UNREACHABLE, f"{path}: the server did not answer; the call may or may not have been carried out"
        ) from None
    if response.status != 200:  # noqa: PLR2004 - HTTP's own number
        raise problem_error(document)
    return document


def _document(raw: bytes) -> dict[str, Any]:
    try:
        document = json.loads(raw)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise CliError(Exit.FAILED, "the server's answer cannot be read; see its log")
    return document


async def _run_here(config: Config, name: str, parameters: Mapping[str, object]) -> dict[str, Any]:
    path = config.store.path
    _require_database(path)
    try:
        store = await SqliteStore.open(path, config.book_rules())
    except StoreInUse:
        raise CliError(
            Exit.UNREACHABLE,
            f"{path} is in use, and nobody listens at {config.server.operator_socket}: the server is starting or stopping",
        ) from None
    except (StoreBroken, BookBroken, sqlite3.Error) as error:
        raise CliError(Exit.FAILED, f"{path}: {error}") from None
    by_account = config.account_vendors()
    paid = (make_vendor(vendor, config.vendor_terms(name)) for name, vendor in config.paid_vendors().items())
    others = (make_account_vendor(vendor, config.account_terms(name)) for name, vendor in by_account.items())
    services = Services(
        store=store,
        clock=SystemClock(),
        entropy=SystemEntropy(),
        routes=routes_of([*paid, *others]),
        own_addresses=frozenset(config.own_addresses()),
        account_vendors=frozenset(by_account),
    )
    try:
        return await operate(services, name, parameters, user_name(os.geteuid()))
    except Problem as problem:
        raise problem_error(problem.document()) from None
    except StoreBroken as error:
        raise CliError(Exit.FAILED, f"{path}: {error}") from None
    finally:
        await store.close()


def _require_database(path: Path) -> None:
    """A mistyped path must neither become an empty database nor be opened as one."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_SQLITE))
    except FileNotFoundError:
        raise CliError(Exit.UNREACHABLE, f"{path}: there is no database; make it with `gateway init`") from None
    except OSError as error:
        raise CliError(Exit.UNREACHABLE, f"{path}: {error.strerror}") from None
    if start != _SQLITE:
        raise CliError(Exit.FAILED, f"{path}: is not a database")

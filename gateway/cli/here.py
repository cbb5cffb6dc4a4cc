"""An operator's call carried out in this process, for the time that no server owns the database.

Must not know what the calls mean.  Theory: the same functions that the server runs, on the same store, under the lock that says
that no server does; a database that is not there, or is none, is said and never made.
"""

import asyncio
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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

_SQLITE = b"SQLite format 3\0"


def run(config: Config, name: str, parameters: Mapping[str, object]) -> dict[str, Any]:
    """Take the database, run one call and return its answer. Raises CliError."""
    return asyncio.run(_run(config, name, parameters))


async def _run(config: Config, name: str, parameters: Mapping[str, object]) -> dict[str, Any]:
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

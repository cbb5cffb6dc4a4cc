"""`gateway serve`: the server's life as an exit code.

Must not know what is served.  Theory: a supervisor starts the process again after a crash but not for ever, so a start that
can never succeed (configuration, keys, another owner) ends with a code of its own and a line that says why.
"""

import argparse
import asyncio
import gc
import os
import sqlite3

import uvloop

from gateway.chains.quorum import WrongChainError
from gateway.chains.startup import TokenMismatch
from gateway.cli.exits import CliError, Exit
from gateway.cli.setting import read_config
from gateway.config import Config, ConfigError
from gateway.operator.socket import SocketInUse
from gateway.ports import ChainDisagreement, ChainUnavailable
from gateway.serve import serve
from gateway.store.core import StoreBroken
from gateway.store.load import BookBroken
from gateway.store.sqlite import StoreInUse
from gateway.vendor_credentials import CredentialsError
from wallets.keyfile import KeystoreError
from wallets.passphrase import PassphraseError
from wallets.watermark import WatermarkError

_CONFIG = (
    ConfigError,
    CredentialsError,
    KeystoreError,
    PassphraseError,
    WatermarkError,
    WrongChainError,
    TokenMismatch,
)
_UNREACHABLE = (StoreInUse, SocketInUse, ChainUnavailable, ChainDisagreement, OSError)
_FAILED = (StoreBroken, BookBroken, sqlite3.Error)

# Calls in flight are many small objects that live for a second; the defaults look at them again every 700 new ones. Measured
# with 512 settlements in flight: a tenth to a seventh of the CPU.
COLLECT_AFTER = (10_000, 20, 20)


def run_verb(arguments: argparse.Namespace) -> int:
    """Serve what the configuration says. Raises CliError."""
    return run(read_config(arguments.config))


def run(config: Config) -> int:
    """Serve until told to stop; return the server's own exit code. Raises CliError for a start that failed."""
    _spare_collections()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(serve(config, os.environ))
    except _CONFIG as error:
        raise CliError(Exit.CONFIG, str(error)) from None
    except _UNREACHABLE as error:
        raise CliError(Exit.UNREACHABLE, str(error)) from None
    except _FAILED as error:
        raise CliError(Exit.FAILED, str(error)) from None


def _spare_collections() -> None:
    """Leave what importing has made, which lives as long as the process, out of collections, and have them come less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)

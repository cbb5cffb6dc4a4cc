"""Runs a local Tempo in the foreground: `python -m sandbox.tempo [--port N] [--leash] [--log FILE]`.

Prints one JSON line `{rpc_url, anvil_url, token, chain_id, accounts}` when ready; ends on SIGINT, SIGTERM or `--leash`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.tempo.chain import LocalTempo

if TYPE_CHECKING:
    from collections.abc import Sequence

_FREE_ACCOUNTS = 9


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until told to end."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.tempo", description="A local Tempo with pathUSD.")
    parser.add_argument("--port", type=int, default=0, help="of the RPC endpoint; 0 for any free one")
    parser.add_argument("--leash", action="store_true", help="end when stdin closes, that is, with whoever holds it")
    parser.add_argument("--log", type=Path, help="write anvil's log here when it ends")
    options = parser.parse_args(arguments)
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with LocalTempo.start(port=options.port) as chain:
        ready = {"rpc_url": chain.rpc_url, "anvil_url": chain.anvil_url, "token": chain.token_address}
        accounts = [chain.dev_account(index) for index in range(_FREE_ACCOUNTS)]
        print(json.dumps(ready | {"chain_id": chain.chain_id, "accounts": accounts}), flush=True)
        if options.leash:
            threading.Thread(target=_end_with_stdin, daemon=True).start()
        signal.sigwait(signals)
        if options.log:
            options.log.write_text(chain.log())
    return 0


def _end_with_stdin() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())

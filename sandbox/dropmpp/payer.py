"""A running `payer.mjs`: npm `mppx`'s client for tests and the demo, without a Node start for each call.

Blocking; threads may share it. It knows keys and HTTP calls, and nothing of any vendor. Standard library only.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

_SCRIPT = Path(__file__).with_name("payer.mjs")
_TIMEOUT_S = 60


class PayerError(RuntimeError):
    """mppx's client threw; the message is its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a paid call came back with; `credentials` is how often mppx signed for it."""

    status: int
    headers: dict[str, str]
    body: str
    credentials: int

    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


class MppxPayer:
    """The client process; it ends with `stop` or with this process."""

    def __init__(self, rpc_url: str, chain_id: int) -> None:
        node = os.environ.get("SANDBOX_NODE") or shutil.which("node") or "node"
        self._process = subprocess.Popen(
            [node, str(_SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._ids = itertools.count(1)
        self._waiting: dict[int, Future[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._write({"rpc_url": rpc_url, "chain_id": chain_id})
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def fetch(self, key: str, method: str, url: str, body: Any = None, **options: Any) -> Answer:
        """Make a call and pay for it as mppx does. Options: headers, mode (pull, push), retries; raises PayerError."""
        told = self._ask({"op": "fetch", "key": key, "method": method, "url": url, "json": body, **options})
        return Answer(**told)

    def credential(self, key: str, challenges: list[str], *, mode: str | None = None) -> tuple[str, str | None]:
        """Sign for a challenge and send nothing: (header value, transaction hash or None); raises PayerError."""
        told = self._ask({"op": "credential", "key": key, "challenges": challenges, "mode": mode})
        return told["credential"], told["tx_hash"]

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        self._process.kill()
        self._process.wait(_TIMEOUT_S)
        self._reader.join()

    def stop(self) -> None:
        """End the process. Safe to repeat."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):  # it ended by itself
                self._process.stdin.close()
        self._process.terminate()
        self._process.wait(_TIMEOUT_S)
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        number, answer = next(self._ids), Future[dict[str, Any]]()
        if not self._reader.is_alive():
            raise PayerError("the payer process ended")
        self._waiting[number] = answer
        self._write({"id": number, **{name: value for name, value in asked.items() if value is not None}})
        told = answer.result(_TIMEOUT_S)
        told.pop("id")
        if "error" in told:
            raise PayerError(told["error"])
        return told

    def _write(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            self._waiting.pop(told["id"]).set_result(told)
        for answer in list(self._waiting.values()):
            answer.set_exception(PayerError("the payer process ended"))

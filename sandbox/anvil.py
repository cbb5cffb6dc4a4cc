"""Runs anvil as a child process and speaks JSON-RPC with it.

Knows processes and JSON-RPC; must not know which token or which chain is played. Theory: a chain that outlives the test
that started it eats the machine, so its life hangs on a pipe that the kernel closes however the parent dies.
"""

import http.client
import itertools
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

_INSTALLED = Path(__file__).parent / "node_modules" / "@foundry-rs" / "anvil-linux-amd64" / "bin" / "anvil"
_LISTENING = re.compile(r"^Listening on (127\.0\.0\.1):(\d+)\s*$", re.MULTILINE)
_START_TIMEOUT_S = 30
_CALL_TIMEOUT_S = 30
_REVERT_WITH_TEXT = "0x08c379a0"  # the selector of Error(string)

# The shell stands between us and anvil. It ends when anvil ends; and it ends anvil when its own stdin closes, which the
# kernel does for us even after `kill -9`. A parent-death signal would not do: it fires when the starting *thread* ends.
_LEASH = """
directory=$1
shift
exec 3<&0
"$@" 3<&- </dev/null &
child=$!
(read -r _ <&3; rm -rf "$directory"; kill -9 "$child") 2>/dev/null &
leash=$!
wait "$child"
status=$?
kill "$leash" 2>/dev/null
exit "$status"
"""


class RpcError(Exception):
    """The node answered with an error."""

    def __init__(self, method: str, error: dict[str, Any]) -> None:
        self.method = method
        self.code: int = error["code"]
        self.message: str = error["message"]
        self.data: Any = error.get("data")
        self.reason = revert_text(self.data) if isinstance(self.data, str) else None
        super().__init__(f"{method}: {self.message}")


def revert_text(data: str) -> str | None:
    """Return the text of a `require` that failed, from the revert's 0x data; None when it has another form."""
    if not data.startswith(_REVERT_WITH_TEXT):
        return None
    body = bytes.fromhex(data[len(_REVERT_WITH_TEXT) :])
    length = int.from_bytes(body[32:64], "big")
    return body[64 : 64 + length].decode()


class JsonRpc:
    """A blocking client of one loopback node; every call is a connection of its own, so threads may share it."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._ids = itertools.count(1)
        self.url = f"http://{host}:{port}"

    def call(self, method: str, *params: object) -> Any:
        """Return the result; raise RpcError for the node's own error, OSError when it cannot be reached."""
        request = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_CALL_TIMEOUT_S)
        try:
            connection.request("POST", "/", json.dumps(request), {"content-type": "application/json"})
            answer = json.load(connection.getresponse())
        finally:
            connection.close()
        if "error" in answer:
            raise RpcError(method, answer["error"])
        return answer["result"]


def binary() -> Path:
    """Return the anvil to run: the one that SANDBOX_ANVIL names, else the one that `npm ci` installed.

    Raises FileNotFoundError, with what to do about it, when there is none.
    """
    if chosen := os.environ.get("SANDBOX_ANVIL"):
        return Path(chosen)
    if not _INSTALLED.is_file():
        raise FileNotFoundError(f"{_INSTALLED} is missing: run `make setup`; off Linux on x86-64 set SANDBOX_ANVIL")
    return _INSTALLED


@dataclass
class Anvil:
    """A running anvil. `config` is what it says of itself, the keys of its accounts among it."""

    rpc: JsonRpc
    config: dict[str, Any]
    log_path: Path
    _process: subprocess.Popen[bytes]
    _directory: Path

    @classmethod
    def start(cls, *options: str, port: int = 0) -> Self:
        """Start anvil on loopback; port 0 lets the kernel choose. Raises RuntimeError, with its log, when it ends."""
        directory = Path(tempfile.mkdtemp(prefix="sandbox-anvil-"))
        log_path, config_path = directory / "anvil.log", directory / "config.json"
        command = [str(binary()), "--host", "127.0.0.1", "--port", str(port), "--config-out", str(config_path)]
        command += ["--cache-path", str(directory / "cache"), "--color", "never", *options]
        with log_path.open("wb") as log:
            process = _leashed(command, directory, log)
        try:
            host, bound_port = _await_listening(process, log_path)
            config = json.loads(config_path.read_text())
        except BaseException:
            _end(process)
            shutil.rmtree(directory, ignore_errors=True)
            raise
        return cls(JsonRpc(host, bound_port), config, log_path, process, directory)

    def log(self) -> str:
        """Return everything that anvil has printed so far; raise FileNotFoundError once it was stopped."""
        return self.log_path.read_text(errors="replace")

    def stop(self) -> None:
        """End the process and remove its files. Safe to repeat."""
        _end(self._process)
        shutil.rmtree(self._directory, ignore_errors=True)


def _leashed(command: list[str], directory: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
    # A session of its own, so that Ctrl-C reaches the parent first and it can still ask the chain while it stops.
    return subprocess.Popen(
        ["/bin/sh", "-c", _LEASH, "leash", str(directory), *command],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    process.wait(_CALL_TIMEOUT_S)


def _await_listening(process: subprocess.Popen[bytes], log_path: Path) -> tuple[str, int]:
    give_up_at = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < give_up_at:
        log = log_path.read_text(errors="replace")
        if found := _LISTENING.search(log):
            return found[1], int(found[2])
        if process.poll() is not None:
            raise RuntimeError(f"anvil ended with status {process.returncode}:\n{log}")
        time.sleep(0.01)
    raise RuntimeError(f"anvil did not listen within {_START_TIMEOUT_S} s")

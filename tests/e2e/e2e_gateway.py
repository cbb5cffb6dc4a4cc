"""The gateway as a real process: started, asked through its operator's socket, ended gently or by force."""

from __future__ import annotations

import http.client
import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from typing import IO, TYPE_CHECKING, Any, Self

from e2e_config import PASSPHRASE, PASSPHRASE_VARIABLE, config_text

from contracts.codec import checksum
from sandbox.process import ROOT
from wallets.keystore import Keystore
from wallets.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from e2e_config import VendorBlock

READY_TIMEOUT_S = 150.0
STOP_TIMEOUT_S = 60.0
SCRYPT_N = 2**14  # as weak as the keystore allows: what is tested here is not the cost of guessing


class GatewayError(RuntimeError):
    """The process did not become ready; the message carries the end of its log."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("operator", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class GatewayHome:
    """A gateway's directory with its keystore and configuration; `start` runs a process on it, any number of times."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        keystore = Keystore(directory / "keystore")
        keystore.create(Secret(PASSPHRASE), scrypt_n=SCRYPT_N)
        self.wallet = checksum(keystore.new_wallet(Secret(PASSPHRASE)))
        self.config = directory / "gateway.toml"
        self.database = directory / "gateway.db"
        self.log_path = directory / "gateway.log"

    def configure(self, rpc_url: str, vendors: Mapping[str, VendorBlock]) -> None:
        """Write the configuration."""
        self.config.write_text(config_text(self.directory, rpc_url, self.wallet, vendors))

    def start(self, *, ready: bool = True) -> Gateway:
        """Run the gateway; return when it takes requests and, if `ready`, can pay. Raises GatewayError."""
        gateway = Gateway(self)
        gateway.wait_open()
        if ready:
            gateway.wait_ready()
        return gateway

    def log(self) -> str:
        """Return all that any process on this directory wrote to standard error."""
        return self.log_path.read_text(errors="replace")


class Gateway:
    """One running process: `python -m gateway serve`."""

    def __init__(self, home: GatewayHome) -> None:
        self.home = home
        self.base_url = ""
        self._launch()

    def _launch(self) -> None:
        with self.home.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "serve", "--config", str(self.home.config)],
                cwd=ROOT,
                env={**os.environ, PASSPHRASE_VARIABLE: PASSPHRASE, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        self._lines = _lines_of(self._process.stdout)

    def _ready_line(self) -> str:
        try:
            return self._lines.get(timeout=READY_TIMEOUT_S)
        except queue.Empty:
            return ""

    def wait_open(self) -> None:
        """Wait until requests are taken. Raises GatewayError."""
        line = self._ready_line()
        if not line:
            self.kill()
            raise GatewayError(f"not ready:\n{self.home.log()[-4000:]}")
        self.base_url = str(json.loads(line)["base_url"])

    def wait_ready(self) -> None:
        """Wait until a purchase could be made: the chain was read, and the wallets' balances with it."""
        give_up_at = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < give_up_at:
            if self.readiness() == 200 and self._has_float():
                return
            time.sleep(0.05)
        raise GatewayError(f"never ready:\n{self.home.log()[-4000:]}")

    def readiness(self) -> int:
        """Return the status of /readyz."""
        connection = http.client.HTTPConnection(self.base_url.removeprefix("http://"), timeout=10)
        try:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            answer.read()
        finally:
            connection.close()
        return answer.status

    def _has_float(self) -> bool:
        accounts = self.operate("balances")["accounts"]
        return any(entry["code"].startswith("wallet:") for entry in accounts)

    def operate(self, name: str, /, **parameters: object) -> Any:
        """Make an operator's call and return its answer; a refusal fails the test."""
        status, body = self.try_operate(name, **parameters)
        assert status == 200, body
        return body

    def try_operate(self, name: str, /, **parameters: object) -> tuple[int, Any]:
        """Make an operator's call and return its status and answer."""
        connection = _UnixConnection(self.home.directory / "operator.sock")
        try:
            connection.request("POST", f"/operator/{name}", json.dumps(parameters))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def wait_end(self, timeout_s: float) -> int:
        """Wait for the end and return the exit code, negative for a signal. Raises subprocess.TimeoutExpired."""
        return self._process.wait(timeout=timeout_s)

    def stop(self) -> int:
        """End it as a supervisor does, and return its exit code."""
        self._process.terminate()
        try:
            return self.wait_end(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """End it at once, wherever it is."""
        self._process.kill()
        return self.wait_end(STOP_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _lines_of(stream: IO[str]) -> queue.Queue[str]:
    """Read a stream in a thread, so that its writer never blocks; the first line, or "" at once if there is none."""
    lines: queue.Queue[str] = queue.Queue()

    def drain() -> None:
        with stream:
            lines.put(stream.readline())
            for _ in stream:
                pass

    threading.Thread(target=drain, daemon=True).start()
    return lines

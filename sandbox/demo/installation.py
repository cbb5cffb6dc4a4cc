"""One gateway as an operator has it: a configuration, the command line, and a process that can be killed.

Must not know what the gateway is used for. It is run as its own process, never imported.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from sandbox.demo.agent import Client
from sandbox.demo.checks import DemoFailure, wait_for
from sandbox.demo.interrupts import held_back

ROOT = Path(__file__).resolve().parent.parent.parent
READY_TIMEOUT_S = 60
STOP_TIMEOUT_S = 15
COMMAND_TIMEOUT_S = 60
TAIL_LINES = 25

CONFIG = """
[server]
port = {port}

[log]
format = "text"

[chains.base]
chain_id = {chain_id}
rpc = ["{rpc_url}"]
evidence_quorum = 1       # one local node has nobody to disagree with; in production two providers must agree
poll_s = 0.25
allow_plain_http = true

[tokens.base-usdc]

[wallets.main]
address = "{wallet}"
tokens = [{tokens}]
max_value = "50"

# How agents pay in: an address that only receives, a key that only pays gas, and what may be bought.
[tills.main]
address = "{till}"
tokens = ["base-usdc"]

[relayers.one]
address = "{relayer}"
chains = ["base"]

[facilitator]
tokens = ["base-usdc"]

[topups]
packs = {{ one = "1" }}

[servers]
sweep_s = 0.25            # as often as the chains are read, so that nobody waits for a look
"""

VPSAGENT = """
[vendors.vpsagent]
kind = "vpsagent"
base_url = "{vendor_url}"
wallet = "main"
tokens = ["base-usdc"]
payees = ["{payee}"]
ceiling = "50"
allow_private = true
allow_plain_http = true

[vendors.vpsagent.prices]
{prices}

# Seconds where production has minutes and hours, so that the demo can wait for an authorization to die.
[vendors.vpsagent.routes.catalog]
window_min_s = 10
window_max_s = 60

[vendors.vpsagent.routes.rent]
window_min_s = 10
window_max_s = 60

[vendors.vpsagent.routes.renew]
window_min_s = 10
window_max_s = 60
"""


class Installation:
    """A gateway's files below one directory, its command line, and its server."""

    def __init__(self, directory: Path, tell: Callable[[str], None]) -> None:
        self._config, self._log = directory / "gateway.toml", directory / "gateway.log"
        self._port, self._tell = _free_port(), tell
        self._process: subprocess.Popen[bytes] | None = None
        self.base_url = f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """The server's process id; raise DemoFailure when none runs."""
        if self._process is None:
            raise DemoFailure("the gateway", "running", "not started")
        return self._process.pid

    def run(self, *words: str, secret: str | None = None) -> dict[str, Any]:
        """Run a command of the gateway's and return its JSON; `secret` goes to its input. Raise DemoFailure when it fails."""
        self._tell(f"gateway {' '.join(words)}")
        with held_back():
            done = subprocess.run(
                [*_command(self._config), "--json", *words],
                cwd=ROOT,
                env=_environment(),
                input=secret,
                capture_output=True,
                text=True,
                timeout=COMMAND_TIMEOUT_S,
                check=False,
            )
        if done.returncode != 0:
            raise DemoFailure(f"gateway {' '.join(words)}", "exit code 0", f"{done.returncode}: {done.stderr.strip()}")
        return dict(json.loads(done.stdout))

    def configure(self, *parts: str) -> None:
        """Add what `init` cannot know: the chains, the wallet and the vendors."""
        with self._config.open("a", encoding="utf-8") as file:
            file.write("\n".join(parts))

    @property
    def port(self) -> int:
        """Where the server will listen."""
        return self._port

    def start(self) -> None:
        """Start the server and return when it could pay; raise DemoFailure when it does not come up."""
        self._tell("gateway serve")
        command = [sys.executable, "-m", "sandbox.demo.leash", *_command(self._config), "serve"]
        with self._log.open("ab") as log, held_back():
            # A session of its own: Ctrl-C is for the demo, which then stops the server in order.
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for("the gateway", self._ready, within_s=READY_TIMEOUT_S, found=self.log_tail)

    def kill(self) -> None:
        """`kill -9`: no warning, no draining."""
        os.kill(self.pid, signal.SIGKILL)
        self._reap()

    def stop(self) -> None:
        """End the server, gently at first. Safe to repeat."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
        self._reap()

    def log_tail(self) -> str:
        """Return the end of the server's log."""
        if not self._log.is_file():
            return "no log"
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-TAIL_LINES:])

    def _ready(self) -> bool | None:
        if self._process is None or self._process.poll() is not None:
            raise DemoFailure("the gateway", "running", f"it ended:\n{self.log_tail()}")
        try:
            return True if Client(self.base_url).ask("GET", "/readyz").status == 200 else None
        except OSError:
            return None

    def _reap(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _command(config: Path) -> list[str]:
    return [sys.executable, "-m", "gateway", "--config", str(config)]


def _environment() -> dict[str, str]:
    # Nothing of the operator's own gateway may leak in; the project must be found from any directory.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    return {**kept, "PYTHONPATH": str(ROOT)}


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

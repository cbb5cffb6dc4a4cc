"""Starts the sandbox's servers, each in its own process and interpreter. Standard library only.

A server is a module that takes `--config FILE|JSON|-`, prints one JSON line when it is ready, and ends on SIGTERM or
with its parent. The parent's half is `SandboxProcess`; the child's half is `child_config` and `announce_ready`. It must
not know what the servers serve.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
READY_TIMEOUT_S = 150.0
STOP_TIMEOUT_S = 5.0
_PR_SET_PDEATHSIG = 1


class SandboxError(RuntimeError):
    """A sandbox process did not start, or ended before it was ready; the message carries the end of its log."""


def sandbox_python() -> str:
    """The interpreter that has the reference SDKs: `SANDBOX_PYTHON`, else the project's `.venv-sandbox`."""
    override = os.environ.get("SANDBOX_PYTHON")
    return override or str(ROOT / ".venv-sandbox" / "bin" / "python")


class SandboxProcess:
    """One running server: its ready line as `info`, its log as a file, and its end.

    Use it as a context manager, or call `stop` (which is idempotent). The config goes through stdin, because it holds
    relayer keys and command lines are world-readable. `terminate=False` in `stop` sends SIGKILL, for crash tests.
    """

    def __init__(self, process: subprocess.Popen[str], info: dict[str, Any], log_path: Path) -> None:
        self._process = process
        self.info = info
        self.log_path = log_path

    @classmethod
    def start(
        cls,
        module: str,
        config: Mapping[str, Any],
        *,
        python: str | None = None,
        log_path: Path | None = None,
        ready_timeout_s: float = READY_TIMEOUT_S,
    ) -> SandboxProcess:
        """Start `python -m module` and return when its ready line has arrived.

        Raises SandboxError when it ends or stays silent for `ready_timeout_s`.
        """
        log = log_path or _temporary_log(module)
        env = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
        interpreter = python or sandbox_python()
        if not Path(interpreter).is_file():
            raise SandboxError(f"{interpreter} is missing: run `make setup`, or set SANDBOX_PYTHON")
        with log.open("ab") as log_file:
            process = subprocess.Popen(  # the command is ours, nothing of it comes from a user
                [interpreter, "-m", module, "--config", "-"],
                cwd=ROOT,
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_file,
                text=True,
            )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(config) + "\n")
            process.stdin.flush()  # and left open: its end is the child's end
            line = _first_line(process.stdout, ready_timeout_s)
            info = json.loads(line)
        except (OSError, ValueError) as error:
            _end(process, signal.SIGKILL)
            tail = log.read_text(errors="replace")[-4000:]
            raise SandboxError(f"{module} did not become ready: {error}\n{tail}") from error
        return cls(process, info, log)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def base_url(self) -> str:
        """Where it serves, as it said itself."""
        return str(self.info["base_url"])

    @property
    def admin_url(self) -> str:
        """Where tests drive it, as it said itself."""
        return str(self.info["admin_url"])

    def log(self) -> str:
        """All that it wrote to stderr so far."""
        return self.log_path.read_text(errors="replace")

    def running(self) -> bool:
        """Whether the process is still alive."""
        return self._process.poll() is None

    def stop(self, *, terminate: bool = True) -> int:
        """End it (SIGTERM, then SIGKILL after 5 s; SIGKILL at once when not `terminate`) and return its exit code."""
        return _end(self._process, signal.SIGTERM if terminate else signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()


def child_config() -> dict[str, Any]:
    """The config object that the command line names, with this process's life tied to its parent's.

    A file or a JSON text leaves stdin alone: the kernel then sends SIGTERM when the parent dies (Linux). With `-` the
    first line of stdin is the config and its end is the end of this process; that holds also where the parent's
    starting *thread* ends early, which the kernel would take for the parent's death.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True, help="a file, a JSON object, or - for the first line of stdin")
    text: str = parser.parse_args().config
    if text == "-":
        text = sys.stdin.readline()
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    else:
        _end_with_parent()
        if not text.lstrip().startswith("{"):
            text = Path(text).read_text(encoding="utf-8")
    config = json.loads(text)
    if not isinstance(config, dict):
        raise TypeError("the config must be a JSON object")
    return config


def announce_ready(**info: Any) -> None:
    """Print the one line that the parent waits for."""
    print(json.dumps(info), flush=True)


def _end_with_parent() -> None:
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the call above
        raise SystemExit(1)


def _end_with_stdin() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _temporary_log(module: str) -> Path:
    handle, name = tempfile.mkstemp(prefix=f"{module.rsplit('.', maxsplit=1)[-1]}-", suffix=".log")
    os.close(handle)
    return Path(name)


def _first_line(stream: IO[str], timeout_s: float) -> str:
    """The first line of a stream, within a time.

    Later lines are drained so that the child never blocks on a full pipe.
    """
    lines: queue.Queue[str] = queue.Queue()

    def drain() -> None:
        lines.put(stream.readline())
        with stream:
            for _ in stream:
                pass

    threading.Thread(target=drain, daemon=True).start()
    try:
        line = lines.get(timeout=timeout_s)
    except queue.Empty:
        raise TimeoutError(f"no ready line within {timeout_s:g} s") from None
    if not line:
        raise ValueError("it ended before its ready line")
    return line


def _end(process: subprocess.Popen[str], with_signal: signal.Signals) -> int:
    if process.poll() is None:
        process.send_signal(with_signal)
    try:
        process.wait(timeout=STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):  # a config that a dying child never read
            process.stdin.close()
    return process.wait()

"""Processes under test: pinned to a core of their own, asked by lines, and their CPU and memory as the kernel counts them.

Must not know what they do.  Theory: where the load generator's core is full first, requests per second say nothing;
what the process itself used (utime + stime) still does.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
_CORES = sorted(os.sched_getaffinity(0))
TEST_CORE, LOAD_CORE = _CORES[0], _CORES[-1]
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
STOP_TIMEOUT_S = 15


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Run the block, and what it starts, on one core; None means any."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, _CORES if core is None else {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Child:
    """A started process that said on its first line that it is ready."""

    def __init__(self, process: subprocess.Popen[str], info: dict[str, Any]) -> None:
        self._process, self.info = process, info

    @classmethod
    def start(
        cls,
        arguments: Sequence[str],
        *,
        core: int,
        log: Path,
        python: str = sys.executable,
        environ: Mapping[str, str] | None = None,
        config: Mapping[str, object] | None = None,
    ) -> Self:
        """Start `python *arguments`, hand it `config` on its first line, and wait for its ready line."""
        environ = {**os.environ, "PYTHONPATH": str(ROOT), **(environ or {})}
        with pinned(core), log.open("ab") as log_file:
            process = subprocess.Popen(
                [python, *arguments],
                cwd=ROOT,
                env=environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_file,
                text=True,
            )
        child = cls(process, {})
        if config is not None:
            child._say(config)
        try:
            child.info = child._hear()
        except RuntimeError as error:
            child.stop()
            raise RuntimeError(f"{' '.join(arguments)} did not start: {log.read_text()[-2000:]}") from error
        return child

    def ask(self, question: Mapping[str, object]) -> dict[str, Any]:
        """Send one line and return the one that answers it."""
        self._say(question)
        return self._hear()

    def _say(self, words: Mapping[str, object]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("it ended")
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    def cpu_s(self) -> float:
        """User and system time of all its threads so far, in steps of a clock tick."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK_S

    def rss_kib(self) -> int:
        """Resident memory now."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise RuntimeError("it ended")

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

"""The demo as its reader meets it: one process, what it prints, its exit code, and nothing left behind."""

import contextlib
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway_client import GatewayProblem
from sandbox.chain import LocalBase
from sandbox.demo import __main__ as command
from sandbox.demo.books import Figures, TempoFigures, sums, tempo_sums
from sandbox.process import ROOT

LIMIT_S = 600  # two minutes is the promise on a machine of one's own

BALANCED = Figures(
    granted=39,
    topped_up=1,
    till_on_chain=1,
    gateway_till=1,
    credited=40,
    available=25,
    held=5,
    spent=10,
    statement_available=25,
    statement_held=5,
    captured=10,
    settled=10,
    funded=100,
    wallet_on_chain=90,
    vendor_received=10,
    gateway_wallet=90,
    captured_on_base=10,
)
BALANCED_ON_TEMPO = TempoFigures(
    funded=100, settled=10, fees=2, wallet_on_chain=88, vendor_received=10, gateway_wallet=88
)


class Running:
    """A demo under way: its lines as they come, and the processes and files that belong to it."""

    def __init__(self, temporary: Path, *arguments: str) -> None:
        self.temporary, self.lines = temporary, []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sandbox.demo", *arguments],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def text(self) -> str:
        """Everything that it has printed so far."""
        return "".join(self.lines)

    def wait_for_line(self, pattern: str) -> re.Match[str]:
        """Return the first match of a pattern as soon as it is printed."""
        with self._changed:
            found = self._changed.wait_for(
                lambda: re.search(pattern, self.text) or self.process.poll() is not None, timeout=LIMIT_S
            )
        match = re.search(pattern, self.text)
        assert match, f"{pattern} was not printed ({found}):\n{self.text}"
        return match

    def end(self) -> int:
        """Wait for its end and return the exit code."""
        code = self.process.wait(LIMIT_S)
        self._reader.join()
        return code

    def left_behind(self) -> tuple[list[str], list[str]]:
        """Return processes that still have its environment, and files in its temporary directory."""
        mark, alive = f"TMPDIR={self.temporary}".encode(), []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # it has ended meanwhile, or is not ours
                if mark in environ.read_bytes().split(b"\0"):
                    alive.append(environ.with_name("cmdline").read_bytes().decode())
        return alive, [path.name for path in self.temporary.iterdir()]

    def _read(self) -> None:
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A temporary directory with a short path, as the operator's socket needs it."""
    directory = Path(tempfile.mkdtemp(prefix="demo-"))
    yield directory
    shutil.rmtree(directory)


@contextlib.contextmanager
def demo(temporary: Path, *arguments: str) -> Iterator[Running]:
    """Run the demo; it does not outlive the test."""
    running = Running(temporary, *arguments)
    try:
        yield running
    finally:
        running.process.terminate()
        running.end()
        running.process.stdout.close()


def shapes(text: str) -> list[str]:
    """Return the lines of a text without what differs from run to run: times, amounts, blocks, ids and hashes all have digits."""
    words = [line.split() for line in text.splitlines() if line.strip()]
    return [" ".join("#" if re.search(r"\d", word) else word for word in line) for line in words]


@pytest.mark.timeout(LIMIT_S + 30)
def test_the_demo_plays_every_scene_and_its_books_balance(temporary: Path) -> None:
    """P4, P5, P6, P12: it exits 0 only after all five vendors' scenes and sums that agree with the chains."""
    with demo(temporary) as running:
        assert running.end() == 0, running.text
    for told in (
        r"ok  charged 0\.010000, collected in final block \d+, tx 0x[0-9a-f]{64}",
        r"balance  available 41\.000000   held 9\.990000",
        r"ok  charged 9\.990000, collected in final block \d+, tx 0x[0-9a-f]{64}",
        r"event    server\.running",
        r"ok  renewed by 30 minutes: paid until",
        r"ok  the fleet goes on at ",
        r"ok  dead: unused at final block \d+",
        r"ok  the whole hold is back, nothing was paid",
        r"ok  the rental ends 30 days later than before",
        r"kill -9 \d+",
        r"ok  the vendor saw one credential \d+ times and made one box; the chain saw one collection",
        r"402 with price 0, answered with a proof of identity; nothing spent",
        r"ok  charged 0\.023400, tx 0x[0-9a-f]{64} on Tempo; the network fee is the house's",
        r"ok  charged \d+\.\d{6}, which is what cryptovps has charged the operator, to the last unit",
        r"DELETE /vps/batch -> 207",
        r"ok  charged \d+\.\d{6}, which is what litevps has charged the operator, to the last unit",
        r"ok  charged 0\.005300, which is what vrtx has charged the operator, to the last unit",
        r"PyPI x402 signs -> 200, top-up top_\w+, credit pending",
        r"ok  credited 1\.000000, proven by a final block; the till has as much on chain",
        r"granted \+ topped up +51\.000000 +=  51\.000000 +available \+ held \+ spent",
        r"top-ups +1\.000000 +=   1\.000000 +till's balance on chain",
        r"wallet's funding - settled +78\.000000 +=  78\.000000 +wallet's balance on chain",
        r"VpsAgent's receipts on chain +22\.000000 +=  22\.000000 +its charges",
        r"Tempo: the reseller's receipts +0\.050100 +=   0\.050100 +settled",
        r"ok  5 charges and 5 transfers on Base",
        r"add up to the token balances on chain, to the last unit",
    ):
        assert re.search(told, running.text), f"{told} was not printed:\n{running.text}"
    sample = re.split(r"^```$", (ROOT / "README.md").read_text(), flags=re.MULTILINE)[1]
    printed = set(shapes(running.text))
    assert [line for line in shapes(sample) if line not in printed] == [], "README shows what the demo does not print"
    assert "\033" not in running.text
    assert running.left_behind() == ([], [])


@pytest.mark.timeout(LIMIT_S + 30)
def test_the_demo_fails_when_the_vendor_has_one_unit_too_many(temporary: Path) -> None:
    """One base unit that no charge explains makes it exit 1, with what it expected and what it found."""
    with demo(temporary, "--only", "catalogue") as running:
        rpc_url = running.wait_for_line(r" at (http://127\.0\.0\.1:\d+)\n")[1]
        payee = running.wait_for_line(r"is paid at (0x[0-9a-fA-F]{40})\n")[1]
        LocalBase.attach(rpc_url).mint(payee, 1)
        assert running.end() == 1, running.text
    assert re.search(r"VpsAgent's receipts on chain +0\.020001 +IS NOT +0\.020000 +its charges", running.text)
    assert re.search(r"FAILED  the books\n +expected +.*0\.020000\n +found +.*0\.020001", running.text)
    assert "to the last unit" not in running.text
    assert running.left_behind() == ([], [])


def test_an_interrupted_demo_stops_what_it_started(temporary: Path) -> None:
    """Ctrl-C while the vendor is still starting: exit 1, no process and no file is left."""
    with demo(temporary) as running:
        running.wait_for_line(r"chain +a local Base")
        running.process.send_signal(signal.SIGINT)
        assert running.end() == 1, running.text
    assert "interrupted; everything was stopped" in running.text
    assert running.left_behind() == ([], [])


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            GatewayProblem(503, {"code": "not_ready", "detail": "the chain was not read yet"}),
            "503 not_ready: the chain",
        ),
        (RuntimeError("anvil ended with status 1"), "RuntimeError: anvil ended"),
        (FileNotFoundError("anvil is missing: run `make setup`"), "anvil is missing"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_breaks_is_told_in_a_line_and_is_exit_1(
    error: Exception, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A refusal, a chain that ends, a program that is missing: what it was, and no traceback."""

    def broken(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(command, "_play", broken)
    monkeypatch.setattr(command.interrupts, "install", lambda: None)
    monkeypatch.setattr(sys, "argv", ["demo"])
    assert command.main() == 1
    assert re.search(rf"^FAILED  .*{re.escape(told)}", capsys.readouterr().out, re.MULTILINE)


def test_balanced_figures_agree() -> None:
    """Figures of a gateway that lost and invented nothing satisfy every sum."""
    assert [each.left for each in (*sums(BALANCED), *tempo_sums(BALANCED_ON_TEMPO)) if not each.agrees] == []


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Figures)])
def test_one_unit_off_anywhere_breaks_a_sum(name: str) -> None:
    """No figure can be off by one base unit without a sum that says so."""
    off = dataclasses.replace(BALANCED, **{name: getattr(BALANCED, name) + 1})
    assert [each.left for each in sums(off) if not each.agrees]


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(TempoFigures)])
def test_one_unit_off_on_tempo_breaks_a_sum(name: str) -> None:
    """Nor can one of Tempo's, its network fees among them."""
    off = dataclasses.replace(BALANCED_ON_TEMPO, **{name: getattr(BALANCED_ON_TEMPO, name) + 1})
    assert [each.left for each in tempo_sums(off) if not each.agrees]

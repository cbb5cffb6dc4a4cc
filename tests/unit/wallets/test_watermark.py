"""The mark outlives kill -9, survives torn writes, and recognises an older copy of the database (P12)."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.codec import ContractError
from wallets.watermark import FILE_BYTES, SLOT_STRIDE_BYTES, Mark, Standing, Watermark, WatermarkError, judge

H1, H2 = b"\x01" * 32, b"\x02" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the mark lies."""
    return tmp_path / "watermark"


def reopened(path: Path) -> Mark:
    """Return what another process would find."""
    watermark = Watermark.open(path)
    mark = watermark.read()
    watermark.close()
    return mark


def test_remembers_across_processes(path: Path) -> None:
    """What was recorded is found again; the file is private and of a fixed size."""
    watermark = Watermark.create(path)
    assert watermark.read() == Mark()
    for height in range(1, 10):
        watermark.record(height, bytes((height,)) * 32, 1000 + height)
    watermark.close()
    assert reopened(path) == Mark(9, b"\x09" * 32, 1009)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size == FILE_BYTES


def test_it_only_rises(path: Path) -> None:
    """A lower height or window is ignored; each rises by itself."""
    watermark = Watermark.create(path)
    watermark.record(5, H1, 100)
    watermark.record(4, H2, 50)
    assert watermark.read() == Mark(5, H1, 100)
    watermark.note_valid_before(90)
    watermark.note_valid_before(200)
    watermark.record(5, H1, 300)
    watermark.record(6, H2)
    assert watermark.read() == Mark(6, H2, 300)
    watermark.close()
    assert reopened(path) == Mark(6, H2, 300)


def test_two_journals_are_noticed(path: Path) -> None:
    """The same height with another hash means two histories."""
    watermark = Watermark.create(path)
    watermark.record(5, H1)
    with pytest.raises(WatermarkError, match="another hash"):
        watermark.record(5, H2)
    watermark.close()


@given(keep=st.integers(min_value=0, max_value=103))
def test_a_torn_write_costs_one_update(tmp_path_factory: pytest.TempPathFactory, keep: int) -> None:
    """Whatever part of the last slot reached the disk, the one before it is found."""
    path = tmp_path_factory.mktemp("torn") / "watermark"
    watermark = Watermark.create(path)
    watermark.record(1, H1, 10)
    before = path.read_bytes()
    watermark.record(2, H2, 20)
    after = path.read_bytes()
    watermark.close()
    start = next(
        offset for offset in (0, SLOT_STRIDE_BYTES) if before[offset : offset + 104] != after[offset : offset + 104]
    )
    torn = after[: start + keep] + before[start + keep :]
    path.write_bytes(torn)
    expected = Mark(1, H1, 10) if torn != after else Mark(2, H2, 20)
    assert reopened(path) == expected


def test_a_damaged_or_missing_mark_is_an_error(path: Path) -> None:
    """Nobody may take no memory for a memory of nothing."""
    with pytest.raises(WatermarkError):
        Watermark.open(path)
    path.write_bytes(bytes(FILE_BYTES))
    with pytest.raises(WatermarkError, match="no intact slot"):
        Watermark.open(path)
    path.write_bytes(b"")
    with pytest.raises(WatermarkError, match="no intact slot"):
        Watermark.open(path)
    with pytest.raises(WatermarkError):
        Watermark.create(path)


def test_it_starts_with_the_mark_that_it_is_given(path: Path) -> None:
    """A mark that was lost beside purchases starts high, not at nothing; both are durable at once."""
    given = Mark(2**63 - 1, bytes(32), 1_900)
    Watermark.create(path, given).close()
    assert reopened(path) == given
    other = path.with_name("other")
    Watermark.create(other).close()
    assert reopened(other) == Mark()


@pytest.mark.parametrize("moment", ["ftruncate", "pwrite", "fsync", "rename"])
def test_p12_the_name_appears_only_with_the_mark(path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """P12: cut short before any step, creation leaves no mark that says nothing; the next start makes it whole."""
    given = Mark(7, H1, 900)

    def cut(*_: object, **__: object) -> None:
        raise InterruptedError("killed here")

    with monkeypatch.context() as patch:
        patch.setattr(Path if moment == "rename" else os, moment, cut)
        with pytest.raises(InterruptedError):
            Watermark.create(path, given)
    assert not path.exists()
    Watermark.create(path, given).close()
    assert reopened(path) == given
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_what_lies_there_is_not_replaced(path: Path) -> None:
    """A second creation is refused and leaves the first mark as it was."""
    Watermark.create(path, Mark(7, H1, 900)).close()
    with pytest.raises(WatermarkError, match="exists"):
        Watermark.create(path, Mark(1, H2, 100))
    assert reopened(path) == Mark(7, H1, 900)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_created_mark_is_held_by_its_process(path: Path) -> None:
    """The lock is on the file, not on the name that it had while it was made."""
    watermark = Watermark.create(path, Mark(7, H1, 900))
    with pytest.raises(WatermarkError, match="another process"):
        Watermark.open(path)
    watermark.record(8, H2)
    watermark.close()
    assert reopened(path) == Mark(8, H2, 900)


def test_one_process_holds_it(path: Path) -> None:
    """A second opener is refused until the first lets go; a closed mark writes nowhere."""
    watermark = Watermark.create(path)
    with pytest.raises(WatermarkError, match="another process"):
        Watermark.open(path)
    watermark.close()
    assert reopened(path) == Mark()
    with pytest.raises(OSError, match="Bad file descriptor"):
        watermark.record(1, H1)


def test_p12_kill_9_loses_nothing(path: Path) -> None:
    """P12: a mark that was recorded without fsync is there after SIGKILL."""
    code = (
        "import sys, time, pathlib\n"
        "from wallets.watermark import Watermark\n"
        "mark = Watermark.create(pathlib.Path(sys.argv[1]))\n"
        "mark.record(7, bytes([7]) * 32, 77)\n"
        "print('recorded', flush=True)\n"
        "time.sleep(60)\n"
    )
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdout=subprocess.PIPE,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"recorded\n"
        process.send_signal(signal.SIGKILL)
    assert reopened(path) == Mark(7, b"\x07" * 32, 77)


def test_p12_an_older_copy_is_recognised() -> None:
    """P12: a journal that lacks the marked entry, or has another one there, is not the true one."""
    mark = Mark(5, H1, 100)
    assert judge(mark, 5, H1) == Standing.CURRENT
    assert judge(mark, 9, H1) == Standing.CURRENT
    assert judge(mark, 4, None) == Standing.OLDER
    assert judge(mark, 0, None) == Standing.OLDER
    assert judge(mark, 9, None) == Standing.OLDER
    assert judge(mark, 9, H2) == Standing.FORKED
    assert judge(Mark(), 0, None) == judge(Mark(), 3, None) == Standing.CURRENT


def test_an_operator_can_accept_a_shorter_journal(path: Path) -> None:
    """After quarantine the mark starts from the accepted journal; the latest window stays."""
    watermark = Watermark.create(path)
    watermark.record(5, H1, 100)
    watermark.accept(3, H2)
    watermark.record(4, H1)
    watermark.close()
    assert reopened(path) == Mark(4, H1, 100)


@pytest.mark.parametrize(("height", "journal_hash"), [(-1, H1), (2**63, H1), (1, b"short")])
def test_refuses_impossible_marks(path: Path, height: int, journal_hash: bytes) -> None:
    """Ranges and lengths are checked before anything is written."""
    watermark = Watermark.create(path)
    with pytest.raises(ContractError):
        watermark.record(height, journal_hash)
    assert watermark.read() == Mark()
    watermark.close()

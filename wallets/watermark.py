"""The signer's own memory of how far the journal had come, outside the database (P12).

Must not know the journal's rows. Theory: a database restored from a backup is older than what was signed since; this
small file beside the keystore remembers the highest journal entry whose effects may have left the process, and the end
of the last window signed, so that the older copy is recognised and quarantined until the chain has told what it missed.

The committer calls ``record`` after its commit and before anything leaves; the signer calls ``note_valid_before``
before it hands out a signature. Neither waits for the disk: ``kill -9`` keeps the page cache, so nothing is lost then;
a power cut can only bring back an older mark, which can miss an old copy but never accuses a true one. ``sync`` makes
the mark durable (now and then, and at a clean stop). Two slots are written in turn, each with its own digest, so a torn
write costs one update and never the file.
"""

import fcntl
import hashlib
import os
import struct
import threading
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

from contracts.codec import require_bytes, require_uint

MAGIC = b"APGWMARK"
# Slots lie on different pages, so that one torn page cannot take both.
SLOT_STRIDE_BYTES = 4096
FILE_BYTES = 2 * SLOT_STRIDE_BYTES
HASH_BYTES = 32
GENESIS_HASH = bytes(HASH_BYTES)

_BODY = struct.Struct(">8sQQ32sQ")
_DIGEST_BYTES = 32
_SLOT_BYTES = _BODY.size + _DIGEST_BYTES


class WatermarkError(Exception):
    """The mark is missing, damaged, in use by another process, or contradicts what it is told."""


class Standing(StrEnum):
    """How a database stands to the mark."""

    CURRENT = "current"
    OLDER = "older"
    FORKED = "forked"


@dataclass(frozen=True, slots=True)
class Mark:
    """The highest journal entry recorded (0 and zeros: none yet) and the latest ``valid_before`` signed, in seconds."""

    height: int = 0
    hash: bytes = GENESIS_HASH
    max_valid_before: int = 0


def judge(mark: Mark, journal_height: int, hash_at_mark: bytes | None) -> Standing:
    """Compare a journal with the mark; ``hash_at_mark`` is the journal's own hash at ``mark.height``, if it has it.

    OLDER and FORKED mean quarantine. A journal ahead of the mark is CURRENT: commits come before their record.
    """
    if mark.height == 0:
        return Standing.CURRENT
    if journal_height < mark.height or hash_at_mark is None:
        return Standing.OLDER
    return Standing.CURRENT if hash_at_mark == mark.hash else Standing.FORKED


class Watermark:
    """The open file. One process holds it at a time (flock); its methods may be called from any thread."""

    def __init__(self, descriptor: int, mark: Mark, sequence: int) -> None:
        """Use ``create`` or ``open``."""
        self._descriptor = descriptor
        self._mark = mark
        self._sequence = sequence
        self._lock = threading.Lock()

    @classmethod
    def create(cls, path: Path, mark: "Mark | None" = None) -> Self:
        """Make a new file (mode 0600), durable with its name and first mark, and open it.

        The name appears only once the content is durable, so that a crash in between leaves no mark that says nothing.
        Raises WatermarkError if it exists.
        """
        if path.exists():
            raise WatermarkError("watermark: the file exists")
        draft = path.with_name(path.name + ".new")
        draft.unlink(missing_ok=True)
        descriptor = _open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        watermark = cls(descriptor, Mark(), 0)
        os.ftruncate(descriptor, FILE_BYTES)
        watermark._write(Mark() if mark is None else mark)
        watermark.sync()
        draft.rename(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return watermark

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an existing file. Raises WatermarkError when it is missing, damaged or held by another process.

        A missing mark beside a journal that is not empty means that nobody knows what was signed: quarantine as well.
        """
        descriptor = _open(path, os.O_RDWR)
        try:
            newest = _newest_slot(descriptor)
        except WatermarkError:
            os.close(descriptor)
            raise
        return cls(descriptor, newest[1], newest[0])

    def read(self) -> Mark:
        """Return the mark as of the last call."""
        return self._mark

    def record(self, height: int, journal_hash: bytes, valid_before: int = 0) -> None:
        """Raise the mark to a committed journal entry, and to a window's end where one is given; never lower it.

        Returns once the page cache has it (some microseconds). Raises WatermarkError when the same height comes with
        another hash, which means two journals.
        """
        require_uint(height, 63, "height")
        require_bytes(journal_hash, HASH_BYTES, "journal_hash")
        with self._lock:
            mark = self._mark
            if height == mark.height > 0 and journal_hash != mark.hash:
                raise WatermarkError(f"watermark: journal entry {height} has another hash than before")
            horizon = max(mark.max_valid_before, require_uint(valid_before, 63, "valid_before"))
            if height > mark.height:
                self._write(Mark(height, journal_hash, horizon))
            elif horizon > mark.max_valid_before:
                self._write(Mark(mark.height, mark.hash, horizon))

    def note_valid_before(self, valid_before: int) -> None:
        """Raise the latest window's end (Unix seconds); never lower it."""
        with self._lock:
            mark = self._mark
            if require_uint(valid_before, 63, "valid_before") > mark.max_valid_before:
                self._write(Mark(mark.height, mark.hash, valid_before))

    def accept(self, height: int, journal_hash: bytes) -> None:
        """Take another journal as the true one, also a shorter one, when its quarantine has ended; durable on return.

        The latest window's end stays: what was signed does not become unsigned.
        """
        require_uint(height, 63, "height")
        require_bytes(journal_hash, HASH_BYTES, "journal_hash")
        with self._lock:
            self._write(Mark(height, journal_hash, self._mark.max_valid_before))
        self.sync()

    def sync(self) -> None:
        """Make the mark durable (fsync)."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Make the mark durable and let the file go."""
        self.sync()
        os.close(self._descriptor)
        # The number may be given to another file; a late call must fail, not write there.
        self._descriptor = -1

    def _write(self, mark: Mark) -> None:
        sequence = self._sequence + 1
        body = _BODY.pack(MAGIC, sequence, mark.height, mark.hash, mark.max_valid_before)
        slot = body + hashlib.sha256(body).digest()
        written = os.pwrite(self._descriptor, slot, sequence % 2 * SLOT_STRIDE_BYTES)
        if written != _SLOT_BYTES:
            raise WatermarkError("watermark: short write")
        self._sequence = sequence
        self._mark = mark


def _open(path: Path, flags: int) -> int:
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise WatermarkError(f"{path}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise WatermarkError(f"{path}: held by another process") from None
    return descriptor


def _newest_slot(descriptor: int) -> tuple[int, Mark]:
    """Return (sequence, mark) of the newest intact slot. Raises WatermarkError when there is none."""
    found = []
    for offset in (0, SLOT_STRIDE_BYTES):
        slot = os.pread(descriptor, _SLOT_BYTES, offset)
        body = slot[: _BODY.size]
        if len(slot) == _SLOT_BYTES and hashlib.sha256(body).digest() == slot[_BODY.size :]:
            magic, sequence, height, journal_hash, horizon = _BODY.unpack(body)
            if magic == MAGIC:
                found.append((sequence, Mark(height, journal_hash, horizon)))
    if not found:
        raise WatermarkError("watermark: no intact slot")
    return max(found, key=lambda entry: entry[0])

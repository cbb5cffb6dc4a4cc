"""What the demo prints: one line a fact, with the seconds since the start; colour and moving lines on a terminal only.

Must not know what is told.
"""

import os
import sys
import time
from collections.abc import Sequence
from typing import TextIO

_BOLD, _DIM, _GREEN, _RED, _PLAIN = "\033[1m", "\033[2m", "\033[32m", "\033[31m", "\033[0m"
_CLEAR_LINE = "\r\033[K"
_QUIET_S = 4.0  # where lines cannot be rewritten, a wait says so this often


class Screen:
    """Writes to a stream. `progress` is a line that the next one replaces."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._tty = self._stream.isatty()
        self._coloured = self._tty and "NO_COLOR" not in os.environ
        self._started = time.monotonic()
        self._live = False
        self._told_at, self._told = 0.0, ""

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def title(self, text: str) -> None:
        """Begin a chapter."""
        self._write(f"\n{self._in(_BOLD, text)}")

    def step(self, text: str) -> None:
        """Tell what happened."""
        self._write(f"  {self._in(_DIM, f'{self.elapsed_s:5.1f}s')}  {text}")

    def good(self, text: str) -> None:
        """Tell what was expected and did happen."""
        self.step(f"{self._in(_GREEN, 'ok')}  {text}")

    def bad(self, text: str) -> None:
        """Tell what was expected and did not happen."""
        self._write(f"\n{self._in(_RED, 'FAILED')}  {text}")

    def plain(self, text: str = "") -> None:
        """Write a line without the time."""
        self._write(text)

    def progress(self, text: str) -> None:
        """Tell how a wait goes on."""
        if self._tty:
            self._stream.write(f"{_CLEAR_LINE}  {self._in(_DIM, f'{self.elapsed_s:5.1f}s')}  … {text}")
            self._stream.flush()
            self._live = True
            return
        now = time.monotonic()
        if text != self._told and now - self._told_at >= _QUIET_S:
            self.step(f"… {text}")
            self._told_at, self._told = now, text

    def table(self, heading: Sequence[str] | None, rows: Sequence[Sequence[str]], right: frozenset[int]) -> None:
        """Write aligned columns; those in `right` end flush."""
        lines = [*([heading] if heading else []), *rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for row in lines:
            cells = [
                cell.rjust(width) if place in right else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            line = "  " + "  ".join(cells).rstrip()
            self._write(self._in(_BOLD, line) if row is heading else line)

    def _write(self, text: str) -> None:
        self._stream.write(f"{_CLEAR_LINE if self._live else ''}{text}\n")
        self._stream.flush()
        self._live = False

    def _in(self, style: str, text: str) -> str:
        return f"{style}{text}{_PLAIN}" if self._coloured else text

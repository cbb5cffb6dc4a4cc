"""Keeps the vendor's book in a JSON file, so that a restarted vendor still knows its rentals.

It must not judge what is in it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from sandbox.vpsagent.records import Book


class StateFile:
    """Loads and saves a book; with no path it keeps nothing."""

    def __init__(self, path: str | None) -> None:
        self._path = Path(path) if path else None

    def load(self) -> Book:
        """The saved book, or an empty one."""
        if self._path is None or not self._path.exists():
            return Book()
        return Book.from_json(json.loads(self._path.read_text(encoding="utf-8")))

    def save(self, book: Book) -> None:
        """Replace the file whole, so that a kill leaves the old one or the new one."""
        if self._path is None:
            return
        draft = self._path.with_suffix(".tmp")
        with draft.open("w", encoding="utf-8") as file:
            json.dump(book.as_json(), file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)

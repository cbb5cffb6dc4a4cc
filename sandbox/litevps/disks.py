"""The machines' disks: real directories under one temporary directory, and copies of them as snapshots.

A path that a client names is resolved inside its machine's directory or refused; no link is ever made or followed out
of it. It must not know who may read what.
"""

from __future__ import annotations

import posixpath
import shutil
import tempfile
from pathlib import Path

LONGEST_PATH, LONGEST_NAME = 2048, 255


class PathError(ValueError):
    """The path is not an absolute path of a file inside the machine."""


class Disks:
    """All disks of one vendor; `close` removes them."""

    def __init__(self) -> None:
        self._held = tempfile.TemporaryDirectory(prefix="litevps-")
        self._root = Path(self._held.name)

    def format(self, machine_id: str, hostname: str) -> None:
        """A fresh disk with the few files that every machine has."""
        self.write(machine_id, "/etc/hostname", f"{hostname}\n".encode())
        self.write(machine_id, "/etc/os-release", b'NAME="Ubuntu"\nVERSION="22.04.4 LTS (Jammy Jellyfish)"\n')
        (self._disk(machine_id) / "root").mkdir(exist_ok=True)

    def write(self, machine_id: str, path: str, content: bytes, *, append: bool = False) -> None:
        """Write a file, making its directories; raises PathError."""
        target = self._inside(machine_id, path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("ab" if append else "wb") as file:
                file.write(content)
        except OSError as error:
            raise PathError(f"cannot write {path}") from error

    def read(self, machine_id: str, path: str) -> bytes | None:
        """A file's bytes, or None where there is none; raises PathError."""
        target = self._inside(machine_id, path)
        return target.read_bytes() if target.is_file() else None

    def names(self, machine_id: str, path: str) -> list[str] | None:
        """What a directory holds, or None where there is none; raises PathError."""
        target = self._inside(machine_id, path)
        return sorted(entry.name for entry in target.iterdir()) if target.is_dir() else None

    def snapshot(self, machine_id: str, name: str) -> None:
        """Copy the disk as it is."""
        shutil.copytree(self._disk(machine_id), self._copy(machine_id, name))

    def restore(self, machine_id: str, name: str) -> None:
        """Make the disk what the copy is."""
        shutil.rmtree(self._disk(machine_id))
        shutil.copytree(self._copy(machine_id, name), self._disk(machine_id))

    def drop_snapshot(self, machine_id: str, name: str) -> None:
        """Remove a copy."""
        shutil.rmtree(self._copy(machine_id, name))

    def destroy(self, machine_id: str) -> None:
        """Remove a disk with its copies."""
        shutil.rmtree(self._root / machine_id, ignore_errors=True)

    def clear(self) -> None:
        """Remove every disk."""
        for entry in self._root.iterdir():
            shutil.rmtree(entry)

    def close(self) -> None:
        """Remove everything."""
        self._held.cleanup()

    def _disk(self, machine_id: str) -> Path:
        return self._root / machine_id / "disk"

    def _copy(self, machine_id: str, name: str) -> Path:
        return self._root / machine_id / "snapshots" / name

    def _inside(self, machine_id: str, path: str) -> Path:
        if not path.startswith("/") or "\0" in path:
            raise PathError("path must be absolute")
        if len(path.encode(errors="replace")) > LONGEST_PATH or any(
            len(p.encode()) > LONGEST_NAME for p in path.split("/")
        ):
            raise PathError("path is too long")
        # Normalised first: `/../..` of an absolute path is `/`, as in a real machine.
        return self._disk(machine_id) / posixpath.normpath(path).lstrip("/")

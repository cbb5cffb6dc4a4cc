"""On which line of a TOML file each key stands, so that an error can point at it.

Must not know what the keys mean, nor judge the file: `tomllib` has accepted it before this runs, and gives values
without positions.  Theory: of valid TOML only keys, brackets and strings need to be told apart; everything else is skipped.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field

KeyPath = tuple[str, ...]

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_KEY = re.compile(rf"[ \t]*({_PART}(?:[ \t]*\.[ \t]*{_PART})*)[ \t]*", re.ASCII)
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)+")
_BARE = re.compile(r"[^\s,\]}#]+(?: [0-9][^\s,\]}#]*)?")  # a date may have one blank inside


def key_lines(text: str) -> Mapping[KeyPath, int]:
    """Return the line (from 1) of every table and key of a valid TOML text; elements of arrays are named by number."""
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


@dataclass(slots=True)
class _Scanner:
    text: str
    at: int = 0
    lines: dict[KeyPath, int] = field(default_factory=dict)
    arrays: dict[KeyPath, int] = field(default_factory=dict)

    def document(self) -> None:
        table: KeyPath = ()
        while self._skip_blank():
            table = self._header() if self.text[self.at] == "[" else self._assignment(table)

    def _header(self) -> KeyPath:
        double = self.text.startswith("[[", self.at)
        start, self.at = self.at, self.at + (2 if double else 1)
        path = self._through_arrays(self._key())
        if double:
            number = self.arrays.get(path, -1) + 1
            self.arrays[path] = number
            self._note(path, start)
            path = (*path, str(number))
        self._note(path, start)
        self.at += 2 if double else 1
        return path

    def _through_arrays(self, key: KeyPath) -> KeyPath:
        """A header below an array of tables means the array's newest element."""
        path: KeyPath = ()
        for part in key[:-1]:
            path = (*path, part)
            if path in self.arrays:
                path = (*path, str(self.arrays[path]))
        return (*path, key[-1])

    def _assignment(self, table: KeyPath) -> KeyPath:
        start = self.at
        path = (*table, *self._key())
        self._note(path, start)
        self.at += 1  # the equals sign
        self._value(path)
        return table

    def _value(self, path: KeyPath) -> None:
        self._skip_blank()
        opening = self.text[self.at]
        if opening in "[{":
            self._items(path, opening)
            return
        found = _STRING.match(self.text, self.at) or _BARE.match(self.text, self.at)
        if found is None:
            raise AssertionError(f"no TOML value at offset {self.at}")
        self.at = found.end()

    def _items(self, path: KeyPath, opening: str) -> None:
        self.at += 1
        number = 0
        while self._skip_blank() and self.text[self.at] not in "]}":
            if self.text[self.at] == ",":
                self.at += 1
            elif opening == "{":
                self._assignment(path)
            else:
                self._note((*path, str(number)), self.at)
                self._value((*path, str(number)))
                number += 1
        self.at += 1

    def _key(self) -> KeyPath:
        found = _KEY.match(self.text, self.at)
        if found is None:
            raise AssertionError(f"no TOML key at offset {self.at}")
        self.at = found.end()
        return _parts(found[1])

    def _note(self, path: KeyPath, offset: int) -> None:
        line = self.text.count("\n", 0, offset) + 1
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], line)
        self.lines[path] = line

    def _skip_blank(self) -> bool:
        found = _BLANK.match(self.text, self.at)
        if found is not None:
            self.at = found.end()
        return self.at < len(self.text)


def _parts(key: str) -> KeyPath:
    """Split a dotted key into its names, quotes and escapes undone by the real parser."""
    parts: list[str] = []
    table: object = tomllib.loads(f"{key} = 0")
    while isinstance(table, dict):
        ((name, table),) = table.items()
        parts.append(name)
    return tuple(parts)

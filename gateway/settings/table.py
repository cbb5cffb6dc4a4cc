"""Tables of a TOML file into frozen dataclasses: each field says how it is read, what it is called and what it defaults to.

Must not know any setting.  Theory: the dataclass is the schema, so a key that no field names is unknown, a field without a
default is required, and every fault is collected with its key and line before anything starts.
"""

import dataclasses
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from gateway.settings.lines import KeyPath

T = TypeVar("T")

_MISSING = object()
_VARIABLE = re.compile(r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)\})", re.ASCII)
LABEL = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", re.ASCII)
_PLAIN = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


class ConfigError(Exception):
    """The configuration cannot be used. `problems` are complete sentences that name file, line and key, no values."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class BadValue(ValueError):  # noqa: N818 - a reader's finding, on its way to a ConfigError
    """What is wrong with a value, and what to write instead. Never holds the value: it may be a secret."""

    def __init__(self, what: str, write: str, key: str | None = None) -> None:
        super().__init__(what)
        self.what, self.write, self.key = what, write, key


class Spoiled(Exception):  # noqa: N818 - internal: the faults were noted already
    """A table below holds faults that are on the list already."""


@dataclass(slots=True)
class Source:
    """The file that is being read, and the faults found so far. Relative paths start at `data_dir`."""

    name: str
    lines: Mapping[KeyPath, int]
    data_dir: Path
    problems: list[str] = field(default_factory=list)

    def fault(self, path: KeyPath, what: str, write: str) -> None:
        """Note one fault: file and line, key, what is wrong, what to write."""
        line = next((self.lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.lines), 1)
        self.problems.append(f"{self.name}:{line}: {dotted(path) or 'the file'}: {what}; {write}")


@dataclass(frozen=True, slots=True)
class At:
    """Where in the file a reader stands."""

    source: Source
    path: KeyPath = ()

    def below(self, name: str) -> "At":
        """Return the place of a key inside this table."""
        return At(self.source, (*self.path, name))


Reader = Callable[[Any, At], T]


@dataclass(frozen=True, slots=True)
class Key(Generic[T]):
    """How a field is read. `default` is as one writes it in TOML and goes through the same reader; None stays None.

    `example` completes "write name = " for a key that must be there.
    """

    read: Reader[T]
    default: Any = _MISSING
    name: str | None = None
    example: str = "…"


@dataclass(frozen=True, slots=True)
class Label:
    """Marks the field that takes the table's own name, as `base` in [chains.base]."""


def keys_of(cls: type[Any]) -> dict[str, tuple[str, Key[Any] | Label]]:
    """Return key -> (field, how it is read) of a settings class; a label's key is empty."""
    hints = typing.get_type_hints(cls, include_extras=True)
    found: dict[str, tuple[str, Key[Any] | Label]] = {}
    for each in dataclasses.fields(cls):
        mark = next(m for m in hints[each.name].__metadata__ if isinstance(m, Key | Label))
        found["" if isinstance(mark, Label) else mark.name or each.name] = (each.name, mark)
    return found


def read_table(cls: type[T], value: object, at: At) -> T:
    """Build a settings class from a table. Faults go to the source; raises Spoiled if there are any."""
    if not isinstance(value, dict):
        raise BadValue("must be a table", f"write [{dotted(at.path)}] and its keys below")
    keys = keys_of(cls)
    values: dict[str, object] = {}
    spoiled = False
    for name in value.keys() - keys.keys():
        known = ", ".join(sorted(key for key in keys if key))
        at.source.fault((*at.path, name), "unknown key", f"remove it, or write one of {known}")
        spoiled = True
    for name, (attribute, mark) in keys.items():
        if isinstance(mark, Label):
            values[attribute] = at.path[-1]
            continue
        try:
            values[attribute] = _read_key(name, mark, value, at.below(name))
        except BadValue as bad:
            at.source.fault((*at.path, name), bad.what, bad.write)
            spoiled = True
        except Spoiled:
            spoiled = True
    if spoiled:
        raise Spoiled
    try:
        return cls(**values)
    except BadValue as bad:  # a check across this table's keys
        at.source.fault((*at.path, bad.key) if bad.key else at.path, bad.what, bad.write)
        raise Spoiled from None


def _read_key(name: str, mark: Key[T], table: Mapping[str, object], at: At) -> T | None:
    raw = table.get(name, mark.default)
    if raw is _MISSING:
        raise BadValue("missing", f"write {name} = {mark.example}")
    return None if raw is None else mark.read(raw, at)


def table(cls: type[T]) -> Reader[T]:
    """Return a reader of one table."""
    return lambda value, at: read_table(cls, value, at)


def tables(cls: type[T], *, labels: re.Pattern[str] = LABEL) -> Reader[Mapping[str, T]]:
    """Return a reader of a table of tables by label; ordinary labels are lower-case letters, digits, - and _."""

    def read(value: object, at: At) -> Mapping[str, T]:
        if not isinstance(value, dict):
            raise BadValue("must be a table of tables", f"write [{dotted(at.path)}.<name>]")
        found: dict[str, T] = {}
        for label, inner in value.items():
            place = at.below(label)
            if labels.fullmatch(label) is None:
                at.source.fault(place.path, "this name is not allowed here", f"write one that fits {labels.pattern}")
                continue
            try:
                found[label] = read_table(cls, inner, place)
            except BadValue as bad:
                at.source.fault(place.path, bad.what, bad.write)
            except Spoiled:
                continue
        if found.keys() != value.keys():
            raise Spoiled
        return found

    return read


def expand(value: object, environ: Mapping[str, str], at: At) -> object:
    """Replace ${NAME} in every text of a tree by the environment's value, $$ by $; an unset name is a fault."""
    if isinstance(value, dict):
        return {name: expand(inner, environ, at.below(name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [expand(inner, environ, at.below(str(number))) for number, inner in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replacement(found: re.Match[str]) -> str:
        name = found[1]
        if name is None:
            return "$"
        if name not in environ:
            at.source.fault(
                at.path, f"the environment variable {name} is not set", f"set {name} or write the value here"
            )
            return ""
        return environ[name]

    return _VARIABLE.sub(replacement, value)


def dotted(path: KeyPath) -> str:
    """Return a key as TOML writes it."""
    return ".".join(part if _PLAIN.fullmatch(part) else f'"{part}"' for part in path)

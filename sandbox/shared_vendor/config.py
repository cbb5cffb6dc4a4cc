"""The configuration that every account vendor has, and the strict reading of a vendor's own record.

Times are seconds, amounts are decimal texts. It must not know what a test wants to see; that is `faults`.
"""

from __future__ import annotations

import types
import typing
from dataclasses import MISSING, dataclass, field, fields
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

C = TypeVar("C", bound="BaseConfig")


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseConfig:
    """How a vendor process runs."""

    host: str = "127.0.0.1"
    port: int = 0
    """0: any free port."""
    admin_port: int = 0
    public_url: str | None = None
    """The origin that answers name; the default is where it really listens."""
    clock_start: str | None = None
    """Business time at the start, RFC 3339; None: the real time."""
    clock_rate: float = 1.0
    """Business seconds a real second; 0: only POST /admin/clock moves it."""
    tick_s: float = 0.05
    """How often what came due on the business clock is played."""
    faults: list[dict[str, Any]] = field(default_factory=list)
    """Faults to start with, as POST /admin/faults takes them."""
    log_level: str = "INFO"


def read_config(kind: type[C], raw: Mapping[str, Any]) -> C:
    """Check keys and types and return the record; raises ValueError that names what is wrong."""
    entries = {entry.name: entry for entry in fields(kind)}
    if unknown := sorted(set(raw) - set(entries)):
        raise ValueError(f"unknown config keys: {', '.join(unknown)}")
    required = {n for n, e in entries.items() if e.default is MISSING and e.default_factory is MISSING}
    if missing := sorted(required - set(raw)):
        raise ValueError(f"missing config keys: {', '.join(missing)}")
    hints = typing.get_type_hints(kind)
    for name, value in raw.items():
        if not _fits(value, hints[name]):
            raise ValueError(f"{name}: not {hints[name]}")
    return kind(**raw)


def only_keys(what: str, raw: Mapping[str, Any], known: set[str], required: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """Check the keys of one inner object; raises ValueError that names what is wrong."""
    if unknown := sorted(set(raw) - known):
        raise ValueError(f"{what}: unknown keys: {', '.join(unknown)}")
    if missing := sorted(required - set(raw)):
        raise ValueError(f"{what}: missing keys: {', '.join(missing)}")


def money(text: Any) -> Decimal:
    """A decimal text, which may be negative or zero; raises ValueError for floats and anything else."""
    if not isinstance(text, str):
        raise ValueError(f"an amount is a decimal text, not {text!r}")  # noqa: TRY004 -- one error for bad input
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"not an amount: {text!r}") from error
    if not value.is_finite():
        raise ValueError(f"not an amount: {text!r}")
    return value


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, option) for option in typing.get_args(hint))
    if origin is list:
        return isinstance(value, list) and all(_fits(item, typing.get_args(hint)[0]) for item in value)
    if origin is dict:
        keys, values = typing.get_args(hint)
        return isinstance(value, dict) and all(_fits(k, keys) and _fits(v, values) for k, v in value.items())
    if hint is Any:
        return True
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return type(value) is int
    return isinstance(value, hint)

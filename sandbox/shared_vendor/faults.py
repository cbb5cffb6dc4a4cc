"""Scripted faults as data: what each kind takes, where it strikes, how often. The kinds of all account vendors are here.

A fault is `{"kind", "route", ...parameters, "times", "skip", "id"}`.

- `route`: a route's name as the vendor's `routes` module has it, or `*` (the default).
- `times`: how often it strikes; default 1, null for "until it is deleted". Standing kinds never wear out.
- `skip`: so many matching requests are spared first; default 0.
- `id`: given by the vendor, for DELETE /admin/faults/{id}.

What the wire does:

- `slow`         {before_s, after_s, body_s}: real seconds before the handler, before the headers, in the middle of the
                 body. `after_s` longer than a client's patience is a create that succeeds and times out.
- `cut`          {when}: cuts the connection `before` handling, `after` it (the reply is dropped, the work is done), or
                 in the middle of the `body`.
- `status`       {status, body, headers, when}: answers so `before` handling, or instead of the real reply `after` it
                 (5xx after create). `body` null: what the vendor says at that status.
- `redirect`     {location, status}.

What every account vendor does:

- `limited`      {retry_after_s}: 429 in the vendor's own words; `times` makes a burst.
- `unauthorized` {}: 401 once although the token is good.
- `skew`         {by_s} (standing): the vendor's clock as its answers show it is off by so much.
- `provision`    {mode, after_s}: the next server ends in `error`, is `never` ready, or is ready `late`.
- `lag`          {by_s, get}: the next server is missing from lists for so long (with `get`: also by its id).
- `destroy`      {mode, after_s}: the next destruction is `never` done, or `late`. It is accepted all the same.
- `price`        {factor, plan, shown} (standing): servers made from now on (of that plan) cost so many times what the
                 plan says; with `shown` the price list says so too.
- `state`        {value, of}: the next answer with a server in it (or with the server `of`) has this state string.

It must not know what a vendor does with a fault that it took.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

COMMON_KEYS = {"kind", "route", "times", "skip"}


@dataclass(frozen=True, slots=True)
class Kind:
    """Parameters with their defaults, the values that modes may have, and whether the kind never wears out."""

    parameters: Mapping[str, Any] = field(default_factory=dict)
    modes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    standing: bool = False


KINDS: dict[str, Kind] = {
    "slow": Kind({"before_s": 0, "after_s": 0, "body_s": 0}),
    "cut": Kind({"when": "after"}, {"when": ("before", "after", "body")}),
    "status": Kind({"status": 500, "body": None, "headers": {}, "when": "before"}, {"when": ("before", "after")}),
    "redirect": Kind({"location": "", "status": 307}),
    "limited": Kind({"retry_after_s": 1}),
    "unauthorized": Kind(),
    "skew": Kind({"by_s": 0}, standing=True),
    "provision": Kind({"mode": "error", "after_s": 0}, {"mode": ("error", "never", "late")}),
    "lag": Kind({"by_s": 30, "get": False}),
    "destroy": Kind({"mode": "never", "after_s": 0}, {"mode": ("never", "late")}),
    "price": Kind({"factor": "2", "plan": None, "shown": False}, standing=True),
    "state": Kind({"value": "", "of": None}),
}


class Faults:
    """The faults in force, in the order in which they were given."""

    def __init__(self, routes: Iterable[str], kinds: Mapping[str, Kind]) -> None:
        self._routes = frozenset(routes)
        self._kinds = {**KINDS, **kinds}
        self._ids = itertools.count(1)
        self._active: dict[int, dict[str, Any]] = {}

    def add(self, raw: dict[str, Any]) -> int:
        """Put a fault in force and return its id; raises ValueError for a kind, key or value that does not exist."""
        name = raw.get("kind")
        kind = self._kinds.get(str(name))
        if kind is None:
            raise ValueError(f"unknown kind: {name!r}")
        if unknown := sorted(set(raw) - COMMON_KEYS - set(kind.parameters)):
            raise ValueError(f"{name}: unknown keys: {', '.join(unknown)}")
        fault = {"route": "*", "times": 1, "skip": 0, **kind.parameters, **raw}
        if fault["route"] != "*" and fault["route"] not in self._routes:
            raise ValueError(f"unknown route: {fault['route']!r}")
        for key, allowed in kind.modes.items():
            if fault[key] not in allowed:
                raise ValueError(f"{name}: {key} must be one of {', '.join(map(str, allowed))}")
        for key, value in fault.items():
            if key.endswith("_s") and not (isinstance(value, int | float) and not isinstance(value, bool)):
                raise ValueError(f"{name}: {key} must be a number of seconds")
        if name == "price":
            positive_decimal(fault["factor"])
        if kind.standing:
            fault["times"] = None
        number = next(self._ids)
        self._active[number] = {"id": number, **fault}
        return number

    def take(self, kind: str, route: str | None = None, **match: Any) -> dict[str, Any] | None:
        """The next fault of a kind that strikes here, used up once; None when there is none.

        Without `route` (what no request caused) any route's fault strikes. `match` compares parameters that narrow the
        fault; one that the fault leaves null matches anything.
        """
        for number, fault in self._active.items():
            if fault["kind"] != kind or (route is not None and fault["route"] not in ("*", route)):
                continue
            if any(fault[key] not in (None, value) for key, value in match.items()):
                continue
            if fault["skip"] > 0:
                fault["skip"] -= 1
                continue
            if fault["times"] is not None:
                fault["times"] -= 1
                if fault["times"] <= 0:
                    del self._active[number]
            return fault
        return None

    def active(self) -> list[dict[str, Any]]:
        """All faults in force."""
        return list(self._active.values())

    def clear(self, number: int | None = None) -> None:
        """Lift one fault, or all."""
        if number is None:
            self._active.clear()
        else:
            self._active.pop(number, None)


def positive_decimal(text: Any) -> Decimal:
    """A decimal text above zero; raises ValueError for anything else, floats included."""
    try:
        value = Decimal(text) if isinstance(text, str) else Decimal("NaN")
    except InvalidOperation as error:
        raise ValueError(f"not a decimal text: {text!r}") from error
    if not value.is_finite() or value <= 0:
        raise ValueError(f"not a positive decimal text: {text!r}")
    return value

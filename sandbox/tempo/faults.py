"""What the shim may be told to do to a method's answer. Faults are data, given over HTTP.

A fault is `{"method", "mode", ...parameters, "left", "skip", "match", "id"}`.

- `method`: a JSON-RPC method, or `*`.
- `left`: how often it strikes; default 1, null for "until it is deleted".
- `skip`: so many matching calls are spared first; default 0.
- `match`: strikes only calls whose parameters, as JSON text, contain this (an address, a memo, a hash); default null.
- `id`: given by the shim, for DELETE /fault/{id}.

The modes; "the node does it" says whether the call reaches the chain:

- `drop_before`   cuts the connection; the node does not do it.
- `drop_after`    cuts the connection; the node does it.
- `error`         {error}: answers a JSON-RPC error; the node does not do it.
- `error_after`   {error}: answers a JSON-RPC error; the node does it.
- `hang`          {seconds}: is silent so long, then cuts; the node does not do it.
- `hang_after`    {seconds}: the same, and the node does it.
- `slow`          {seconds}: waits, then all is as it should be.
- `status`        {status}: answers an HTTP error without JSON (a load balancer's); the node does not do it.
- `answer`        {result}: a made-up result: a receipt that is not there, logs that are missing, a wrong balance.
"""

from __future__ import annotations

import itertools
import json
import threading
from typing import Any

_COMMON: dict[str, Any] = {"left": 1, "skip": 0, "match": None}
_PARAMETERS: dict[str, dict[str, Any]] = {
    "drop_before": {},
    "drop_after": {},
    "error": {"error": {"code": -32000, "message": "scripted error"}},
    "error_after": {"error": {"code": -32000, "message": "scripted error"}},
    "hang": {"seconds": 30},
    "hang_after": {"seconds": 30},
    "slow": {"seconds": 1},
    "status": {"status": 503},
    "answer": {"result": None},
}
REACHES_NODE = frozenset({"drop_after", "error_after", "hang_after", "slow"})
"""Modes under which the call is forwarded."""


class Faults:
    """The faults in force, in the order in which they were given. Threads share it."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._active: dict[int, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def add(self, raw: dict[str, Any]) -> int:
        """Put a fault in force and return its id; raises ValueError or TypeError for what it does not know."""
        mode = raw.get("mode")
        if mode not in _PARAMETERS:
            raise ValueError(f"unknown mode: {mode!r}")
        allowed = {"method", "mode", *_COMMON, *_PARAMETERS[mode]}
        if unknown := sorted(set(raw) - allowed):
            raise ValueError(f"{mode}: unknown keys: {', '.join(unknown)}")
        if not isinstance(raw.get("method"), str):
            raise TypeError("method: a JSON-RPC method, or *")
        with self._lock:
            number = next(self._ids)
            self._active[number] = {"id": number, **_COMMON, **_PARAMETERS[mode], **raw}
        return number

    def take(self, method: str, params: object) -> dict[str, Any] | None:
        """The next fault that strikes this call, used up once; None when there is none."""
        with self._lock:
            for fault in self._active.values():
                if fault["method"] not in ("*", method):
                    continue
                if fault["match"] is not None and fault["match"].lower() not in json.dumps(params).lower():
                    continue
                if fault["skip"] > 0:
                    fault["skip"] -= 1
                    continue
                if fault["left"] is not None:
                    fault["left"] -= 1
                    if fault["left"] <= 0:
                        del self._active[fault["id"]]
                return fault
        return None

    def active(self) -> list[dict[str, Any]]:
        """All faults in force."""
        with self._lock:
            return list(self._active.values())

    def clear(self, number: int | None = None) -> None:
        """Lift one fault, or all."""
        with self._lock:
            if number is None:
                self._active.clear()
            else:
                self._active.pop(number, None)

"""The vendor's scripted faults: what each is called, where it strikes, and what it takes.

Faults are data, given over the admin API. A fault is `{"kind", "route", ...parameters, "times", "skip", "paid", "id"}`.

- `route`: catalog, rent, rental, renew, instance, healthz, or `*` (the default).
- `times`: how often it strikes; default 1, null for "until it is deleted".
- `skip`: so many matching requests are spared first; default 0.
- `paid`: true or false to strike only requests with, or without, an X-Payment header; default null, both.
- `id`: given by the vendor, for DELETE /admin/faults/{id}.

What the wire does (any route):

- `slow`        {before_s, after_s, body_s}: waits before the handler, before the headers, and in the middle of the
                body.
- `cut`         {when}: cuts the connection `before` handling, `after` it (reply dropped: the payment is verified, the
                box is on its way), or in the middle of the `body`.
- `status`      {status, body, headers, when}: answers so `before` handling, or instead of the real reply `after` it
                (5xx after provisioning; 402 again after payment).
- `redirect`    {location, status}: to another origin, say.

What a 402 says (catalog, rent, renew):

- `challenge`   {set, drop, top, raw_body, raw_header, drop_header, pad_bytes}: `set` overrides fields of accepts[0]
                (payTo, asset, network, maxAmountRequired, amount: any JSON), `drop` removes some, `top` overrides the
                outer object, `raw_body` and `raw_header` replace the text whole, `drop_header` leaves
                X-Payment-Required out, `pad_bytes` blows the description up. Without `maxAmountRequired` or `amount`
                in `set`, both amounts stay right. What was asked for is then also accepted, so that a careless payer
                really loses its money.
- `price`       {sku, price_usdc}: raises catalogue and challenge together. It does not wear out: `times` is always
                null.

What a payment meets (catalog, rent, renew, with X-Payment):

- `refuse`      {settle_after_s}: 402 again although the payment is valid; with `settle_after_s` it is settled all the
                same.
- `fail`        {status, settle_after_s}: says that provisioning failed (503); with `settle_after_s` it settles after
                having said so.
- `represent`   {mode}: an X-Payment that was seen before gets the `same` answer, a `second_box`, or is `refuse`d.

What a purchase becomes (rent, renew; fixed when the payment is accepted):

- `box`         {mode, after_s}: `never` comes up, or `late`, after `after_s`.
- `settle`      {mode, margin_s, after_s}: `twice` (the second bypasses all checks and goes on chain), `near_deadline`
                (`margin_s` before validBefore), `never`, `hidden` (settles and never says so), `without_box` (settles
                `after_s`, box or no box), `lie` (says settled, with a made-up hash, and never settles).
- `manual_step` {mode, after_s}: the renewal's manual step is `never` done, done `after` so long, or `outlives` the
                rental: done after `after_s`, and settled even when the rental has expired.

What the vendor's own parts do:

- `upstream_down` (instance): 502 with last-known fields: as the provider told them before the fault, whatever becomes of
                the box while it is in force.
- `unavailable`   {sku}: /rent answers 503, for one SKU or all.
"""

from __future__ import annotations

import itertools
from typing import Any

from sandbox.vpsagent.catalog import storefront

ROUTES = ("catalog", "rent", "rental", "renew", "instance", "healthz")

_COMMON = {"kind", "route", "times", "skip", "paid"}
_PARAMETERS: dict[str, dict[str, Any]] = {
    "slow": {"before_s": 0, "after_s": 0, "body_s": 0},
    "cut": {"when": "after"},
    "status": {"status": 500, "body": {"detail": "internal error"}, "headers": {}, "when": "before"},
    "redirect": {"location": "", "status": 307},
    "challenge": {
        "set": {},
        "drop": [],
        "top": {},
        "raw_body": None,
        "raw_header": None,
        "drop_header": False,
        "pad_bytes": 0,
    },
    "price": {"sku": "", "price_usdc": ""},
    "refuse": {"settle_after_s": None},
    "fail": {"status": 503, "settle_after_s": None},
    "represent": {"mode": "same"},
    "box": {"mode": "never", "after_s": 0},
    "settle": {"mode": "twice", "margin_s": 8, "after_s": 0},
    "manual_step": {"mode": "never", "after_s": 0},
    "upstream_down": {},
    "unavailable": {"sku": None},
}
_MODES: dict[tuple[str, str], tuple[str, ...]] = {
    ("cut", "when"): ("before", "after", "body"),
    ("status", "when"): ("before", "after"),
    ("represent", "mode"): ("same", "second_box", "refuse"),
    ("box", "mode"): ("never", "late"),
    ("settle", "mode"): ("twice", "near_deadline", "never", "hidden", "without_box", "lie"),
    ("manual_step", "mode"): ("never", "after", "outlives"),
}


class Faults:
    """The faults in force, in the order in which they were given."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._active: dict[int, dict[str, Any]] = {}

    def add(self, raw: dict[str, Any]) -> int:
        """Put a fault in force and return its id; raises ValueError for a kind, key or value that does not exist."""
        kind = raw.get("kind")
        if kind not in _PARAMETERS:
            raise ValueError(f"unknown kind: {kind!r}")
        parameters = _PARAMETERS[kind]
        if unknown := sorted(set(raw) - _COMMON - set(parameters)):
            raise ValueError(f"{kind}: unknown keys: {', '.join(unknown)}")
        fault = {"route": "*", "times": 1, "skip": 0, "paid": None, **parameters, **raw}
        if fault["route"] not in (*ROUTES, "*"):
            raise ValueError(f"unknown route: {fault['route']!r}")
        for (of_kind, key), allowed in _MODES.items():
            if kind == of_kind and fault[key] not in allowed:
                raise ValueError(f"{kind}: {key} must be one of {', '.join(allowed)}")
        if kind == "price":
            storefront({fault["sku"]: fault["price_usdc"]}, ())
            fault["times"] = None
        number = next(self._ids)
        self._active[number] = {"id": number, **fault}
        return number

    def take(self, kind: str, route: str, *, paid: bool, **match: Any) -> dict[str, Any] | None:
        """The next fault of a kind that strikes this request, used up once; None when there is none.

        `match` compares parameters that narrow the fault; one that the fault leaves null matches anything.
        """
        for fault in self._active.values():
            if fault["kind"] != kind or fault["route"] not in ("*", route) or fault["paid"] not in (None, paid):
                continue
            if any(fault[key] not in (None, value) for key, value in match.items()):
                continue
            if fault["skip"] > 0:
                fault["skip"] -= 1
                continue
            if fault["times"] is not None:
                fault["times"] -= 1
                if fault["times"] <= 0:
                    del self._active[fault["id"]]
            return fault
        return None

    def in_force(self, kind: str) -> bool:
        """Whether some fault of a kind still waits for a request to strike; uses none up."""
        return any(fault["kind"] == kind for fault in self._active.values())

    def prices(self) -> dict[str, str]:
        """The raised prices in force, decimal USDC by SKU."""
        return {fault["sku"]: fault["price_usdc"] for fault in self._active.values() if fault["kind"] == "price"}

    def active(self) -> list[dict[str, Any]]:
        """All faults in force."""
        return list(self._active.values())

    def clear(self, number: int | None = None) -> None:
        """Lift one fault, or all."""
        if number is None:
            self._active.clear()
        else:
            self._active.pop(number, None)

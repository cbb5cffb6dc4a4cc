"""One request and what is said of it: its id, whose it is, and the one line that the log gets.

Must not know routes.  Theory (P10): what may be logged is collected here on purpose, piece by piece; a path reaches the
log only as a template or scrubbed, a key only as its id.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType

import structlog
from aiohttp import web

from gateway.api.lines import Value
from gateway.core.money import format_amount
from gateway.core.problems import Problem
from gateway.core.records import ApiKey
from gateway.core.runway import Period, runs_out_ms
from gateway.core.times import utc_text
from gateway.core.view import View
from gateway.ports import Clock, Entropy, Store

SERVER_NAME = ("Server", "agent-payment-gateway")
_RANDOM_BYTES = 10
_NO_PERIODS: Mapping[str, Period] = MappingProxyType({})
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}", re.ASCII)


log = structlog.get_logger()
_amount = lru_cache(maxsize=4096)(format_amount)  # a balance is told far more often than it changes


@dataclass(slots=True)
class Exchange:
    """A request on its way. `route` labels the metrics; `shown_path` is what the log gets; `always` are its route's headers.

    `periods` says how things at each vendor account are held: for what is told of a balance that runs out.
    """

    request: web.BaseRequest
    request_id: str
    periods: Mapping[str, Period] = field(default_factory=lambda: _NO_PERIODS)
    key: ApiKey | None = None
    route: str = "none"
    shown_path: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    vendor: str | None = None
    payment_id: str | None = None
    charge_base: int | None = None
    always: tuple[tuple[str, str], ...] = ()
    cut: bool = False
    started: float = field(default_factory=time.perf_counter)

    @property
    def account_id(self) -> str:
        """The account that asks. Raises AssertionError on a route that needs no key: a bug of ours."""
        assert self.key is not None, "this route was served without a key"
        return self.key.account_id

    @property
    def granted(self) -> ApiKey:
        """The key that was shown. Raises AssertionError on a route that needs none: a bug of ours."""
        assert self.key is not None, "this route was served without a key"
        return self.key

    def own_headers(self, store: Store) -> list[tuple[str, str]]:
        """Return the headers that every answer carries (design 6)."""
        headers = [("X-Request-Id", self.request_id), SERVER_NAME, *self.always]
        if self.key is not None:
            balance = store.view.balances.get(self.key.account_id)
            available_base = 0 if balance is None else balance.available_base
            headers.append(("X-Balance-Available", _amount(available_base)))
            if self.key.account_id in store.view.meters_of:
                headers += _low(store.view, self.key.account_id, available_base, self.periods)
        return headers

    def line(self, status: int, seconds: float) -> dict[str, Value]:
        """Return the request's one log line."""
        line: dict[str, Value] = {
            "request_id": self.request_id,
            "method": self.request.method,
            "path": self.shown_path or self.route,
            "status": status,
            "duration_ms": round(seconds * 1000, 3),
        }
        if self.key is not None:
            line["account"], line["key"] = self.key.account_id, self.key.id
        if self.vendor is not None:
            line["vendor"] = self.vendor
        if self.payment_id is not None:
            line["payment_id"] = self.payment_id
        if self.charge_base is not None:
            line["charge"] = format_amount(self.charge_base)
        if self.cut:
            line["cut"] = True
        return line


def _low(view: View, account_id: str, available_base: int, periods: Mapping[str, Period]) -> list[tuple[str, str]]:
    """Return X-Balance-Low while something that the account runs was warned of, or could not be held."""
    meters = view.meters_of[account_id].values()
    if all(meter.warned_at_ms is None and meter.unfunded_at_ms is None for meter in meters):
        return []
    ends_ms = runs_out_ms(meters, available_base, periods)
    if ends_ms is None:  # what could not be held is stopped, and kept only as long as the operator waits for money
        ends_ms = min((m.held_until_ms for m in meters if m.unfunded_at_ms is not None), default=None)
    return [] if ends_ms is None else [("X-Balance-Low", utc_text(ends_ms))]


def log_request(line: Mapping[str, Value]) -> None:
    """Log a request's line through structlog, whatever its configuration is."""
    log.info("request", **line)


def start(
    request: web.BaseRequest, clock: Clock, entropy: Entropy, periods: Mapping[str, Period] = _NO_PERIODS
) -> Exchange:
    """Return the exchange of a request: with its own X-Request-Id where that is sane, else with a new one."""
    given = request.headers.get("X-Request-Id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return Exchange(request, given, periods)
    return Exchange(request, new_request_id(clock, entropy), periods)


def new_request_id(clock: Clock, entropy: Entropy) -> str:
    """Return an id for a request that brought none."""
    return f"req_{clock.now_ms():012x}{entropy.bytes(_RANDOM_BYTES).hex()}"


def single_header(request: web.BaseRequest, name: str) -> str | None:
    """Return a header that may be given once. Raises Problem("bad_request") for two: nobody knows which was meant."""
    if name not in request.headers:
        return None
    found = request.headers.getall(name)
    if len(found) > 1:
        raise Problem("bad_request", f"{name} was given {len(found)} times; give it once", name)
    return found[0]

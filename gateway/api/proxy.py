"""`ANY /proxy/{vendor}/{path}`: an agent's request into a `Call`, and its `Reply` back on the wire.

Must not know prices, payments or wallets.  Theory: path and query are the bytes that the agent wrote, judged and sent as
they are, for whoever decodes them once more than the vendor does serves another route than the one that was checked.
"""

import asyncio
import contextlib
import re
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from gateway.account_ports import AccountVendor
from gateway.api.asked import idempotency_key, max_charge, wants_quote
from gateway.api.auth import Caller, authenticate_at, require_scope
from gateway.api.body import LongBody, read_body
from gateway.api.deps import ApiDeps
from gateway.api.exchange import Exchange
from gateway.api.respond import GONE_STEP_S, cut_off, write_whole
from gateway.api.turns import Place, Turns
from gateway.api.vendor_login import TurnedAway, VendorLogins, read_login_body
from gateway.core.money import format_amount
from gateway.core.problems import Problem
from gateway.core.routes import Match, Ownership, Pricing, Route, match_route
from gateway.flow.answers import SAFE_METHODS, UNPAID
from gateway.flow.call import AccountCall, Call, Reply, Served
from gateway.http.headers import request_headers
from gateway.http.port import BodyStream, UpstreamError
from gateway.ports import Vendor

PREFIX = "/proxy/"
MAX_TARGET_CHARS = 16 * 1024
MAX_WAYS = 1024
MAX_WAY_CHARS = 256
ABOUT_TO_STOP = "this gateway is about to stop"
HUNG_UP = 499  # for the log alone: nobody is left to read it

# Origin form, already encoded. A fragment never travels; a raw byte outside ASCII has no agreed meaning.
_TARGET = re.compile(r"/[\x21\x22\x24-\x7e]*", re.ASCII)


_COSTING = frozenset({Pricing.PRICED, Pricing.METERED})
# What may be done without a purchase: purchases under one key meet in the book (P4), which knows nothing of these before
# they are done.
_UNBOOKED = frozenset({Pricing.FREE, Pricing.MAYBE})
_FOR_SHARED_CACHES = frozenset({"private", "proxy-revalidate", "public", "s-maxage"})


@dataclass(frozen=True, slots=True)
class _Way:
    """What a path leads to, whoever asks and whatever the query: judged once."""

    match: Match
    shown_path: str
    label: str


@dataclass(frozen=True, slots=True)
class _Door:
    """A vendor with what the hot path needs of it."""

    vendor: Served
    scopes: frozenset[str] = field(init=False)
    methods: tuple[str, ...] = field(init=False)
    ways: dict[tuple[str, str], _Way] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        methods = tuple(dict.fromkeys(method for route in self.vendor.routes for method in route.methods))
        object.__setattr__(self, "scopes", frozenset({"proxy", f"proxy:{self.vendor.name}"}))
        object.__setattr__(self, "methods", methods)


@dataclass(frozen=True, slots=True)
class _PaidDoor(_Door):
    """To a vendor that asks for its money with a 402."""

    vendor: Vendor


@dataclass(frozen=True, slots=True)
class _AccountDoor(_Door):
    """To a vendor that knows us by an account. `opening` are its logins: who comes there has no key to show yet."""

    vendor: AccountVendor
    opening: tuple[Route, ...] = field(init=False)

    def __post_init__(self) -> None:
        _Door.__post_init__(self)
        opening = tuple(route for route in self.vendor.routes if route.opens)
        if any(route.pricing is not Pricing.LOCAL for route in opening):  # the password is ours: it never goes upstream
            raise ValueError(f"{self.vendor.name}: a route that opens is answered by the gateway itself")
        object.__setattr__(self, "opening", opening)


class _HungUp(Exception):  # noqa: N818 - an event, not an error: nothing was begun
    """The agent of a call that waited for its turn has gone."""


class Proxy:
    """Serves every request below PREFIX. Purchases go on in tasks of their own, whatever becomes of the request.

    Once `stopping` is set, whoever waits for a turn is refused.
    """

    def __init__(self, deps: ApiDeps, stopping: asyncio.Event) -> None:
        self._deps, self._accounts, self._stopping = deps, deps.accounts, stopping
        self._doors: dict[str, _PaidDoor | _AccountDoor] = {}
        self._doors.update((name, _PaidDoor(vendor)) for name, vendor in deps.vendors.items())
        self._logins: VendorLogins | None = None
        if deps.accounts is not None:
            self._doors.update((name, _AccountDoor(vendor)) for name, vendor in deps.accounts.vendors.items())
            self._logins = VendorLogins(deps.store, deps.accounts.tokens, deps.clock, deps.callers)
        self._purchases: set[asyncio.Task[Any]] = set()
        self._turns = Turns()

    async def serve(self, exchange: Exchange) -> web.StreamResponse:
        """Answer one request. Raises Problem."""
        name, target = _name_and_target(exchange)
        door = self._doors.get(name)
        if isinstance(door, _AccountDoor) and self._logins is not None and _opens(door, exchange, target):
            return await self._log_in(exchange, door, target, self._logins)
        caller = self._caller(exchange, name)
        if door is None:
            raise Problem("vendor_unknown", "there is no such vendor behind this gateway")
        exchange.vendor, exchange.shown_path = name, PREFIX + name
        if door.scopes.isdisjoint(caller.key.scopes):
            require_scope(caller.key, f"proxy:{name}")
        match = self._match(exchange, door, target)
        body = await self._body(exchange, match.route, whole=isinstance(door, _AccountDoor))
        call = self._call(exchange, door, match, target, body, caller.email)
        try:
            reply = await self._run(exchange.request, call)
        except _HungUp:
            exchange.cut = True
            return web.Response(status=HUNG_UP)
        except Problem:
            if isinstance(body, LongBody) and body.oversized:  # the vendor was cut off because of it
                limit_bytes = self._deps.settings.stream_bytes
                raise Problem("body_oversized", f"the body is larger than {limit_bytes} bytes") from None
            raise
        exchange.payment_id, exchange.charge_base = reply.payment_id, reply.charge_base
        return await self._send(exchange, call, reply)

    # the request

    def _caller(self, exchange: Exchange, name: str) -> Caller:
        tokens = None if self._accounts is None else self._accounts.tokens
        caller = authenticate_at(exchange.request, self._deps.store.view, tokens, name, self._deps.clock)
        exchange.key = caller.key
        return caller

    async def _log_in(
        self, exchange: Exchange, door: _AccountDoor, target: str, logins: VendorLogins
    ) -> web.StreamResponse:
        exchange.vendor = door.vendor.name
        match = self._match(exchange, door, target)
        body = await read_login_body(exchange.request, self._deps.settings)
        entered = logins.enter(exchange.request, door.vendor, match, body)
        if isinstance(entered, TurnedAway):
            return logins.refuse(exchange, entered)
        exchange.key = entered.key
        # No body, for it holds an API key, and the address in it is known. No Idempotency-Key, for what is kept under
        # one would be a token that outlives its time.
        call = AccountCall(
            key=entered.key,
            request_id=exchange.request_id,
            vendor=door.vendor,
            match=match,
            method=exchange.request.method,
            target=target,
            headers=_forwarded(exchange.request),
            body=b"",
            email=entered.email,
            token=entered.token,
        )
        return await self._send(exchange, call, await self._run(exchange.request, call))

    @staticmethod
    def _match(exchange: Exchange, door: _Door, target: str) -> Match:
        path, mark, _ = target.partition("?")
        place = (exchange.request.method, path)
        way = door.ways.get(place)
        if way is None:
            way = _judge(exchange, door, target)
            # A query may hold a secret, and is seldom the same; a long path is somebody filling our memory.
            if len(path) <= MAX_WAY_CHARS:
                if len(door.ways) >= MAX_WAYS:
                    door.ways.clear()
                door.ways[place] = way
        exchange.shown_path = _shown(door.vendor, target) if mark else way.shown_path
        exchange.route = way.label
        return way.match

    async def _body(self, exchange: Exchange, route: Route, *, whole: bool) -> bytes | LongBody:
        """Return a request's body. `whole`: on an account that all agents share, no document passes unread (P9)."""
        body = await read_body(exchange.request, self._deps.settings)
        if isinstance(body, LongBody):
            limit_bytes = self._deps.settings.buffer_bytes
            extra = {"limit_bytes": limit_bytes}
            if route.pricing in _COSTING:
                detail = f"this route costs money: its body may have at most {limit_bytes} bytes"
                raise Problem("body_not_replayable", detail, extra=extra)
            if (whole and not route.raw) or route.secret:
                raise Problem("body_oversized", f"the body is larger than {limit_bytes} bytes", extra=extra)
        return body

    def _call(
        self,
        exchange: Exchange,
        door: _PaidDoor | _AccountDoor,
        match: Match,
        target: str,
        body: bytes | LongBody,
        email: str,
    ) -> Call | AccountCall:
        request = exchange.request
        key = idempotency_key(request)
        if key is not None and isinstance(body, LongBody):
            limit_bytes = self._deps.settings.buffer_bytes
            detail = f"under an Idempotency-Key the body may have at most {limit_bytes} bytes"
            raise Problem("body_not_replayable", detail, "Idempotency-Key", {"limit_bytes": limit_bytes})
        if isinstance(door, _PaidDoor):
            return Call(
                key=exchange.granted,
                request_id=exchange.request_id,
                vendor=door.vendor,
                match=match,
                method=request.method,
                target=target,
                headers=_forwarded(request),
                body=body if isinstance(body, bytes) else b"",
                stream=body if isinstance(body, LongBody) else None,
                idempotency_key=key,
                max_charge_base=max_charge(request),
                quote_only=wants_quote(request),
            )
        return AccountCall(
            key=exchange.granted,
            request_id=exchange.request_id,
            vendor=door.vendor,
            match=match,
            method=request.method,
            target=target,
            headers=_forwarded(request),
            body=body if isinstance(body, bytes) else b"",
            stream=body if isinstance(body, LongBody) else None,
            idempotency_key=None if match.route.pricing is Pricing.LOCAL else key,  # figures of now are never kept
            max_charge_base=max_charge(request),
            quote_only=wants_quote(request),
            email=email,
        )

    async def _run(self, request: web.BaseRequest, call: Call | AccountCall) -> Reply:
        if call.quote_only or _may_break_off(call):
            return await self._work(call)
        if _starts_when_it_buys(call):
            return await self._work_here(call)
        place = await self._in_turn(request, call)
        # A purchase that has begun goes on: an agent that hangs up, or a server that stops, may not leave it half-way.
        purchase = asyncio.create_task(self._work(call), name=f"call {call.request_id}")
        self._purchases.add(purchase)
        purchase.add_done_callback(self._forget)
        if place is not None:  # its turn is the purchase's now, and lasts as long
            purchase.add_done_callback(lambda _: self._turns.leave(place))
        try:
            return await asyncio.shield(purchase)
        finally:
            del purchase  # a task holds what it raised, and that this frame: the body would stay until a collection

    async def _work_here(self, call: Call | AccountCall) -> Reply:
        """Work in the request's own task, which a server that stops waits for as for any purchase."""
        task = asyncio.current_task()
        assert task is not None, "a request is served by a task"
        self._purchases.add(task)
        try:
            return await self._work(call)
        finally:
            self._purchases.discard(task)
            del task  # as in `_run`, were the request's own task to end so

    async def _in_turn(self, request: web.BaseRequest, call: Call | AccountCall) -> Place | None:
        """Wait for a call's turn under its key, as long as its agent does; whoever is given a place leaves it.

        None for what needs no turn. Raises Problem and _HungUp: then nothing was begun.
        """
        key = call.idempotency_key
        if key is None or call.method in SAFE_METHODS or call.match.route.pricing not in _UNBOOKED:
            return None
        place = self._turns.join(call.account_id, key, call.fingerprint)
        with contextlib.ExitStack() as leaving:
            leaving.callback(self._turns.leave, place)
            while not place.turn.done():
                await asyncio.wait((place.turn,), timeout=GONE_STEP_S)
                if request.transport is None:  # nobody cancels a handler whose agent has gone
                    raise _HungUp
                if self._stopping.is_set():
                    raise Problem("shutting_down", ABOUT_TO_STOP)
            leaving.pop_all()
        return place

    def _work(self, call: Call | AccountCall) -> Coroutine[Any, Any, Reply]:
        if isinstance(call, Call):
            return self._deps.spend.run(call)
        assert self._accounts is not None, "a call to an account vendor where there is none"
        return self._accounts.broker.run(call)

    def _forget(self, purchase: asyncio.Task[Reply]) -> None:
        self._purchases.discard(purchase)
        if not purchase.cancelled():
            purchase.exception()  # nobody may be left to ask for it

    async def drain(self, timeout_s: float) -> None:
        """Wait for purchases under way, at most that long."""
        if self._purchases:
            await asyncio.wait(self._purchases, timeout=timeout_s)

    # the answer

    async def _send(self, exchange: Exchange, call: Call | AccountCall, reply: Reply) -> web.StreamResponse:
        headers = [*map(_on_wire, reply.headers), *exchange.own_headers(self._deps.store)]
        response: web.StreamResponse
        if reply.rest is not None or exchange.request.method == "HEAD":
            # Without a length: one of our own making would be a lie about the vendor's body.
            response = web.StreamResponse(status=reply.status, headers=headers)
        else:
            response = web.Response(status=reply.status, headers=headers, body=reply.body)
        _add_headers(response.headers, call, reply)
        if reply.rest is not None:
            return await self._stream(exchange, reply, reply.rest, response)
        if reply.delivered is None:
            return response
        if await write_whole(exchange.request, response, self._deps.settings.flush_s):
            await reply.delivered()
        else:
            exchange.cut = True
        return response

    async def _stream(
        self, exchange: Exchange, reply: Reply, rest: BodyStream, response: web.StreamResponse
    ) -> web.StreamResponse:
        try:
            await response.prepare(exchange.request)
            if reply.body:
                await response.write(reply.body)
            async for chunk in rest:
                await response.write(chunk)
            await response.write_eof()
        except (UpstreamError, ConnectionError):
            # The status has been sent: breaking off is the only way left to say that this is not the whole answer.
            exchange.cut = True
            cut_off(exchange.request)
        finally:
            await rest.close()
        if reply.delivered is not None and not exchange.cut:
            await reply.delivered()
        return response


def _judge(exchange: Exchange, door: _Door, target: str) -> _Way:
    """Find the declared route. Raises Problem: bad_request, method_not_allowed, route_not_declared."""
    vendor, method = door.vendor, exchange.request.method
    exchange.shown_path = _shown(vendor, target)
    path = target.partition("?")[0]
    match = vendor.match(method, path)
    if match is None:
        allow = [other for other in door.methods if vendor.match(other, path) is not None]
        if allow:
            raise Problem("method_not_allowed", f"{vendor.name} takes {', '.join(allow)} here", extra={"allow": allow})
        raise Problem("route_not_declared", f"{vendor.name} has no such route here")
    return _Way(match, _shown(vendor, path), f"proxy/{vendor.name}/{match.route.name}")


def _shown(vendor: Served, target: str) -> str:
    """Return a target as it may be logged. Raises Problem("bad_request") for one that has no agreed meaning."""
    if len(target) > MAX_TARGET_CHARS or _TARGET.fullmatch(target) is None:
        raise Problem("bad_request", f"write path and query percent-encoded, at most {MAX_TARGET_CHARS} characters")
    return PREFIX + vendor.name + vendor.scrub(target)


def _name_and_target(exchange: Exchange) -> tuple[str, str]:
    """Split what follows PREFIX into the vendor's name and the path and query for it, as they were written."""
    name, slash, rest = exchange.request.raw_path[len(PREFIX) :].partition("/")
    if not slash:
        name, mark, query = name.partition("?")
        rest = mark + query
    exchange.route, exchange.shown_path = "proxy", PREFIX + "?"
    return name, "/" + rest


def _opens(door: _AccountDoor, exchange: Exchange, target: str) -> bool:
    """Say whether a request is a login. Nothing else is judged before it is known who asks."""
    method, path = exchange.request.method, target.partition("?")[0]
    if match_route(door.opening, method, path) is None:
        return False
    match = door.vendor.match(method, path)
    return match is not None and match.route.opens


def _may_break_off(call: Call | AccountCall) -> bool:
    """Say whether nothing is left half-way when nobody waits for the answer any more.

    Whatever changes something goes on: a thing that was made, or ended, and not booked would be nobody's.
    """
    free = call.match.route.pricing in UNPAID
    return free and (call.method in SAFE_METHODS or call.match.route.pricing is not Pricing.FREE)


def _starts_when_it_buys(call: Call | AccountCall) -> bool:
    """Say whether nothing is left half-way before money is held; from then on a purchase has a task of its own."""
    return call.match.route.pricing is Pricing.MAYBE and call.method in SAFE_METHODS


def _is_private(route: Route) -> bool:
    return route.ownership is not Ownership.NONE or route.pricing is Pricing.LOCAL or bool(route.listings)


def _forwarded(request: web.BaseRequest) -> tuple[tuple[str, str], ...]:
    kept = request_headers(request.headers.items())
    if all(value.isascii() for _, value in kept):
        return kept
    # aiohttp reads header values as UTF-8; latin-1 keeps the bytes that the agent sent.
    raw = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers)
    return request_headers(raw)


def _on_wire(field: tuple[str, str]) -> tuple[str, str]:
    """Return a vendor's header so that aiohttp, which writes UTF-8, writes the vendor's bytes (a file's name, mostly)."""
    name, value = field
    if value.isascii():
        return field
    try:
        return name, value.encode("latin-1").decode("utf-8")
    except UnicodeError:  # they are no UTF-8: these characters are what they mean
        return field


def _shared_by_none(values: Sequence[str]) -> str:
    """Return a Cache-Control that lets only the agent's own cache keep an answer, for as long as its vendor says.

    An answer to a key says what is left on its account; a cache that all agents share would tell the next one (P9).
    """
    if not values:
        return "private"
    directives = (each.strip() for each in ",".join(values).split(","))
    kept = [each for each in directives if each and each.partition("=")[0].strip().lower() not in _FOR_SHARED_CACHES]
    return ", ".join(["private", *kept])


def _add_headers(headers: CIMultiDict[str], call: Call | AccountCall, reply: Reply) -> None:
    route = call.match.route
    if reply.payment_id is not None:
        headers["X-Payment-Id"] = reply.payment_id
    if reply.charge_base is not None:
        headers["X-Charge"] = format_amount(reply.charge_base)
    if reply.replayed:
        headers["Idempotent-Replayed"] = "true"
    if call.quote_only:
        headers["Preference-Applied"] = "quote"
    if route.secret or route.opens:
        headers["Cache-Control"] = "no-store"
    elif reply.payment_id is not None or call.quote_only or _is_private(route):
        headers["Cache-Control"] = "private"
    else:
        headers["Cache-Control"] = _shared_by_none(headers.getall("Cache-Control", ()))

"""`ANY /proxy/{vendor}/{path}`: an agent's request into a `Call`, and its `Reply` back on the wire.

Must not know prices, payments or wallets.  Theory: path and query are the bytes that the agent wrote, judged and sent as
they are, for whoever decodes them once more than the vendor does serves another route than the one that was checked.
"""

import asyncio
import re
from dataclasses import dataclass

from aiohttp import web
from multidict import CIMultiDict

from gateway.api.asked import idempotency_key, max_charge, wants_quote
from gateway.api.auth import require_scope
from gateway.api.body import LongBody, read_body
from gateway.api.deps import ApiDeps
from gateway.api.exchange import Exchange
from gateway.api.respond import cut_off, write_whole
from gateway.core.money import format_amount
from gateway.core.problems import Problem
from gateway.core.routes import Match, Ownership, Pricing
from gateway.flow.call import Call, Reply
from gateway.http.headers import request_headers
from gateway.http.port import UpstreamError
from gateway.ports import Vendor

PREFIX = "/proxy/"
MAX_TARGET_CHARS = 16 * 1024
MAX_WAYS = 1024

# Origin form, already encoded. A fragment never travels; a raw byte outside ASCII has no agreed meaning.
_TARGET = re.compile(r"/[\x21\x22\x24-\x7e]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Way:
    """What a target without a query leads to, whoever asks: judged once."""

    match: Match
    shown_path: str
    label: str


@dataclass(frozen=True, slots=True)
class _Door:
    """A vendor with what the hot path needs of it."""

    vendor: Vendor
    scopes: frozenset[str]
    methods: tuple[str, ...]
    ways: dict[tuple[str, str], _Way]


class Proxy:
    """Serves every request below PREFIX. Purchases go on in tasks of their own, whatever becomes of the request."""

    def __init__(self, deps: ApiDeps) -> None:
        self._deps = deps
        self._doors = {name: _door(vendor) for name, vendor in deps.vendors.items()}
        self._purchases: set[asyncio.Task[Reply]] = set()

    async def serve(self, exchange: Exchange) -> web.StreamResponse:
        """Answer one authenticated request. Raises Problem."""
        door, target = self._door_and_target(exchange)
        match = self._match(exchange, door, target)
        body = await self._body(exchange, match)
        call = self._call(exchange, door.vendor, match, target, body)
        try:
            reply = await self._run(call)
        except Problem:
            if isinstance(body, LongBody) and body.oversized:  # the vendor was cut off because of it
                limit_bytes = self._deps.settings.stream_bytes
                raise Problem("body_oversized", f"the body is larger than {limit_bytes} bytes") from None
            raise
        exchange.payment_id, exchange.charge_base = reply.payment_id, reply.charge_base
        return await self._send(exchange, call, reply)

    # the request

    def _door_and_target(self, exchange: Exchange) -> tuple[_Door, str]:
        name, slash, rest = exchange.request.raw_path[len(PREFIX) :].partition("/")
        if not slash:
            name, mark, query = name.partition("?")
            rest = mark + query
        door = self._doors.get(name)
        exchange.route, exchange.shown_path = "proxy", PREFIX + "?"
        if door is None:
            raise Problem("vendor_unknown", "there is no such vendor behind this gateway")
        exchange.vendor, exchange.shown_path = name, PREFIX + name
        if door.scopes.isdisjoint(exchange.granted.scopes):
            require_scope(exchange.granted, f"proxy:{name}")
        return door, "/" + rest

    @staticmethod
    def _match(exchange: Exchange, door: _Door, target: str) -> Match:
        place = (exchange.request.method, target)
        way = door.ways.get(place)
        if way is None:
            way = _judge(exchange, door, target)
            if "?" not in target:  # a query may hold a secret, and is seldom the same
                if len(door.ways) >= MAX_WAYS:
                    door.ways.clear()
                door.ways[place] = way
        exchange.shown_path, exchange.route = way.shown_path, way.label
        return way.match

    async def _body(self, exchange: Exchange, match: Match) -> bytes | LongBody:
        body = await read_body(exchange.request, self._deps.settings)
        if isinstance(body, LongBody):
            limit_bytes = self._deps.settings.buffer_bytes
            extra = {"limit_bytes": limit_bytes}
            if match.route.pricing is Pricing.PRICED:
                detail = f"this route costs money: its body may have at most {limit_bytes} bytes"
                raise Problem("body_not_replayable", detail, extra=extra)
            if match.route.secret:
                raise Problem("body_oversized", f"the body is larger than {limit_bytes} bytes", extra=extra)
        return body

    def _call(self, exchange: Exchange, vendor: Vendor, match: Match, target: str, body: bytes | LongBody) -> Call:
        request = exchange.request
        key = idempotency_key(request)
        if key is not None and isinstance(body, LongBody):
            limit_bytes = self._deps.settings.buffer_bytes
            detail = f"under an Idempotency-Key the body may have at most {limit_bytes} bytes"
            raise Problem("body_not_replayable", detail, "Idempotency-Key", {"limit_bytes": limit_bytes})
        return Call(
            key=exchange.granted,
            request_id=exchange.request_id,
            vendor=vendor,
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

    async def _run(self, call: Call) -> Reply:
        if call.quote_only or call.match.route.pricing is Pricing.FREE:
            return await self._deps.spend.run(call)
        # A purchase that has begun goes on: an agent that hangs up, or a server that stops, may not leave it half-way.
        purchase = asyncio.create_task(self._deps.spend.run(call), name=f"call {call.request_id}")
        self._purchases.add(purchase)
        purchase.add_done_callback(self._forget)
        return await asyncio.shield(purchase)

    def _forget(self, purchase: asyncio.Task[Reply]) -> None:
        self._purchases.discard(purchase)
        if not purchase.cancelled():
            purchase.exception()  # nobody may be left to ask for it

    async def drain(self, timeout_s: float) -> None:
        """Wait for purchases under way, at most that long."""
        if self._purchases:
            await asyncio.wait(self._purchases, timeout=timeout_s)

    # the answer

    async def _send(self, exchange: Exchange, call: Call, reply: Reply) -> web.StreamResponse:
        headers = CIMultiDict([*reply.headers, *exchange.own_headers(self._deps.store)])
        _add_headers(headers, call, reply)
        if reply.rest is not None:
            return await self._stream(exchange, reply, headers)
        if exchange.request.method == "HEAD":  # a length of our own making would be a lie about the vendor's body
            return web.StreamResponse(status=reply.status, headers=headers)
        response = web.Response(status=reply.status, headers=headers, body=reply.body)
        if reply.delivered is None:
            return response
        if await write_whole(exchange.request, response, self._deps.settings.flush_s):
            await reply.delivered()
        else:
            exchange.cut = True
        return response

    async def _stream(self, exchange: Exchange, reply: Reply, headers: CIMultiDict[str]) -> web.StreamResponse:
        assert reply.rest is not None, "only for an answer that goes on"
        response = web.StreamResponse(status=reply.status, headers=headers)
        try:
            await response.prepare(exchange.request)
            if reply.body:
                await response.write(reply.body)
            async for chunk in reply.rest:
                await response.write(chunk)
            await response.write_eof()
        except (UpstreamError, ConnectionError):
            # The status has been sent: breaking off is the only way left to say that this is not the whole answer.
            exchange.cut = True
            cut_off(exchange.request)
        finally:
            await reply.rest.close()
        if reply.delivered is not None and not exchange.cut:
            await reply.delivered()
        return response


def _judge(exchange: Exchange, door: _Door, target: str) -> _Way:
    """Find the declared route. Raises Problem: bad_request, method_not_allowed, route_not_declared."""
    vendor, method = door.vendor, exchange.request.method
    if len(target) > MAX_TARGET_CHARS or _TARGET.fullmatch(target) is None:
        raise Problem("bad_request", f"write path and query percent-encoded, at most {MAX_TARGET_CHARS} characters")
    exchange.shown_path = PREFIX + vendor.name + vendor.scrub(target)
    path = target.partition("?")[0]
    match = vendor.match(method, path)
    if match is None:
        allow = [other for other in door.methods if vendor.match(other, path) is not None]
        if allow:
            raise Problem("method_not_allowed", f"{vendor.name} takes {', '.join(allow)} here", extra={"allow": allow})
        raise Problem("route_not_declared", f"{vendor.name} has no such route here")
    return _Way(match, exchange.shown_path, f"proxy/{vendor.name}/{match.route.name}")


def _door(vendor: Vendor) -> _Door:
    methods = tuple(dict.fromkeys(method for route in vendor.routes for method in route.methods))
    return _Door(vendor, frozenset({"proxy", f"proxy:{vendor.name}"}), methods, {})


def _forwarded(request: web.BaseRequest) -> tuple[tuple[str, str], ...]:
    kept = request_headers(request.headers.items())
    if all(value.isascii() for _, value in kept):
        return kept
    # aiohttp reads header values as UTF-8; latin-1 keeps the bytes that the agent sent.
    raw = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers)
    return request_headers(raw)


def _add_headers(headers: CIMultiDict[str], call: Call, reply: Reply) -> None:
    route = call.match.route
    if reply.payment_id is not None:
        headers["X-Payment-Id"] = reply.payment_id
    if reply.charge_base is not None:
        headers["X-Charge"] = format_amount(reply.charge_base)
    if reply.replayed:
        headers["Idempotent-Replayed"] = "true"
    if call.quote_only:
        headers["Preference-Applied"] = "quote"
    if route.secret:
        headers["Cache-Control"] = "no-store"
    elif reply.payment_id is not None or call.quote_only or route.ownership is not Ownership.NONE:
        headers["Cache-Control"] = "private"

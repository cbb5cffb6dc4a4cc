"""The door for vendors' webhooks: `POST /hooks/{kind}/{vendor}`, open to everybody, believing nobody without a signature.

Must not know what an event leads to.  Theory: an answer of 2xx makes the vendor forget the event, so it is given when the
event is durable and not before; whatever else happens the vendor sends it again, and polling finds what it says anyway.
"""

import asyncio
from typing import Final

import structlog
from aiohttp import web

from gateway.api.attempts import Attempts
from gateway.api.body import read_small
from gateway.api.deps import ApiDeps
from gateway.api.exchange import Exchange
from gateway.api.respond import NO_STORE, answer, encode
from gateway.core.commands import Done, TakeEvent
from gateway.core.problems import Problem
from gateway.vendor_hooks import NO_HOOKS, Hook

PREFIX: Final = "/hooks/"
MAX_BODY_S: Final = 5.0  # vendors wait ten seconds for the whole answer
MAX_AT_ONCE: Final = 64  # bodies that are being read: who holds them open holds up no agent
MAX_PENDING: Final = 10_000  # events of one vendor that nobody has looked into yet

_ACCEPTED: Final = 202

log = structlog.get_logger()


class Hooks:
    """Serves every vendor's deliveries. One object, for it counts failures by address."""

    def __init__(self, deps: ApiDeps) -> None:
        self._deps, self._attempts = deps, Attempts()
        self._reading = 0

    async def serve(self, exchange: Exchange) -> web.Response:
        """Take one delivery.

        Raises Problem: not_found for a vendor without a door, method_not_allowed, overloaded, body_oversized,
        bad_request for a body that comes too slowly or is signed and no event, signature_invalid, too_many_failures.
        """
        exchange.route = "hooks"
        request = exchange.request
        hook = self._hook(request.raw_path.partition("?")[0])
        if hook is None:
            raise Problem("not_found", "there is no such route; see /openapi.json")
        exchange.vendor = hook.vendor
        if request.method != "POST":
            raise Problem("method_not_allowed", "this route takes POST", extra={"allow": ["POST"]})
        raw = await self._read(request, hook)
        if not hook.is_genuine(raw, _signature(request, hook)):
            raise self._refused(self._deps.callers.address(request))
        taken = await self._take(hook, raw)
        return answer(exchange, self._deps.store, _ACCEPTED, encode({"taken": taken}), NO_STORE)

    def _hook(self, path: str) -> Hook | None:
        kind, _, vendor = path.removeprefix(PREFIX).partition("/")
        webhooks = self._deps.webhooks
        hook = (NO_HOOKS if webhooks is None else webhooks.hooks).get(vendor)
        return hook if hook is not None and hook.kind == kind else None

    async def _read(self, request: web.BaseRequest, hook: Hook) -> bytes:
        """Return the body as it came. The span is for all of it: nobody is known yet who could be held to a share."""
        if self._reading >= MAX_AT_ONCE:
            raise Problem("overloaded", "too many deliveries at once")
        self._reading += 1
        try:
            async with asyncio.timeout(MAX_BODY_S):
                return await read_small(request, hook.max_body_bytes, MAX_BODY_S)
        except TimeoutError:
            raise Problem("bad_request", f"the body of a delivery must come within {MAX_BODY_S:g} seconds") from None
        finally:
            self._reading -= 1

    def _refused(self, address: str | None) -> Problem:
        """Count it against the address. What is signed is taken whatever others at its address do."""
        wait_s = self._attempts.failed(address, self._deps.clock.now_ms())
        if wait_s:
            what = "too many deliveries with a wrong signature"
            return Problem("too_many_failures", what, extra={"retry_after_s": wait_s})
        return Problem("signature_invalid", "this delivery is not signed by the vendor")

    async def _take(self, hook: Hook, raw: bytes) -> bool:
        """Queue a genuine event; True once it is durable, False for one that was taken before or that means nothing."""
        webhooks, store = self._deps.webhooks, self._deps.store
        assert webhooks is not None, "a hook was found"
        try:
            event = hook.read(raw, webhooks.business.now_ms(), self._deps.clock.now_ms())
        except ValueError as error:
            log.warning("hook.unreadable", vendor=hook.vendor, reason=str(error))
            raise Problem("bad_request", "it is signed, and no event that could be taken now") from None
        if event is None:  # a type that the document does not have yet: nothing to do, and no reason to send it again
            return False
        if len(store.view.events.get(hook.vendor, ())) >= MAX_PENDING:
            raise Problem("overloaded", "too many events are waiting; send it again later")
        result = await store.post(TakeEvent(event))
        return isinstance(result, Done) and result.changed


def _signature(request: web.BaseRequest, hook: Hook) -> str | None:
    """Return the one signature; None for two, of which nobody knows which was meant."""
    found = request.headers.getall(hook.signature_header, [])
    return found[0] if len(found) == 1 else None

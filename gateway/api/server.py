"""The agents' side of HTTP: one handler that every request goes through, and the server that runs it.

Must not know vendors or money.  Theory: aiohttp's low-level server costs a quarter less than its application (25 against
34 µs for a hello), and leaves the path alone; whoever asks, whatever fails and what is logged are settled here, once.
"""

import asyncio
import time
from collections.abc import AsyncIterator

import structlog
from aiohttp import web

from gateway.api import (
    catalogue,
    deposits,
    events,
    explain,
    facilitator,
    fleets,
    incoming,
    keys,
    money,
    ops,
    payments,
    plans,
    quotes,
    refunds,
    renewals,
    server_actions,
    server_guest,
    servers,
    snapshots,
    ssh_keys,
    topups,
    wallet_keys,
    webhooks,
)
from gateway.api.auth import authenticate, require_scope
from gateway.api.deps import ApiDeps
from gateway.api.endpoint import Endpoint, Found, Table, Told
from gateway.api.exchange import SERVER_NAME, Exchange, new_request_id, start
from gateway.api.guide import agent_document, llms_text
from gateway.api.hooks import PREFIX as HOOKS_PREFIX
from gateway.api.hooks import Hooks
from gateway.api.metrics import TEXT_TYPE, RequestCounts, loop_lines, state_lines
from gateway.api.openapi import openapi
from gateway.api.proxy import ABOUT_TO_STOP, PREFIX, Proxy
from gateway.api.respond import (
    NO_STORE,
    PROBLEM_TYPE,
    answer,
    close_stream,
    cut_off,
    encode,
    problem_answer,
    stream_answer,
    write_stream,
)
from gateway.api.schemas import ANY, TEXT
from gateway.core.problems import Problem
from gateway.flow.pack import Headers
from gateway.http.port import UpstreamError
from gateway.store import queries
from gateway.store.core import StoreBroken

MAX_HEAD_BYTES = 64 * 1024
_PLAIN = "text/plain; charset=utf-8"

log = structlog.get_logger()


def build_api(deps: ApiDeps) -> "ApiServer":
    """Return the server for `web.ServerRunner`. Call it in the event loop that will serve."""
    return ApiServer(Api(deps))


class Api:
    """Answers requests. One object serves them all."""

    def __init__(self, deps: ApiDeps) -> None:
        self.in_flight, self.stopping = 0, asyncio.Event()
        self.deps, self.proxy, self.counts = deps, Proxy(deps, self.stopping), RequestCounts()
        self.hooks = Hooks(deps)
        self.table = Table(self._endpoints())
        self._openapi = encode(openapi(self.table.endpoints, deps.served))
        translated = {} if deps.neutral is None else deps.neutral.servers
        self._llms = llms_text(self.table.endpoints, deps.served, translated).encode()
        self._agent = encode(agent_document(self.table.endpoints, deps.served, translated))
        self._periods = deps.periods
        self._chain_ids = frozenset(token.chain_id for v in deps.vendors.values() for token in v.terms.tokens)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, count it, and write its one log line. Never raises but for a cancelled task."""
        exchange = start(request, self.deps.clock, self.deps.entropy, self._periods)
        self.in_flight += 1
        status = 500
        try:
            response = await self._guarded(exchange)
            status = response.status
        finally:
            self.in_flight -= 1
            seconds = time.perf_counter() - exchange.started
            self.counts.count(exchange.route, status, seconds)
            self.deps.request_log(exchange.line(status, seconds))
        return response

    async def _guarded(self, exchange: Exchange) -> web.StreamResponse:
        """Turn whatever is raised into an answer: what was not meant for an agent stays in the log."""
        try:
            return await self._serve(exchange)
        except Problem as problem:
            return self._refuse(exchange, problem)
        except StoreBroken:
            log.critical("store.broken", request_id=exchange.request_id)
            self.deps.on_broken()
            return self._refuse(
                exchange, Problem("shutting_down", "the gateway stops; see the payment when it is back")
            )
        except Exception as error:  # the outermost frame: nothing behind it could answer
            log.exception("request.failed", request_id=exchange.request_id, error=type(error).__name__)
            if exchange.request.writer.output_size > 0:
                exchange.cut = True
                cut_off(exchange.request)
                return web.Response(status=500)
            return self._refuse(exchange, Problem("internal", "report the request id; the operator's log says more"))

    def _refuse(self, exchange: Exchange, problem: Problem) -> web.Response:
        response = problem_answer(exchange, self.deps.store, problem)
        if self.stopping.is_set():
            response.force_close()
        return response

    async def _serve(self, exchange: Exchange) -> web.StreamResponse:
        raw = exchange.request.raw_path
        if self.stopping.is_set():
            raise self._turned_away(exchange, "shutting_down", ABOUT_TO_STOP)
        if self.in_flight > self.deps.settings.max_in_flight:
            raise self._turned_away(exchange, "overloaded", "too many requests at once")
        if raw.startswith(PREFIX):
            return await self.proxy.serve(exchange)
        if raw.startswith(HOOKS_PREFIX):
            return await self.hooks.serve(exchange)
        path, _, exchange.query = raw.partition("?")
        return await self._own(exchange, path)

    def _turned_away(self, exchange: Exchange, code: str, detail: str) -> Problem:
        """Return the refusal of a request that is not looked at: whoever may read its route's answers may read this one."""
        found = self.table.find(exchange.request.raw_path.partition("?")[0])
        if found is not None:
            exchange.always = found.always
        return Problem(code, detail)

    async def _own(self, exchange: Exchange, path: str) -> web.StreamResponse:
        found = self.table.find(path)
        if found is None:
            raise Problem("not_found", "there is no such route; see /openapi.json")
        exchange.always = found.always  # a method that the path does not have is refused with what its others say
        endpoint = _endpoint(exchange, found)
        exchange.always = endpoint.always
        if not endpoint.public:
            exchange.key = authenticate(exchange.request, self.deps.store.view.keys_by_digest)
        if endpoint.scope is not None:
            require_scope(exchange.granted, endpoint.scope)
        exchange.parameters = found.parameters
        told = await endpoint.handler(self.deps, exchange)
        headers = (("Content-Type", told.media_type or endpoint.media_type), NO_STORE, *told.headers)
        if told.stream is not None:
            return await self._stream(exchange, told.status, told.stream, headers)
        body = told.body if isinstance(told.body, bytes) else encode(told.body)
        return answer(exchange, self.deps.store, told.status, body, *headers)

    async def _stream(
        self, exchange: Exchange, status: int, pieces: AsyncIterator[bytes], headers: Headers
    ) -> web.StreamResponse:
        response = stream_answer(exchange, self.deps.store, status, *headers)
        if exchange.request.method == "HEAD":
            await close_stream(pieces)
            return response
        try:
            whole = await write_stream(exchange.request, response, pieces, self.stopping, self.deps.settings.flush_s)
        except (Problem, UpstreamError):
            # The status has been sent: breaking off is the only way left to say that this is not the whole answer.
            cut_off(exchange.request)
            whole = False
        exchange.cut = not whole
        return response

    # what describes and measures

    def _endpoints(self) -> tuple[Endpoint, ...]:
        own = [
            Endpoint("GET", "/openapi.json", "This document", self._tell_openapi, ANY, public=True),
            Endpoint("GET", "/llms.txt", "How to use it, short", self._tell_llms, TEXT, public=True, media_type=_PLAIN),
            Endpoint(
                "GET",
                "/.well-known/agent.json",
                "What an agent can do here, as data",
                self._tell_agent,
                ANY,
                public=True,
            ),
        ]
        if self.deps.settings.metrics:
            own.append(
                Endpoint("GET", "/metrics", "Counts", self._tell_metrics, TEXT, public=True, media_type=TEXT_TYPE)
            )
        paid = (facilitator, topups, refunds, wallet_keys, deposits, incoming)
        return (
            *(endpoint for module in paid for endpoint in module.endpoints(self.deps)),
            *money.ENDPOINTS,
            *payments.ENDPOINTS,
            *catalogue.ENDPOINTS,
            *explain.ENDPOINTS,
            *plans.ENDPOINTS,
            *quotes.ENDPOINTS,
            *servers.ENDPOINTS,
            *server_actions.ENDPOINTS,
            *server_guest.ENDPOINTS,
            *renewals.ENDPOINTS,
            *snapshots.ENDPOINTS,
            *ssh_keys.ENDPOINTS,
            *fleets.ENDPOINTS,
            *events.ENDPOINTS,
            *webhooks.ENDPOINTS,
            *keys.ENDPOINTS,
            *ops.ENDPOINTS,
            *own,
        )

    async def _tell_openapi(self, _deps: ApiDeps, _exchange: Exchange) -> Told:
        return Told(self._openapi)

    async def _tell_llms(self, _deps: ApiDeps, _exchange: Exchange) -> Told:
        return Told(self._llms)

    async def _tell_agent(self, _deps: ApiDeps, _exchange: Exchange) -> Told:
        return Told(self._agent)

    async def _tell_metrics(self, deps: ApiDeps, _exchange: Exchange) -> Told:
        rows = await deps.store.query(queries.OPEN_TASK_COUNT)
        lines = [
            *self.counts.lines(),
            *state_lines(deps.store.view, deps.heads, self._chain_ids, self.in_flight, rows[0]["open_tasks"]),
            *loop_lines(deps.loops()),
        ]
        return Told(("\n".join(lines) + "\n").encode())


class ApiServer(web.Server):
    """aiohttp's server around an Api, with its limits. For `web.ServerRunner`."""

    def __init__(self, api: Api) -> None:
        self.api = api
        super().__init__(
            api.handle,
            access_log=None,
            auto_decompress=False,  # what the agent encoded reaches the vendor as it is
            keepalive_timeout=api.deps.settings.keepalive_s,
            max_field_size=MAX_HEAD_BYTES,
            max_line_size=MAX_HEAD_BYTES,
        )

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of one connection."""
        connection = _Connection(self, loop=self._loop, **self._kwargs)
        connection.deps = self.api.deps
        return connection

    def refuse_new(self) -> None:
        """Answer everything that comes from now on with shutting_down, and end the answers that would go on."""
        self.api.stopping.set()

    async def drain(self, timeout_s: float) -> None:
        """Wait for purchases under way whose agents have gone, at most that long."""
        await self.api.proxy.drain(timeout_s)


class _Connection(web.RequestHandler):
    """aiohttp's connection with our own answer to what is no HTTP: theirs repeats and logs what came, keys included."""

    __slots__ = ("deps",)
    deps: ApiDeps

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - the base's signature
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the request
    ) -> web.StreamResponse:
        """Answer a request that could not be read, and close the connection."""
        request_id = new_request_id(self.deps.clock, self.deps.entropy)
        log.info("request.unreadable", request_id=request_id, status=status, error=type(exc).__name__)
        code = "bad_request" if status < 500 else "internal"  # noqa: PLR2004 - the class of client errors
        problem = Problem(code, "this is not a well-formed HTTP/1.1 request, or its head is too large")
        document = {**problem.document(), "code": code, "request_id": request_id}
        headers = dict([SERVER_NAME, ("Content-Type", PROBLEM_TYPE), ("X-Request-Id", request_id), NO_STORE])
        response = web.Response(status=problem.status, body=encode(document), headers=headers)
        response.force_close()
        return response


def _endpoint(exchange: Exchange, found: Found) -> Endpoint:
    method = exchange.request.method
    exchange.route = next(iter(found.by_method.values())).path
    endpoint = found.by_method.get("GET" if method == "HEAD" else method)
    if endpoint is None:
        allow = sorted({*found.by_method, *(("HEAD",) if "GET" in found.by_method else ())})
        raise Problem("method_not_allowed", f"this route takes {', '.join(allow)}", extra={"allow": allow})
    return endpoint

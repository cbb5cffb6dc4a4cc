"""Answers as aiohttp's objects: documents, problems, and the careful end of an answer that cost money.

Must not know routes.  Theory: a purchase is answered when its agent has the whole answer; the nearest that can be known
is that the socket took every byte while the connection stood, so that is waited for, and anything less leaves the answer
to be asked for again.
"""

import asyncio
import json

from aiohttp import web
from multidict import CIMultiDict

from gateway.api.exchange import Exchange
from gateway.core.problems import Problem
from gateway.ports import Store

PROBLEM_TYPE = "application/problem+json"
JSON_TYPE = "application/json"
FLUSH_STEP_S = 0.005
NO_STORE = ("Cache-Control", "no-store")

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_UNAUTHORIZED, _UNAVAILABLE, _TOO_MANY = 401, 503, 429


def encode(document: object) -> bytes:
    """Return a document as JSON."""
    return _encode(document).encode("utf-8")


# What does not end by itself in a second; each try also reaches the vendor.
_RETRY_AFTER_S = {
    "frozen": 300,
    "billing_rule_unset": 300,
    "wallet_exhausted": 60,
    "vendor_account_empty": 60,
    "vendor_account_full": 60,
    "exposure_capped": 30,
    "too_many_open_payments": 30,
}


def answer(exchange: Exchange, store: Store, status: int, body: bytes, *headers: tuple[str, str]) -> web.Response:
    """Return an answer of our own; its Content-Type is among the headers, JSON if not."""
    all_headers = CIMultiDict([*exchange.own_headers(store), *headers])
    all_headers.setdefault("Content-Type", JSON_TYPE)
    return web.Response(status=status, headers=all_headers, body=body)


def problem_answer(exchange: Exchange, store: Store, problem: Problem) -> web.Response:
    """Return the RFC 9457 document of a problem, with the headers that its status calls for."""
    document = {**problem.document(), "code": problem.code, "request_id": exchange.request_id}
    headers = [("Content-Type", PROBLEM_TYPE), NO_STORE]
    if problem.status == _UNAUTHORIZED:
        headers.append(("WWW-Authenticate", 'Bearer realm="gateway", Basic realm="gateway"'))
    if problem.status in {_UNAVAILABLE, _TOO_MANY}:
        wait_s = problem.extra.get("retry_after_s", _RETRY_AFTER_S.get(problem.code, 1))
        headers.append(("Retry-After", str(wait_s)))
    if "allow" in problem.extra:
        headers.append(("Allow", ", ".join(problem.extra["allow"])))
    payment_id = problem.extra.get("payment_id")
    if isinstance(payment_id, str):
        exchange.payment_id = payment_id
        headers.append(("X-Payment-Id", payment_id))
    return answer(exchange, store, problem.status, encode(document), *headers)


async def write_whole(request: web.BaseRequest, response: web.Response, flush_s: float) -> bool:
    """Write an answer to its end; False unless the socket took all of it in time while the connection stood."""
    try:
        await response.prepare(request)
        await response.write_eof()
        async with asyncio.timeout(flush_s):
            while (transport := request.transport) is not None and not transport.is_closing():
                if transport.get_write_buffer_size() == 0:
                    return True
                await asyncio.sleep(FLUSH_STEP_S)
    except (ConnectionError, TimeoutError):
        return False
    return False


def cut_off(request: web.BaseRequest) -> None:
    """Break the connection, so that nobody takes half an answer for a whole one."""
    if request.transport is not None:
        request.transport.abort()

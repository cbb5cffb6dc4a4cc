"""One JSON-RPC endpoint: web3's HTTP provider with bounds on time, size and retries, and a strict reading of the envelope.

Must not know blocks, logs or quorum. Theory: an endpoint's URL is a credential (providers put the key into its path), and
its answers are a stranger's; so only the host is ever named, and an answer that is not exactly one result or one error
for this very request is no answer. web3's own session pool is bypassed: it opens a connection for each call, takes a
thread lock around its cache, reads answers of any size, and logs the URL and every answer at debug level.
"""

import asyncio
import itertools
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Never, cast

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from eth_typing import URI
from web3 import AsyncHTTPProvider
from web3.types import RPCEndpoint, RPCResponse
from yarl import URL

from contracts.codec import CodecError, parse_hex
from gateway.paid_ports import Reverted

__all__ = ["CallRefused", "CallReverted", "EndpointUnavailable", "Limits", "RpcEndpoint"]

_OK = 200
_REFUSALS = frozenset({400, 413, 422})
"""Statuses under which providers answer a call that they will not serve (most often a range of logs too wide)."""
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_REVERT_CODE = 3
_REVERT_TEXT = "execution reverted"
_READ_CHUNK = 64 * 1024
_REVERT_MAX_BYTES = 32 * 1024


class EndpointUnavailable(Exception):  # noqa: N818 - named for what is known
    """This endpoint has no usable answer: unreachable, slow, behind, or not making sense. Never says anything of money.

    ``reason`` is ours alone; nothing of the URL or of the node's own text is in it.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name, self.reason = name, reason


class CallRefused(EndpointUnavailable):
    """The node answered this call with an error of its own, or an HTTP refusal; ``code`` is that error's or status's."""

    def __init__(self, name: str, method: str, code: int) -> None:
        super().__init__(name, f"refused {method} (code {code})")
        self.code = code


class CallReverted(CallRefused, Reverted):
    """The call was executed and the contract reverted it. ``data`` is what it reverted with, as far as the node says."""

    def __init__(self, name: str, method: str, code: int, data: bytes = b"") -> None:
        super().__init__(name, method, code)
        self.data = data


class _Transient(Exception):  # noqa: N818 - never leaves this module
    """Worth another attempt."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one endpoint: seconds, attempts and bytes."""

    connect_s: float = 3.0
    attempt_s: float = 8.0
    call_s: float = 20.0
    attempts: int = 3
    backoff_s: float = 0.25
    answer_max_bytes: int = 8 * 1024 * 1024
    connections: int = 16


class RpcEndpoint(AsyncHTTPProvider):
    """One endpoint. A web3 provider as well, so ``AsyncWeb3(endpoint)`` works inside the same bounds.

    ``name`` is host and port and nothing else of the URL. Belongs to one event loop; ``close`` it there.
    Raises ValueError, without repeating the URL, when it is no http(s) URL.
    """

    def __init__(self, url: str, limits: Limits | None = None, *, jitter: Callable[[], float] | None = None) -> None:
        self._url, self.name = _parse_url(url)
        # web3 keeps and prints what it is given, so it is given the name.
        super().__init__(URI(self.name), exception_retry_configuration=None)
        self._limits = limits or Limits()
        self._jitter = jitter or random.SystemRandom().random
        self._ids = itertools.count(1)
        self._session: ClientSession | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<RpcEndpoint {self.name}>"

    async def call(self, method: str, *params: object) -> Any:  # noqa: ANN401 - JSON; the caller reads it strictly
        """Return the result of one call. Raises CallRefused for the node's error, else EndpointUnavailable."""
        answer = await self.make_request(RPCEndpoint(method), list(params))
        error = answer.get("error")
        if error is None:
            return answer["result"]
        if not isinstance(error, dict):
            raise EndpointUnavailable(self.name, f"{method}: an error of another shape")
        if error["code"] == _REVERT_CODE or error["message"].startswith(_REVERT_TEXT):
            raise CallReverted(self.name, method, error["code"], _revert_data(error.get("data")))
        raise CallRefused(self.name, method, error["code"])

    async def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:  # noqa: ANN401 - web3's signature
        """Send one call, again after a transport error unless it sends a transaction. Raises EndpointUnavailable."""
        request_id = next(self._ids)
        body = json.dumps({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}).encode()
        attempts = 1 if method.startswith("eth_send") else self._limits.attempts
        try:
            async with asyncio.timeout(self._limits.call_s):
                status, raw = await self._attempt(body, attempts)
        except TimeoutError:
            raise EndpointUnavailable(self.name, f"{method}: no answer in time") from None
        except _Transient as problem:
            raise EndpointUnavailable(self.name, f"{method}: {problem}") from None
        try:
            return _decode(raw, request_id)
        except (ValueError, RecursionError):
            if status != _OK:
                raise CallRefused(self.name, method, status) from None
            raise EndpointUnavailable(self.name, f"{method}: not a JSON-RPC answer to this call") from None

    async def make_batch_request(self, batch_requests: list[tuple[RPCEndpoint, Any]]) -> Never:
        """Refuse: web3 would send it outside these bounds, and providers split batches over nodes anyway."""
        raise TypeError(f"{len(batch_requests)} calls: send them one by one")

    async def close(self) -> None:
        """Close the connections; the endpoint answers no more. Safe to repeat."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    async def disconnect(self) -> None:
        """Close, by web3's name for it."""
        await self.close()

    async def _attempt(self, body: bytes, attempts: int) -> tuple[int, bytes]:
        for attempt in range(1, attempts):
            try:
                return await self._post(body)
            except _Transient:
                # Full jitter: several gateways behind one provider must not come back in step.
                await asyncio.sleep(self._limits.backoff_s * 2**attempt * self._jitter())
        return await self._post(body)

    async def _post(self, body: bytes) -> tuple[int, bytes]:
        headers = {"content-type": "application/json", "accept": "application/json"}
        try:
            # A redirect would carry the request, and the trust in its answer, to a host that nobody configured.
            async with self._open().post(self._url, data=body, headers=headers, allow_redirects=False) as response:
                if response.status in _TRANSIENT:
                    raise _Transient(f"HTTP {response.status}")
                if response.status != _OK and response.status not in _REFUSALS:
                    raise EndpointUnavailable(self.name, f"HTTP {response.status}")
                return response.status, await self._read(response)
        except (ClientError, TimeoutError, OSError) as error:
            # The error's own text and its cause hold the URL.
            raise _Transient(type(error).__name__) from None

    async def _read(self, response: ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_chunked(_READ_CHUNK):
            body += chunk
            if len(body) > self._limits.answer_max_bytes:
                raise CallRefused(self.name, "an answer of this size", 413)
        return bytes(body)

    def _open(self) -> ClientSession:
        if self._closed:
            raise EndpointUnavailable(self.name, "closed")
        if self._session is None:
            self._session = ClientSession(
                connector=TCPConnector(limit=self._limits.connections),
                cookie_jar=DummyCookieJar(),
                timeout=ClientTimeout(total=self._limits.attempt_s, connect=self._limits.connect_s),
            )
        return self._session


def _parse_url(text: str) -> tuple[URL, str]:
    try:
        url = URL(text)
        name = f"{url.host}:{url.explicit_port}" if url.explicit_port else str(url.host)
    except ValueError:
        raise ValueError("endpoint: not a URL") from None
    if url.scheme not in {"http", "https"} or not url.host or url.fragment:
        raise ValueError("endpoint: expected an http or https URL with a host")
    return url, name


def _decode(raw: bytes, request_id: int) -> RPCResponse:
    """Read one JSON-RPC 2.0 answer. Raises ValueError unless it is exactly one result or one error for this id."""
    answer = json.loads(raw, object_pairs_hook=_object, parse_constant=_no_constant)
    if not isinstance(answer, dict) or answer.get("jsonrpc") != "2.0":
        raise ValueError("not a JSON-RPC 2.0 object")
    if type(answer.get("id")) is not int or answer["id"] != request_id:
        raise ValueError("an answer to another request")
    error = answer.get("error")
    if (error is None) != ("result" in answer):
        raise ValueError("expected a result or an error")
    if error is not None and not (
        isinstance(error, dict) and type(error.get("code")) is int and isinstance(error.get("message"), str)
    ):
        raise ValueError("an error without code and message")
    return cast("RPCResponse", answer)


def _revert_data(data: object) -> bytes:
    """Return a revert's data; empty where the node tells none or not as hex: it decides nothing by itself."""
    try:
        return parse_hex(data, _REVERT_MAX_BYTES, "data")
    except CodecError:
        return b""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Two readers of {"result": a, "result": b} may see two answers.
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a repeated key")
    return result


def _no_constant(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")

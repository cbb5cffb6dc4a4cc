"""Posts to addresses that agents name: each its own connection, checked at the moment of connecting, never inside.

Must not know what is posted or why.  Theory: who names an address may change what its name means a moment later, and may be
after what only this machine can reach (server-side request forgery); so no answer is ever shown, only its status, and every
connection is made to an address that was judged just then.
"""

from __future__ import annotations

import asyncio
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from gateway.http.client import HttpUpstream
from gateway.http.egress import EgressRule, Network, Origin, Timeouts
from gateway.http.pool import resolve
from gateway.http.port import NotSent, UpstreamRequest
from gateway.http.request import check_request

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_URL_CHARS", "POST_TIMEOUT_S", "Courier", "Posted", "timeouts_of"]

POST_TIMEOUT_S: Final = 15.0  # for all of it; Standard Webhooks 1.0.0 wants 15 to 30 s
CONNECT_TIMEOUT_S: Final = 5.0
MAX_URL_CHARS: Final = 2_048
RESOLVERS: Final = 4
MAX_RETRY_AFTER_CHARS: Final = 6


def timeouts_of(total_s: float) -> Timeouts:
    """Return the limits of a post that may take this long, of which at most a half is for name and connection."""
    return Timeouts(min(CONNECT_TIMEOUT_S, total_s / 2), total_s, total_s, total_s, total_s)


_TIMEOUTS: Final = timeouts_of(POST_TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class Posted:
    """What came back: the status, and for how long the receiver asked to be left alone. The rest is not looked at."""

    status: int
    retry_after_s: int | None = None


class Courier:
    """Posts over https to public addresses.

    `networks` of the operator's own may be reached as well; `allow_http` allows plain http; `tls` makes what replaces the
    system's certificate authorities.
    """

    def __init__(
        self,
        networks: tuple[Network, ...] = (),
        *,
        allow_http: bool = False,
        tls: Callable[[], ssl.SSLContext] = ssl.create_default_context,
        timeouts: Timeouts = _TIMEOUTS,
    ) -> None:
        self._networks, self._allow_http, self._timeouts = networks, allow_http, timeouts
        self._make_tls = tls
        self._tls: ssl.SSLContext | None = None
        # A thread that waits for a stranger's slow name server cannot be called back: vendors and chains have others.
        self._resolver = ThreadPoolExecutor(RESOLVERS, thread_name_prefix="courier")

    async def close(self) -> None:
        """Look nothing up any more."""
        self._resolver.shutdown(wait=False, cancel_futures=True)

    async def check(self, url: str) -> None:
        """Raise NotSent unless a post to this URL could leave now: `url_refused`, `address_refused`, `connect_failed`."""
        rule, _ = self._rule(url)
        try:
            async with asyncio.timeout(self._timeouts.connect_s):
                await resolve(rule)
        except TimeoutError:
            raise NotSent("connect_failed", "the name does not resolve in time") from None

    async def post(self, url: str, headers: tuple[tuple[str, str], ...], body: bytes) -> Posted:
        """Post once; nothing is followed or sent again. Raises NotSent or SentUnknown (gateway.http.port)."""
        rule, target = self._rule(url)
        upstream = HttpUpstream([rule], tls=self._context() if rule.origin.scheme == "https" else None)
        request = UpstreamRequest("POST", target, headers, body, buffer_bytes=0)
        try:
            answer = await upstream.send(str(rule.origin), request)
            if answer.rest is not None:
                await answer.rest.close()
        finally:
            await upstream.close()
        return Posted(answer.status, _seconds(answer.headers.get("Retry-After", "")))

    def _rule(self, url: str) -> tuple[EgressRule, str]:
        """Return the rule of a URL and its target."""
        try:
            origin, target = _split(url)
            rule = EgressRule(
                origin,
                allow_plain_http=self._allow_http,
                max_connections=1,
                timeouts=self._timeouts,
                allow_networks=self._networks,
                resolver=self._resolver,
            )
        except ValueError as error:
            raise NotSent("url_refused", str(error)) from error
        return rule, target

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = self._make_tls()
        return self._tls


def _split(url: str) -> tuple[Origin, str]:
    """Return origin and target. Raises ValueError."""
    if not url.isascii() or not url.isprintable() or " " in url or len(url) > MAX_URL_CHARS:
        raise ValueError(f"a URL is at most {MAX_URL_CHARS} printable ASCII characters without spaces")
    if "#" in url or "\\" in url:  # libraries disagree where a host ends before a back-slash
        raise ValueError("a URL has no fragment and no back-slash here")
    parts = urlsplit(url)
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    origin = Origin.parse(f"{parts.scheme}://{parts.netloc}")
    try:
        check_request(UpstreamRequest("POST", target))
    except NotSent as error:
        raise ValueError(error.message) from error
    return origin, target


def _seconds(text: str) -> int | None:
    """Return Retry-After as seconds; None for a date, which is seldom sent and never needed."""
    good = text.isascii() and text.isdigit() and len(text) <= MAX_RETRY_AFTER_CHARS
    return int(text) if good else None

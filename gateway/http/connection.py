"""One HTTP/1.1 connection to a vendor: writes one request, reads one answer, and knows whether it may serve another.

It must not know origins, pools or rules. Theory: answers are not numbered, so the only thing that ties an answer to its
request is that nothing else was on the wire; a byte that comes when none is due, or is left over, ends the connection
(response queue poisoning: one agent would read another's answer). llhttp parses strictly, without its leniencies.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from typing import TYPE_CHECKING, Final, cast

import httptools

from gateway.http.port import SentUnknown

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.http.egress import Timeouts

__all__ = ["HIGH_WATER_BYTES", "MAX_FIELDS", "MAX_FIELD_BYTES", "MAX_HEAD_BYTES", "Connection"]

MAX_FIELD_BYTES: Final = 96 * 1024
"""One header field. A challenge travels in one, of at most 64 KiB: one that is longer is still read, so
that it is told as what it is."""

MAX_HEAD_BYTES: Final = 128 * 1024
"""Heads, chunk framing and trailers between two pieces of body, so that none of them can grow without end."""

MAX_FIELDS: Final = 128
HIGH_WATER_BYTES: Final = 256 * 1024
"""Unread body beyond the asked-for buffer at which the vendor is told to wait."""

_FIRST_FINAL_STATUS: Final = 200
_FIRST_REDIRECT_STATUS: Final = 300
_SWITCHING: Final = 101
_BODILESS: Final = (204, 304)

_MESSAGES: Final = {
    "connection_lost": "the connection was lost before the answer",
    "first_byte_timeout": "the vendor did not answer in time",
    "body_timeout": "the answer's body fell silent",
    "total_timeout": "the answer was not complete in time",
    "truncated_body": "the answer's body broke off",
    "malformed_answer": "the answer is not well-formed HTTP, or its head is too large",
}


class Connection(asyncio.Protocol):
    """Used by one request at a time: `begin`, `write`, `wait`, `take`; then `end`, which says if it may be kept.

    `on_lost` is called once, when the socket is gone. `answered` tells whether any byte of an answer has come.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_lost: Callable[[Connection], None]) -> None:
        self._loop = loop
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._wakeup: asyncio.Future[None] | None = None
        self._poll = select.poll()
        self._writable = asyncio.Event()
        self._writable.set()
        self._reset(head_only=False, buffer_bytes=0)
        self.exchanges = 0
        self.idle_since = 0.0

    def _reset(self, *, head_only: bool, buffer_bytes: int) -> None:
        self.status = 0
        self.fields: list[tuple[str, str]] = []
        self.answered = False
        self.complete = False
        self.delimited = False
        self.error: SentUnknown | None = None
        self._head_only = head_only
        self._wanted = buffer_bytes
        self._live = False
        self._head_done = False
        self._bad = False
        self._reusable = False
        self._paused = False
        self._unfinished = False
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._overhead = 0

    # ---- the user's side

    @property
    def is_open(self) -> bool:
        """Whether a request may be written: connected, and not closing."""
        return self._transport is not None and not self._transport.is_closing()

    def is_quiet(self) -> bool:
        """Whether the socket holds nothing unread. Bytes or an end that the loop has not seen yet are no good sign."""
        return not self._poll.poll(0)

    def extend(self, deadline: float) -> None:
        """Move the end of the whole exchange: a body that is streamed on has its own limit."""
        self._deadline = deadline

    def begin(self, method: str, buffer_bytes: int, timeouts: Timeouts, deadline: float, *, live: bool = False) -> None:
        """Get ready for one answer. `wait` returns once its head is there, and all of its body or `buffer_bytes`.

        With `live` the head of a good answer is enough where its length is not stated.
        """
        self._reset(head_only=method == "HEAD", buffer_bytes=buffer_bytes)
        self._live = live
        self._parser = httptools.HttpResponseParser(self)
        self._timeouts = timeouts
        self._deadline = deadline
        self._last_byte_at = self._loop.time()
        self._head_deadline = self._last_byte_at + timeouts.first_byte_s
        self._look_by(min(self._head_deadline, deadline))
        self.exchanges += 1

    def write(self, data: bytes) -> None:
        """Hand bytes to the socket. On a connection that is gone they vanish, and `wait` raises."""
        if self._transport is not None:
            self._transport.write(data)

    async def writable(self) -> None:
        """Wait until the socket has taken most of what was written."""
        await self._writable.wait()

    async def wait(self) -> None:
        """Wait until there is as much as was asked for. Raises SentUnknown when that will never be."""
        if not self._is_ready():
            self._wakeup = self._loop.create_future()
            try:
                await self._wakeup
            finally:
                self._wakeup = None
        if self.error is not None:
            raise self.error

    async def more(self) -> bytes | None:
        """The next piece of body, None at its true end. Raises SentUnknown if it breaks off."""
        while not self._chunks:
            if self.complete:
                return None
            self._wanted = 1
            await self.wait()
        return self.take()

    def take(self) -> bytes:
        """What has come of the body and was not taken yet."""
        data = b"".join(self._chunks)
        self._chunks.clear()
        self._buffered = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._last_byte_at = self._loop.time()
            self._transport.resume_reading()
        return data

    def leave_unfinished(self) -> None:
        """The request's end will not be written, so this connection can serve no other."""
        self._unfinished = True

    def end(self) -> bool:
        """The exchange is over; True if the connection may serve another, else it is closed."""
        self._parser = None
        if self.complete and self._reusable and not self._unfinished and self.is_open and not self._unwritten():
            self.idle_since = self._loop.time()
            return True
        self.abort()
        return False

    def abort(self) -> None:
        """Drop the connection, whatever it is doing."""
        self._stop_timer()
        if self._transport is not None:
            self._transport.abort()

    def close_idle(self) -> None:
        """Close a connection that nothing is under way on."""
        if self._transport is not None:
            self._transport.close()

    # ---- the socket's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102 - asyncio.Protocol
        # uvloop's transports have the methods of asyncio.Transport, but not its class.
        self._transport = cast("asyncio.Transport", transport)
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:  # noqa: D102 - asyncio.Protocol
        if self._parser is None:
            # Nothing was asked, so nothing may come: this connection could never be trusted again.
            self.abort()
            return
        self.answered = True
        self._last_byte_at = self._loop.time()
        self._overhead += len(data)
        head_was_done = self._head_done
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._misread()
        if self._bad or (not self.complete and self._overhead > MAX_HEAD_BYTES):
            self._fail("malformed_answer")
        elif self._head_done and not head_was_done and not self.complete:
            self._look_by(min(self._last_byte_at + self._timeouts.body_s, self._deadline))
        if self._buffered > self._wanted + HIGH_WATER_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102 - asyncio.Protocol
        if self._parser is not None and not self.complete:
            if self._head_done and not self.delimited and exc is None:
                self.complete = True
            else:
                self._fail("truncated_body" if self._head_done else "connection_lost")
        self._transport = None
        self._stop_timer()
        self._writable.set()
        self._wake()
        self._on_lost(self)

    def pause_writing(self) -> None:  # noqa: D102 - asyncio.Protocol
        self._writable.clear()

    def resume_writing(self) -> None:  # noqa: D102 - asyncio.Protocol
        self._writable.set()

    # ---- the parser's side

    def on_message_begin(self) -> None:
        """Note an answer's first byte: of the final one after an interim one, or of one too many."""
        if self.complete:
            self._misread()
        elif not self._head_done:
            self.fields = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header field. Trailers are dropped: they come after what they would have changed."""
        if self._head_done:
            return
        if len(value) > MAX_FIELD_BYTES or len(self.fields) >= MAX_FIELDS:
            self._bad = True
            return
        # Latin-1 keeps every byte, and cannot fail.
        self.fields.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """Decide how the body is delimited, and whether there is one."""
        if self._parser is None or self._head_done:
            return
        status = self._parser.get_status_code()
        if status < _FIRST_FINAL_STATUS:
            self._bad = self._bad or status == _SWITCHING
            return
        self.status = status
        self._head_done = True
        lengths, codings = self._framing()
        if codings and (codings != ["chunked"] or lengths or self._parser.get_http_version() != "1.1"):
            # Two opinions on where a body ends are an attack on whoever comes next (response smuggling).
            self._bad = True
        self.delimited = bool(lengths or codings) or self._head_only or status in _BODILESS
        if self._live and not lengths and status < _FIRST_REDIRECT_STATUS:
            self._wanted = 0
        if self._head_only:
            self.complete = True
            self._reusable = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body."""
        if self.complete:
            self._misread()
            return
        self._overhead = 0
        self._chunks.append(data)
        self._buffered += len(data)

    def on_message_complete(self) -> None:
        """Note the body's end; an interim answer's end is only the beginning of the next."""
        if self._head_done and not self.complete and self._parser is not None:
            self.complete = True
            self._reusable = self._parser.should_keep_alive()

    # ---- inside

    def _framing(self) -> tuple[list[str], list[str]]:
        """Return every Content-Length and every Transfer-Encoding of the answer."""
        lengths: list[str] = []
        codings: list[str] = []
        for name, value in self.fields:
            lower = name.lower()
            if lower == "content-length":
                lengths.append(value)
            elif lower == "transfer-encoding":
                codings.append(value.strip().lower())
        return lengths, codings

    def _misread(self) -> None:
        """What breaks an answer fails it; what follows a whole one only costs the connection."""
        if self.complete:
            self._reusable = False
        else:
            self._bad = True

    def _is_ready(self) -> bool:
        return self.complete or self.error is not None or (self._head_done and self._buffered >= self._wanted)

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done() and self._is_ready():
            self._wakeup.set_result(None)

    def _fail(self, code: str) -> None:
        self.complete = False
        if self.error is None:
            self.error = SentUnknown(code, _MESSAGES[code])
        self.abort()
        self._wake()

    def _unwritten(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def _look_by(self, when: float) -> None:
        """See to it that the limits are looked at by then. A look that comes early costs less than a timer an answer."""
        if self._timer is not None:
            if self._timer_at <= when:
                return
            self._timer.cancel()
        self._timer, self._timer_at = self._loop.call_at(when, self._look), when

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """One timer for three limits and every exchange: it looks what is overdue, and else sleeps until the next could be."""
        self._timer = None
        if self._parser is None or self.complete:
            return
        now = self._loop.time()
        silent_until = self._last_byte_at + self._timeouts.body_s if self._head_done else self._head_deadline
        if now >= self._deadline:
            self._fail("total_timeout")
        elif now >= silent_until and not self._paused:
            self._fail("body_timeout" if self._head_done else "first_byte_timeout")
        else:
            pause_s = self._timeouts.body_s if self._paused else silent_until - now
            self._look_by(min(now + pause_s, self._deadline))

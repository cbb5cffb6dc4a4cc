"""The RPC endpoint that the sandbox shows as Tempo: JSON-RPC on POST /, its log and its faults beside it.

- POST   /            JSON-RPC, single calls and batches
- GET    /log         the methods called so far, oldest first; DELETE forgets them
- GET    /fault       the faults in force; POST adds one object or a list -> {"ids"}; DELETE /fault, /fault/{id}

Several shims may stand before one chain: then an endpoint can lie while another does not. It must not know what a
method means; that is `node`.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from sandbox.tempo.faults import REACHES_NODE, Faults

if TYPE_CHECKING:
    from types import TracebackType

    from sandbox.tempo.node import TempoNode

_LOG_LENGTH = 100_000
_IDLE_S = 60
_OURS = "sandbox_"  # what no real node has is neither logged nor disturbed


class _CutError(Exception):
    """The connection is to be cut without an answer."""


class _StatusError(Exception):
    """The answer is an HTTP status, not JSON-RPC."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Shim:
    """One endpoint, serving on a thread of its own until `stop`."""

    def __init__(self, node: TempoNode, *, port: int = 0) -> None:
        self.node = node
        self.faults = Faults()
        self.log: deque[str] = deque(maxlen=_LOG_LENGTH)
        self._stopping = threading.Event()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.shim = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        """Stop listening; connections under way are left to end. Safe to repeat."""
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def play(self, call: dict[str, Any]) -> dict[str, Any]:
        """Answer one call as the faults in force have it."""
        method, params = str(call.get("method")), call.get("params")
        if method.startswith(_OURS):
            return self.node.answer(call)
        self.log.append(method)
        fault = self.faults.take(method, params)
        if fault is None:
            return self.node.answer(call)
        mode = fault["mode"]
        if mode == "slow":
            self._stopping.wait(fault["seconds"])
        answer = self.node.answer(call) if mode in REACHES_NODE else {"jsonrpc": "2.0", "id": call.get("id")}
        if mode == "slow":
            return answer
        if mode == "answer":
            return {**answer, "result": fault["result"]}
        if mode in {"error", "error_after"}:
            return {"jsonrpc": "2.0", "id": call.get("id"), "error": fault["error"]}
        if mode == "status":
            raise _StatusError(fault["status"])
        if mode in {"hang", "hang_after"}:
            self._stopping.wait(fault["seconds"])
        raise _CutError


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    shim: Shim


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = _IDLE_S
    server: _Server

    def do_POST(self) -> None:
        """JSON-RPC, or a new fault."""
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            asked = json.loads(body)
        except ValueError:
            self._send(400, {"detail": "not JSON"})
            return
        if self.path == "/fault":
            self._add_faults(asked)
            return
        shim = self.server.shim
        try:
            answer = [shim.play(call) for call in asked] if isinstance(asked, list) else shim.play(asked)
        except _CutError:
            self._cut()
        except _StatusError as scripted:
            self._send_bytes(scripted.status, b"upstream unavailable", "text/plain")
        except OSError as error:
            self._send_bytes(502, f"the node is away: {error}".encode(), "text/plain")
        else:
            self._send(200, answer)

    def do_GET(self) -> None:
        """The log, or the faults in force."""
        shim = self.server.shim
        answers: dict[str, Any] = {"/log": lambda: list(shim.log), "/fault": shim.faults.active}
        if self.path in answers:
            self._send(200, answers[self.path]())
        else:
            self._send(404, {"detail": "not found"})

    def do_DELETE(self) -> None:
        """Forget the log, or lift faults."""
        shim = self.server.shim
        if self.path == "/log":
            shim.log.clear()
        elif self.path == "/fault":
            shim.faults.clear()
        elif self.path.startswith("/fault/") and self.path.removeprefix("/fault/").isdigit():
            shim.faults.clear(int(self.path.removeprefix("/fault/")))
        else:
            self._send(404, {"detail": "not found"})
            return
        self._send(200, {})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's name for it
        """Stay silent: what was called is in the log."""

    def _add_faults(self, asked: Any) -> None:
        entries = asked if isinstance(asked, list) else [asked]
        try:
            ids = [self.server.shim.faults.add(entry) for entry in entries]
        except (ValueError, AttributeError, TypeError) as error:
            self._send(400, {"detail": str(error)})
        else:
            self._send(200, {"ids": ids})

    def _send(self, status: int, answer: object) -> None:
        self._send_bytes(status, json.dumps(answer).encode(), "application/json")

    def _send_bytes(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        try:
            self.end_headers()
            self.wfile.write(body)
        except ConnectionError:
            self.close_connection = True  # who asked did not wait

    def _cut(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):  # it was gone already
            self.connection.shutdown(socket.SHUT_RDWR)

"""An agent's own endpoint for webhooks: it believes what `gateway_client.verify_webhook` believes, and counts.

It fails the first attempt of its first delivery, as endpoints do; what it refuses or cannot verify is kept, for a test to
find none of it.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from gateway_client import WebhookRefused, verify_webhook

if TYPE_CHECKING:
    from types import TracebackType


@dataclass(frozen=True, slots=True)
class Taken:
    """One delivery that was verified and answered with 204, and when (wall clock)."""

    id: str
    event: Any
    at_s: float


class Endpoint:
    """Listens on loopback from its making until `close`. `secret` is set once the gateway has told it."""

    def __init__(self) -> None:
        self.secret = ""
        self.taken: list[Taken] = []
        self.refused: list[str] = []
        self.failed: set[str] = set()
        self._lock = threading.Lock()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(endpoint.judge(dict(self.headers), body))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"

    def judge(self, headers: dict[str, str], body: bytes) -> int:
        """Take one delivery, and return the status that it is answered with."""
        try:
            delivery_id = verify_webhook(self.secret, headers, body)
        except WebhookRefused as refused:
            self.refused.append(str(refused))
            return 401
        with self._lock:
            if not self.failed:
                self.failed.add(delivery_id)
                return 503
            self.taken.append(Taken(delivery_id, json.loads(body), time.time()))
        return 204

    def ids(self) -> set[str]:
        """Return the ids of what was taken."""
        with self._lock:
            return {each.id for each in self.taken}

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

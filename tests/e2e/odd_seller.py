"""A vendor that answers whatever a test has written down: 402s that no SDK would make. Runs in a thread of the test."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Scripted:
    """One answer."""

    status: int = 402
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Got:
    """One request that came; `headers` by lower-case name."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class OddSeller:
    """Answers by path; remembers what was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Scripted] = {}
        self.got: list[Got] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        host, port = self._server.server_address[:2]
        self.base_url = f"http://{host}:{port}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        seller = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self._chunks() if "Transfer-Encoding" in self.headers else self._counted()
                headers = {name.lower(): value for name, value in self.headers.items()}
                seller.got.append(Got(self.command, self.path, headers, body))
                scripted = seller.answers[urlsplit(self.path).path]
                self.send_response(scripted.status)
                for name, value in scripted.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(scripted.body)))
                self.end_headers()
                self.wfile.write(scripted.body)

            def _counted(self) -> bytes:
                return self.rfile.read(int(self.headers.get("Content-Length", "0")))

            def _chunks(self) -> bytes:
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            do_GET = do_POST = answer  # noqa: N815 - http.server's names

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
                """Stay silent."""

        return Handler

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

"""Drives a vendor process from outside, with nothing but the standard library: its routes and its admin API.

For tests, the demo and by hand. Connections are never reused and never retried, so that one call is one request.
"""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandbox.process import SandboxProcess

TIMEOUT_S = 40.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One reply, whole; header names in lower case."""

    status: int
    headers: dict[str, str]
    raw: bytes

    def json(self) -> Any:
        """The body as JSON, numbers as floats."""
        return json.loads(self.raw)


class Driver:
    """Calls one vendor; `token` goes as Bearer with every public call that does not bring its own headers."""

    def __init__(self, process: SandboxProcess, token: str | None = None) -> None:
        self.process = process
        self.token = token

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        raw: bytes | None = None,
        source_ip: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Answer:
        """One public request; raises OSError or http.client.HTTPException when the reply does not come whole."""
        sent = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        sent |= headers or {}
        return request(
            self.process.base_url + path, method, body, headers=sent, raw=raw, source_ip=source_ip, timeout_s=timeout_s
        )

    def get(self, path: str, **options: Any) -> Answer:
        """GET."""
        return self.call("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> Answer:
        """POST JSON."""
        return self.call("POST", path, body, **options)

    def delete(self, path: str, body: Any = None, **options: Any) -> Answer:
        """DELETE, with a JSON body where one is given."""
        return self.call("DELETE", path, body, **options)

    def put(self, path: str, body: Any = None, **options: Any) -> Answer:
        """PUT."""
        return self.call("PUT", path, body, **options)

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """Call the admin API and return its JSON; raises ValueError when it refuses."""
        answer = request(self.process.admin_url + "/admin" + path, method, body)
        if answer.status != http.client.OK:
            raise ValueError(answer.raw.decode())
        return answer.json()

    def state(self) -> Any:
        """Everything that the vendor knows."""
        return self.admin("GET", "/state")

    def fault(self, kind: str, route: str = "*", **parameters: Any) -> int:
        """Put a fault in force and return its id."""
        return int(self.admin("POST", "/faults", {"kind": kind, "route": route, **parameters})["ids"][0])

    def lift(self) -> None:
        """Lift all faults."""
        self.admin("DELETE", "/faults")

    def advance(self, seconds: float) -> None:
        """Push business time forward."""
        self.admin("POST", "/clock", {"advance_s": seconds})


def request(
    url: str,
    method: str,
    body: Any = None,
    *,
    headers: Mapping[str, str] | None = None,
    raw: bytes | None = None,
    source_ip: str | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Answer:
    """One request on a connection of its own."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    source = None if source_ip is None else (source_ip, 0)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s, source_address=source)
    payload, sent = raw, dict(headers or {})
    if body is not None:
        payload, sent = json.dumps(body).encode(), {"Content-Type": "application/json", **sent}
    try:
        connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), payload, sent)
        reply = connection.getresponse()
        return Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
    finally:
        connection.close()


def eventually(probe: Callable[[], Any], *, within_s: float = TIMEOUT_S, what: str = "it") -> Any:
    """Poll until the probe answers something true, and return that; raises TimeoutError after `within_s`."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found = probe()
        if found:
            return found
        time.sleep(0.05)
    raise TimeoutError(f"{what} did not happen within {within_s:g} s")

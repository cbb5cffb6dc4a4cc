"""HTTP as the demo's people speak it: the agent with its API key, and the vendor's staff on the vendor's admin port.

Must not know what a purchase is. A connection a request, so that a gateway that was killed is noticed at once.
"""

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sandbox.demo.checks import DemoFailure

TIMEOUT_S = 30


@dataclass(frozen=True)
class Answer:
    """A whole HTTP answer; `header` is by name, any case, "" where there is none."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def header(self, name: str) -> str:
        """Return a header's value."""
        return self.headers.get(name, "")

    def json(self) -> Any:
        """Return the body's JSON; raise DemoFailure when it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise DemoFailure("an answer", "JSON", self.body[:200]) from None


class Client:
    """Speaks with one origin, sending the same headers each time."""

    def __init__(self, base_url: str, headers: Mapping[str, str] | None = None) -> None:
        parts = urlsplit(base_url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._headers = dict(headers or {})

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Send one request. Raises OSError or http.client.HTTPException when no whole answer comes."""
        sent = {**self._headers, **(headers or {})}
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, content, sent)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def must(
        self, method: str, path: str, body: Any = None, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request and return its answer; raise DemoFailure when its status is another."""
        answer = self.ask(method, path, body, headers)
        if answer.status != status:
            where = path.partition("?")[0]  # the query may hold a token
            raise DemoFailure(
                f"{method} {where}", status, f"{answer.status} {answer.body[:600].decode('utf-8', 'replace')}"
            )
        return answer


class Agent(Client):
    """An agent: the gateway's base URL and one API key is all that it has."""

    def __init__(self, base_url: str, key: str) -> None:
        super().__init__(base_url, {"Authorization": f"Bearer {key}"})

    def balance(self) -> dict[str, str]:
        """Return credited, available, held and spent as decimal texts."""
        return dict(self.must("GET", "/v1/balance").json())

    def payment(self, payment_id: str) -> dict[str, Any]:
        """Return everything about one payment."""
        return dict(self.must("GET", f"/v1/payments/{payment_id}").json())

    def payments(self) -> list[dict[str, Any]]:
        """Return all payments, newest first."""
        return self._pages("/v1/payments")

    def statement(self) -> list[dict[str, Any]]:
        """Return every entry of the statement, oldest first."""
        return self._pages("/v1/statement")

    def topups(self) -> list[dict[str, Any]]:
        """Return every top-up."""
        return self._pages("/v1/topups")

    def _pages(self, path: str) -> list[dict[str, Any]]:
        page = self.must("GET", path).json()
        entries = list(page["entries"])
        while page["next"] is not None:
            page = self.must("GET", f"{path}?after={page['next']}").json()
            entries += page["entries"]
        return entries


class Staff(Client):
    """The vendor's staff."""

    def state(self) -> dict[str, Any]:
        """Return everything that the vendor knows."""
        return dict(self.must("GET", "/admin/state").json())

    def fault(self, kind: str, route: str, **parameters: Any) -> None:
        """Make something go wrong, once."""
        self.must("POST", "/admin/faults", {"kind": kind, "route": route, **parameters})

    def complete_renewal(self, rental_id: str) -> None:
        """Do a renewal's manual step."""
        self.must("POST", f"/admin/renewals/{rental_id}/complete")

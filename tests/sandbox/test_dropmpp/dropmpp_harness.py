"""What the MPP vendor's tests drive it with: its routes, its admin API, mppx's client, one payer's key."""

from __future__ import annotations

import base64
import json
import re
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import requests

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.dropmpp.payer import Answer, MppxPayer
    from sandbox.process import SandboxProcess
    from sandbox.tempo.chain import LocalTempo

TIMEOUT_S = 40
SMALL = {"size": "small", "region": "nyc1", "minutes": 60}
SMALL_BASE = 23_400
HOUR_S = 3600
DAY_S = 24 * HOUR_S


@dataclass(frozen=True)
class DropClient:
    """One vendor process and one payer."""

    process: SandboxProcess
    chain: LocalTempo
    payer: MppxPayer
    index: int = 0

    @property
    def address(self) -> str:
        """The payer's address."""
        return self.chain.dev_account(self.index)[0]

    @property
    def key(self) -> str:
        """The payer's key."""
        return self.chain.dev_account(self.index)[1]

    def as_account(self, index: int) -> DropClient:
        """The same vendor, another payer."""
        return replace(self, index=index)

    def raw(self, method: str, path: str, body: Any = None, **options: Any) -> requests.Response:
        """A call as it is: no payment is made."""
        url = self.process.base_url + path
        return requests.request(method, url, json=body, timeout=TIMEOUT_S, allow_redirects=False, **options)

    def call(self, method: str, path: str, body: Any = None, *, retries: int = 1, **options: Any) -> Answer:
        """A call with what it asks for, a payment or a proof, at most once unless told otherwise."""
        url = self.process.base_url + path
        return self.payer.fetch(self.key, method, url, body, retries=retries, **options)

    def good(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """The same, which must succeed; returns the JSON."""
        answer = self.call(method, path, body, **options)
        assert answer.status < 300, answer
        return answer.json()

    def challenge(self, method: str, path: str, body: Any = None) -> tuple[dict[str, str], Any]:
        """(the parameters, the request) of a 402's only challenge."""
        answer = self.raw(method, path, body)
        assert answer.status_code == 402, answer.text
        return read_challenge(answer.headers["www-authenticate"])

    def price(self, method: str, path: str, body: Any = None) -> int:
        """What a call would cost, in base units."""
        return int(self.challenge(method, path, body)[1]["amount"])

    def signed(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[dict[str, str], str | None]:
        """(the header that pays for this call, the transaction's hash), not presented yet."""
        answer = self.raw(method, path, body)
        assert answer.status_code == 402, answer.text
        credential, tx_hash = self.payer.credential(self.key, [answer.headers["www-authenticate"]], **options)
        return {"authorization": credential}, tx_hash

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """Call the admin API and return its JSON."""
        answer = requests.request(method, self.process.admin_url + path, json=body, timeout=TIMEOUT_S)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def fault(self, kind: str, route: str = "*", **parameters: Any) -> None:
        """Put a fault in force."""
        self.admin("POST", "/admin/faults", {"kind": kind, "route": route, **parameters})

    def advance(self, seconds: float) -> None:
        """Push business time forward."""
        self.admin("POST", "/admin/clock", {"advance_s": seconds})

    def state(self) -> Any:
        """Everything that the vendor knows."""
        return self.admin("GET", "/admin/state")

    def payments(self) -> list[Any]:
        """What the vendor has collected, oldest first."""
        return list(self.state()["payments"])

    def server(self, body: Any = None) -> str:
        """The id of a new, active server of this payer's."""
        server_id = str(self.good("POST", "/v1/servers", body or SMALL)["id"])
        self.advance(2)
        return server_id

    def snapshot(self, body: Any = None) -> str:
        """The id of an available snapshot of a new server."""
        snapshot_id = str(self.good("POST", f"/v1/servers/{self.server(body)}/snapshot")["id"])
        self.advance(2)
        return snapshot_id

    def income(self) -> int:
        """What the vendor's address holds, in base units."""
        return self.chain.balance_of(self.process.info["pay_to"])


def read_challenge(line: str) -> tuple[dict[str, str], Any]:
    """(the parameters, the request) of one WWW-Authenticate line."""
    parameters = dict(re.findall(r'(\w+)="([^"]*)"', line))
    return parameters, unpacked(parameters["request"])


def unpacked(text: str) -> Any:
    """Unpadded base64url JSON."""
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def packed(value: Any) -> str:
    """The reverse of `unpacked`."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def eventually(probe: Callable[[], Any], *, within_s: float = TIMEOUT_S, what: str = "it") -> Any:
    """Poll until the probe answers something true, and return that; fail after `within_s`."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found = probe()
        if found:
            return found
        time.sleep(0.05)
    pytest.fail(f"{what} did not happen within {within_s:g} s")

"""What the sandbox's tests drive a vendor process with: its routes, its admin API, one payer's key."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import requests
from sandbox_payer import Payment, pay

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.chain import LocalBase
    from sandbox.process import SandboxProcess

PAY_TO = "0x8eCbd65228930060363C70854da7D37D57ffC358"
WINDOW_S = 20
TIMEOUT_S = 40


class VendorClient:
    """What tests do with one vendor process: its public routes, its admin API, and one payer's key."""

    def __init__(self, process: SandboxProcess, chain: LocalBase, payer_index: int) -> None:
        self.process = process
        self.chain = chain
        self.address, self.key = chain.dev_account(payer_index)

    def get(self, path: str, **options: Any) -> requests.Response:
        """GET a public route."""
        return requests.get(self.process.base_url + path, timeout=TIMEOUT_S, allow_redirects=False, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> requests.Response:
        """POST JSON to a public route."""
        return requests.post(
            self.process.base_url + path, json=body, timeout=TIMEOUT_S, allow_redirects=False, **options
        )

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """Call the admin API and return its JSON."""
        answer = requests.request(method, self.process.admin_url + path, json=body, timeout=TIMEOUT_S)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def fault(self, kind: str, route: str = "*", **parameters: Any) -> None:
        """Put a fault in force."""
        self.admin("POST", "/admin/faults", {"kind": kind, "route": route, **parameters})

    def state(self) -> Any:
        """Everything that the vendor knows."""
        return self.admin("GET", "/admin/state")

    def quote(self, sku: str = "sandbox_1h") -> Any:
        """accepts[0] of /rent's challenge."""
        answer = self.post("/rent", {"sku": sku})
        assert answer.status_code == 402, answer.text
        return answer.json()["accepts"][0]

    def sign(self, requirement: Any, **options: Any) -> Payment:
        """Sign for a requirement with this client's key."""
        return pay(self.key, requirement, **options)

    def rent(self, sku: str = "sandbox_1h", **options: Any) -> tuple[requests.Response, Payment]:
        """Rent a box with a fresh payment."""
        payment = self.sign(self.quote(sku), **options)
        return self.post("/rent", {"sku": sku}, headers=payment.headers), payment

    def rental(self, rental_id: str) -> Any:
        """The public view of a rental."""
        return self.get(f"/rentals/{rental_id}").json()

    def wait_status(self, rental_id: str, status: str, *, within_s: float = TIMEOUT_S) -> Any:
        """Poll until a rental has this status and return it."""
        return eventually(
            lambda: (found := self.rental(rental_id))["status"] == status and found,
            within_s=within_s,
            what=f"{rental_id} {status}",
        )

    def active_rental(self, sku: str = "sandbox_1h") -> Any:
        """A rental that has come up and is paid: the reply of /rent."""
        answer, _ = self.rent(sku)
        assert answer.status_code == 200, answer.text
        self.wait_status(answer.json()["rental_id"], "active")
        return answer.json()

    def balances(self) -> tuple[int, int]:
        """(payer, payee), in base units."""
        return self.chain.balance_of(self.address), self.chain.balance_of(PAY_TO)

    def attempts(self, payment: Payment) -> list[Any]:
        """Every settlement that was tried for a payment."""
        return [entry for entry in self.state()["settlements"] if entry["nonce"] == payment.nonce]


def eventually(probe: Callable[[], Any], *, within_s: float = TIMEOUT_S, what: str = "it") -> Any:
    """Poll until the probe answers something true, and return that; fail after `within_s`."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found = probe()
        if found:
            return found
        time.sleep(0.05)
    pytest.fail(f"{what} did not happen within {within_s:g} s")


def vendor_config(chain: LocalBase, **overrides: Any) -> dict[str, Any]:
    """A quick vendor's config: short windows, a box that is up in a moment."""
    return {
        "rpc_url": chain.rpc_url,
        "relayer_key": chain.dev_account(10)[1],
        "max_timeout_s": WINDOW_S,
        "provision_s": 0.2,
        "worker_interval_s": 0.05,
        **overrides,
    }

"""An agent of the gateway: an account with a key, and the requests it makes over real HTTP."""

from __future__ import annotations

import itertools
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import requests

if TYPE_CHECKING:
    from collections.abc import Callable

    from e2e_gateway import Gateway

TIMEOUT_S = 60
PROBLEM = "urn:gateway:problem:"
_numbers = itertools.count(1)


class Agent:
    """One key of one account. `gateway` may be replaced by the process that was started after it."""

    def __init__(self, gateway: Gateway, account_id: str, key: str) -> None:
        self.gateway, self.account_id, self.key = gateway, account_id, key

    @classmethod
    def open(cls, gateway: Gateway, credit: str = "100", **key: object) -> Agent:
        """Open an account, give it credit, and make a key."""
        account_id = f"agent{next(_numbers)}"
        gateway.operate("account_open", account=account_id, name="An agent")
        gateway.operate("account_credit", account=account_id, amount=credit, reference=f"credit of {account_id}")
        return cls(gateway, account_id, gateway.operate("key_new", account=account_id, **key)["secret"])

    def another_key(self, **key: object) -> Agent:
        """Return the same account with another key."""
        made = self.gateway.operate("key_new", account=self.account_id, **key)
        return Agent(self.gateway, self.account_id, made["secret"])

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """Make a request; `headers` are added to the key."""
        headers = {"Authorization": f"Bearer {self.key}"} | options.pop("headers", {})
        return requests.request(
            method,
            self.gateway.base_url + path,
            headers=headers,
            timeout=options.pop("timeout", TIMEOUT_S),
            allow_redirects=False,
            **options,
        )

    def rent(self, sku: str = "sandbox_1h", vendor: str = "vpsagent", **headers: str) -> requests.Response:
        """Rent a box; keyword arguments are headers, with _ for -."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", f"/proxy/{vendor}/rent", json={"sku": sku}, headers=named)

    def balance(self) -> dict[str, Decimal]:
        """Return available, held, spent, refunded and credited."""
        found = self.ask("GET", "/v1/balance").json()
        return {name: Decimal(found[name]) for name in ("available", "held", "spent", "refunded", "credited")}

    def payments(self) -> list[Any]:
        """Return every payment of the account, the newest first."""
        entries: list[Any] = []
        after = ""
        while True:
            page = self.ask("GET", f"/v1/payments?limit=200{after}").json()
            entries += page["entries"]
            if page["next"] is None:
                return entries
            after = f"&after={page['next']}"

    def payment(self, payment_id: str) -> Any:
        """Return everything about one payment."""
        answer = self.ask("GET", f"/v1/payments/{payment_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wait_closed(self, payment_id: str, within_s: float = 90) -> Any:
        """Wait until the hold has ended, and return the payment."""
        return eventually(
            lambda: (found := self.payment(payment_id))["charge"] != "held" and found,
            within_s=within_s,
            what=f"the end of {payment_id}",
        )


def problem_of(answer: requests.Response) -> str:
    """Return the code of a problem document; the answer must be one."""
    assert answer.headers.get("Content-Type") == "application/problem+json", (answer.status_code, answer.text[:500])
    document = answer.json()
    assert document["status"] == answer.status_code
    assert document["type"].startswith(PROBLEM)
    return str(document["type"].removeprefix(PROBLEM))


def eventually(probe: Callable[[], Any], *, within_s: float = 90, what: str = "it", pause_s: float = 0.1) -> Any:
    """Poll until the probe answers something true, and return that; fail after `within_s`."""
    give_up_at = time.monotonic() + within_s
    while time.monotonic() < give_up_at:
        found = probe()
        if found:
            return found
        time.sleep(pause_s)
    raise AssertionError(f"{what} did not happen within {within_s:g} s")

"""`kill -9` in the middle of a neutral order and of a neutral renewal, with real processes: one server, one purchase (P4, P12).

Every moment at which it may happen is gone through in `tests/flows`; here are those between two processes that remember
different things: what the gateway has written, what the vendor has done, and what the agent was told.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import requests
from e2e_agent import Agent, eventually
from e2e_books import read_books
from e2e_gateway import GatewayHome
from hour_gateway import DrivenGateway
from hour_vendors import NAMES, Bill, Vendors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)

AT_ONCE = 5
DIE_WITHIN_S = 45
CREDIT = Decimal(5)
KILLED = -9
MINUTES, MORE_MINUTES = 60, 30
PRICES_BASE = {"dropmpp": 23_400, "vpsagent": 500_000}
"""What the first server costs at the vendors that are paid at once."""
RENEWALS_BASE = {"dropmpp": 10_000, "vpsagent": 500_000}
BUYING, RENEWING = "commit.Put.Server.ordered.after", "commit.Put.Server.renewal_begun.after"
BOUGHT = "commit.Purchase.after"


@dataclass(frozen=True, slots=True)
class Case:
    """At which vendor, and after which points the process dies: while the order is fulfilled, or a renewal of it."""

    vendor: str
    points: tuple[str, ...]

    def __str__(self) -> str:
        """Name the case."""
        return f"{self.vendor} {' '.join(self.points)}"

    @property
    def renews(self) -> bool:
        """Whether it dies in the renewal."""
        return self.points[0] == RENEWING


def _moments(vendor: str, begun: str, kept: str) -> list[Case]:
    """Begun and not bought; bought and not sent; done by the vendor and not heard; heard, and not kept with the server."""
    return [
        Case(vendor, (begun,)),
        Case(vendor, (begun, BOUGHT)),
        Case(vendor, (begun, BOUGHT, "send.after")),
        Case(vendor, (begun, BOUGHT, kept)),
    ]


CASES = [
    *_moments("dropmpp", BUYING, "commit.Put.Server.provisioning.written"),
    *_moments("litevps", BUYING, "commit.Put.Server.provisioning.written"),
    *_moments("dropmpp", RENEWING, "commit.Put.Server.renewed.written"),
    *_moments("vpsagent", RENEWING, "commit.RecordSettled.written"),
]


@dataclass(slots=True)
class Survived:
    """A case after its end: the server and its account as the API tells them, the vendors' bills of what it made."""

    exits: list[int]
    first: Any
    server: Any
    servers: list[Any]
    payments: list[Any]
    renewals: list[Any]
    balance: dict[str, Decimal]
    bill: Bill
    database: Path


class Stage:
    """The chains and vendors that all cases share."""

    def __init__(self, vendors: Vendors) -> None:
        self.vendors = vendors

    def play(self, case: Case, home: GatewayHome) -> Survived:
        """Order a server, renew it, and end it, through a gateway that dies on the way."""
        clock = home.directory / "clock"
        gateway = DrivenGateway(home, clock, case.points)
        agent = self._open(gateway)
        first = _ask(agent, case) if case.renews else None
        if first is not None:
            _until(agent, first["id"], "running")
            assert _renew(agent, first["id"], case) is None
        else:
            assert _ask(agent, case) is None
        exits = [gateway.wait_end(DIE_WITHIN_S)]
        with DrivenGateway(home, clock) as gateway:
            gateway.wait_open()
            gateway.wait_ready()
            agent.gateway = gateway
            asked = eventually(lambda: _ask(agent, case), what=f"the answer after {case}")
            server = _until(agent, asked["id"], "running")
            if case.renews:
                self._see_renewed(agent, first, case)
            if case.vendor != "vpsagent":  # which destroys nothing
                assert agent.ask("DELETE", f"/v1/servers/{server['id']}").status_code == 202
                _until(agent, server["id"], "destroyed")
            eventually(lambda: agent.balance()["held"] == 0, what=f"the end of all holds after {case}")
            survived = self._survived(agent, asked["id"], home)
        survived.first, survived.exits = first, [*exits, gateway.wait_end(1)]
        return survived

    def _open(self, gateway: DrivenGateway) -> Agent:
        gateway.wait_open()
        gateway.wait_ready()
        agent = Agent.open(gateway, str(CREDIT))
        everywhere = "/v1/plans?sandbox=true&limit=200"
        eventually(
            lambda: {plan["vendor"] for plan in agent.ask("GET", everywhere).json()["entries"]} == set(NAMES),
            what="the plans of every vendor",
        )
        return agent

    def _see_renewed(self, agent: Agent, first: Any, case: Case) -> None:
        """The renewal that was begun is asked for again; it is over when its time has been added, and its money is in."""
        path = f"/v1/servers/{first['id']}"
        eventually(lambda: _renew(agent, first["id"], case), what=f"the renewal after {case}")
        eventually(
            lambda: (
                (told := agent.ask("GET", path).json())["renewal"]["state"] == "none"
                and told["expires_at"] > first["expires_at"]
            ),
            what=f"the end of the renewal after {case}",
        )

    def _survived(self, agent: Agent, server_id: str, home: GatewayHome) -> Survived:
        server = agent.ask("GET", f"/v1/servers/{server_id}").json()
        bills = self.vendors.bills()
        return Survived(
            exits=[],
            first=None,
            server=server,
            servers=agent.ask("GET", "/v1/servers?limit=200").json()["entries"],
            payments=agent.payments(),
            renewals=agent.ask("GET", f"/v1/servers/{server_id}/renewals").json()["entries"],
            balance=agent.balance(),
            bill=bills[server["vendor"], server["ref"]],
            database=home.database,
        )


def _ask(agent: Agent, case: Case) -> Any:
    """Order the one server, again and again under the same key; None while there is no answer."""
    need = {"vendors": [case.vendor], "min_memory_mib": 512, "sandbox": True, "for_s": 3600}
    body: dict[str, Any] = {"name": "the-one", "need": need}
    if case.vendor == "dropmpp":
        body["minutes"] = MINUTES
    return _posted(agent, "/v1/servers?wait=running&timeout_s=30", body, "the one server")


def _renew(agent: Agent, server_id: str, case: Case) -> Any:
    units = MORE_MINUTES if case.vendor == "dropmpp" else 1
    return _posted(agent, f"/v1/servers/{server_id}/renewals", {"units": units}, "the one renewal")


def _posted(agent: Agent, path: str, body: Any, key: str) -> Any:
    try:
        answer = agent.ask("POST", path, json=body, headers={"Idempotency-Key": key}, timeout=45)
    except requests.ConnectionError:
        return None
    assert answer.status_code in {200, 201, 202}, answer.text
    return answer.json()


def _until(agent: Agent, server_id: str, state: str) -> Any:
    def there() -> Any:
        found = agent.ask("GET", f"/v1/servers/{server_id}?wait={state}&timeout_s=20").json()
        return found if found["state"] == state else None

    return eventually(there, what=f"{state} of {server_id}", within_s=40)


@pytest.fixture(scope="module")
def survivals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Case, Future[Survived]]]:
    """Every case, a few at once, each on a directory and a wallet of its own."""
    homes = {case: GatewayHome(tmp_path_factory.mktemp("kill") / f"gw{n}") for n, case in enumerate(CASES)}
    with Vendors() as vendors:
        for home in homes.values():
            vendors.configure(home)
        stage = Stage(vendors)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            yield {case: pool.submit(stage.play, case, home) for case, home in homes.items()}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_server_and_one_purchase_of_it_and_of_its_renewal(
    survivals: dict[Case, Future[Survived]], case: Case
) -> None:
    """The agent that asks again under its key gets the one server; the vendor has billed it once, and its renewal once."""
    seen = survivals[case].result()
    assert seen.exits == [KILLED, 0]
    assert [server["id"] for server in seen.servers] == [seen.server["id"]]
    assert seen.first is None or seen.first["id"] == seen.server["id"]
    spent_base = int(Decimal(seen.server["spent"]) * 1_000_000)
    assert spent_base == seen.bill.amount_base > 0
    charged = [payment for payment in seen.payments if Decimal(payment["captured"])]
    assert sum(Decimal(payment["captured"]) for payment in seen.payments) == seen.balance["spent"]
    assert seen.balance["available"] == CREDIT - seen.balance["spent"]
    assert {(p["vendor"], p["resource"]["ref"]) for p in charged} == {(seen.server["vendor"], seen.server["ref"])}
    assert len(seen.renewals) == int(case.renews)
    if case.vendor != "litevps":
        assert len(charged) == 1 + int(case.renews)
        assert spent_base == PRICES_BASE[case.vendor] + (RENEWALS_BASE[case.vendor] if case.renews else 0)
    assert read_books(seen.database).tasks == []  # P1, and nobody had to be asked

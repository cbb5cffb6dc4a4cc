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

AT_ONCE = 5
DIE_WITHIN_S = 120
CREDIT = Decimal(5)
KILLED = -9
MINUTES, MORE_MINUTES = 60, 30
PRICES_BASE = {"dropmpp": 23_400, "vpsagent": 500_000}
"""What the first server costs at the vendors that are paid at once."""
RENEWALS_BASE = {"dropmpp": 10_000, "vpsagent": 500_000}
# So many gateways use one account at once that no vendor's limits would let them.
UNLIMITED = {
    "cryptovps": {"auth_per_min": 0, "rest_per_min": 0},
    "litevps": {"login_per_min": 0},
    "vrtx": {"sustained_per_min": 100_000, "burst_per_10s": 100_000},
}
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

    @property
    def unheard(self) -> bool:
        """Whether an extension was paid and done, and nobody ever tells that its answer was lost."""
        return self.vendor == "dropmpp" and self.renews and self.points[-1] == "send.after"


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
        first = None
        with DrivenGateway(home, clock, case.points) as gateway:
            agent = self._open(gateway)
            if case.renews:
                first = _until_paid(agent, _until(agent, _ask(agent, case)["id"], "running")["id"])
                _renew(agent, first["id"], case)  # a renewal is answered once it is bought, and may die after that
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
            # P5: what was collected and not heard of is unknown, and unknown keeps its hold.
            held = Decimal(RENEWALS_BASE["dropmpp"]) / 1_000_000 if case.unheard else Decimal(0)
            eventually(lambda: agent.balance()["held"] == held, what=f"the end of all holds after {case}")
            survived = self._survived(agent, asked["id"], home)
        survived.first, survived.exits = first, [*exits, gateway.wait_end(1)]
        return survived

    def _open(self, gateway: DrivenGateway) -> Agent:
        gateway.wait_open()
        gateway.wait_ready()
        agent = Agent.open(gateway, str(CREDIT))
        # The house's own purchase of a catalogue is over then: this is about the agent's.
        plans = "/v1/plans?sandbox=true&limit=200"
        eventually(
            lambda: {plan["vendor"] for plan in agent.ask("GET", plans).json()["entries"]} == set(NAMES),
            what="the plans of every vendor",
        )
        return agent

    def _see_renewed(self, agent: Agent, first: Any, case: Case) -> None:
        """The renewal that was begun is asked for again, and anew once its money is dead; it is over when its end moves."""
        path = f"/v1/servers/{first['id']}"
        eventually(lambda: _renew(agent, first["id"], case), what=f"the renewal after {case}")

        def over() -> bool:
            told = agent.ask("GET", path).json()
            if told["renewal"]["state"] != "none":
                return False
            if told["expires_at"] == first["expires_at"] and _is_dead(agent, first["id"]):
                _renew(agent, first["id"], case, key="the-second-renewal")
            return bool(told["expires_at"] > first["expires_at"])

        eventually(over, within_s=90, pause_s=0.3, what=f"the end of the renewal after {case}")

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
    what = {"plan": "dropmpp/small", "minutes": MINUTES} if case.vendor == "dropmpp" else {"need": need}
    body = {"name": "the-one", **what}
    return _posted(agent, "/v1/servers?wait=running&timeout_s=30", body, "the-one-server")


def _renew(agent: Agent, server_id: str, case: Case, key: str = "the-one-renewal") -> Any:
    units = MORE_MINUTES if case.vendor == "dropmpp" else 1
    return _posted(agent, f"/v1/servers/{server_id}/renewals", {"units": units}, key)


def _is_dead(agent: Agent, server_id: str) -> bool:
    """Say whether the agent was told that a renewal of its was never collected, and never will be."""
    events = agent.ask("GET", "/v1/events?types=server.renewal_failed&limit=200").json()["entries"]
    return any(e["data"]["server_id"] == server_id and e["data"].get("warning") == "dead" for e in events)


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


def _until_paid(agent: Agent, server_id: str) -> Any:
    """Wait until its order is charged: a server that was not paid yet cannot be renewed everywhere."""

    def paid() -> Any:
        found = agent.ask("GET", f"/v1/servers/{server_id}").json()
        return found if found["payment"]["charge"] == "captured" else None

    return eventually(paid, what=f"the charge of {server_id}")


@pytest.fixture(scope="module")
def survivals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Case, Future[Survived]]]:
    """Every case, a few at once, each on a directory and a wallet of its own."""
    homes = {case: GatewayHome(tmp_path_factory.mktemp("kill") / f"gw{n}") for n, case in enumerate(CASES)}
    with Vendors(UNLIMITED) as vendors:
        for home in homes.values():
            vendors.configure(home)
        stage = Stage(vendors)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            longest_first = sorted(homes, key=lambda case: case.points[-1] != BOUGHT)
            yield {case: pool.submit(stage.play, case, homes[case]) for case in longest_first}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_server_and_one_purchase_of_it_and_of_its_renewal(
    survivals: dict[Case, Future[Survived]], case: Case
) -> None:
    """The agent that asks again under its key gets the one server; the vendor has billed it once, and its renewal once."""
    seen = survivals[case].result()
    assert seen.exits == [KILLED, 0]
    assert [server["id"] for server in seen.servers] == [seen.server["id"]]
    assert seen.first is None or seen.first["id"] == seen.server["id"]
    paid_base = int((Decimal(seen.server["spent"]) + Decimal(seen.server["held"])) * 1_000_000)
    assert paid_base == seen.bill.amount_base > 0
    kept = [p for p in seen.payments if Decimal(p["captured"]) or p["charge"] == "held"]
    assert {(p["vendor"], p["resource"]["ref"]) for p in kept} == {(seen.server["vendor"], seen.server["ref"])}
    assert sum(Decimal(p["captured"]) for p in kept) == seen.balance["spent"]
    assert seen.balance["available"] == CREDIT - seen.balance["spent"] - seen.balance["held"]
    renewals = [p for p in seen.renewals if p["charge"] != "voided"]
    assert [p["charge"] for p in renewals] == (["held" if case.unheard else "captured"] if case.renews else [])
    if case.vendor != "litevps":
        assert len(kept) == 1 + int(case.renews)
        assert paid_base == PRICES_BASE[case.vendor] + (RENEWALS_BASE[case.vendor] if case.renews else 0)
    assert read_books(seen.database).tasks == []  # P1, and nobody had to be asked

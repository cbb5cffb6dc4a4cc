"""`kill -9` at every durable step of a purchase: after the restart every promise holds and the work goes on (P12)."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import requests
from crashing_gateway import CrashingGateway
from e2e_agent import Agent, eventually
from e2e_books import check_against_chain, read_books
from e2e_config import PASSPHRASE, vpsagent_block
from e2e_gateway import GatewayHome
from world import WALLET_FLOAT_BASE, VpsAgentHands, payee_of, start_vpsagent, uses_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.chain import LocalBase

AT_ONCE = 8
DIE_WITHIN_S = 120
PRICE = Decimal("0.5")
CREDIT = Decimal(2)
KILLED = -9


@dataclass(frozen=True, slots=True)
class Crash:
    """Where the first process dies, where the second does (None: it lives), and whether the box comes up."""

    first: str
    second: str | None = None
    box: bool = True

    def __str__(self) -> str:
        """Name the case."""
        return self.first + (f" then {self.second}" if self.second else "") + ("" if self.box else " without a box")


def _around(point: str, after: str = "", **options: Any) -> list[Crash]:
    return [Crash(f"{after}{point}.before", **options), Crash(f"{after}{point}.after", **options)]


def _commit(command: str, **options: Any) -> list[Crash]:
    return [Crash(f"commit.{command}.{step}", **options) for step in ("before", "written", "after")]


CRASHES = [
    *_around("send"),
    *_around("sign"),
    *_commit("Purchase"),
    *_around("mark", after="commit.Purchase.after,"),
    *_around("send", after="commit.Purchase.after,"),
    *_commit("RecordOutcome"),
    *_around("answer"),
    *_commit("MarkAnswered"),
    *_around("chain.receipt"),
    *_commit("RecordSettled"),
    *_around("chain.authorization_used", box=False),
    *_commit("RecordDead", box=False),
    # The restarted process dies as well, while it is finding the lost answer.
    Crash("commit.Purchase.after", "send.before"),
    Crash("commit.Purchase.after,send.after", "send.after"),
    Crash("commit.Purchase.after,send.after", "commit.RecordOutcome.written"),
]


@dataclass(slots=True)
class Survived:
    """A case after its end."""

    home: GatewayHome
    vendor: VpsAgentHands
    exits: list[int]
    answers: list[requests.Response]
    payment: Any
    traced: Any
    stranger_sees: int
    balance: dict[str, Decimal]
    key: str


class Stage:
    """The chain and the vendors that all cases share: one whose boxes come up, one whose boxes never do."""

    def __init__(self, base: LocalBase, vendors: dict[bool, VpsAgentHands], payees: dict[bool, str]) -> None:
        self.base, self.vendors, self.payees = base, vendors, payees

    def play(self, crash: Crash, home: GatewayHome) -> Survived:
        """Buy a box through a gateway that dies on the way, as often as the case says, and see it to its end."""
        gateway = CrashingGateway(home, crash.first.split(","))
        gateway.wait_open()
        gateway.wait_ready()
        agent = Agent.open(gateway, str(CREDIT))
        stranger = Agent.open(gateway, str(CREDIT))
        answers: list[requests.Response] = []
        _rent(agent, answers)
        exits = [gateway.wait_end(DIE_WITHIN_S)]
        if crash.second is not None:
            # It may die before it was ever ready: it begins to look for the lost answer at once.
            exits.append(CrashingGateway(home, [crash.second]).wait_end(DIE_WITHIN_S))
        with CrashingGateway(home) as gateway:
            gateway.wait_open()
            gateway.wait_ready()
            agent.gateway = stranger.gateway = gateway
            answer = eventually(lambda: _rent(agent, answers), what=f"the answer after {crash}")
            payment_id = answer.headers["X-Payment-Id"]
            payment = agent.wait_closed(payment_id)
            traced = gateway.operate("trace", what=payment["authorization"]["nonce"])
            balance = agent.balance()
            stranger_sees = stranger.ask("GET", f"/v1/payments/{payment_id}").status_code
        exits.append(gateway.wait_end(1))
        vendor = self.vendors[crash.box]
        return Survived(home, vendor, exits, answers, payment, traced, stranger_sees, balance, agent.key)


def _rent(agent: Agent, answers: list[requests.Response]) -> requests.Response | None:
    """Make the one request, again and again under the same key; None while it is not answered with a box."""
    try:
        answer = agent.rent(Idempotency_Key="the-one-purchase")
    except requests.ConnectionError:
        return None
    answers.append(answer)
    return answer if answer.status_code == 200 else None


@pytest.fixture(scope="module")
def stage(base: LocalBase) -> Iterator[Stage]:
    """Two vendors with books of their own."""
    payees = {True: payee_of(base, 13), False: payee_of(base, 15)}
    never = {"kind": "box", "mode": "never", "times": None}
    with (
        start_vpsagent(base, 12, payees[True]) as up,
        start_vpsagent(base, 14, payees[False], faults=[never]) as down,
    ):
        yield Stage(base, {True: VpsAgentHands(up), False: VpsAgentHands(down)}, payees)


@pytest.fixture(scope="module")
def survivals(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Crash, Future[Survived]]]:
    """Every case, a few at once, each on a directory and a wallet of its own."""
    homes: dict[Crash, GatewayHome] = {}
    for number, crash in enumerate(CRASHES):
        home = homes[crash] = GatewayHome(tmp_path_factory.mktemp("crash") / f"gw{number}")
        url, payee = stage.vendors[crash.box].process.base_url, stage.payees[crash.box]
        home.configure(stage.base.rpc_url, {"vpsagent": vpsagent_block(url, payee)})
    stage.base.fund({home.wallet: WALLET_FLOAT_BASE for home in homes.values()})
    with ThreadPoolExecutor(AT_ONCE) as pool:
        longest_first = sorted(homes, key=lambda crash: crash.box)
        yield {crash: pool.submit(stage.play, crash, homes[crash]) for crash in longest_first}


def test_at_least_twenty_distinct_points() -> None:
    """The harness kills at no fewer places than it must."""
    assert len({crash.first for crash in CRASHES}) >= 20


@pytest.mark.parametrize("crash", CRASHES, ids=str)
def test_promises_hold_after_a_kill(stage: Stage, survivals: dict[Crash, Future[Survived]], crash: Crash) -> None:
    """One purchase, one credential, one collection or none; the hold ended with evidence; the repeat got the answer."""
    seen = survivals[crash].result()
    assert seen.exits == [KILLED] * (len(seen.exits) - 1) + [0]
    assert len(seen.exits) == (3 if crash.second else 2)
    _check_money(stage, crash, seen)
    _check_vendor(crash, seen)
    _check_secrets(seen)


def _check_money(stage: Stage, crash: Crash, seen: Survived) -> None:
    payment, captured = seen.payment, PRICE if crash.box else Decimal(0)
    end = ("delivered", "settled", "captured") if crash.box else ("delivered", "dead", "voided")
    assert (payment["delivery"], payment["transfer"], payment["charge"]) == end
    assert payment["evidence"]["kind"] == ("settled" if crash.box else "unused")  # P5, P6, P14
    assert (seen.balance["available"], seen.balance["held"]) == (CREDIT - captured, Decimal(0))  # P2
    books = read_books(seen.home.database)  # P1
    assert list(books.payments) == [payment["id"]]  # P4: however often it was asked
    assert len(books.authorizations) == 1
    assert len(books.evidence) == 1  # P13
    assert books.tasks == []
    check_against_chain(books, stage.base, seen.home.wallet, [stage.payees[crash.box]])  # P3, P7, P8
    assert len(uses_of(stage.base, seen.home.wallet)) == int(crash.box)
    assert [found["id"] for found in seen.traced["payments"]] == [payment["id"]]  # P11
    assert seen.stranger_sees == 404  # P9
    delivered = [answer for answer in seen.answers if answer.status_code == 200]
    assert {answer.headers["X-Payment-Id"] for answer in delivered} == {payment["id"]}
    assert len({answer.content for answer in delivered}) == 1


def _check_vendor(crash: Crash, seen: Survived) -> None:
    """P4 as the vendor saw it: whatever it was shown of this wallet is one credential, byte for byte, for one box."""
    state = seen.vendor.state()
    wallet = seen.home.wallet.lower()
    purchases = [entry for entry in state["purchases"].values() if entry["payer"].lower() == wallet]
    assert [entry["nonce"] for entry in purchases] == [seen.payment["authorization"]["nonce"]]
    assert len(state["seen"][purchases[0]["nonce"]]["headers"]) == 1
    tries = [entry for entry in state["settlements"] if entry["nonce"] == purchases[0]["nonce"] and entry["ok"]]
    assert len(tries) == int(crash.box)


def _check_secrets(seen: Survived) -> None:
    """P10: no log and no database page holds a password, a key or the vendor's own token in clear."""
    (rental,) = (
        rental
        for rental in seen.vendor.state()["rentals"].values()
        if rental["rental_id"] == seen.payment["resource"]["ref"]
    )
    kept = seen.home.log_path.read_bytes() + seen.home.database.read_bytes()
    for secret in (PASSPHRASE, seen.key, rental["root_token"], rental["root_password"]):
        assert secret.encode() not in kept

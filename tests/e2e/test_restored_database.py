"""An older copy of the database put back: recognised, quarantined, lifted by the chain alone, nothing lost in silence."""

from __future__ import annotations

import shutil
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from e2e_agent import Agent, eventually, problem_of
from e2e_books import read_books
from e2e_config import vpsagent_block
from e2e_gateway import Gateway, GatewayHome
from world import VENDOR_PAYEE, WALLET_FLOAT_BASE, payee_of, uses_of

from contracts.tokens import BASE_USDC

if TYPE_CHECKING:
    from pathlib import Path

    from world import VpsAgentHands

    from sandbox.chain import LocalBase


def _copy(home: GatewayHome, to: Path) -> None:
    """Copy the database of a gateway that has stopped."""
    shutil.copy(home.database, to)


def _restore(home: GatewayHome, copy: Path) -> None:
    """Put an older copy back, as an operator does after a broken disk: the file, and none of its companions."""
    for name in ("-wal", "-shm"):
        home.database.with_name(home.database.name + name).unlink(missing_ok=True)
    shutil.copy(copy, home.database)


def test_older_copy_is_quarantined_until_the_chain_has_told_all(
    base: LocalBase, vendor: VpsAgentHands, tmp_path: Path
) -> None:
    """Nothing is signed meanwhile; what the copy does not know was collected becomes a task and stops the wallet."""
    home = GatewayHome(tmp_path / "gw")
    home.configure(base.rpc_url, {"vpsagent": vpsagent_block(vendor.process.base_url, payee_of(base, VENDOR_PAYEE))})
    base.mint(home.wallet, WALLET_FLOAT_BASE)
    with home.start() as gateway:
        agent = Agent.open(gateway, "10")
        first = agent.wait_closed(agent.rent().headers["X-Payment-Id"])
    copy = tmp_path / "older.db"
    _copy(home, copy)
    with home.start() as agent.gateway:
        lost = agent.wait_closed(agent.rent().headers["X-Payment-Id"])
        agent.gateway.kill()
    assert len(uses_of(base, home.wallet)) == 2
    _restore(home, copy)
    seen = len(vendor.state()["seen"])
    with home.start(ready=False) as agent.gateway:
        eventually(lambda: problem_of(agent.rent()) != "not_ready", what="the first look at the chain")
        assert problem_of(agent.rent()) == "frozen"
        eventually(lambda: agent.gateway.readiness() == 200, what="the first whole reading of the chain")
        (freeze,) = (f for f in agent.gateway.operate("freeze_list")["freezes"] if f["by"] == "quarantine")
        status, _ = agent.gateway.try_operate("freeze_lift", scope=freeze["scope"], reason="impatience")
        assert status == 503
        # A restart does not shake it off, nor does another copy of the same.
        assert agent.gateway.stop() == 0
    with home.start(ready=False) as agent.gateway:
        eventually(lambda: problem_of(agent.rent()) == "frozen", what="the first look at the chain")
        eventually(lambda: not _quarantined(agent.gateway), within_s=60, what="the end of the quarantine")
        lifted_at = base.final()
        assert lifted_at["timestamp"] > _window_ends_s(lost)
        assert len(vendor.state()["seen"]) == seen
        (task,) = (t for t in agent.gateway.operate("tasks_list")["tasks"] if t["kind"] == "unknown_outflow")
        assert task["subject"] == lost["tx_hash"]
        assert problem_of(agent.rent()) == "frozen"  # the wallet still is, until a human has looked
        assert agent.balance()["available"] == Decimal("9.5")
        wallet = f"wallet:{home.wallet}"
        agent.gateway.operate("freeze_lift", scope=wallet, reason="it was our own, from before the restore")
        agent.gateway.operate("tasks_close", task=task["id"], resolution="booked by hand")
        again = agent.rent()
        assert again.status_code == 200, again.text
        paid = agent.wait_closed(again.headers["X-Payment-Id"])
        assert paid["charge"] == "captured"
        assert len({payment["id"] for payment in (first, lost, paid)}) == 3
    books = read_books(home.database)
    assert books.balances[f"wallet:{home.wallet.lower()}", BASE_USDC.asset_id] == (base.balance_of(home.wallet), 0)
    assert books.balances["suspense", BASE_USDC.asset_id] == (500_000, 0)
    assert len(uses_of(base, home.wallet)) == 3


def _quarantined(gateway: Gateway) -> bool:
    return any(freeze["by"] == "quarantine" for freeze in gateway.operate("freeze_list")["freezes"])


def _window_ends_s(payment: dict[str, dict[str, str]]) -> float:
    return datetime.fromisoformat(payment["authorization"]["valid_before"]).timestamp()


def test_current_database_is_not_quarantined(base: LocalBase, vendor: VpsAgentHands, tmp_path: Path) -> None:
    """A database that a killed process left behind is the true one: it may pay at once."""
    home = GatewayHome(tmp_path / "gw")
    home.configure(base.rpc_url, {"vpsagent": vpsagent_block(vendor.process.base_url, payee_of(base, VENDOR_PAYEE))})
    base.mint(home.wallet, WALLET_FLOAT_BASE)
    with home.start() as gateway:
        agent = Agent.open(gateway, "10")
        assert agent.rent().status_code == 200
        gateway.kill()
    with home.start() as agent.gateway:
        assert agent.gateway.operate("freeze_list")["freezes"] == []
        assert agent.rent(Idempotency_Key="after").status_code == 200

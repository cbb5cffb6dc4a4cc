"""A nonce that was used for other terms than ours, on a real chain: nothing will ever prove it, and the operator ends it."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from e2e_agent import Agent, eventually
from e2e_config import PASSPHRASE, PASSPHRASE_VARIABLE, vpsagent_block
from e2e_gateway import GatewayHome
from world import VENDOR_PAYEE, WALLET_FLOAT_BASE, payee_of

from contracts.codec import parse_address, parse_bytes32, to_hex
from contracts.eip3009 import Authorization
from contracts.signature import load_key, sign_digest
from contracts.tokens import BASE_USDC
from gateway.store.load import verify_book
from sandbox.devtoken import Authorization as Submitted
from sandbox.process import ROOT
from wallets.keystore import Keystore
from wallets.secret import Secret

if TYPE_CHECKING:
    from pathlib import Path

    from e2e_gateway import Gateway
    from world import VpsAgentHands

    from sandbox.chain import LocalBase

TAKEN_BASE = 200_000  # of half a dollar that was promised
FLOAT_LOOKS_S = 45


def use_otherwise(base: LocalBase, home: GatewayHome, key: bytes, nonce: str, payee: str) -> str:
    """Use a nonce of the wallet's for less than was promised with it, as only who has its key can; return the transaction."""
    until_s = int(time.time()) + 3600
    signed = Authorization(
        token=BASE_USDC,
        authorizer=parse_address(home.wallet),
        pay_to=parse_address(payee),
        value_base=TAKEN_BASE,
        valid_after=0,
        valid_before=until_s,
        nonce=parse_bytes32(nonce),
    )
    terms = Submitted(sender=home.wallet, to=payee, value=TAKEN_BASE, valid_after=0, valid_before=until_s, nonce=nonce)
    receipt = base.transfer_with_authorization(terms, to_hex(sign_digest(load_key(key), signed.digest)))
    return str(receipt["transactionHash"])


def command(home: GatewayHome, *words: str) -> tuple[int, Any]:
    """Run the command line; return its exit code and the document that it wrote."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "--json", *words, "--config", str(home.config)],
        cwd=ROOT,
        env={**os.environ, PASSPHRASE_VARIABLE: PASSPHRASE, "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
    )
    return done.returncode, json.loads(done.stdout or done.stderr)


def held(gateway: Gateway) -> Decimal:
    """Return what the book says that the wallet holds."""
    code = f"wallet:{gateway.home.wallet.lower()}"
    return next(Decimal(row["posted"]) for row in gateway.operate("balances")["accounts"] if row["code"] == code)


def test_what_nothing_proves_is_ended_by_the_operator(base: LocalBase, vendor: VpsAgentHands, tmp_path: Path) -> None:
    """The agent pays what really left, the rest of its hold goes back, and the wallet is compared with the book again."""
    home, payee = GatewayHome(tmp_path / "gw"), payee_of(base, VENDOR_PAYEE)
    base.mint(home.wallet, WALLET_FLOAT_BASE)
    key = Keystore(home.directory / "keystore").unlock(Secret(PASSPHRASE)).keys[parse_address(home.wallet)].reveal()
    home.configure(base.rpc_url, {"vpsagent": vpsagent_block(vendor.process.base_url, payee)})
    with home.start() as gateway:
        agent = Agent.open(gateway, "5")
        vendor.fault("settle", mode="never")
        payment_id = agent.rent().headers["X-Payment-Id"]
        vendor.clear()
        tx_hash = use_otherwise(base, home, key, agent.payment(payment_id)["authorization"]["nonce"], payee)
        (task,) = eventually(lambda: gateway.operate("tasks_list")["tasks"], what="the question", within_s=60)
        assert (task["kind"], task["payment"]) == ("settlement_mismatch", payment_id)
        words = ("payments", "resolve", payment_id, "captured", "--resolution", "read in an explorer")
        code, problem = command(home, *words, "--left", "0.5")
        assert (code, problem["type"]) == (2, "urn:gateway:problem:bad_resolution")
        assert agent.balance()["held"] == Decimal("0.5")
        base.mint(home.wallet, 1_000_000)  # comes in while nothing is compared
        code, answer = command(home, *words, "--left", "0.2", "--tx", tx_hash)
        assert (code, answer["payment"]["charge"], answer["payment"]["captured"]) == (0, "captured", "0.200000")
        assert (agent.balance()["available"], agent.balance()["held"]) == (Decimal("4.8"), 0)
        shown = agent.payment(payment_id)
        assert (shown["evidence"]["kind"], shown["tx_hash"]) == ("resolved", tx_hash)
        assert "unproven.resolved" not in {
            row["kind"] for row in shown["journal"]
        }  # who decided is not the agent's to read
        whole = Decimal(WALLET_FLOAT_BASE + 1_000_000 - TAKEN_BASE) / 10**6
        eventually(lambda: held(gateway) == whole, what="the comparison", within_s=FLOAT_LOOKS_S)
        assert gateway.operate("tasks_list")["tasks"] == []
        assert gateway.operate("freeze_list")["freezes"] == []
        assert command(home, *words, "--left", "0.2")[1]["type"] == "urn:gateway:problem:not_unproven"
    code, problem = command(home, *words, "--left", "0.2")
    assert (code, problem["type"]) == (1, "urn:gateway:problem:not_ready")  # nobody sees the chain now
    with contextlib.closing(sqlite3.connect(f"file:{home.database}?mode=ro", uri=True)) as db:
        verify_book(db)
    assert base.balance_of(home.wallet) == WALLET_FLOAT_BASE + 1_000_000 - TAKEN_BASE

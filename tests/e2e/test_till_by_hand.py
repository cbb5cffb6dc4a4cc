"""The operator's way from a till to a wallet, as docs/operations.md has it: an exported key, a plain transfer, an honest book."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from e2e_agent import Agent, eventually
from e2e_config import PASSPHRASE, PASSPHRASE_VARIABLE
from eth_account import Account
from topup_bed import BASE, ETHER, PACK_BASE, TillHome, make_home, open_chains

from contracts.codec import checksum, to_hex
from contracts.tokens import BASE_USDC
from sandbox.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from e2e_gateway import Gateway

MOVED_BASE = 300_000
V3_VARIABLE = "E2E_V3_PASSPHRASE"
TRANSFER_SELECTOR = "0xa9059cbb"


@pytest.fixture
def till(tmp_path: Path) -> Iterator[TillHome]:
    """A gateway's directory with a wallet and a till; no process runs on it yet."""
    with open_chains() as chains:
        yield make_home(tmp_path, chains, BASE)


def exported_key(till: TillHome) -> bytes:
    """Export the till's key with the command line, while the gateway runs, and open the file as a wallet program does."""
    out = till.home.directory / "till.json"
    command = ["wallet", "export", checksum(till.till), "--out", str(out), "--v3-passphrase", f"env:{V3_VARIABLE}"]
    environ = {**os.environ, PASSPHRASE_VARIABLE: PASSPHRASE, V3_VARIABLE: "opened elsewhere", "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-m", "gateway", *command, "--config", str(till.home.config)],
        cwd=ROOT,
        env=environ,
        check=True,
        capture_output=True,
    )
    return bytes(Account.decrypt(out.read_text(), "opened elsewhere"))


def send_tokens(till: TillHome, key: bytes, payee: str, value_base: int) -> str:
    """Send an ordinary transfer of the token from the till, which needs ether for it; return its hash."""
    chain, till_address = till.chains.base, checksum(till.till)
    chain.rpc("anvil_setBalance", till_address, hex(ETHER))
    transaction = {
        "chainId": chain.chain_id,
        "nonce": int(chain.rpc("eth_getTransactionCount", till_address, "latest"), 16),
        "to": checksum(BASE_USDC.address),
        "value": 0,
        "gas": 200_000,
        "maxFeePerGas": 10**10,
        "maxPriorityFeePerGas": 10**9,
        "data": TRANSFER_SELECTOR + payee[2:].lower().rjust(64, "0") + f"{value_base:064x}",
    }
    raw = Account.sign_transaction(transaction, key).raw_transaction
    return str(chain.rpc("eth_sendRawTransaction", to_hex(bytes(raw))))


def tasks(gateway: Gateway) -> list[dict[str, Any]]:
    """Return the open tasks."""
    return list(gateway.operate("tasks_list")["tasks"])


def held(gateway: Gateway, code: str) -> str:
    """Return what is posted to an account in the token."""
    rows = gateway.operate("balances")["accounts"]
    found = [row["posted"] for row in rows if (row["code"], row["asset"]) == (code, BASE_USDC.asset_id)]
    return found[0] if found else "0.000000"


def test_the_operators_own_transfer_is_booked_and_told(till: TillHome) -> None:
    """Nothing is frozen, nobody's credit changes, both ends agree with the chain, and a human is asked who did it."""
    wallet = till.home.wallet
    with till.home.start(ready=False) as gateway:
        eventually(lambda: gateway.readiness() == 200, what="readiness")
        gateway.operate("account_open", account="payer", name="A customer")
        agent = Agent(gateway, "payer", gateway.operate("key_new", account="payer")["secret"])
        purse = till.chains.purse(BASE)
        headers = {"Authorization": f"Bearer {agent.key}"}
        paid = purse.pay_x402(gateway.base_url, "/v1/topups/packs/one", headers, 2).send(gateway.base_url)
        assert paid is not None
        eventually(lambda: not till.open_things(), what="the top-up's last block", within_s=60, pause_s=0.2)
        capital = held(gateway, "house:capital")

        tx_hash = send_tokens(till, exported_key(till), wallet, MOVED_BASE)
        eventually(lambda: tasks(gateway), what="the question", within_s=60, pause_s=0.2)
        eventually(lambda: held(gateway, f"wallet:{wallet.lower()}") == "0.300000", what="the float", within_s=60)
        (task,) = tasks(gateway)
        assert (task["kind"], task["subject"]) == ("till_moved", tx_hash)
        assert gateway.operate("freeze_list")["freezes"] == []
        assert held(gateway, f"wallet:{to_hex(till.till)}") == "0.200000"
        assert (held(gateway, "house:capital"), held(gateway, "suspense")) == (capital, "0.000000")
        assert gateway.operate("account_list")["accounts"][0]["available"] == "0.500000"
        assert [each["kind"] for each in gateway.operate("trace", what=tx_hash)["outflows"]] == ["moved"]
        gateway.operate("tasks_close", task=task["id"], resolution="it was me")
    till.verify()
    assert till.chains.base.balance_of(checksum(till.till)) == PACK_BASE - MOVED_BASE
    assert till.rows("SELECT 1 FROM freezes") == []

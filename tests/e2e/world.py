"""Everything real at once: a local Base, vendors and sellers as processes, and a gateway between them and its agents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests
from e2e_agent import Agent, eventually
from e2e_config import WINDOW_S

from contracts.codec import checksum, parse_address
from sandbox.process import SandboxProcess

if TYPE_CHECKING:
    from collections.abc import Mapping

    from e2e_config import VendorBlock
    from e2e_gateway import Gateway

    from sandbox.chain import LocalBase

# keccak("AuthorizationUsed(address,bytes32)") and keccak("Transfer(address,address,uint256)"), as logs carry them.
AUTHORIZATION_USED = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5"
TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
VENDOR_RELAYER, VENDOR_PAYEE = 10, 11  # of the chain's accounts, for the vendor that most tests share
WALLET_FLOAT_BASE = 100_000_000_000


def payee_of(base: LocalBase, index: int) -> str:
    """Return one of the chain's accounts with its checksum, as the address that a vendor is paid at."""
    return checksum(parse_address(base.dev_account(index)[0]))


def start_vpsagent(base: LocalBase, relayer: int, payee: str, **overrides: Any) -> SandboxProcess:
    """Start a quick VpsAgent that settles with the gas of the chain's account `relayer`."""
    config = {
        "rpc_url": base.rpc_url,
        "relayer_key": base.dev_account(relayer)[1],
        "pay_to": payee,
        "max_timeout_s": WINDOW_S,
        "provision_s": 0.3,
        "worker_interval_s": 0.1,
        **overrides,
    }
    return SandboxProcess.start("sandbox.vpsagent", config)


@dataclass(frozen=True, slots=True)
class VpsAgentHands:
    """What a test does with a VpsAgent beside the gateway: its scripted faults, its books, its public routes."""

    process: SandboxProcess

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """Call the admin API and return its JSON."""
        answer = requests.request(method, self.process.admin_url + path, json=body, timeout=20)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def fault(self, kind: str, route: str = "*", **parameters: Any) -> None:
        """Put a fault in force."""
        self.admin("POST", "/admin/faults", {"kind": kind, "route": route, **parameters})

    def clear(self) -> None:
        """Lift every fault."""
        self.admin("DELETE", "/admin/faults")

    def state(self) -> Any:
        """Return everything that the vendor knows."""
        return self.admin("GET", "/admin/state")


@dataclass(frozen=True, slots=True)
class World:
    """One gateway with what stands around it."""

    base: LocalBase
    vendor: VpsAgentHands
    gateway: Gateway
    blocks: Mapping[str, VendorBlock]

    def wait_all_closed(self) -> None:
        """Wait until no hold is open."""
        eventually(
            lambda: not self.gateway.operate("payments_list", open=True)["payments"], what="the end of all holds"
        )

    def agent(self, credit: str = "100", **key: object) -> Agent:
        """Return a new account with credit and a key."""
        return Agent.open(self.gateway, credit, **key)


def uses_of(base: LocalBase, wallet: str, nonce: str | None = None) -> list[Any]:
    """Return the chain's AuthorizationUsed logs of a wallet, of one nonce where it is given."""
    topics = [AUTHORIZATION_USED, "0x" + wallet[2:].lower().rjust(64, "0"), nonce]
    found: list[Any] = base.rpc(
        "eth_getLogs", {"address": base.token_address, "fromBlock": "0x0", "toBlock": "latest", "topics": topics}
    )
    return found

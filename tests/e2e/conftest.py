"""Real parts, shared by the whole directory where tests can share them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from e2e_config import ANSWERS_IN_S, VendorBlock, vpsagent_block
from e2e_gateway import GatewayHome
from odd_seller import OddSeller
from world import VENDOR_PAYEE, VENDOR_RELAYER, WALLET_FLOAT_BASE, VpsAgentHands, World, payee_of, start_vpsagent

from sandbox.chain import LocalBase

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def base() -> Iterator[LocalBase]:
    """The chain of this directory: a block each second."""
    with LocalBase.start(block_time_s=1) as chain:
        yield chain


@pytest.fixture(scope="session")
def vendor(base: LocalBase) -> Iterator[VpsAgentHands]:
    """The VpsAgent that tests share; whoever puts a fault in force makes the request that it strikes at once."""
    with start_vpsagent(base, VENDOR_RELAYER, payee_of(base, VENDOR_PAYEE)) as process:
        yield VpsAgentHands(process)


@pytest.fixture(scope="session")
def odd() -> Iterator[OddSeller]:
    """The seller that answers as it is told to."""
    with OddSeller() as seller:
        yield seller


@pytest.fixture(scope="session")
def world(
    base: LocalBase, vendor: VpsAgentHands, odd: OddSeller, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """The gateway that tests share. `strict` is the same vendor, for whose faults the house bears nothing."""
    home = GatewayHome(tmp_path_factory.mktemp("shared") / "gw")
    base.mint(home.wallet, WALLET_FLOAT_BASE)
    url, payee = vendor.process.base_url, payee_of(base, VENDOR_PAYEE)
    blocks = {
        "vpsagent": vpsagent_block(url, payee, more='dispute_loss_cap = "1000"', rent='ceiling = "100"'),
        "strict": vpsagent_block(url, payee),
        "odd": VendorBlock(kind="x402", base_url=odd.base_url, payee=payee, ceiling="1", answers_in_s=ANSWERS_IN_S),
    }
    home.configure(base.rpc_url, blocks)
    with home.start() as gateway:
        yield World(base, vendor, gateway, blocks)

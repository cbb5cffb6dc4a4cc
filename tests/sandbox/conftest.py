"""Real parts for the tests of vendors and sellers: a local Base with funded payers, and a VpsAgent that settles on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sandbox_harness import VendorClient, vendor_config

from sandbox.process import SandboxProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.chain import LocalBase


@pytest.fixture(scope="session")
def funded_base(shared_local_base: LocalBase) -> LocalBase:
    """The shared chain, with USDC on its first six accounts."""
    shared_local_base.fund({shared_local_base.dev_account(index)[0]: 10_000_000_000 for index in range(6)})
    return shared_local_base


@pytest.fixture(scope="session")
def vendor_process(funded_base: LocalBase) -> Iterator[SandboxProcess]:
    """The shared vendor process."""
    with SandboxProcess.start("sandbox.vpsagent", vendor_config(funded_base)) as process:
        yield process


@pytest.fixture
def vendor(vendor_process: SandboxProcess, funded_base: LocalBase) -> VendorClient:
    """The shared vendor with an empty book, and an account that can pay it."""
    client = VendorClient(vendor_process, funded_base, 0)
    client.admin("POST", "/admin/reset")
    return client

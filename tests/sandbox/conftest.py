"""Real parts for the sandbox's own tests: a local Base, and a VpsAgent process that settles on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sandbox_harness import VendorClient, vendor_config

from sandbox.chain import LocalBase
from sandbox.process import SandboxProcess

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def chain() -> Iterator[LocalBase]:
    """A local Base with a block a second, as the SDK reads the wall clock; the first six accounts hold USDC."""
    with LocalBase.start(block_time_s=1) as base:
        base.fund({base.dev_account(index)[0]: 10_000_000_000 for index in range(6)})
        yield base


@pytest.fixture(scope="session")
def vendor_process(chain: LocalBase) -> Iterator[SandboxProcess]:
    """The shared vendor process."""
    with SandboxProcess.start("sandbox.vpsagent", vendor_config(chain)) as process:
        yield process


@pytest.fixture
def vendor(vendor_process: SandboxProcess, chain: LocalBase) -> VendorClient:
    """The shared vendor with an empty book."""
    client = VendorClient(vendor_process, chain, 0)
    client.admin("POST", "/admin/reset")
    return client

"""Vendor processes that the whole directory shares: each is started once, and begins anew for every test."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sandbox.process import SandboxProcess
from tests.flows.broker_bed import CONFIGS, Bed, Vendors, opened


@pytest.fixture(scope="session")
def account_vendors() -> Iterator[Vendors]:
    """The three vendors that know us by an account."""
    with ExitStack() as stack:
        processes = {
            kind: stack.enter_context(SandboxProcess.start(f"sandbox.{kind}", config))
            for kind, config in CONFIGS.items()
        }
        yield Vendors(processes)


@pytest.fixture
async def broker_bed(tmp_path: Path, account_vendors: Vendors) -> AsyncIterator[Bed]:
    """A gateway in front of them."""
    async with opened(tmp_path, account_vendors) as bed:
        yield bed

"""Fixtures for every suite. Chains are real: anvil starts in a tenth of a second, so most tests take their own."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from sandbox.chain import LocalBase

# The same examples every time, and none fails for being slow: a suite that says no has found a defect, not a busy machine.
# To look further than the usual examples: `make test ARGS="--hypothesis-profile=default"`.
settings.load_profile("ci")


@pytest.fixture
def local_base() -> Iterator[LocalBase]:
    """A fresh local Base with a block each second."""
    with LocalBase.start(block_time_s=1) as chain:
        yield chain


@pytest.fixture
def automine_base() -> Iterator[LocalBase]:
    """A fresh local Base that mines a block for each transaction, and only then."""
    with LocalBase.start(block_time_s=None) as chain:
        yield chain


@pytest.fixture(scope="session")
def shared_local_base() -> Iterator[LocalBase]:
    """One local Base with a block each second; leave its time, roles and history alone."""
    with LocalBase.start(block_time_s=1) as chain:
        yield chain


@pytest.fixture(scope="session")
def shared_automine_base() -> Iterator[LocalBase]:
    """One local Base that mines a block for each transaction; leave its time, roles and history alone."""
    with LocalBase.start(block_time_s=None) as chain:
        yield chain

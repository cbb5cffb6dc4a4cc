"""The bed for every test of the agents' side."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.gateway.api.bed import Bed, opened


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    """The gateway's agents' side, running, with a shop behind it."""
    async with opened(tmp_path) as running:
        yield running

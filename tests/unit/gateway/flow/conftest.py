"""What the flows' unit tests stand on."""

from collections.abc import AsyncIterator

import pytest
from settle_rig import Rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A tracker that has read its first blocks, with a wallet of 1000 tokens."""
    made = await Rig().open()
    yield made
    await made.store.close()
    made.db.close()

"""What the tests of being paid stand on."""

from collections.abc import AsyncIterator

import pytest
from till_rig import TillRig


@pytest.fixture
async def till() -> AsyncIterator[TillRig]:
    """A till on a scripted Base, its first blocks read."""
    made = await TillRig().open()
    yield made
    await made.close()

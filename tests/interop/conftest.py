"""The market: one gateway process, four sellers whose payment code is not ours, two chains. Started once for the directory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# The gateway as a process and its agents are those of the end-to-end suite.
sys.path.append(str(Path(__file__).parent.parent / "e2e"))

if TYPE_CHECKING:
    from collections.abc import Iterator

    from market import Market


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    """Everything, running."""
    from market import open_market

    with open_market(tmp_path_factory.mktemp("market")) as opened:
        yield opened

"""What a payer is about to pay counts for two seconds, by a clock that may be set back."""

from types import SimpleNamespace
from typing import Any

import pytest
from till_rig import PAYER, TillRig

from gateway.core.problems import Problem
from gateway.flow.paid.funds import CLAIMED_WITHIN_MS, Funds


@pytest.mark.parametrize("moved_ms", [CLAIMED_WITHIN_MS, -86_400_000], ids=["two seconds later", "clock set back"])
async def test_what_was_never_claimed_stands_in_nobodys_way_for_long(till: TillRig, moved_ms: int) -> None:
    """A good answer whose order never came is forgotten."""
    chain: Any = till.chain
    store: Any = SimpleNamespace(view=SimpleNamespace(topups={}))
    funds = Funds(store, {till.token.chain_id: chain}, till.clock)
    all_base = await chain.token_balance(till.token, PAYER, await chain.head())
    assert await funds.shortage(till.token, PAYER, b"a", all_base, 0) is None
    with pytest.raises(Problem, match="other payments under way"):
        await funds.shortage(till.token, PAYER, b"b", all_base, 0)
    till.clock.ms += moved_ms
    assert await funds.shortage(till.token, PAYER, b"b", all_base, 0) is None

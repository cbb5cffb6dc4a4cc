"""The rule of finality and its ratchet."""

import pytest

from gateway.chains.finality import Finality, FinalMark
from gateway.ports import Block, ChainDisagreement

FIVE, SIX = Block(5, b"\x05" * 32, 50), Block(6, b"\x06" * 32, 60)


@pytest.mark.parametrize("text", ["finalized", "confirmations:1", "confirmations:999999"])
def test_a_rule_reads_as_it_is_written(text: str) -> None:
    """Reading and writing a rule are each other's inverse."""
    assert str(Finality.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "latest",
        "safe",
        "Finalized",
        "confirmations:",
        "confirmations:0",
        "confirmations:01",
        "confirmations:-1",
        "confirmations:1000000",
        "confirmations:\u0661",
        "confirmations:1\n",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """A misread rule would be money moved too early."""
    with pytest.raises(ValueError, match="finality"):
        Finality.parse(text)


def test_the_mark_only_advances() -> None:
    """A lower block keeps the old one, a higher one replaces it, the same one changes nothing."""
    mark = FinalMark()
    assert mark.advance(FIVE) == FIVE
    assert mark.advance(SIX) == SIX
    assert mark.advance(FIVE) == SIX
    assert mark.advance(SIX) == SIX


@pytest.mark.parametrize("other", [Block(6, b"\x07" * 32, 60), Block(6, b"\x06" * 32, 61)])
def test_another_block_at_the_marks_height_is_a_disagreement(other: Block) -> None:
    """Another hash, or another time under the same hash, and the mark stays what it was."""
    mark = FinalMark(SIX)
    for use in (mark.advance, mark.require):
        with pytest.raises(ChainDisagreement, match="final block 6 changed"):
            use(other)
    assert mark.block == SIX

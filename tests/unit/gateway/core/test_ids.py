"""Identifiers: their order, their shape."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ids import make_id

MS = st.integers(min_value=0, max_value=2**48 - 1)
RANDOM = st.binary(min_size=10, max_size=10)


@given(MS, MS, RANDOM, RANDOM)
def test_a_later_millisecond_sorts_later(first_ms: int, second_ms: int, a: bytes, b: bytes) -> None:
    """Ids order by time first, whatever the random part."""
    if first_ms < second_ms:
        assert make_id("pay", first_ms, a) < make_id("pay", second_ms, b)


@given(MS, RANDOM)
def test_an_id_is_its_prefix_and_26_characters(now_ms: int, randomness: bytes) -> None:
    """The shape never changes, so ids can be told from other text."""
    text = make_id("pay", now_ms, randomness)
    assert text.startswith("pay_")
    assert len(text) == 30


def test_an_id_is_pinned() -> None:
    """The encoding is part of what is stored: it may not change."""
    assert make_id("pay", 1_700_000_000_000, bytes(range(10))) == "pay_01HF7YAT00000G40R40M30E209"

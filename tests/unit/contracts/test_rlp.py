"""RLP by hand equals the library that eth-account brings."""

from typing import Any

import pytest
import rlp
from hypothesis import given
from hypothesis import strategies as st

from contracts.rlp import rlp_bytes, rlp_list, rlp_uint

# Around 55 and 255, where the prefix changes its form.
byte_strings = st.one_of(st.binary(max_size=70), st.binary(min_size=250, max_size=260))
items = st.recursive(byte_strings, lambda inner: st.lists(inner, max_size=6), max_leaves=12)


def ours(item: Any) -> bytes:
    """Encode nested lists of bytes."""
    return rlp_bytes(item) if isinstance(item, bytes) else rlp_list(*(ours(part) for part in item))


@given(items)
def test_equals_the_library(item: Any) -> None:
    """Any nesting of any bytes is encoded as the library does, and read back by it."""
    encoded = ours(item)
    assert encoded == rlp.encode(item)
    assert rlp.decode(encoded) == item


@given(st.integers(min_value=0, max_value=2**256 - 1))
def test_integers_equal_the_librarys(value: int) -> None:
    """Integers have no leading zeros, and zero is the empty string."""
    assert rlp_uint(value) == rlp.encode(value)


@pytest.mark.parametrize("length", [0, 1, 55, 56, 255, 256, 65_535, 65_536])
def test_each_form_of_the_prefix(length: int) -> None:
    """Every step of the length prefix, for strings and for lists."""
    assert rlp_bytes(b"\xff" * length) == rlp.encode(b"\xff" * length)
    assert rlp_list(*[b"\x01"] * length) == rlp.encode([b"\x01"] * length)


def test_single_bytes() -> None:
    """A byte below 0x80 is itself; 0x80 and above has a prefix."""
    assert [rlp_bytes(bytes((value,))) for value in (0, 0x7F, 0x80)] == [b"\x00", b"\x7f", b"\x81\x80"]

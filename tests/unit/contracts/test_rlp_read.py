"""RLP is read as the library reads it, and only in its shortest form."""

from typing import Any

import pytest
import rlp
from hypothesis import given
from hypothesis import strategies as st

from contracts.codec import ContractError
from contracts.rlp import rlp_bytes, rlp_list, rlp_uint
from contracts.rlp_read import MAX_DEPTH, Item, RlpError, read_rlp_list, rlp_items, rlp_number, rlp_text

ITEMS = st.recursive(st.binary(max_size=300), lambda inner: st.lists(inner, max_size=4), max_leaves=12)


def read_one(data: bytes) -> Item:
    """Read exactly one item, as the only one of a list."""
    items, _ = read_rlp_list(rlp_list(data), "one")
    if len(items) != 1:
        raise RlpError("not one item")
    return items[0]


@given(ITEMS)
def test_what_the_library_writes_is_read(item: Any) -> None:
    """Every item comes back; a list's parts are its content."""
    encoded = rlp.encode(item)
    assert read_one(encoded) == item
    if isinstance(item, list):
        items, parts = read_rlp_list(encoded, "it")
        assert (items, rlp_list(*parts)) == (item, encoded)


@given(st.binary(max_size=80))
def test_whatever_is_read_has_one_spelling(data: bytes) -> None:
    """Any bytes are refused, or are exactly what their items encode to."""
    try:
        item = read_one(data)
    except RlpError:
        return
    assert rlp.encode(item) == data


@pytest.mark.parametrize(
    "text",
    ["", "8100", "817f", "b801ff", "b90001", "b83700", "c0c0", "8561", "c261", "f800", "f90000", "bf", "ff"],
)
def test_other_spellings_are_refused(text: str) -> None:
    """Nothing, a prefix too many, a length too long or too short, bytes after the end."""
    with pytest.raises(RlpError):
        read_one(bytes.fromhex(text))


def test_depth_is_bounded() -> None:
    """Nesting costs a frame each, so it ends somewhere."""
    nested = b"\xc0"
    for _ in range(MAX_DEPTH + 1):
        nested = rlp_list(nested)
    with pytest.raises(RlpError, match="deeper"):
        read_one(nested)


def test_items_have_kinds() -> None:
    """A number has no leading zero and fits; bytes are no list, and a list is no bytes."""
    assert rlp_number(read_one(rlp_uint(42431)), 63, "chainId") == 42431
    assert rlp_number(b"", 63, "nonce") == 0
    for wrong in (b"\0", b"\0\x01", b"\xff" * 9, []):
        with pytest.raises(ContractError):
            rlp_number(wrong, 63, "n")
    with pytest.raises(RlpError):
        rlp_text([], "t")
    with pytest.raises(RlpError):
        rlp_items(b"", "i")
    with pytest.raises(RlpError):
        read_rlp_list(rlp_bytes(b"ab"), "l")

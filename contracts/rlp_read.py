"""Reading RLP that a stranger wrote: the one encoding of each item, or nothing.

Must not know what is encoded. Theory: whoever signs an encoding signs its bytes, so a second spelling of the same items
(a long form for a short string, a zero before a number, bytes after the end) would be a second transaction with the
same meaning; a reader that refuses all but the shortest form can take fields out and trust that they are the bytes.
"""

from collections.abc import Sequence
from typing import TypeAlias

from contracts.codec import ContractError, require_uint

MAX_DEPTH = 8

Item: TypeAlias = "bytes | list[Item]"

_STRING = 0x80
_LONG_STRING = 0xB7
_LIST = 0xC0
_LONG_LIST = 0xF7
_SHORT_MAX = 55


class RlpError(ContractError):
    """The bytes are not the RLP of one item in its shortest form."""


def read_rlp_list(data: bytes, field: str) -> tuple[list[Item], tuple[bytes, ...]]:
    """Decode exactly one list: its items, and the encoding of each, which together are the list's content.

    Raises RlpError for anything after it, cut short, too deep, or not in shortest form.
    """
    start, end, is_list = _span(data, 0) if data else (0, -1, False)
    if not is_list or end != len(data):
        raise RlpError(f"{field}: expected one list and nothing after it")
    items: list[Item] = []
    parts: list[bytes] = []
    at = start
    while at < end:
        item, after = _read(data, at, 1)
        items.append(item)
        parts.append(data[at:after])
        at = after
    return items, tuple(parts)


def rlp_text(item: Item, field: str) -> bytes:
    """Return an item that is a byte string. Raises RlpError."""
    if not isinstance(item, bytes):
        raise RlpError(f"{field}: expected bytes, found a list")
    return item


def rlp_number(item: Item, bits: int, field: str) -> int:
    """Return an item that is an integer below ``2**bits`` without leading zeros. Raises ContractError."""
    data = rlp_text(item, field)
    if data[:1] == b"\0":
        raise RlpError(f"{field}: an integer with a leading zero")
    return require_uint(int.from_bytes(data, "big"), bits, field)


def rlp_items(item: Item, field: str) -> Sequence[Item]:
    """Return the items of an item that is a list. Raises RlpError."""
    if isinstance(item, bytes):
        raise RlpError(f"{field}: expected a list, found bytes")
    return item


def _read(data: bytes, at: int, depth: int) -> tuple[Item, int]:
    start, end, is_list = _span(data, at)
    if not is_list:
        return data[start:end], end
    if depth >= MAX_DEPTH:
        raise RlpError(f"rlp: nested deeper than {MAX_DEPTH}")
    items: list[Item] = []
    while start < end:
        item, start = _read(data, start, depth + 1)
        items.append(item)
    if start != end:
        raise RlpError("rlp: an item that is longer than its list")
    return items, end


def _span(data: bytes, at: int) -> tuple[int, int, bool]:
    """Return where the content of the item at ``at`` begins and ends, and whether it is a list."""
    if at >= len(data):
        raise RlpError("rlp: cut short")
    head = data[at]
    is_list = head >= _LIST
    base, long = (_LIST, _LONG_LIST) if is_list else (_STRING, _LONG_STRING)
    if head < _STRING:
        return at, at + 1, False
    if head <= long:
        start, length = at + 1, head - base
        if length == 1 and not is_list and data[start : start + 1] < b"\x80" and start < len(data):
            raise RlpError("rlp: a single byte that has a prefix")
    else:
        start = at + 1 + head - long
        size = data[at + 1 : start]
        length = int.from_bytes(size, "big")
        if len(size) != head - long or size[:1] == b"\0" or length <= _SHORT_MAX:
            raise RlpError("rlp: a length that is not in its shortest form")
    if start + length > len(data):
        raise RlpError("rlp: cut short")
    return start, start + length, is_list

"""RLP, the encoding of transactions: bytes, integers and lists, written only.

Must not know what is encoded. Theory: an item is its own single byte below 0x80, or a length prefix and its content,
and the shortest form is the only one; so encoding is concatenation. Hand-written because the library that eth-account
brings costs 0.4 s of import and some 100 us a transaction; tests compare the two.
"""

_SHORT_MAX = 55
_STRING = 0x80
_LIST = 0xC0


def rlp_bytes(data: bytes) -> bytes:
    """Encode a byte string."""
    if len(data) == 1 and data[0] < _STRING:
        return data
    return _prefix(len(data), _STRING) + data


def rlp_uint(value: int) -> bytes:
    """Encode an integer of 0 or more, big-endian without leading zeros; 0 is the empty string."""
    return rlp_bytes(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def rlp_list(*items: bytes) -> bytes:
    """Encode a list of items that are encoded already."""
    content = b"".join(items)
    return _prefix(len(content), _LIST) + content


def _prefix(length: int, kind: int) -> bytes:
    if length <= _SHORT_MAX:
        return bytes((kind + length,))
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((kind + _SHORT_MAX + len(size),)) + size

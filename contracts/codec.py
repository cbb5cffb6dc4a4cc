"""Text to bytes and integers, and back: the only place where hex and decimal text are read or written.

Must not know networks, tokens or protocols. Theory: Python's own ``int()`` and ``bytes.fromhex()`` accept far more
than any wire format means (signs, blanks, underscores, full-width digits), so each grammar is spelled out here and a
value that came through is trusted from then on.
"""

import re
from functools import lru_cache
from typing import NewType

from contracts.keccak import keccak256

Address = NewType("Address", bytes)
"""Twenty bytes that name an account on an EVM chain."""

ADDRESS_BYTES = 20
WORD_BYTES = 32
ZERO_ADDRESS = Address(bytes(ADDRESS_BYTES))
UINT256_MAX = 2**256 - 1

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,77}", re.ASCII)
_QUANTITY = re.compile(r"0x(0|[1-9a-fA-F][0-9a-fA-F]{0,63})", re.ASCII)
_HEX = re.compile(r"0x([0-9a-fA-F]*)", re.ASCII)  # pairs in a group cost seventeen times as much
_ADDRESS = re.compile(r"0x([0-9a-fA-F]{40})", re.ASCII)


class ContractError(ValueError):
    """A value from outside is not what its place on chain or on the wire requires."""


class CodecError(ContractError):
    """A piece of text does not follow its grammar; the message names the field and never repeats a long input."""


def _text(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise CodecError(f"{field}: expected text, got {type(value).__name__}")
    return value


def parse_address(text: object, field: str = "address") -> Address:
    """Read ``0x`` and 40 hex digits. One case throughout is accepted; mixed case must be a right EIP-55 checksum.

    Raises CodecError. The checksum matters because a mistyped address is money sent to nobody.
    """
    value = _text(text, field)
    match = _ADDRESS.fullmatch(value)
    if match is None:
        raise CodecError(f"{field}: expected 0x and 40 hex digits")
    digits = match[1]
    address = Address(bytes.fromhex(digits))
    if digits not in (digits.lower(), digits.upper()) and checksum(address) != value:
        raise CodecError(f"{field}: mixed-case address with a wrong EIP-55 checksum")
    return address


def parse_bytes32(text: object, field: str = "bytes32") -> bytes:
    """Read ``0x`` and exactly 64 hex digits. Raises CodecError."""
    data = parse_hex(text, WORD_BYTES, field)
    if len(data) != WORD_BYTES:
        raise CodecError(f"{field}: expected 32 bytes, got {len(data)}")
    return data


def parse_hex(text: object, max_bytes: int, field: str = "hex") -> bytes:
    """Read ``0x`` and whole bytes of hex, at most ``max_bytes`` of them. Raises CodecError."""
    value = _text(text, field)
    if len(value) > 2 + 2 * max_bytes:
        raise CodecError(f"{field}: more than {max_bytes} bytes")
    match = _HEX.fullmatch(value)
    if match is None or len(value) % 2:
        raise CodecError(f"{field}: expected 0x and an even number of hex digits")
    return bytes.fromhex(match[1])


def to_hex(data: bytes) -> str:
    """Write bytes as ``0x`` and lower-case hex."""
    return "0x" + data.hex()


@lru_cache(maxsize=4_096)
def checksum(address: Address) -> str:
    """Write an address with its EIP-55 checksum."""
    digits = address.hex()
    marks = keccak256(digits.encode("ascii")).hex()
    return "0x" + "".join(
        digit.upper() if mark > "7" else digit for digit, mark in zip(digits, marks[:40], strict=True)
    )


def parse_uint(text: object, bits: int = 256, field: str = "number") -> int:
    """Read a decimal string ``0|[1-9][0-9]*`` below ``2**bits``. Raises CodecError.

    JSON numbers are refused: a float or a boolean must never become an amount.
    """
    value = _text(text, field)
    if _DECIMAL.fullmatch(value) is None:
        raise CodecError(f"{field}: expected a plain decimal integer as text")
    return require_uint(int(value), bits, field)


def parse_quantity(text: object, bits: int = 256, field: str = "quantity") -> int:
    """Read a JSON-RPC quantity (``0x`` and hex without leading zeros) below ``2**bits``. Raises CodecError."""
    value = _text(text, field)
    match = _QUANTITY.fullmatch(value)
    if match is None:
        raise CodecError(f"{field}: expected a JSON-RPC quantity")
    return require_uint(int(match[1], 16), bits, field)


def require_uint(value: object, bits: int, field: str) -> int:
    """Return ``value`` if it is an int (not a bool) from 0 to ``2**bits - 1``. Raises CodecError."""
    if type(value) is not int:
        raise CodecError(f"{field}: expected an integer, got {type(value).__name__}")
    if value < 0 or value >> bits:
        raise CodecError(f"{field}: outside uint{bits}")
    return value


def require_bytes(value: object, length: int, field: str) -> bytes:
    """Return ``value`` if it is bytes of exactly ``length``. Raises CodecError."""
    if not isinstance(value, bytes):
        raise CodecError(f"{field}: expected bytes, got {type(value).__name__}")
    if len(value) != length:
        raise CodecError(f"{field}: expected {length} bytes, got {len(value)}")
    return value

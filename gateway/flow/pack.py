"""Requests and answers as bytes, for sealing: what leaves a process again must be byte for byte what left it first (P4).

Must not know keys.  Theory: four bytes of length before each part; no escapes, no second spelling.
"""

from contracts.codec import ContractError

MIN_PARTS = 3  # two words and a body


class PackError(ContractError):
    """The bytes are not a packed message: the wrong row, or another program's."""


Headers = tuple[tuple[str, str], ...]


def pack(first: str, second: str, headers: Headers, body: bytes) -> bytes:
    """Return the parts as one byte string."""
    parts = [first.encode(), second.encode()]
    for name, value in headers:
        parts += [name.encode("latin-1"), value.encode("latin-1")]
    parts.append(body)
    return b"".join([len(part).to_bytes(4, "big") + part for part in parts])


def unpack(packed: bytes) -> tuple[str, str, Headers, bytes]:
    """Return what `pack` was given. Raises PackError."""
    parts: list[bytes] = []
    at = 0
    while at < len(packed):
        length = int.from_bytes(packed[at : at + 4], "big")
        part = packed[at + 4 : at + 4 + length]
        if len(part) != length:
            raise PackError("a packed message was cut short")
        parts.append(part)
        at += 4 + length
    if len(parts) < MIN_PARTS or len(parts) % 2 == 0:
        raise PackError("a packed message has an impossible number of parts")
    pairs = parts[2:-1]
    headers = tuple((pairs[i].decode("latin-1"), pairs[i + 1].decode("latin-1")) for i in range(0, len(pairs), 2))
    return parts[0].decode(), parts[1].decode(), headers, parts[-1]

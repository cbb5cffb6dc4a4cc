"""A sponsor for tests: completes a 0x78 hand-over as mppx's and pympp's sellers do, with RLP's library."""

from typing import Any

import rlp

from contracts.codec import Address
from contracts.keccak import keccak256
from contracts.signature import sign_digest


def complete(hand_over: bytes, sponsor_key: Any, fee_token: Address) -> bytes:
    """Return the raw 0x76 transaction whose fee the sponsor pays in `fee_token`."""
    assert hand_over[0] == 0x78
    *fields, wallet_signature = rlp.decode(hand_over[1:])
    fields[10] = fee_token
    signature = sign_digest(sponsor_key, keccak256(b"\x78" + rlp.encode(fields)))
    numbers = (signature[64] - 27, int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big"))
    fields[11] = [rlp.sedes.big_endian_int.serialize(number) for number in numbers]
    completed: bytes = b"\x76" + rlp.encode([*fields, wallet_signature])
    return completed

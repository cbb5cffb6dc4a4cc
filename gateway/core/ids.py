"""Identifiers that sort by time and say what they name: `pay_01K...`.

Must not know a clock or a source of randomness: both are handed in.  Theory: 48 bits of milliseconds before 80 random
bits, in Crockford's base 32, keep indexes append-like and make collisions a matter of chance that never happens.
"""

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
RANDOM_BYTES = 10
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_SHIFTS = tuple(range(120, -1, -10))


def make_id(prefix: str, now_ms: int, randomness: bytes) -> str:
    """Return `prefix_` and 26 characters; ids of a later millisecond sort after those of an earlier one."""
    value = (now_ms << 80) | int.from_bytes(randomness[:RANDOM_BYTES], "big")
    return f"{prefix}_{''.join([_PAIRS[value >> shift & 1023] for shift in _SHIFTS])}"

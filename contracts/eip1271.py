"""ERC-1271: asking a contract wallet whether a signature is its own.

Must not know who asks. Theory: the wallet's code decides, by any rule and with any delay, so its answer holds for one block
alone, may cost any amount of gas, and may come from code that is no wallet; anything but the magic word is no.
"""

from contracts.calls import SIGNATURE_MAX_BYTES, CallError, selector
from contracts.codec import WORD_BYTES, require_bytes

IS_VALID_SIGNATURE = selector("isValidSignature(bytes32,bytes)")
MAGIC = IS_VALID_SIGNATURE.ljust(WORD_BYTES, b"\0")
"""The answer that means yes: the function's own selector, padded to a word."""

ERC6492_SUFFIX = b"\x64\x92" * 16
"""What ends a signature of a wallet that is not deployed yet (ERC-6492); such signatures are refused by default."""


def encode_is_valid_signature(digest: bytes, signature: bytes) -> bytes:
    """Encode isValidSignature(digest, signature). Raises ContractError for a digest of another length or over 8 KiB."""
    require_bytes(digest, WORD_BYTES, "digest")
    if len(signature) > SIGNATURE_MAX_BYTES:
        raise CallError(f"signature: more than {SIGNATURE_MAX_BYTES} bytes")
    return (
        IS_VALID_SIGNATURE
        + digest
        + (2 * WORD_BYTES).to_bytes(WORD_BYTES, "big")
        + len(signature).to_bytes(WORD_BYTES, "big")
        + signature
        + bytes(-len(signature) % WORD_BYTES)
    )


def decode_is_valid_signature(answer: bytes) -> bool:
    """Say whether an answer means yes, as the token reads it: its first word is exactly the magic one."""
    return answer[:WORD_BYTES] == MAGIC


def is_erc6492(signature: bytes) -> bool:
    """Say whether a signature claims to be one of a wallet that its factory has still to deploy."""
    return signature.endswith(ERC6492_SUFFIX)

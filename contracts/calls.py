"""Call data of the token functions that we use, and the strict reading of their answers.

Must not know JSON-RPC or who sends the call. Theory: every argument is one 32-byte word except a trailing ``bytes``,
so the ABI is a concatenation; an answer that is not exactly the expected words comes from another contract or from a
broken node, and is an error, never a zero.
"""

from contracts.codec import ADDRESS_BYTES, WORD_BYTES, Address, ContractError, require_bytes
from contracts.eip3009 import Authorization
from contracts.keccak import keccak256
from contracts.signature import SIGNATURE_BYTES

SELECTOR_BYTES = 4
SIGNATURE_MAX_BYTES = 8192
STRING_MAX_BYTES = 1024


class CallError(ContractError):
    """An answer is not the ABI encoding of the type that the function returns."""


def selector(signature: str) -> bytes:
    """Return the first four bytes of keccak of a canonical function signature."""
    return keccak256(signature.encode("ascii"))[:SELECTOR_BYTES]


TRANSFER_VRS = selector(
    "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)"
)
TRANSFER_BYTES = selector("transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)")
TRANSFER = selector("transfer(address,uint256)")
TRANSFER_WITH_MEMO = selector("transferWithMemo(address,uint256,bytes32)")
AUTHORIZATION_STATE = selector("authorizationState(address,bytes32)")
BALANCE_OF = selector("balanceOf(address)")
DOMAIN_SEPARATOR = selector("DOMAIN_SEPARATOR()")
NAME = selector("name()")
VERSION = selector("version()")
DECIMALS = selector("decimals()")
PAUSED = selector("paused()")
IS_BLACKLISTED = selector("isBlacklisted(address)")


def _word(address: Address) -> bytes:
    return require_bytes(address, ADDRESS_BYTES, "address").rjust(WORD_BYTES, b"\0")


def _uint(value: int) -> bytes:
    return value.to_bytes(WORD_BYTES, "big")


def _vrs(signature: bytes) -> bytes:
    require_bytes(signature, SIGNATURE_BYTES, "signature")
    return _uint(signature[64]) + signature[:64]


def _tail(signature: bytes, words_before: int) -> bytes:
    """Encode a trailing ``bytes`` argument: its offset, its length, its content padded to whole words."""
    if len(signature) > SIGNATURE_MAX_BYTES:
        raise CallError(f"signature: more than {SIGNATURE_MAX_BYTES} bytes")
    padding = bytes(-len(signature) % WORD_BYTES)
    return _uint((words_before + 1) * WORD_BYTES) + _uint(len(signature)) + signature + padding


def _transfer_words(auth: Authorization) -> bytes:
    return (
        _word(auth.authorizer)
        + _word(auth.pay_to)
        + _uint(auth.value_base)
        + _uint(auth.valid_after)
        + _uint(auth.valid_before)
        + auth.nonce
    )


def encode_transfer_vrs(auth: Authorization, signature: bytes) -> bytes:
    """Encode transferWithAuthorization(…, v, r, s) from a 65-byte signature."""
    return TRANSFER_VRS + _transfer_words(auth) + _vrs(signature)


def encode_transfer_bytes(auth: Authorization, signature: bytes) -> bytes:
    """Encode transferWithAuthorization(…, bytes signature), as contract wallets need it."""
    return TRANSFER_BYTES + _transfer_words(auth) + _tail(signature, 6)


def encode_transfer(to: Address, value_base: int) -> bytes:
    """Encode transfer(to, value) of ERC-20 and TIP-20."""
    return TRANSFER + _word(to) + _uint(value_base)


def encode_transfer_with_memo(to: Address, value_base: int, memo: bytes) -> bytes:
    """Encode transferWithMemo(to, value, memo) of TIP-20."""
    return TRANSFER_WITH_MEMO + _word(to) + _uint(value_base) + require_bytes(memo, WORD_BYTES, "memo")


def encode_authorization_state(authorizer: Address, nonce: bytes) -> bytes:
    """Encode authorizationState(authorizer, nonce): true when used *or* cancelled, so never a proof of payment."""
    return AUTHORIZATION_STATE + _word(authorizer) + require_bytes(nonce, WORD_BYTES, "nonce")


def encode_balance_of(owner: Address) -> bytes:
    """Encode balanceOf(owner)."""
    return BALANCE_OF + _word(owner)


def encode_is_blacklisted(account: Address) -> bytes:
    """Encode isBlacklisted(account)."""
    return IS_BLACKLISTED + _word(account)


def encode_domain_separator() -> bytes:
    """Encode DOMAIN_SEPARATOR()."""
    return DOMAIN_SEPARATOR


def encode_name() -> bytes:
    """Encode name()."""
    return NAME


def encode_version() -> bytes:
    """Encode version()."""
    return VERSION


def encode_decimals() -> bytes:
    """Encode decimals()."""
    return DECIMALS


def encode_paused() -> bytes:
    """Encode paused()."""
    return PAUSED


def decode_uint(data: bytes) -> int:
    """Read one uint256 word. Raises CallError unless ``data`` is exactly one word (an empty answer means no code)."""
    return int.from_bytes(decode_bytes32(data), "big")


def decode_bytes32(data: bytes) -> bytes:
    """Read one bytes32 word. Raises CallError unless ``data`` is exactly one word."""
    if len(data) != WORD_BYTES:
        raise CallError(f"answer: expected one word, got {len(data)} bytes")
    return data


def decode_bool(data: bytes) -> bool:
    """Read a bool word, which is 0 or 1 and nothing else. Raises CallError."""
    value = decode_uint(data)
    if value > 1:
        raise CallError("answer: a bool must be 0 or 1")
    return value == 1


def decode_string(data: bytes) -> str:
    """Read a lone ABI string of at most 1 KiB in its only canonical form. Raises CallError."""
    if len(data) < 2 * WORD_BYTES or data[:WORD_BYTES] != _uint(WORD_BYTES):
        raise CallError("answer: not the encoding of one string")
    length = int.from_bytes(data[WORD_BYTES : 2 * WORD_BYTES], "big")
    if length > STRING_MAX_BYTES:
        raise CallError(f"answer: a string of more than {STRING_MAX_BYTES} bytes")
    body = data[2 * WORD_BYTES :]
    if len(body) != length + (-length % WORD_BYTES) or any(body[length:]):
        raise CallError("answer: string is cut, trailed or padded with other than zeros")
    try:
        return body[:length].decode("utf-8")
    except UnicodeDecodeError:
        raise CallError("answer: string is not UTF-8") from None

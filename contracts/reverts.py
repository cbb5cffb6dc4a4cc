"""Why a call reverted: the data that a contract reverts with, as text, and a token's text as an x402 reason code.

Must not know who called. Theory: revert data is a stranger's. It is read for people and for the choice of a code and never
decides about money, so what cannot be read is a short text too, never an error; and what is no known token's own text
gets the code of a simulation that failed, which says nothing about whose fault it was.
"""

from types import MappingProxyType

from contracts.calls import SELECTOR_BYTES, selector
from contracts.codec import WORD_BYTES

ERROR = selector("Error(string)")
PANIC = selector("Panic(uint256)")
TEXT_MAX_CHARS = 160

NONCE_ALREADY_USED = "invalid_exact_evm_nonce_already_used"
VALID_BEFORE = "invalid_exact_evm_payload_authorization_valid_before"
VALID_AFTER = "invalid_exact_evm_payload_authorization_valid_after"
SIGNATURE = "invalid_exact_evm_payload_signature"
INSUFFICIENT_BALANCE = "invalid_exact_evm_insufficient_balance"
SIMULATION_FAILED = "invalid_exact_evm_transaction_simulation_failed"

_SILENT = "reverted without a reason"
_HEAD_BYTES = SELECTOR_BYTES + 2 * WORD_BYTES

REASONS = MappingProxyType(
    {
        "FiatTokenV2: authorization is used or canceled": NONCE_ALREADY_USED,
        "FiatTokenV2: authorization is expired": VALID_BEFORE,
        "FiatTokenV2: authorization is not yet valid": VALID_AFTER,
        "FiatTokenV2: invalid signature": SIGNATURE,
        "ECRecover: invalid signature": SIGNATURE,
        "ECRecover: invalid signature length": SIGNATURE,
        "ECRecover: invalid signature 's' value": SIGNATURE,
        "ECRecover: invalid signature 'v' value": SIGNATURE,
        "ERC20: transfer amount exceeds balance": INSUFFICIENT_BALANCE,
        "ERC20: transfer to the zero address": SIMULATION_FAILED,
        "ERC20: transfer from the zero address": SIMULATION_FAILED,
        "Blacklistable: account is blacklisted": SIMULATION_FAILED,
        "Pausable: paused": SIMULATION_FAILED,
    }
)
"""Circle's revert texts (FiatToken v2.2) and the x402 reason code of each (the spelling of its specification and of PyPI `x402`).

The protocol has no code for a paused token or a blacklisted account; the text tells them apart."""

PANICS = MappingProxyType(
    {
        0x01: "assertion failed",
        0x11: "arithmetic overflow",
        0x12: "division by zero",
        0x21: "value outside its enum",
        0x22: "broken storage encoding",
        0x31: "pop of an empty array",
        0x32: "index out of bounds",
        0x41: "out of memory",
        0x51: "call of an uninitialised function",
    }
)


def revert_text(data: bytes) -> str:
    """Return what a contract reverted with, as at most 160 printable characters; never empty, never raises.

    Understands Error(string), also where its end was cut off, and Panic(uint256); names other errors by their selector.
    """
    if not data:
        return _SILENT
    if data[:SELECTOR_BYTES] == ERROR:
        return _error_string(data)
    if data[:SELECTOR_BYTES] == PANIC and len(data) == SELECTOR_BYTES + WORD_BYTES:
        code = int.from_bytes(data[SELECTOR_BYTES:], "big")
        return f"panic: {PANICS[code]}" if code in PANICS else "panic: unknown code"
    if len(data) < SELECTOR_BYTES:
        return "reverted with data of another form"
    return f"reverted with error 0x{data[:SELECTOR_BYTES].hex()}"


def _error_string(data: bytes) -> str:
    offset = int.from_bytes(data[SELECTOR_BYTES : SELECTOR_BYTES + WORD_BYTES], "big")
    if len(data) < _HEAD_BYTES or offset != WORD_BYTES:
        return "reverted with data of another form"
    length = int.from_bytes(data[SELECTOR_BYTES + WORD_BYTES : _HEAD_BYTES], "big")
    text = data[_HEAD_BYTES:][: min(length, len(data))].decode("utf-8", "replace")
    # A text goes to logs, headers and terminals: nothing in it may end a line or move a cursor.
    shown = "".join(character if character.isprintable() else "?" for character in text)[:TEXT_MAX_CHARS]
    return shown or _SILENT


def reason_of(text: str) -> str:
    """Return the x402 reason code for a revert text of transferWithAuthorization.

    An unknown text is `invalid_exact_evm_transaction_simulation_failed`: only then is it worth reading the token's state.
    """
    return REASONS.get(text, SIMULATION_FAILED)

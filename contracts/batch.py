"""Our contract for many authorizations in one transaction: its address, its deployment, its call data, its answers.

Must not know who sends or when. The contract is `src/SettlementBatch.sol`. Theory: it has no owner and no storage, so its
code is all that there is to trust; CREATE2 through the deployer that every chain has makes the address a hash of that
code, and whoever finds code at the address knows which.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from contracts.calls import SELECTOR_BYTES, selector
from contracts.codec import (
    ADDRESS_BYTES,
    WORD_BYTES,
    Address,
    ContractError,
    parse_address,
    require_bytes,
    require_uint,
)
from contracts.eip3009 import Authorization
from contracts.keccak import keccak256
from contracts.reverts import revert_text
from contracts.settlement_batch_code import CREATION_HEAD, RUNTIME
from contracts.signature import SIGNATURE_BYTES

SETTLE = selector("settle(address,uint256,bytes32[5][])")
SIMULATE = selector("simulate(address,uint256,bytes32[5][])")

DEPLOYER = parse_address("0x4e59b44847b379578588920cA78FbF26c0B4956C")
"""Creates code at an address that depends on salt and code alone; its own is the same on every chain."""

SALT = keccak256(b"agent-payment-gateway/settlement-batch/v1")

ITEM_BYTES = 5 * WORD_BYTES
VALUE_BITS, VALID_AFTER_BITS, VALID_BEFORE_BITS = 96, 40, 48
ITEM_GAS_BITS = 32
MAX_ITEMS = 1_000
MAX_REASON_BYTES = 228

TRANSACTION_GAS_MAX = 2**24
"""No transaction may have more (EIP-7825)."""

_TRANSACTION_GAS = 21_000
_BYTE_GAS = 16
_BYTE_FLOOR_GAS = 40  # EIP-7623: what call data costs at least, whatever it does
_HEAD_BYTES = SELECTOR_BYTES + 4 * WORD_BYTES
_ITEM_OVERHEAD, _FIXED_OVERHEAD = 1_000, 2_000  # the contract's own, by which it refuses too little gas
_ENTRY_GAS = 6_000  # from the first instruction to that check: the call data's head, and a look at the token
_TAKEN, _REVERTED, _NOT_TRIED = 1, 0, 2


class BatchError(ContractError):
    """Items cannot go in one batch, or an answer is not one of this contract's."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item. `ok`: the token took it, or would have. `reason_text`: why not, "" where it did.

    `tried` is False where a simulation had no gas left for it: then nothing is known. Never evidence of a payment.
    """

    ok: bool
    reason_text: str = ""
    tried: bool = True


def fits(authorization: Authorization, signature: bytes) -> bool:
    """Say whether an authorization can be an item of a batch; others, such as a contract wallet's, are settled alone.

    Its signature has 65 bytes, its value is below 2^96, its times below 2^40 (after) and 2^48 (before).
    """
    return (
        len(signature) == SIGNATURE_BYTES
        and not authorization.value_base >> VALUE_BITS
        and not authorization.valid_after >> VALID_AFTER_BITS
        and not authorization.valid_before >> VALID_BEFORE_BITS
    )


def encode_batch(token: Address, items: Sequence[tuple[Authorization, bytes]], item_gas: int) -> bytes:
    """Return call data that settles 1 to 1000 (authorization, 65-byte signature) pairs of one token, in this order.

    Each may use up to `item_gas`. As an eth_call it says what would become of them in a row. Raises ContractError.
    """
    return SETTLE + _arguments(token, items, item_gas)


def encode_simulation(token: Address, items: Sequence[tuple[Authorization, bytes]], item_gas: int) -> bytes:
    """Return call data for an eth_call that says of each item what would become of it alone. Raises ContractError.

    One payment twice, or two that the payer can afford one of, are each judged as if the other did not exist.
    """
    return SIMULATE + _arguments(token, items, item_gas)


def _arguments(token: Address, items: Sequence[tuple[Authorization, bytes]], item_gas: int) -> bytes:
    if not 0 < len(items) <= MAX_ITEMS:
        raise BatchError(f"batch: expected 1 to {MAX_ITEMS} items")
    if len({authorization.token.chain_id for authorization, _ in items}) > 1:
        raise BatchError("batch: items of different chains")
    head = (
        require_bytes(token, ADDRESS_BYTES, "batch.token").rjust(WORD_BYTES, b"\0")
        + require_uint(item_gas, ITEM_GAS_BITS, "batch.item_gas").to_bytes(WORD_BYTES, "big")
        + (3 * WORD_BYTES).to_bytes(WORD_BYTES, "big")
        + len(items).to_bytes(WORD_BYTES, "big")
    )
    return head + b"".join(_item(token, authorization, signature) for authorization, signature in items)


def _item(token: Address, authorization: Authorization, signature: bytes) -> bytes:
    if authorization.token.address != token:
        raise BatchError("batch: an item of another token")
    if not fits(authorization, signature):
        raise BatchError("batch: an item that does not fit; it can only be settled alone")
    return b"".join(
        (
            authorization.authorizer,
            authorization.value_base.to_bytes(VALUE_BITS // 8, "big"),
            authorization.pay_to,
            authorization.valid_after.to_bytes(VALID_AFTER_BITS // 8, "big"),
            authorization.valid_before.to_bytes(VALID_BEFORE_BITS // 8, "big"),
            signature[64:],
            authorization.nonce,
            signature[:64],
        )
    )


def decode_outcomes(data: bytes, count: int) -> tuple[Outcome, ...]:
    """Read the answer to either call: exactly `count` outcomes in their one encoding. Raises BatchError.

    An empty answer means that the contract is not there.
    """
    if len(data) < 2 * WORD_BYTES or int.from_bytes(data[:WORD_BYTES], "big") != WORD_BYTES:
        raise BatchError("batch answer: not the encoding of bytes")
    length = int.from_bytes(data[WORD_BYTES : 2 * WORD_BYTES], "big")
    body = data[2 * WORD_BYTES :]
    if len(body) != length + (-length % WORD_BYTES) or any(body[length:]):
        raise BatchError("batch answer: cut, trailed or padded with other than zeros")
    outcomes = tuple(_outcomes(body[:length]))
    if len(outcomes) != count:
        raise BatchError(f"batch answer: expected {count} outcomes, got {len(outcomes)}")
    return outcomes


def _outcomes(body: bytes) -> Iterator[Outcome]:
    place = 0
    while place < len(body):
        status = body[place]
        place += 1
        if status == _TAKEN:
            yield Outcome(ok=True)
        elif status == _NOT_TRIED:
            yield Outcome(ok=False, reason_text="not tried: too little gas", tried=False)
        elif status == _REVERTED and place < len(body):
            end = place + 1 + body[place]
            if body[place] > MAX_REASON_BYTES or end > len(body):
                raise BatchError("batch answer: a reason is too long or cut")
            yield Outcome(ok=False, reason_text=revert_text(body[place + 1 : end]))
            place = end
        else:
            raise BatchError("batch answer: an unknown outcome")


def gas_limit(count: int, item_gas: int) -> int:
    """Return the gas limit with which the contract never refuses `count` items of `item_gas` each for want of gas.

    It is the most that they can burn, not what they usually do; what is left over is not paid. Raises ContractError.
    """
    if not 0 < require_uint(count, 32, "batch.count") <= MAX_ITEMS:
        raise BatchError(f"batch: expected 1 to {MAX_ITEMS} items")
    require_uint(item_gas, ITEM_GAS_BITS, "batch.item_gas")
    call_bytes = _HEAD_BYTES + count * ITEM_BYTES
    execution = _ENTRY_GAS + count * (item_gas + _ITEM_OVERHEAD) + item_gas // 63 + _FIXED_OVERHEAD
    return _TRANSACTION_GAS + max(_BYTE_FLOOR_GAS * call_bytes, _BYTE_GAS * call_bytes + execution)


def most_items(gas: int, item_gas: int) -> int:
    """Return how many items of `item_gas` each a transaction of at most `gas` can have, 0 to 1000. Raises ContractError."""
    require_uint(gas, 64, "batch.gas")
    low, high = 0, MAX_ITEMS
    while low < high:
        middle = (low + high + 1) // 2
        if gas_limit(middle, item_gas) <= gas:
            low = middle
        else:
            high = middle - 1
    return low


def runtime_code() -> bytes:
    """Return the code that stands at `batch_address` once the contract is deployed."""
    return RUNTIME


def init_code() -> bytes:
    """Return the creation code; it takes no arguments."""
    return CREATION_HEAD + RUNTIME


@lru_cache(maxsize=1)
def batch_address() -> Address:
    """Return where `deployment` puts the contract, on every chain (EIP-1014)."""
    return Address(keccak256(b"\xff" + DEPLOYER + SALT + keccak256(init_code()))[-ADDRESS_BYTES:])


def deployment() -> tuple[Address, bytes]:
    """Return (to, call data) of the transaction that deploys the contract, from any sender; a second one reverts."""
    return DEPLOYER, SALT + init_code()

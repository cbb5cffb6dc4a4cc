"""Transactions that a wallet may sign: EIP-1559 only, read strictly, encoded here.

Must not know keys, nonce lanes or RPC. Theory: the guard judges the very values that are signed, so a request is read
once into this form, and hash and bytes are made from it alone. A relayer signs one for each block or more, so the
encoding is our own: the library takes seconds to load and a millisecond a transaction; tests compare the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from contracts.codec import ADDRESS_BYTES, Address, ContractError, parse_address, parse_hex, require_bytes, require_uint
from contracts.keccak import keccak256
from contracts.rlp import rlp_bytes, rlp_list, rlp_uint
from contracts.signature import SIGNATURE_BYTES, V_OFFSET

TYPE_1559 = 2
MAX_DATA_BYTES = 128 * 1024
SELECTOR_BYTES = 4
_REQUIRED = frozenset({"chainId", "nonce", "to", "gas", "maxFeePerGas", "maxPriorityFeePerGas"})
_OPTIONAL = frozenset({"type", "value", "data", "from", "accessList"})


class TransactionError(ContractError):
    """A transaction request is incomplete, of another type, or holds what we do not sign."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """One EIP-1559 transaction to an existing address, without an access list; prices in wei per gas."""

    chain_id: int
    nonce: int
    to: Address
    value_wei: int
    data: bytes
    gas: int
    max_fee_per_gas_wei: int
    max_priority_fee_per_gas_wei: int

    def __post_init__(self) -> None:
        require_bytes(self.to, ADDRESS_BYTES, "to")
        for label, value, bits in (
            ("chainId", self.chain_id, 63),
            ("nonce", self.nonce, 63),
            ("gas", self.gas, 63),
            ("value", self.value_wei, 256),
            ("maxFeePerGas", self.max_fee_per_gas_wei, 128),
            ("maxPriorityFeePerGas", self.max_priority_fee_per_gas_wei, 128),
        ):
            require_uint(value, bits, label)
        if self.max_priority_fee_per_gas_wei > self.max_fee_per_gas_wei:
            raise TransactionError("maxPriorityFeePerGas: above maxFeePerGas")
        if 0 < len(self.data) < SELECTOR_BYTES or len(self.data) > MAX_DATA_BYTES:
            raise TransactionError("data: neither empty nor a call")

    @property
    def selector(self) -> bytes:
        """The function called: four bytes, or none for a plain transfer of ether."""
        return self.data[:SELECTOR_BYTES]

    @property
    def max_fee_wei(self) -> int:
        """The most that the transaction can cost in fees on its own chain (an L2 adds its data fee)."""
        return self.gas * self.max_fee_per_gas_wei

    @property
    def hash(self) -> bytes:
        """The 32 bytes that the wallet signs (EIP-1559 signing hash)."""
        return keccak256(bytes((TYPE_1559,)) + rlp_list(*self._fields()))

    def encode_signed(self, signature: bytes) -> bytes:
        """Return the raw transaction, ready for eth_sendRawTransaction, from a 65-byte signature of ``hash``."""
        require_bytes(signature, SIGNATURE_BYTES, "signature")
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
        v = signature[64] - V_OFFSET
        return bytes((TYPE_1559,)) + rlp_list(*self._fields(), rlp_uint(v), rlp_uint(r), rlp_uint(s))

    def _fields(self) -> tuple[bytes, ...]:
        return (
            rlp_uint(self.chain_id),
            rlp_uint(self.nonce),
            rlp_uint(self.max_priority_fee_per_gas_wei),
            rlp_uint(self.max_fee_per_gas_wei),
            rlp_uint(self.gas),
            rlp_bytes(self.to),
            rlp_uint(self.value_wei),
            rlp_bytes(self.data),
            rlp_list(),  # the access list
        )


def parse_transaction(request: Mapping[str, object], wallet: Address) -> Transaction:
    """Read a request in web3's field names; numbers are ints, ``to`` and ``data`` bytes or hex text.

    Raises ContractError: for a missing or unknown field, a ``from`` other than ``wallet``, another type than 2, an
    access list, or a contract creation.
    """
    missing, unknown = _REQUIRED - request.keys(), request.keys() - _REQUIRED - _OPTIONAL
    if missing or unknown:
        raise TransactionError(f"transaction: missing {sorted(missing)}, unknown {sorted(unknown)}")
    if request.get("type", TYPE_1559) not in {TYPE_1559, "0x2"} or request.get("accessList"):
        raise TransactionError("transaction: only EIP-1559 without an access list is signed")
    if request.get("from") is not None and _address(request["from"], "from") != wallet:
        raise TransactionError("from: not the signing wallet")
    data = request.get("data", b"")
    return Transaction(
        chain_id=require_uint(request["chainId"], 63, "chainId"),
        nonce=require_uint(request["nonce"], 63, "nonce"),
        to=_address(request["to"], "to"),
        value_wei=require_uint(request.get("value", 0), 256, "value"),
        data=bytes(data) if isinstance(data, bytes) else parse_hex(data, MAX_DATA_BYTES, "data"),
        gas=require_uint(request["gas"], 63, "gas"),
        max_fee_per_gas_wei=require_uint(request["maxFeePerGas"], 128, "maxFeePerGas"),
        max_priority_fee_per_gas_wei=require_uint(request["maxPriorityFeePerGas"], 128, "maxPriorityFeePerGas"),
    )


def _address(value: object, field: str) -> Address:
    if isinstance(value, bytes):
        return Address(require_bytes(bytes(value), ADDRESS_BYTES, field))
    return parse_address(value, field)

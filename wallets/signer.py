"""Signers: whoever can put a wallet's signature under a message. The guard runs inside every call.

Must not know vendors, prices or the store. Theory: the seam holds each message that the gateway sends (authorizations,
charges, refunds, proofs, transactions), because a seam that lacks one of them makes callers reach for the raw key, and
no other, because each one more is something that a takeover could have signed. The local key lives in a closure over
libsecp256k1's form of it: no attribute, repr, pickle or traceback shows it.
"""

from collections.abc import Callable, Mapping
from typing import NoReturn, Protocol

from contracts.codec import Address, to_hex
from contracts.eip3009 import Authorization
from contracts.mpp_proof import IdentityProof
from contracts.signature import SignatureError, address_of, load_key, sign_digest
from contracts.tempo import TempoCharge
from wallets.guard import Guard
from wallets.secret import Secret
from wallets.transactions import parse_transaction


class SignedHorizon(Protocol):
    """Remembers, outside the database, how far into the future anything signed can be collected."""

    def note_valid_before(self, valid_before: int) -> None:
        """Remember a window's end (Unix seconds) before the signature that it bounds is handed out."""


class Signer(Protocol):
    """Signs for one address. Every method raises SigningRefused, and then nothing was signed."""

    @property
    def address(self) -> Address:
        """The address that it signs for."""

    def sign_authorization(self, auth: Authorization) -> bytes:
        """Return r ‖ s ‖ v (65 bytes, low s, v 27 or 28) over an EIP-3009 transfer authorization."""

    def sign_charge(self, charge: TempoCharge) -> bytes:
        """Return r ‖ s ‖ v over a Tempo payment, for ``TempoCharge.encode``."""

    def sign_refund(self, auth: Authorization) -> bytes:
        """Return r ‖ s ‖ v over an EIP-3009 authorization by which a till sends money back."""

    def sign_refund_charge(self, charge: TempoCharge) -> bytes:
        """Return r ‖ s ‖ v over a Tempo payment by which a till sends money back, for ``TempoCharge.encode``."""

    def sign_proof(self, proof: IdentityProof) -> bytes:
        """Return r ‖ s ‖ v over an MPP zero-amount proof."""

    def sign_transaction(self, request: Mapping[str, object]) -> bytes:
        """Return the raw signed EIP-1559 transaction. Also raises ContractError for a malformed request."""


class LocalSigner:
    """Signs in this process. The same message always gives the same signature (RFC 6979)."""

    __slots__ = ("_address", "_guard", "_horizon", "_now_s", "_sign")

    def __init__(
        self,
        address: Address,
        key: Secret[bytes],
        guard: Guard,
        watermark: SignedHorizon,
        now_s: Callable[[], int],
    ) -> None:
        """Take the key of ``address``; ``now_s`` is the clock (Unix seconds). Raises SignatureError if they differ."""
        self._address = address
        self._guard = guard
        self._horizon = watermark
        self._now_s = now_s
        self._sign = _bind(address, key)

    @property
    def address(self) -> Address:
        """The address that it signs for."""
        return self._address

    def sign_authorization(self, auth: Authorization) -> bytes:
        """Sign what the guard allows now, after its window's end is on record. Raises SigningRefused."""
        self._guard.check_authorization(self._address, auth, self._now_s())
        self._horizon.note_valid_before(auth.valid_before)
        return self._sign(auth.digest)

    def sign_charge(self, charge: TempoCharge) -> bytes:
        """Sign what the guard allows now, after its window's end is on record. Raises SigningRefused."""
        self._guard.check_charge(self._address, charge, self._now_s())
        self._horizon.note_valid_before(charge.valid_before)
        return self._sign(charge.signing_hash)

    def sign_refund(self, auth: Authorization) -> bytes:
        """Sign a till's refund if the guard allows it now, after its window's end is on record. Raises SigningRefused."""
        self._guard.check_refund(self._address, auth, self._now_s())
        self._horizon.note_valid_before(auth.valid_before)
        return self._sign(auth.digest)

    def sign_refund_charge(self, charge: TempoCharge) -> bytes:
        """Sign a till's refund if the guard allows it now, after its window's end is on record. Raises SigningRefused."""
        self._guard.check_refund_charge(self._address, charge, self._now_s())
        self._horizon.note_valid_before(charge.valid_before)
        return self._sign(charge.signing_hash)

    def sign_proof(self, proof: IdentityProof) -> bytes:
        """Sign that this wallet answers a challenge of a realm on its list. Raises SigningRefused."""
        self._guard.check_proof(self._address, proof)
        return self._sign(proof.digest)

    def sign_transaction(self, request: Mapping[str, object]) -> bytes:
        """Sign an allowed EIP-1559 transaction and encode it. Raises SigningRefused, ContractError."""
        tx = parse_transaction(request, self._address)
        self._guard.check_transaction(self._address, tx)
        return tx.encode_signed(self._sign(tx.hash))

    def __repr__(self) -> str:
        return f"LocalSigner({to_hex(self._address)})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a signer is never serialised")


def _bind(address: Address, key: Secret[bytes]) -> Callable[[bytes], bytes]:
    """Close over the key, so that no object has it as an attribute."""
    private = load_key(key.reveal())
    if address_of(private) != address:
        raise SignatureError("signer: the key is of another address")

    def sign(digest: bytes) -> bytes:
        return sign_digest(private, digest)

    return sign

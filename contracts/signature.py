"""secp256k1 signatures in Ethereum's 65-byte form: r, s, v.

Must not know what a digest means, nor where keys are kept. Theory: a signature (r, s) has a twin (r, n-s); the token
accepts only the lower s and v of 27 or 28 (OpenZeppelin's ECRecover), so that a signature has one form.

Recovering calls libsecp256k1 through coincurve's own binding: a facilitator recovers a key for every request, and the
objects and copies of coincurve's classes were a tenth of that. The binding is private, hence the bound on its version.
"""

from coincurve import PrivateKey
from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT

from contracts.codec import Address, ContractError
from contracts.keccak import keccak256

SIGNATURE_BYTES = 65
KEY_BYTES = 32
DIGEST_BYTES = 32
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
HALF_ORDER = ORDER // 2
V_OFFSET = 27

# Big-endian words of one length compare like the integers that they are, at a third of the cost of making those.
_ZERO, _ORDER, _HALF_ORDER = (number.to_bytes(32, "big") for number in (0, ORDER, HALF_ORDER))

_CONTEXT, _UNCOMPRESSED = GLOBAL_CONTEXT.ctx, lib.SECP256K1_EC_UNCOMPRESSED


class SignatureError(ContractError):
    """A signature is malformed, malleable, or cannot be recovered."""


def load_key(secret: bytes) -> PrivateKey:
    """Make a signing key of 32 secret bytes. Raises SignatureError, without the bytes, when they are no key."""
    if len(secret) != KEY_BYTES or not 0 < int.from_bytes(secret, "big") < ORDER:
        del secret  # a traceback that shows its frames' locals must not show it
        raise SignatureError("private key: not a secp256k1 scalar of 32 bytes")
    return PrivateKey(secret)


def address_of(key: PrivateKey) -> Address:
    """Return the address that a key signs for."""
    return _address(key.public_key.format(compressed=False)[1:])


def _address(point: bytes) -> Address:
    return Address(keccak256(point)[12:])


def sign_digest(key: PrivateKey, digest: bytes) -> bytes:
    """Sign 32 bytes: r ‖ s ‖ v, low s, v 27 or 28, deterministic (RFC 6979). Raises SignatureError."""
    if len(digest) != DIGEST_BYTES:
        raise SignatureError("digest: expected 32 bytes")
    raw: bytes = key.sign_recoverable(digest, hasher=None)
    if raw[64] > 1:
        # r reached the group order: one in 2^127, and the chain could not recover it.
        raise SignatureError("signature: recovery id outside 0 and 1")
    return raw[:64] + bytes((V_OFFSET + raw[64],))


def recover_address(digest: bytes, signature: bytes) -> Address:
    """Return who signed ``digest``, by the chain's own strict rules (low s, v 27 or 28). Raises SignatureError.

    A recovered address proves nothing until it is compared with the expected one.
    """
    if len(digest) != DIGEST_BYTES:
        raise SignatureError("digest: expected 32 bytes")
    if len(signature) != SIGNATURE_BYTES:
        raise SignatureError(f"signature: expected 65 bytes, got {len(signature)}")
    v = signature[64] - V_OFFSET
    if v not in (0, 1):
        raise SignatureError("signature: v must be 27 or 28")
    if not _ZERO < signature[:32] < _ORDER:
        raise SignatureError("signature: r out of range")
    if not _ZERO < signature[32:64] <= _HALF_ORDER:
        raise SignatureError("signature: s out of range or in the upper half")
    return _address(_recover(digest, signature, v))


def _recover(digest: bytes, signature: bytes, recovery_id: int) -> bytes:
    """Return the public key's x ‖ y. The library reads 32 and 64 bytes: whoever calls this has checked the lengths."""
    parsed, public_key = ffi.new("secp256k1_ecdsa_recoverable_signature *"), ffi.new("secp256k1_pubkey *")
    if not (
        lib.secp256k1_ecdsa_recoverable_signature_parse_compact(_CONTEXT, parsed, signature, recovery_id)
        and lib.secp256k1_ecdsa_recover(_CONTEXT, public_key, parsed, digest)
    ):
        raise SignatureError("signature: no key can have made it")  # no point of the curve has this r
    written, length = ffi.new("unsigned char[65]"), ffi.new("size_t *", 65)  # 0x04 ‖ x ‖ y
    lib.secp256k1_ec_pubkey_serialize(_CONTEXT, written, length, public_key, _UNCOMPRESSED)
    point: bytes = ffi.buffer(written)[1:]
    return point


def normalise_v(signature: bytes) -> bytes:
    """Return a 65-byte signature with v of 0 or 1 written as 27 or 28; anything else is returned unchanged.

    Stock wallets emit both forms and the token accepts one.
    """
    if len(signature) == SIGNATURE_BYTES and signature[64] in (0, 1):
        return signature[:64] + bytes((V_OFFSET + signature[64],))
    return signature

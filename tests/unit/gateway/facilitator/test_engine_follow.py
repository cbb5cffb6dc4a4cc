"""What a mined transaction says of the settlements that it was made for."""

import pytest
from engine_bed import PAYEE, Payer, many

from contracts.calls import encode_transfer_bytes, encode_transfer_vrs
from contracts.tokens import BASE_USDC
from gateway.core.paid import Relay, RelayAttempt, Settlement
from gateway.facilitator.follow import carrier
from gateway.paid_ports import Exact

HASH, OTHER_HASH = b"\x01" * 32, b"\x02" * 32


def settled(payer: Payer, paid: Exact) -> Settlement:
    """Return a payment's settlement."""
    terms = paid.authorization
    times = (terms.valid_after, terms.valid_before)
    who = (BASE_USDC.chain_id, BASE_USDC.address, payer.address, terms.nonce)
    return Settlement("stl_1", "house", *who, PAYEE, terms.value_base, *times, paid.signature, False, 1)


def relay_of(raw: bytes, mined_hash: bytes | None = HASH) -> Relay:
    """Return a transaction with one form, that a block holds unless told otherwise."""
    attempt = RelayAttempt(HASH, raw, 1, 1, 1)
    return Relay(
        "rly_1", BASE_USDC.chain_id, b"\x09" * 20, 0, "batch", ("stl_1",), 1, (attempt,), 1, mined_hash=mined_hash
    )


@pytest.mark.parametrize("encode", [encode_transfer_vrs, encode_transfer_bytes])
def test_what_is_in_the_mined_call_was_carried(encode: object) -> None:
    """Both calls of the token hold what they collect; a form that no block holds carried nothing."""
    (payer,) = many(1)
    paid = payer.pays()
    raw = encode(paid.authorization, paid.signature)  # type: ignore[operator]
    assert carrier(relay_of(raw), settled(payer, paid)) == HASH
    assert carrier(relay_of(raw, OTHER_HASH), settled(payer, paid)) is None


def test_a_nonce_that_stands_in_every_call_does_not_say_that_it_was_carried() -> None:
    """The payer chooses the nonce: 32 zero bytes are in any call with an empty word; the signature tells."""
    one, other = many(2)
    paid, left_out = one.pays(), other.pays(nonce=bytes(32))
    raw = encode_transfer_vrs(paid.authorization, paid.signature)
    assert left_out.authorization.nonce in raw
    assert carrier(relay_of(raw), settled(other, left_out)) is None

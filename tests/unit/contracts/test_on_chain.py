"""The hand-made bytes against a real chain: the token accepts them, and its own logs prove the settlement."""

import dataclasses
from typing import Any

import pytest

from contracts import calls
from contracts.codec import Address, checksum, parse_address, parse_bytes32, to_hex
from contracts.eip3009 import Authorization, purchase_nonce
from contracts.logs import decode_authorization_used, parse_log
from contracts.proof import Settled, prove_cancelled, prove_settlement
from contracts.signature import load_key, sign_digest
from contracts.tokens import BASE_USDC
from sandbox.chain import LocalBase
from tests.sandbox.token_payer import Payer

TOKEN = checksum(BASE_USDC.address)
PAYEE = Address(b"\x22" * 20)


def payer_of(chain: LocalBase) -> tuple[Address, Any]:
    """Return a funded dev account's address and key."""
    address, secret = chain.dev_account(0)
    chain.mint(address, 1_000_000)
    return parse_address(address), load_key(parse_bytes32(secret))


@pytest.mark.parametrize("overload", [calls.encode_transfer_vrs, calls.encode_transfer_bytes])
def test_the_token_accepts_our_signature_and_its_logs_prove_it(automine_base: LocalBase, overload: Any) -> None:
    """Sign, submit, read the receipt, and the proof names these terms; both overloads."""
    payer, key = payer_of(automine_base)
    nonce = purchase_nonce(8453, BASE_USDC.address, payer, "pay_1")
    auth = Authorization(BASE_USDC, payer, PAYEE, 250_000, 0, automine_base.head()["timestamp"] + 600, nonce)
    state = to_hex(calls.encode_authorization_state(payer, nonce))
    assert calls.decode_bool(automine_base.call(TOKEN, state)) is False

    sent = automine_base.send(TOKEN, to_hex(overload(auth, sign_digest(key, auth.digest))))
    receipt = automine_base.receipt(sent)
    found = [parse_log(log) for log in receipt["logs"]]
    used = next(log for log in found if decode_authorization_used(log) is not None)

    result = prove_settlement(auth, used, found, int(receipt["status"], 16))
    assert isinstance(result, Settled)
    assert not isinstance(prove_settlement(dataclasses.replace(auth, value_base=1), used, found, 1), Settled)
    assert calls.decode_bool(automine_base.call(TOKEN, state)) is True
    assert calls.decode_uint(automine_base.call(TOKEN, to_hex(calls.encode_balance_of(PAYEE)))) == 250_000


def test_the_tokens_log_proves_a_cancellation(automine_base: LocalBase) -> None:
    """The payer calls a nonce off: the token's own log proves it, and the state alone could not tell."""
    authorizer, nonce_hex, signature = Payer(automine_base).cancellation()
    payer, nonce = parse_address(authorizer), parse_bytes32(nonce_hex)
    (raw,) = automine_base.cancel_authorization(authorizer, nonce_hex, signature)["logs"]
    assert prove_cancelled(BASE_USDC.address, payer, nonce, parse_log(raw))
    state = to_hex(calls.encode_authorization_state(payer, nonce))
    assert calls.decode_bool(automine_base.call(TOKEN, state)) is True


def test_the_token_describes_itself_as_our_table_does(automine_base: LocalBase) -> None:
    """name, version, decimals and DOMAIN_SEPARATOR, read strictly, are the table's; nothing is paused or barred."""

    def ask(data: bytes) -> bytes:
        return automine_base.call(TOKEN, to_hex(data))

    assert calls.decode_string(ask(calls.encode_name())) == BASE_USDC.name
    assert calls.decode_string(ask(calls.encode_version())) == BASE_USDC.version
    assert calls.decode_uint(ask(calls.encode_decimals())) == BASE_USDC.decimals
    assert calls.decode_bytes32(ask(calls.encode_domain_separator())) == BASE_USDC.domain_separator
    assert calls.decode_bool(ask(calls.encode_paused())) is False
    assert calls.decode_bool(ask(calls.encode_is_blacklisted(PAYEE))) is False

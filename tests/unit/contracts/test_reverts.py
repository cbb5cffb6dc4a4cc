"""Revert data is read for people, whatever it is; a token's own text becomes an x402 reason code."""

import re
from pathlib import Path

import pytest
from eth_abi import encode
from hypothesis import given
from hypothesis import strategies as st

from contracts.reverts import ERROR, PANIC, PANICS, REASONS, SIMULATION_FAILED, reason_of, revert_text

TOKEN_SOURCE = Path(__file__).parents[3] / "sandbox/contracts/DevUSDC.sol"


@given(st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126), min_size=1, max_size=160))
def test_a_text_reads_back(text: str) -> None:
    """What `require` says is what is read."""
    assert revert_text(ERROR + encode(["string"], [text])) == text


def test_a_text_that_was_cut_off_reads_as_far_as_it_goes() -> None:
    """The batch contract copies 228 bytes: a longer text is its beginning, also where a character is cut in two."""
    data = ERROR + encode(["string"], ["x" * 159 + "é" + "y" * 200])
    assert revert_text(data[:228]) == "x" * 159 + "\ufffd"
    assert revert_text(data) == "x" * 159 + "é"


def test_a_text_cannot_write_more_than_a_line() -> None:
    """Line ends, terminal codes and direction marks do not reach logs or headers."""
    hostile = "paid\r\nX-Balance: 9\x1b[2J\u202e\0"
    assert revert_text(ERROR + encode(["string"], [hostile])) == "paid??X-Balance: 9?[2J??"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "reverted without a reason"),
        (ERROR + encode(["string"], [""]), "reverted without a reason"),
        (b"abc", "reverted with data of another form"),
        (ERROR, "reverted with data of another form"),
        (ERROR + encode(["uint256", "uint256"], [64, 0]), "reverted with data of another form"),
        (ERROR + encode(["uint256", "uint256"], [32, 2**256 - 1]) + b"why", "why"),
        (PANIC + encode(["uint256"], [0x11]), "panic: arithmetic overflow"),
        (PANIC + encode(["uint256"], [0x99]), "panic: unknown code"),
        (PANIC, "reverted with error 0x4e487b71"),
        (b"\xde\xad\xbe\xef" + bytes(32), "reverted with error 0xdeadbeef"),
    ],
)
def test_other_data_gets_words_of_ours(data: bytes, text: str) -> None:
    """Silent, short, panicking, custom and lying reverts have a text too."""
    assert revert_text(data) == text


@given(st.binary(max_size=400), st.sampled_from([b"", ERROR, PANIC, ERROR + (32).to_bytes(32, "big")]))
def test_any_data_gives_a_short_printable_text(data: bytes, head: bytes) -> None:
    """Nothing raises, nothing is empty, nothing is long or unprintable."""
    text = revert_text(head + data)
    assert 0 < len(text) <= 160
    assert text.isprintable()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("FiatTokenV2: authorization is used or canceled", "invalid_exact_evm_nonce_already_used"),
        ("FiatTokenV2: authorization is expired", "invalid_exact_evm_payload_authorization_valid_before"),
        ("FiatTokenV2: authorization is not yet valid", "invalid_exact_evm_payload_authorization_valid_after"),
        ("FiatTokenV2: invalid signature", "invalid_exact_evm_payload_signature"),
        ("ECRecover: invalid signature", "invalid_exact_evm_payload_signature"),
        ("ECRecover: invalid signature 's' value", "invalid_exact_evm_payload_signature"),
        ("ECRecover: invalid signature 'v' value", "invalid_exact_evm_payload_signature"),
        ("ECRecover: invalid signature length", "invalid_exact_evm_payload_signature"),
        ("ERC20: transfer amount exceeds balance", "invalid_exact_evm_insufficient_balance"),
        ("Blacklistable: account is blacklisted", "invalid_exact_evm_transaction_simulation_failed"),
        ("Pausable: paused", "invalid_exact_evm_transaction_simulation_failed"),
        ("anything else", "invalid_exact_evm_transaction_simulation_failed"),
        ("", "invalid_exact_evm_transaction_simulation_failed"),
    ],
)
def test_the_tokens_texts_have_their_codes(text: str, code: str) -> None:
    """Each text of Circle's token has a reason code, in the spelling of the specification and of the Python SDK."""
    assert reason_of(text) == code


def test_every_text_with_which_the_token_refuses_a_payment_is_mapped() -> None:
    """None of those that transferWithAuthorization can give falls through as unknown."""
    texts = set(
        re.findall(
            r'"((?:FiatTokenV2|ECRecover|Blacklistable|Pausable|ERC20: transfer)[^"]*)"', TOKEN_SOURCE.read_text()
        )
    )
    others = {text for text in texts if re.search("caller|permit|allowance|new ", text)}
    assert texts - others == set(REASONS)
    assert SIMULATION_FAILED in REASONS.values()
    assert 0x11 in PANICS

"""What the graph of being paid decides from the configuration alone."""

from contracts.tokens import BASE_USDC, MODERATO_PATHUSD, Token
from gateway.paid_graph import contracts_chain

ELSEWHERE = Token(10, BASE_USDC.address, "USDC", "USD Coin", "2", 6)


def test_contracts_sign_in_only_where_no_other_chain_takes_their_payments() -> None:
    """L4: an account is an address's, and a contract's address is another's on another chain."""
    assert contracts_chain({8453}, [BASE_USDC, MODERATO_PATHUSD]) == 8453
    assert contracts_chain({8453}, [BASE_USDC, ELSEWHERE]) is None  # collected there by another facilitator
    assert contracts_chain({8453, 10}, [BASE_USDC]) is None
    assert contracts_chain({8453}, [ELSEWHERE]) is None
    assert contracts_chain((), [BASE_USDC]) is None

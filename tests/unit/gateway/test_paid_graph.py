"""What the graph of being paid decides from the configuration alone."""

from contracts.tokens import BASE_USDC, MODERATO_PATHUSD, Token
from gateway.paid_graph import contracts_chain, settling_rules
from tests.unit.gateway.test_config import MINIMAL, PAID, parse

ELSEWHERE = Token(10, BASE_USDC.address, "USDC", "USD Coin", "2", 6)


def test_contracts_sign_in_only_where_no_other_chain_takes_their_payments() -> None:
    """L4: an account is an address's, and a contract's address is another's on another chain."""
    assert contracts_chain({8453}, [BASE_USDC, MODERATO_PATHUSD]) == 8453
    assert contracts_chain({8453}, [BASE_USDC, ELSEWHERE]) is None  # collected there by another facilitator
    assert contracts_chain({8453, 10}, [BASE_USDC]) is None
    assert contracts_chain({8453}, [ELSEWHERE]) is None
    assert contracts_chain((), [BASE_USDC]) is None


def test_transactions_are_made_as_the_table_says() -> None:
    """What the operator writes reaches the engine: how many of a relayer may be on their way, and when one is replaced."""
    usual = parse(MINIMAL + PAID).facilitator
    said = parse(MINIMAL + PAID.replace("[topups]", "in_flight_max = 3\nreplace_after_s = 40\n[topups]")).facilitator
    assert usual is not None
    assert said is not None
    assert (settling_rules(usual).in_flight_max, settling_rules(usual).replace_after_s) == (16, 15)
    assert (settling_rules(said).in_flight_max, settling_rules(said).replace_after_s) == (3, 40)

"""How each kind of payment shows on chain, where no payment of ours explains it: what left the wallet."""

from contracts.codec import Address
from contracts.logs import AUTHORIZATION_USED, TRANSFER, Log, topic_address
from contracts.tokens import BASE_USDC
from gateway.flow.collection import way_of

WALLET, OTHER = Address(b"\x11" * 20), Address(b"\x33" * 20)
USED = Log(
    BASE_USDC.address, (AUTHORIZATION_USED, topic_address(WALLET), b"\x01" * 32), b"", 7, b"\xaa" * 32, b"\xbb" * 32, 3
)


def next_log(address: Address, *more: bytes, sender: Address = WALLET, data: bytes = (5).to_bytes(32, "big")) -> Log:
    """Return a Transfer log directly after the AuthorizationUsed one."""
    topics = (TRANSFER, topic_address(sender), topic_address(OTHER), *more)
    return Log(address, topics, data, USED.block_number, USED.block_hash, USED.tx_hash, USED.log_index + 1)


def moved(following: Log) -> int:
    """Return what is said to have left the wallet."""
    return way_of(BASE_USDC).moved(BASE_USDC, WALLET, USED, (USED, following))


def test_an_unexplained_collection_took_what_its_own_transfer_says() -> None:
    """The token's next log, out of this wallet; another sender's, or another contract's, took nothing from it."""
    assert moved(next_log(BASE_USDC.address)) == 5
    assert moved(next_log(BASE_USDC.address, sender=OTHER)) == 0
    assert moved(next_log(OTHER)) == 0


def test_a_strangers_log_does_not_stop_the_tracker() -> None:
    """An ERC-721 Transfer of another contract shares the first topic and has four: it is nobody's payment, and no error."""
    assert moved(next_log(OTHER, bytes(32), data=b"")) == 0

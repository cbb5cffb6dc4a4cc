"""The newest poll's head: what sets windows follows the chain, in both directions."""

from gateway.flow.heads import Heads
from gateway.ports import Block

CHAIN_ID = 8453


def block(number: int, time_s: int = 0) -> Block:
    """Return a block of this height."""
    return Block(number, number.to_bytes(32, "big"), time_s or 1_800_000_000 + 2 * number)


def test_a_boast_does_not_outlive_its_poll() -> None:
    """One endpoint alone may name a head years ahead; with the others' answer the head is the chain's again."""
    heads = Heads()
    heads.saw(CHAIN_ID, block(100), block(90))
    heads.saw(CHAIN_ID, block(10**9, 2_000_000_000), block(90))
    heads.saw(CHAIN_ID, block(101), block(91))
    assert heads.get(CHAIN_ID) == block(101)


def test_a_shorter_fork_is_followed() -> None:
    """After a reorganisation the head is the new chain's, also where that is lower."""
    heads = Heads()
    heads.saw(CHAIN_ID, block(100), block(90))
    heads.saw(CHAIN_ID, block(98), block(90))
    assert heads.get(CHAIN_ID) == block(98)


def test_the_head_is_never_behind_the_final_block() -> None:
    """An endpoint that lags and is alone in telling of its head does not take the time behind what is proven."""
    heads = Heads()
    heads.saw(CHAIN_ID, block(80), block(90))
    assert heads.get(CHAIN_ID) == block(90)
    assert heads.final(CHAIN_ID) == block(90)
    assert heads.get(1) is None

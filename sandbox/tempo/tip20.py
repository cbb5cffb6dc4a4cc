"""TIP-20, the token standard of Tempo, as far as the sandbox needs it: four calls and one event.

Must not know the chain. Theory: every argument is one 32-byte word, so encoding is concatenation.
"""

from dataclasses import dataclass
from typing import Any, Self

PATH_USD = "0x20c0000000000000000000000000000000000000"
DEV_TOKENS = tuple(f"0x20c000000000000000000000000000000000000{digit}" for digit in range(4))
"""pathUSD, AlphaUSD, BetaUSD, ThetaUSD: what anvil's Tempo network begins with."""

TRANSFER_TOPIC = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
TRANSFER_WITH_MEMO_TOPIC = "0x57bc7354aa85aed339e000bccffabbc529466af35f0772c8f8ee1145927de7f0"

_BALANCE_OF, _TRANSFER, _TRANSFER_WITH_MEMO = "0x70a08231", "0xa9059cbb", "0x95777d59"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoTransfer:
    """One `TransferWithMemo` log. Amounts in base units (1e-6); hex texts with 0x, addresses in lower case."""

    token: str
    sender: str
    recipient: str
    amount_base: int
    memo: str
    tx_hash: str
    log_index: int
    block_number: int

    @classmethod
    def from_log(cls, log: dict[str, Any]) -> Self:
        """Read a log as JSON-RPC gives it; raises ValueError when it is another event."""
        topics = log["topics"]
        if topics[0] != TRANSFER_WITH_MEMO_TOPIC or len(topics) != 4:
            raise ValueError("not a TransferWithMemo")
        return cls(
            token=log["address"].lower(),
            sender=_address(topics[1]),
            recipient=_address(topics[2]),
            amount_base=int(log["data"], 16),
            memo=topics[3],
            tx_hash=log["transactionHash"],
            log_index=int(log["logIndex"], 16),
            block_number=int(log["blockNumber"], 16),
        )


def balance_of(owner: str) -> str:
    """Calldata of `balanceOf`."""
    return _BALANCE_OF + word(owner)


def transfer(to: str, amount_base: int) -> str:
    """Calldata of `transfer`."""
    return _TRANSFER + word(to) + word(amount_base)


def transfer_with_memo(to: str, amount_base: int, memo: str) -> str:
    """Calldata of `transferWithMemo`; the memo is 32 bytes of 0x text."""
    return _TRANSFER_WITH_MEMO + word(to) + word(amount_base) + word(memo)


def word(value: str | int) -> str:
    """One 32-byte word, without 0x; raises ValueError for what does not fit."""
    digits = f"{value:x}" if isinstance(value, int) else value.removeprefix("0x").lower()
    if len(digits) > 64 or digits.startswith("-"):
        raise ValueError(f"does not fit a word: {value}")
    int(digits, 16)
    return digits.rjust(64, "0")


def _address(topic: str) -> str:
    return "0x" + topic[-40:].lower()

"""The tills of one chain: where money comes in, in which tokens, and what is seen of each transfer there.

Must not know orders or the book.  Theory: a till is a place and never a purse: what comes in is somebody's until the book
says whose, and nothing leaves but refunds, so every transfer of every token that we know of is looked at, in and out.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from contracts.codec import Address, to_hex
from contracts.incoming import Moved, read_transfer
from contracts.logs import Log
from contracts.proof import Mismatch
from contracts.tokens import Token
from gateway.core.records import Evidence
from gateway.ports import Chain, ChainUnavailable, Receipt

PARALLEL_QUESTIONS = 8


@dataclass(frozen=True, slots=True)
class Till:
    """A receiving address and the tokens that it takes. `foreign` are other tokens that are known, and looked for.

    A token that no configuration names cannot be looked for: it lies at the address, unbooked, until it is configured.
    """

    address: Address
    accepted: tuple[Token, ...]
    foreign: tuple[Token, ...] = ()

    @property
    def tokens(self) -> tuple[Token, ...]:
        """All that is looked for here."""
        return (*self.accepted, *self.foreign)


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction's transfers of one token to or from tills, in order, with its whole receipt.

    One that failed moved nothing, but it may have cost its fee, which it logs all the same.
    """

    token: Token
    receipt: Receipt
    moved: tuple[Moved, ...]


async def read_transactions(chain: Chain, token: Token, logs: Sequence[Log]) -> list[Transaction]:
    """Fetch the receipts around logs that are agreed and final. Raises ChainUnavailable where they do not fit."""
    by_hash: dict[bytes, list[Log]] = {}
    for log in logs:
        by_hash.setdefault(log.tx_hash, []).append(log)
    gate = asyncio.Semaphore(PARALLEL_QUESTIONS)

    async def read(tx_hash: bytes, found: Sequence[Log]) -> Transaction:
        async with gate:
            return await _read(chain, token, tx_hash, found)

    return await asyncio.gather(*(read(tx_hash, found) for tx_hash, found in by_hash.items()))


async def _read(chain: Chain, token: Token, tx_hash: bytes, found: Sequence[Log]) -> Transaction:
    receipt = await chain.receipt(tx_hash)
    if receipt is None:
        raise ChainUnavailable(f"{to_hex(tx_hash)} has a final log and no receipt")
    if receipt.status == 0:
        return Transaction(token, receipt, ())
    moved: list[Moved] = []
    for log in found:
        reading = read_transfer(log, receipt.logs, receipt.status)
        if isinstance(reading, Mismatch):
            raise ChainUnavailable(f"{to_hex(tx_hash)}: {reading.code}: {reading.message}")
        if reading is not None:
            moved.append(reading)
    return Transaction(token, receipt, tuple(moved))


def evidence_of(
    chain: Chain, kind: str, receipt: Receipt, log_index: int | None, value_base: int, fee_base: int = 0
) -> Evidence:
    """Return what a mined transaction proves, with who says so."""
    return Evidence(
        kind=kind,
        chain_id=chain.chain_id,
        block_number=receipt.block.number,
        block_hash=receipt.block.hash,
        block_time_s=receipt.block.time_s,
        witnesses=chain.witnesses,
        tx_hash=receipt.tx_hash,
        log_index=log_index,
        value_base=value_base,
        fee_base=fee_base,
    )

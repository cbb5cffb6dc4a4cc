"""Ending a payment that the chain calls used and that nothing proves: what the operator says, held against all that is there.

Must not know who asks or through which door.  Theory (P5, P14): a human's word is the last means, so first the proof is tried
once more, with the receipt that the operator names as well; a figure that the chain shows binds the word, and only what it
does not show is taken as said. Whatever is said wrongly, the wallet's balance is compared with the book at the next look.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from contracts.codec import Address, to_hex
from contracts.logs import Log, LogError, decode_transfer
from contracts.tempo_proof import tempo_fee_base
from contracts.tokens import Token
from gateway.core.commands import Refused, ResolveUnproven
from gateway.core.money import format_amount
from gateway.core.payment import Charge, Transfer
from gateway.core.problems import Problem
from gateway.core.records import AuthorizationTerms, Evidence, Payment, TransferKind
from gateway.flow.collection import Promise, Sign, Standing, way_of
from gateway.flow.settle import Tracker
from gateway.ports import Block, Chain, ChainDisagreement, ChainUnavailable, Clock, Receipt, Store

# Longer than a question to the chain may take; a poll that catches up after an outage takes longer, and ends without us.
TURN_S = 30.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Said:
    """What the operator says: `left_base` is all that left the wallet for the payment, the network's fee included."""

    charge: Charge
    left_base: int
    tx_hash: bytes | None
    words: str
    by: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What one chain's final blocks show of a payment: the block, the log of its collection, the receipt around it.

    `others_base` is what that transaction is known to have taken for other payments of the wallet.
    """

    final: Block
    found: Log | None
    receipt: Receipt | None
    others_base: int


class Unproven:
    """Ends one chain's unproven payments."""

    def __init__(self, *, store: Store, chain: Chain, tracker: Tracker, clock: Clock) -> None:
        self._store, self._chain, self._tracker, self._clock = store, chain, tracker, clock

    async def resolve(self, payment_id: str, said: Said) -> Payment:
        """End a payment as said; return it as it is then.

        Raises Problem: not_found, not_ready where the chain does not answer or is being read for long, not_unproven where
        evidence ends it (now, or later) or nobody is asked, and bad_resolution where what is said is not what the chain shows.
        """
        async with self._alone():
            return await self._resolve(payment_id, said)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Keep the tracker from comparing an older block's balance with what is booked here by a newer one."""
        turn = self._tracker.turn
        try:
            async with asyncio.timeout(TURN_S):
                await turn.acquire()
        except TimeoutError:
            raise Problem("not_ready", f"chain {self._chain.chain_id} is being read: ask again later") from None
        try:
            yield
        finally:
            turn.release()

    async def _resolve(self, payment_id: str, said: Said) -> Payment:
        try:
            seen = await self._look(self._waiting(await self._payment(payment_id)), said)
        except (ChainUnavailable, ChainDisagreement) as problem:
            raise Problem("not_ready", f"chain {self._chain.chain_id} cannot be asked: {problem}") from None
        payment, terms = self._waiting(await self._payment(payment_id))
        value_base, fee_base = self._parted(terms, seen, said)
        evidence = Evidence(
            kind="resolved",
            chain_id=self._chain.chain_id,
            block_number=seen.final.number,
            block_hash=seen.final.hash,
            block_time_s=seen.final.time_s,
            witnesses=self._chain.witnesses,
            tx_hash=None if seen.found is None else seen.found.tx_hash,
            log_index=None if seen.found is None else seen.found.log_index,
            value_base=value_base,
            fee_base=fee_base,
        )
        now_ms = self._clock.now_ms()
        command = ResolveUnproven(payment.id, said.charge, evidence, said.tx_hash, said.words, said.by, now_ms)
        result = await self._store.post(command)
        if isinstance(result, Refused):
            raise Problem(result.code, result.detail)
        log.warning("payment.resolved", payment_id=payment.id, charge=said.charge.value, left_base=said.left_base)
        return await self._payment(payment_id)

    async def _payment(self, payment_id: str) -> Payment:
        payment = await self._store.payment(payment_id)
        if payment is None:
            raise Problem("not_found", f"there is no payment {payment_id}")
        return payment

    def _waiting(self, payment: Payment) -> Promise:
        terms = payment.authorization
        if terms is None or payment.axes.transfer is not Transfer.PRESENTED:
            raise Problem(
                "not_unproven", f"transfer is {payment.axes.transfer.value}: there is nothing left to be found out"
            )
        return payment, terms

    # what the chain shows

    async def _look(self, promise: Promise, said: Said) -> Seen:
        """Try to prove it once more; what could be proven is booked. Return what there is to hold the word against."""
        terms = promise[1]
        token = self._tracker.token_of(terms)
        final, standing = await self._tracker.look_again(promise)
        _require_used(terms, final, standing)
        found = standing.found
        if found is not None and said.tx_hash not in (None, found.tx_hash):
            raise Problem("bad_resolution", f"the chain shows it in transaction {to_hex(found.tx_hash)}", "tx")
        tx_hash = said.tx_hash if found is None else found.tx_hash
        receipt = None if tx_hash is None else await self._chain.receipt(tx_hash, final)
        if receipt is not None and receipt.block.number > final.number:
            raise Problem("not_unproven", f"{to_hex(receipt.tx_hash)} is in no final block yet: ask again when it is")
        if found is None and receipt is not None:
            found = _log_in(token, terms, receipt)
            if found is not None:
                await self._tracker.book_log(token, found)
        others = {} if receipt is None else await self._others(token, terms, receipt)
        if found is None and receipt is not None:
            _require_its_own(terms, receipt, others)
        return Seen(final, found, receipt, sum(each.settled_base for each in others.values() if each is not None))

    async def _others(self, token: Token, terms: AuthorizationTerms, receipt: Receipt) -> dict[bytes, Payment | None]:
        """Return what else the wallet promised that shows in a transaction, by nonce, with the payment if it is one's."""
        signs = [way_of(token).read(each) for each in receipt.logs if each.address == token.address]
        nonces = {sign.nonce for sign in signs if sign is not None and sign.wallet == terms.wallet} - {terms.nonce}
        return {nonce: await self._store.payment_of((*terms.identity[:3], nonce)) for nonce in sorted(nonces)}

    def _parted(self, terms: AuthorizationTerms, seen: Seen, said: Said) -> tuple[int, int]:
        """Return what the payees and the network got of what is said to have left, where the chain does not contradict it.

        Of both no more than was promised is the payment's, whatever left for them.
        """
        token, wallet, receipt = self._tracker.token_of(terms), Address(terms.wallet), seen.receipt
        if receipt is None:
            return _without_a_receipt(terms, said)
        try:
            shown_base = 0 if seen.found is None else way_of(token).moved(token, wallet, seen.found, receipt.logs)
            left_base = shown_base or max(0, _left_in(token, wallet, receipt) - seen.others_base)
            paid_base = tempo_fee_base(wallet, token.address, receipt.logs) if terms.kind is TransferKind.TEMPO else 0
        except LogError:  # transfers that cannot be read bind nothing
            return _without_a_receipt(terms, said)
        fee_base = min(terms.fee_base, paid_base)
        bound_base = min(terms.value_base, left_base - paid_base) + fee_base
        if said.left_base > bound_base or (shown_base and said.left_base != bound_base):
            detail = f"by its transaction {'' if shown_base else 'at most '}{format_amount(bound_base)} left for it"
            raise Problem("bad_resolution", detail, "left")
        fee_base = min(fee_base, said.left_base)
        return said.left_base - fee_base, fee_base


def _require_used(terms: AuthorizationTerms, final: Block, standing: Standing) -> None:
    """Only what can never be collected again may be ended by a word: a used nonce, or a used charge whose window is over."""
    if not standing.used:
        detail = f"at final block {final.number} it is not used: evidence will end it"
        raise Problem("not_unproven", detail)
    if terms.kind is TransferKind.TEMPO and final.time_s < terms.valid_before_s:
        raise Problem("not_unproven", "its window has not passed: what was signed may still be collected")


def _require_its_own(terms: AuthorizationTerms, receipt: Receipt, others: Mapping[bytes, Payment | None]) -> None:
    """Refuse a transaction without its log that took something else, or nothing: its figure would bind a word about this one.

    On Tempo only the one that was signed can have taken it without its memo.
    """
    may_be = (
        terms.tx_hash == receipt.tx_hash if terms.kind is TransferKind.TEMPO else receipt.status != 0 and not others
    )
    if may_be:
        return
    owners = ", ".join(each.id for each in others.values() if each is not None)
    whose = f": it is the transaction of {owners}" if owners else ""
    raise Problem("bad_resolution", f"{to_hex(receipt.tx_hash)} did not take it{whose}", "tx")


def _without_a_receipt(terms: AuthorizationTerms, said: Said) -> tuple[int, int]:
    if said.left_base > terms.reserve_base:
        raise Problem("bad_resolution", f"at most {format_amount(terms.reserve_base)} was promised for it", "left")
    value_base = min(said.left_base, terms.value_base)
    return value_base, said.left_base - value_base


def _log_in(token: Token, terms: AuthorizationTerms, receipt: Receipt) -> Log | None:
    sign, read = Sign(Address(terms.wallet), terms.nonce, collected=True), way_of(token).read
    return next((each for each in receipt.logs if each.address == token.address and read(each) == sign), None)


def _left_in(token: Token, wallet: Address, receipt: Receipt) -> int:
    """Return all that a transaction took from the wallet. Raises LogError for transfers that cannot be read."""
    transfers = [decode_transfer(each) for each in receipt.logs if each.address == token.address]
    return sum(each.value_base for each in transfers if each is not None and each.sender == wallet)

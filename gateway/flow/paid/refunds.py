"""Money on its way back: only to an address that signed the payment, in the asset and on the chain that it came by.

Must not know what proves an end: final blocks do (returning.py).  Theory (P2, P3, P6): what goes back is first held on the
account, on what the receipt brought and on the till, in the commit that also keeps every signed byte; only then does it
leave, as often as it takes, always the same bytes, whose nonce is the refund's own, so that the chain takes them once; and
the hold stays until a final block tells which of the two ends it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import structlog

from contracts.codec import Address
from contracts.eip3009 import Authorization, purchase_nonce
from contracts.tempo import TempoCharge, TempoTransfer
from contracts.tokens import Token, TokenKey
from gateway.core.commands import Attached, Refused, key_used
from gateway.core.decide_refund import is_stopped
from gateway.core.paid import Incoming, ReceiptState, Refund, RefundState, SettlementState
from gateway.core.paid_commands import MoveRefund, OpenRefund
from gateway.core.pause import is_over
from gateway.core.problems import Problem
from gateway.core.records import HOUSE
from gateway.core.view import Balance
from gateway.flow.credentials import TempoFees
from gateway.flow.heads import Heads
from gateway.flow.ids import Ids
from gateway.flow.refusing import refusal_to_sign
from gateway.flow.tasks import Tasks
from gateway.paid_ports import Engine, Exact
from gateway.ports import Broadcaster, ChainUnavailable, Clock, Entropy, Store
from wallets.guard import SigningRefused
from wallets.signer import Signer

AGAIN_MS = 15_000
SPARE_S = 6
SETTLING = frozenset({SettlementState.CLAIMED, SettlementState.SENT, SettlementState.MINED, SettlementState.FINAL})

log = structlog.get_logger()


class Mark(Protocol):
    """Remembers outside the database how far the journal had come when something left (P12)."""

    def record(self, height: int, digest: bytes) -> None:
        """Remember a journal row."""


@dataclass(frozen=True, slots=True)
class RefundAsked:
    """What an account wants back: of one receipt, or of one order's. No amount is all that can go back."""

    account_id: str
    key_id: str
    receipt_id: str | None
    topup_id: str | None
    amount_base: int | None
    client_token: str
    fingerprint: bytes


class Opened(NamedTuple):
    """A refund as it stands. `repeated`: an earlier request with the same client token has opened it."""

    refund: Refund
    repeated: bool


@dataclass(frozen=True, slots=True)
class RefundParts:
    """What refunds are made of. `signers` are the tills', `broadcasters` and `tempo_fees` by chain id.

    `engine` is None where nothing of EIP-3009 can be submitted: then nothing of it is refunded.
    """

    tokens: Mapping[TokenKey, Token]
    signers: Mapping[bytes, Signer]
    engine: Engine | None
    broadcasters: Mapping[int, Broadcaster]
    tempo_fees: Mapping[int, TempoFees]
    valid_for_s: int


class Refunds:
    """Opens refunds and sends them. `sweep` is a loop's body."""

    def __init__(
        self, *, store: Store, parts: RefundParts, heads: Heads, mark: Mark, clock: Clock, entropy: Entropy
    ) -> None:
        self._store, self._parts, self._heads, self._mark = store, parts, heads, mark
        self._clock, self._ids, self._tasks = clock, Ids(clock, entropy), Tasks(store, clock, entropy)
        self._again_ms: dict[str, int] = {}

    async def open(self, asked: RefundAsked) -> Opened:
        """Hold what goes back and sign it; the same client token again is the same refund.

        Raises Problem: not_found, not_refundable, refund_exceeds_funding, insufficient_balance, till_short,
        idempotency_conflict, too_many_open_payments, not_ready without a block of the chain, frozen or signing_refused by
        the till's guard.
        """
        known = await self._store.refund_by_token(asked.account_id, asked.client_token)
        if known is not None:  # told whatever stands in the way of a new one by now
            if known.fingerprint != asked.fingerprint:
                raise key_used()
            return Opened(known, repeated=True)
        incoming = await self._receipt(asked)
        token, signer = self._way_back(incoming)
        amount_base = asked.amount_base or self._all_of(incoming)
        value_base = amount_base * incoming.value_base // incoming.amount_base
        if value_base == 0:
            raise Problem("refund_exceeds_funding", f"{incoming.asset} has no unit as small as that", "amount")
        try:
            refund = self._signed(asked, incoming, token, signer, amount_base, value_base)
        except SigningRefused as refused:
            raise await refusal_to_sign(self._tasks, incoming.till, refused) from refused
        result = await self._store.post(OpenRefund(refund, self._clock.now_ms()))
        if isinstance(result, Refused):
            raise Problem(result.code, result.detail)
        repeated = isinstance(result, Attached)
        found = await self._store.refund(result.record_id if isinstance(result, Attached) else refund.id)
        assert found is not None, "a refund that was committed is found"
        return Opened(found, repeated)

    async def sweep(self) -> None:
        """Send what was opened, again and again until it has an end. What cannot be sent now is tried again later."""
        now_ms = self._clock.now_ms()
        refunds = self._store.view.refunds
        self._again_ms = {known: at_ms for known, at_ms in self._again_ms.items() if known in refunds}
        for refund in list(refunds.values()):
            due = is_over(self._again_ms.get(refund.id, 0), now_ms, AGAIN_MS)
            if due and now_ms // 1000 < refund.valid_before_s:
                await self._send(refund)

    # opening

    async def _receipt(self, asked: RefundAsked) -> Incoming:
        receipt_id = asked.receipt_id
        if receipt_id is None and asked.topup_id is not None:
            order = await self._store.topup(asked.topup_id)
            receipt_id = None if order is None or order.account_id != asked.account_id else order.receipt_id
        found = None if receipt_id is None else await self._store.incoming(receipt_id)
        if found is None or found.account_id != asked.account_id:
            raise Problem("not_found", "there is no such receipt of yours; GET /v1/receipts lists them")
        if not found.refundable or found.state is not ReceiptState.CREDITED or not found.amount_base:
            raise Problem("not_refundable", "only what its sender has signed goes back, and only to that address")
        return found

    def _way_back(self, incoming: Incoming) -> tuple[Token, Signer]:
        token = self._parts.tokens.get((incoming.chain_id, Address(incoming.token)))
        signer = self._parts.signers.get(incoming.till)
        if token is None or signer is None:
            raise Problem("not_refundable", "the gateway has no such till any more; ask the operator")
        pushed = token.standard == "tip20"
        if token.chain_id not in self._parts.broadcasters if pushed else self._parts.engine is None:
            raise Problem("not_refundable", "the gateway sends nothing on that chain; ask the operator")
        return token, signer

    def _all_of(self, incoming: Incoming) -> int:
        """Return what can go back of a receipt now; the book judges it again, with the hold."""
        balance = self._store.view.balances.get(incoming.account_id or "", Balance())
        return max(1, min(incoming.amount_base - incoming.refunded_base, balance.available_base))

    def _signed(
        self, asked: RefundAsked, incoming: Incoming, token: Token, signer: Signer, amount_base: int, value_base: int
    ) -> Refund:
        head, now_ms = self._heads.get(token.chain_id), self._clock.now_ms()
        if head is None:
            raise Problem("not_ready", f"no block of chain {token.chain_id} was seen yet")
        refund_id = self._ids.new("ref")
        till = Address(incoming.till)
        refund = Refund(
            id=refund_id,
            account_id=asked.account_id,
            key_id=asked.key_id,
            receipt_id=incoming.id,
            amount_base=amount_base,
            chain_id=token.chain_id,
            token=token.address,
            asset=token.asset_id,
            till=till,
            to=incoming.sender,
            value_base=value_base,
            nonce=purchase_nonce(token.chain_id, token.address, till, refund_id),
            valid_before_s=max(now_ms // 1000, head.time_s),
            signature=b"",
            client_token=asked.client_token,
            fingerprint=asked.fingerprint,
            created_at_ms=now_ms,
        )
        if token.standard == "tip20":
            return _sign_charge(refund, token, signer, self._parts.tempo_fees.get(token.chain_id) or TempoFees())
        refund = replace(refund, valid_before_s=refund.valid_before_s + self._parts.valid_for_s)
        return replace(refund, signature=signer.sign_refund(authorization_of(refund, token)))

    # sending

    async def _send(self, refund: Refund) -> None:
        token = self._parts.tokens.get((refund.chain_id, Address(refund.token)))
        if token is None or self._stopped(refund):
            return
        if refund.state is RefundState.HELD:
            sent = replace(refund, state=RefundState.SENT, version=refund.version + 1)
            if isinstance(await self._store.post(MoveRefund(sent, None, "sent", self._clock.now_ms())), Refused):
                return  # it has moved meanwhile: the next sweep sees how
        if token.standard == "tip20":
            await self._broadcast(refund)
        else:
            await self._settle(refund, token)

    def _stopped(self, refund: Refund) -> bool:
        """While the operator says stop nothing leaves, what was sent before included; its window may end meanwhile."""
        return is_stopped(refund, self._store.view.freezes)

    def _leaving(self) -> None:
        """P12: what is about to leave is on record outside the database."""
        self._mark.record(self._store.view.journal_seq, self._store.view.journal_head)

    async def _broadcast(self, refund: Refund) -> None:
        broadcaster = self._parts.broadcasters.get(refund.chain_id)
        if broadcaster is None:
            return
        self._leaving()
        try:
            await broadcaster.send_raw(refund.signature)
        except ChainUnavailable as problem:  # it may be on its way all the same, and its window is short
            log.warning("refund.not_sent", refund=refund.id, why=str(problem))

    async def _settle(self, refund: Refund, token: Token) -> None:
        engine = self._parts.engine
        if engine is None:
            return
        authorization = authorization_of(refund, token)
        known = engine.find(authorization.key)
        now_ms = self._clock.now_ms()
        if (known is not None and known.state in SETTLING) or now_ms // 1000 + SPARE_S >= refund.valid_before_s:
            return
        self._again_ms[refund.id] = now_ms + AGAIN_MS
        self._leaving()
        exact = Exact(2, token.network.caip2, authorization, refund.signature)
        try:
            settled = await engine.settle(exact, HOUSE, 0.0)
        except (
            ChainUnavailable
        ) as problem:  # nothing was claimed, or it is followed all the same: one chain stops no other
            log.warning("refund.not_sent", refund=refund.id, why=str(problem))
            return
        if not settled.success:
            log.info("refund.not_mined", refund=refund.id, reason=settled.reason, why=settled.message)


def authorization_of(refund: Refund, token: Token) -> Authorization:
    """Return what the till signs for a refund in an EIP-3009 token."""
    return Authorization(
        token=token,
        authorizer=Address(refund.till),
        pay_to=Address(refund.to),
        value_base=refund.value_base,
        valid_after=0,
        valid_before=refund.valid_before_s,
        nonce=refund.nonce,
    )


def _sign_charge(refund: Refund, token: Token, signer: Signer, fees: TempoFees) -> Refund:
    gas, max_fee_per_gas = fees.bounds(0, sponsored=False)
    charge = TempoCharge(
        token=token,
        wallet=Address(refund.till),
        transfers=(TempoTransfer(Address(refund.to), refund.value_base, refund.nonce),),
        valid_before=refund.valid_before_s + fees.valid_for_s,
        gas=gas,
        max_fee_per_gas=max_fee_per_gas,
        max_priority_fee_per_gas=min(fees.max_priority_fee_per_gas, max_fee_per_gas),
        sponsored=False,
    )
    raw = charge.encode(signer.sign_refund_charge(charge))
    return replace(
        refund,
        valid_before_s=charge.valid_before,
        fee_base=charge.max_fee_base,
        signature=raw,
        tx_hash=charge.tx_hash(raw),
    )

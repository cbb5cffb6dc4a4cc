"""From a payment of an order to what became of it: claimed in the book, collected by a facilitator, answered once.

Must not know wire formats of requests or answers.  Theory: the order and the payment's identity are one row before anybody
is asked to collect anything, so whatever happens after (a hang, a lie, a crash, the same payment fifty times at once) there
is exactly one thing to ask about; what a facilitator says moves the order, and never credits anybody (decision 0017).

States that this module writes: PAYING (claimed: the payment may land), SEEN (it is in a block: by our own engine's word, or
where another's facilitator collects, by the quorum's receipt), FAILED (refused, and unused in the newest block), EXPIRED
(failed or unpaid, and over). CREDITED is the receipts' alone, from any of them, and so is the proof that a payment never
lands.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from contracts.codec import Address, ContractError, parse_address
from contracts.eip3009 import Authorization
from contracts.logs import decode_authorization_used
from contracts.proof import Mismatch, prove_settlement
from contracts.tokens import Token, TokenKey
from gateway.core.commands import Attached, Refused
from gateway.core.paid import TopUp, TopUpState
from gateway.core.paid_commands import PutTopUp
from gateway.core.pause import is_over
from gateway.core.records import HOUSE
from gateway.flow.paid.judging import payload_of, signed_in
from gateway.paid_ports import Exact, Facilitator, FacilitatorUnknown, Json, Settled
from gateway.ports import Chain, ChainDisagreement, ChainUnavailable, Clock, Receipt, Store
from gateway.rails.x402.reasons import Reason

X402: Final = "x402"
MPP_EVM: Final = "mpp_evm"
COLLECTED: Final = frozenset({X402, MPP_EVM})
"""The rails whose payments are authorizations, and so are collected by a facilitator."""

LOOK_AGAIN_S: Final = (0.5, 1.0, 2.0, 4.0)  # how soon a newest block that an endpoint has not seen is asked for again
ASK_AGAIN_MS: Final = (2_000, 5_000, 15_000, 30_000, 60_000)

_REFUSALS: Final = frozenset(
    {
        Reason.INVALID_VERSION,
        Reason.INVALID_PAYLOAD,
        Reason.INVALID_REQUIREMENTS,
        Reason.UNSUPPORTED_SCHEME,
        Reason.UNSUPPORTED_PAYLOAD,
        Reason.INVALID_NETWORK,
        Reason.NETWORK_MISMATCH,
        Reason.MISSING_DOMAIN,
        Reason.FACTORY_NOT_ALLOWED,
        "invalid_scheme",
        "insufficient_funds",
    }
)
_ABOUT_THE_PAYMENT: Final = "invalid_exact_evm_"
_MAY_HAVE_MOVED: Final = ("nonce_already_used", "transaction_failed", "transfer_event_mismatch")
"""Reasons that begin like a refusal, and are told of what was sent."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Taken:
    """A payment's order as it is now. `hint` is a transaction that somebody named for it, and nobody has proven."""

    topup: TopUp
    hint: bytes | None = None


@dataclass(frozen=True, slots=True)
class Conflict:
    """The claim was refused: `code` is a problem type. `other` is the order that stands in the way, where there is one."""

    code: str
    detail: str
    other: TopUp | None = None


_REUSED: Final = Conflict("payment_reused", "another payload with this authorization was taken before")


def refuses(reason: str, *, own: bool) -> bool:
    """Say whether a reason code means that nothing was sent. `own`: our engine says so, and knows what it sent."""
    if reason.endswith(_MAY_HAVE_MOVED):
        return own and reason == Reason.TRANSACTION_FAILED
    return reason in _REFUSALS or reason.startswith(_ABOUT_THE_PAYMENT)


def pack_payment(version: int, payload: Json, requirements: Json) -> bytes:
    """Return what a facilitator is asked with, as it is kept: asked again after a crash, it is the same question."""
    document = {"version": version, "payload": payload, "requirements": requirements}
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode("ascii")


def unpack_payment(raw: bytes) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Return version, payload and requirements of a kept payment."""
    document = json.loads(raw)
    return document["version"], document["payload"], document["requirements"]


def of_exact(topup: TopUp, rail: str, exact: Exact, requirements: Json) -> TopUp:
    """Return an order with an authorization as its payment, about to be claimed."""
    terms = exact.authorization
    return replace(
        topup,
        state=TopUpState.PAYING,
        rail=rail,
        chain_id=terms.token.chain_id,
        token=terms.token.address,
        payer=terms.authorizer,
        nonce=terms.nonce,
        value_base=terms.value_base,
        valid_before_s=terms.valid_before,
        raw=pack_payment(exact.version, payload_of(exact, requirements), requirements),
        tx_hash=None,
        settlement_id=None,
        reason="",
    )


class Taking:
    """Claims payments, has authorizations collected, and asks again until they are in a block.

    `own` says that the facilitator is ours, in this process: then what it refuses was not sent, and what it has seen is in a
    block. `patience_s` is how long a payer waits for an answer better than "pending"; the work goes on without it.
    """

    def __init__(
        self,
        *,
        store: Store,
        facilitator: Facilitator | None,
        own: bool,
        chains: Mapping[int, Chain],
        tokens: Mapping[TokenKey, Token],
        clock: Clock,
        patience_s: float,
    ) -> None:
        self._store, self._facilitator, self._own = store, facilitator, own
        self._chains, self._tokens, self._clock, self._patience_s = chains, tokens, clock, patience_s
        self._flights: dict[str, asyncio.Task[TopUp]] = {}
        self._hints: dict[str, bytes] = {}
        self._tries: dict[str, tuple[int, int]] = {}  # by order: how often it was asked about, and when next

    # claiming

    async def claim(self, topup: TopUp) -> TopUp | Conflict:
        """Make a payment its order's one payment, before anything leaves; the order may be new, or one that failed.

        Returns the order that has it: as given, or as it is where this very payment was claimed before.
        """
        result = await self._store.post(PutTopUp(topup, "paying", self._clock.now_ms()))
        if isinstance(result, Attached):
            known = await self._store.topup(result.record_id)
            if known is not None and known.identity == topup.identity:
                return known if _same(known, topup) else _REUSED
            return Conflict("topup_taken", "another payment was taken under this name", known)
        if not isinstance(result, Refused):
            return topup
        known = None if topup.identity is None else await self._store.topup_of(topup.identity)
        if known is not None and known.identity == topup.identity and known.state is not TopUpState.FAILED:
            return known if _same(known, topup) else _REUSED
        if result.code in {"topup_taken", "changed_meanwhile"}:
            return Conflict("topup_taken", "the order has another payment", await self._store.topup(topup.id))
        return Conflict(result.code, result.detail)

    # collecting

    async def collected(self, topup: TopUp) -> Taken:
        """Have a claimed authorization collected, or wait with whoever is at it; return how the order is after that.

        Whoever waits is answered alike, and after `patience_s` with what is known by then.
        """
        flight = self._flights.get(topup.id) or self._start(topup)
        done, _ = await asyncio.wait({flight}, timeout=self._patience_s)
        current = flight.result() if done else await self.current(topup)
        return Taken(current, self._hints.get(topup.id))

    async def current(self, topup: TopUp) -> TopUp:
        """Return an order as committed."""
        return self._store.view.topups.get(topup.id) or await self._store.topup(topup.id) or topup

    def hint(self, topup: TopUp) -> bytes | None:
        """Return a transaction that somebody named for an order that nobody has seen in a block."""
        return self._hints.get(topup.id)

    async def close(self, timeout_s: float) -> None:
        """Let go of what is under way: it is claimed, and goes on after a restart."""
        flights = set(self._flights.values())
        if not flights:
            return
        _, late = await asyncio.wait(flights, timeout=timeout_s)
        for flight in late:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _start(self, topup: TopUp) -> "asyncio.Task[TopUp]":
        flight = asyncio.create_task(self._collect(topup), name=f"topup {topup.id}")
        self._flights[topup.id] = flight

        def landed(task: "asyncio.Task[TopUp]") -> None:
            self._flights.pop(topup.id, None)
            if not task.cancelled():
                task.exception()  # whoever waits has it; where nobody does, the next sweep meets the same

        flight.add_done_callback(landed)
        return flight

    async def _collect(self, topup: TopUp) -> TopUp:
        if self._facilitator is None or topup.raw is None:
            return topup
        version, payload, requirements = unpack_payment(topup.raw)
        tries, _ = self._tries.get(topup.id, (0, 0))
        wait_ms = ASK_AGAIN_MS[min(tries, len(ASK_AGAIN_MS) - 1)]
        try:
            settled = await self._facilitator.settle(version, payload, requirements, HOUSE)
        except FacilitatorUnknown as unknown:
            log.warning("topup.unknown", topup=topup.id, why=str(unknown)[:300])
            settled = None
        self._tries[topup.id] = (tries + 1, self._clock.now_ms() + wait_ms)
        return await self.current(topup) if settled is None else await self._after(topup, settled)

    async def _after(self, topup: TopUp, settled: Settled) -> TopUp:
        if settled.tx_hash is not None:
            self._hints[topup.id] = settled.tx_hash
        if settled.success and settled.tx_hash is not None and (self._own or await self._mined(topup, settled.tx_hash)):
            return await self._move(topup, "seen", TopUpState.SEEN, settled.tx_hash, settled.settlement_id)
        if not settled.success and refuses(settled.reason, own=self._own) and await self._unused(topup):
            return await self._move(topup, "failed", TopUpState.FAILED, None, settled.settlement_id, settled.reason)
        return await self.current(topup)

    async def _move(
        self,
        topup: TopUp,
        event: str,
        state: TopUpState,
        tx_hash: bytes | None,
        settlement_id: str | None = None,
        reason: str = "",
    ) -> TopUp:
        """Write down what happened to a payment under way; whoever was faster (the receipts, mostly) is right."""
        now = await self.current(topup)
        if (
            now.identity != topup.identity
            or now.state not in {TopUpState.PAYING, TopUpState.SEEN}
            or now.state is state
        ):
            return now
        moved = replace(
            now,
            state=state,
            tx_hash=tx_hash or now.tx_hash,
            settlement_id=settlement_id or now.settlement_id,
            reason=reason,
            version=now.version + 1,
        )
        result = await self._store.post(PutTopUp(moved, event, self._clock.now_ms()))
        if isinstance(result, Refused):
            return await self.current(topup)
        self._tries.pop(topup.id, None)
        self._hints.pop(topup.id, None)
        return moved

    # what the chain says before it is final: enough to answer, never to credit

    async def _mined(self, topup: TopUp, tx_hash: bytes) -> bool:
        """Say whether the quorum has a transaction that collects exactly this payment; a stranger's word is not enough."""
        authorization = self._authorization(topup)
        chain = self._chains.get(topup.chain_id or 0)
        if authorization is None or chain is None:
            return False
        for pause_s in (0.0, *LOOK_AGAIN_S):
            await self._clock.sleep(pause_s)
            try:
                receipt = await chain.receipt(tx_hash)
            except ChainUnavailable:
                continue
            except ChainDisagreement:
                return False
            if receipt is not None:
                return _pays(authorization, receipt)
        return False

    async def _unused(self, topup: TopUp) -> bool:
        """Say whether the authorization is unused in the newest block, as far as anybody can tell; False for unknown."""
        chain, token = self._chains.get(topup.chain_id or 0), self._token(topup)
        if chain is None or token is None or topup.payer is None or topup.nonce is None:
            return False
        for pause_s in (0.0, *LOOK_AGAIN_S[:2]):
            await self._clock.sleep(pause_s)
            try:
                return not await chain.authorization_used(token, topup.payer, topup.nonce, await chain.head())
            except ChainUnavailable:
                continue
            except ChainDisagreement:
                return False
        return False

    def _token(self, topup: TopUp) -> Token | None:
        if topup.chain_id is None or topup.token is None:
            return None
        return self._tokens.get((topup.chain_id, Address(topup.token)))

    def _authorization(self, topup: TopUp) -> Authorization | None:
        """Return the authorization that is kept with an order, as far as it shows on chain."""
        token = self._token(topup)
        if token is None or topup.raw is None or topup.payer is None or topup.nonce is None:
            return None
        _, _, requirements = unpack_payment(topup.raw)
        try:
            return Authorization(
                token=token,
                authorizer=Address(topup.payer),
                pay_to=parse_address(requirements["payTo"], "payTo"),
                value_base=topup.value_base or 0,
                valid_after=0,
                valid_before=topup.valid_before_s or 0,
                nonce=topup.nonce,
            )
        except ContractError:
            return None

    # following

    async def sweep(self) -> None:
        """Go once through the open orders: ask again about payments that nobody has seen, end what nobody can pay any more.

        Payments that can never land are found by whoever reads final blocks (`flow.paid.receipts`, `flow.paid.mpp`).
        """
        for topup in tuple(self._store.view.topups.values()):
            if topup.state is TopUpState.PAYING:
                self._ask_again(topup)
            elif topup.state in {TopUpState.OPEN, TopUpState.FAILED}:
                await self._expire(topup)
        for gone in self._tries.keys() - self._store.view.topups.keys():
            del self._tries[gone]
            self._hints.pop(gone, None)

    def _ask_again(self, topup: TopUp) -> None:
        """After a crash, or an answer that said nothing: the same payment again, which collects nothing twice."""
        now_ms = self._clock.now_ms()
        if topup.rail not in COLLECTED or topup.id in self._flights or now_ms >= (topup.valid_before_s or 0) * 1000:
            return
        if is_over(self._tries.get(topup.id, (0, 0))[1], now_ms, max(ASK_AGAIN_MS)):
            self._start(topup)

    async def _expire(self, topup: TopUp) -> None:
        """End an order that failed or was never paid, once it is over: then it is kept on disk, and no longer in memory.

        No chain is asked. Should its payment land all the same, the receipts find the order by the payment's identity.
        """
        now_ms = self._clock.now_ms()
        if now_ms < topup.expires_at_ms:
            return
        now = await self.current(topup)
        if now.version != topup.version:
            return
        ended = replace(now, state=TopUpState.EXPIRED, version=now.version + 1, ended_at_ms=now_ms)
        await self._store.post(PutTopUp(ended, "expired", now_ms))


def same_payment(known: TopUp, given: Json) -> bool:
    """Say whether a payment's document is what is kept of an order: the same terms and signature, however they are spelled."""
    if known.raw is None or known.rail not in COLLECTED:
        return False
    kept = signed_in(unpack_payment(known.raw)[1])
    return kept is not None and kept == signed_in(given)


def _same(known: TopUp, topup: TopUp) -> bool:
    return topup.raw is not None and same_payment(known, unpack_payment(topup.raw)[1])


def _pays(authorization: Authorization, receipt: Receipt) -> bool:
    for found in receipt.logs:
        if found.address != authorization.token.address:
            continue
        used = decode_authorization_used(found)
        if used is None or (used.authorizer, used.nonce) != (authorization.authorizer, authorization.nonce):
            continue
        return not isinstance(prove_settlement(authorization, found, receipt.logs, receipt.status), Mismatch)
    return False

"""Whether a payment could be collected now: who signed it, whether it was used, what the token itself says.

Must not send anything, write anything, or know who asks. Theory: signatures are routed by the code at the payer's address
exactly as the token does it (EIP-1271 where there is code, asked by the token itself with its own gas, so that a wallet cannot
answer us differently), and then the token is asked once, by calling what would be sent; a chain that does not answer is
unknown, and never "invalid signature".

ERC-6492 signatures are refused whatever factory they name: to take one means to send a call of the payer's choosing, with our
gas and from our address, ahead of the payment. A wallet that is deployed signs by EIP-1271 and is served.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from contracts.calls import (
    CallError,
    decode_uint,
    encode_balance_of,
    encode_is_blacklisted,
    encode_paused,
)
from contracts.codec import Address
from contracts.eip1271 import is_erc6492
from contracts.eip3009 import Authorization
from contracts.reverts import reason_of
from contracts.signature import SIGNATURE_BYTES, SignatureError, recover_address
from contracts.tokens import Token, TokenKey
from gateway.core.paid import Identity, Settlement, SettlementState
from gateway.core.pause import has_passed
from gateway.paid_ports import Exact, Rejected, RelayChain, Reverted
from gateway.ports import Clock
from gateway.rails.x402.payment import check_window, read_payment
from gateway.rails.x402.reasons import Reason

MAX_SKEW_S: Final = 15
SKEW_TOLD_EVERY_MS: Final = 60_000

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Reach:
    """One chain that payments are collected on: how it is asked, and for whom a call is simulated."""

    chain: RelayChain
    relayers: tuple[Address, ...]


class Verifier:
    """Judges payments on some chains. Changes nothing anywhere.

    `tokens` are served, each on a chain of `reaches`; `find` knows what was claimed; `gas` is the most that one collection may
    use; `window_max_s` bounds validBefore (0: no bound). Raises ValueError for a token that nobody could collect.
    """

    def __init__(
        self,
        tokens: Mapping[TokenKey, Token],
        reaches: Mapping[int, Reach],
        find: Callable[[Identity], Settlement | None],
        clock: Clock,
        *,
        gas: int,
        window_max_s: int = 0,
    ) -> None:
        for chain_id, _ in tokens:
            if (
                chain_id not in reaches
                or reaches[chain_id].chain.chain_id != chain_id
                or not reaches[chain_id].relayers
            ):
                raise ValueError(f"nobody collects on chain {chain_id}")
        self.tokens, self.reaches = dict(tokens), dict(reaches)
        self._find, self._clock, self._gas, self._window_max_s = find, clock, gas, window_max_s
        self._skew_told_ms = 0

    def read(self, version: object, payload: object, requirements: object) -> Exact | Rejected:
        """Return the payment, or which of checks 1 to 9 it fails. Asks nobody."""
        return read_payment(version, payload, requirements, self.tokens)

    async def verify(self, exact: Exact) -> Rejected | None:
        """Return which of checks 10 to 13 a payment fails. Raises ChainUnavailable where nobody knows."""
        return await self._check_signed(exact) or self._check_claims(exact) or await self._simulate(exact)

    async def before_claim(self, exact: Exact) -> Rejected | None:
        """Return which of checks 10 and 11 a payment fails: its window and its signature. Raises ChainUnavailable.

        The engine simulates whatever it claims; a contract wallet's payment is simulated here as well, for only that tells
        whether it is signed, and what nobody signed must not be claimed.
        """
        wrong = await self._check_signed(exact)
        if wrong is None and await self.is_contract(exact):
            return await self._simulate(exact)
        return wrong

    async def is_contract(self, exact: Exact) -> bool:
        """Say whether there is code at the payer's address: a contract wallet, or a key's that has delegated (EIP-7702)."""
        terms = exact.authorization
        return await self.reaches[terms.token.chain_id].chain.has_code(terms.authorizer)

    async def _check_signed(self, exact: Exact) -> Rejected | None:
        chain = self.reaches[exact.authorization.token.chain_id].chain
        head, now_s = await chain.head(), self._clock.now_ms() // 1000
        self._tell_skew(chain.chain_id, now_s - head.time_s)
        earliest_s, latest_s = min(now_s, head.time_s), max(now_s, head.time_s)
        return check_window(exact, earliest_s, latest_s, self._window_max_s) or await self._check_signature(exact)

    # 11

    async def _check_signature(self, exact: Exact) -> Rejected | None:
        terms, signature = exact.authorization, exact.signature
        if not signature:
            return _rejected(terms, Reason.SIGNATURE, "there is no signature")
        if is_erc6492(signature):
            return _rejected(terms, Reason.FACTORY_NOT_ALLOWED, "wallets are not deployed on a payment's behalf")
        if await self.is_contract(exact):
            return None  # EIP-1271 alone, never ecrecover: the simulation has the token ask the wallet
        if len(signature) != SIGNATURE_BYTES:
            return _rejected(
                terms, Reason.UNDEPLOYED_WALLET, "the payer is no contract, and this is no key's signature"
            )
        try:
            signer = recover_address(terms.digest, signature)
        except SignatureError as error:
            return _rejected(terms, Reason.SIGNATURE, str(error))
        if signer != terms.authorizer:
            return _rejected(terms, Reason.SIGNATURE, "another key than the payer's signed this")
        return None

    # 12

    def _check_claims(self, exact: Exact) -> Rejected | None:
        terms = exact.authorization
        known = self._find(terms.key)
        if known is None or may_claim_again(known):
            return None
        if known.state is SettlementState.FAILED:
            return _rejected(terms, known.reason or Reason.TRANSACTION_FAILED, "it was tried, and failed for good")
        return _rejected(terms, Reason.NONCE_USED, "it was collected here, or is about to be")

    # 13

    async def _simulate(self, exact: Exact) -> Rejected | None:
        terms, reach = exact.authorization, self.reaches[exact.authorization.token.chain_id]
        found = await reach.chain.simulate(reach.relayers[0], terms, exact.signature, self._gas)
        if not found.reverted:
            return None
        reason = reason_of(found.text)
        if reason != Reason.SIMULATION_FAILED:
            return _rejected(terms, reason, found.text)
        return await self._diagnose(terms, reach, found.text)

    async def _diagnose(self, terms: Authorization, reach: Reach, text: str) -> Rejected:
        """Look for the reason of a revert whose text says none; the answers are the token's, and choose only words."""
        if await reach.chain.authorization_used(terms.token.address, terms.authorizer, terms.nonce):
            return _rejected(terms, Reason.NONCE_USED, text)
        balance_base = await self._number(reach, terms, encode_balance_of(terms.authorizer))
        if balance_base is not None and balance_base < terms.value_base:
            return _rejected(terms, Reason.INSUFFICIENT_BALANCE, text)
        flags = (
            ("the token is paused", encode_paused()),
            ("the payer is barred from the token", encode_is_blacklisted(terms.authorizer)),
            ("the payee is barred from the token", encode_is_blacklisted(terms.pay_to)),
        )
        for words, data in flags:
            if await self._number(reach, terms, data):
                return _rejected(terms, Reason.SIMULATION_FAILED, f"{words} ({text})")
        return _rejected(terms, Reason.SIMULATION_FAILED, text)

    async def _number(self, reach: Reach, terms: Authorization, data: bytes) -> int | None:
        """Return what a view of the token answers, None where it has no such view."""
        try:
            return decode_uint(await reach.chain.call(reach.relayers[0], terms.token.address, data, self._gas))
        except (Reverted, CallError):
            return None

    def _tell_skew(self, chain_id: int, skew_s: int) -> None:
        """A clock that is off refuses good payments or takes bad ones; it is told once a minute."""
        now_ms = self._clock.now_ms()
        due = has_passed(SKEW_TOLD_EVERY_MS, self._skew_told_ms, now_ms)
        if abs(skew_s) > MAX_SKEW_S and due:
            self._skew_told_ms = now_ms
            log.warning("facilitator.clocks_differ", chain_id=chain_id, ahead_of_head_s=skew_s)


def may_claim_again(known: Settlement) -> bool:
    """Say whether a settlement failed before anything was sent, so that the same payment may be tried again."""
    return known.state is SettlementState.FAILED and known.ended_at_ms is None


def _rejected(terms: Authorization, reason: str, message: str) -> Rejected:
    return Rejected(reason, message, terms.authorizer)

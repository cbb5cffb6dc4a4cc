"""A seller's till in memory: asks for x402 payments, checks them for real, and collects on the scripted chain.

It trusts nothing of the payer's code but the public encodings: the signature is recovered, every authorization that ever
arrived is kept, and so is what became of it. Its books, beside the chain's, are what a simulation judges the gateway by.
Faults strike where its script says: other terms than the price list's, refusals of good payments, late, double, missing
and last-moment settlements.
"""

import asyncio
import base64
import binascii
import json
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

from contracts.codec import Address, ContractError, checksum, parse_address, parse_bytes32, parse_hex, parse_uint
from contracts.eip3009 import Authorization
from contracts.signature import recover_address
from contracts.tokens import BASE_USDC, Token
from tests.fakes.chain import ScriptedChain
from tests.fakes.clock import VirtualClock
from tests.fakes.upstream import Script, Wire

__all__ = ["BLOCK_S", "OTHER_TOKEN", "PaymentRefused", "Sale", "Shown", "Terms", "Till"]

BLOCK_S = 2
OTHER_TOKEN = replace(BASE_USDC, address=Address(b"\x0b" * 20), name="Other Coin")
OTHER_NETWORK = "base-sepolia"
BLOCKS_UNTIL_SURE = 8


@dataclass(frozen=True)
class Terms:
    """What a 402 asked for."""

    pay_to: Address
    token: Token
    network: str
    amount_base: int
    timeout_s: int


@dataclass(frozen=True)
class Shown:
    """An authorization as it arrived, whether it was any good or not."""

    at_ms: int
    sender: int
    till: str
    route: str
    intent: str
    authorization: Authorization
    signature: bytes
    header: str


@dataclass
class Sale:
    """A payment that was found good, and what became of it."""

    shown: Shown
    again: str
    reply: Wire | None = None
    rental_id: str | None = None
    state: str = "open"  # open | settled | unpaid
    refused: bool = False  # the payer was told no

    @property
    def nonce(self) -> bytes:
        """The authorization's nonce."""
        return self.shown.authorization.nonce


class PaymentRefused(Exception):  # noqa: N818 - it is an answer
    """The payment is no good; the reason goes into the 402."""


@dataclass
class Till:
    """One seller's payments. `spawn` runs work outside of any gateway; `on_shown` hears of every arrival at once."""

    name: str
    pay_to: Address
    other_payee: Address
    chain: ScriptedChain
    clock: VirtualClock
    script: Script
    rng: random.Random
    spawn: Callable[[Coroutine[Any, Any, None]], object]
    on_shown: Callable[[Shown], None]
    shown: list[Shown] = field(default_factory=list)
    sales: dict[bytes, Sale] = field(default_factory=dict)
    asked: dict[tuple[str, str], list[Terms]] = field(default_factory=dict)
    busy: int = 0  # collections under way

    def ask(self, route: str, intent: str, amount_base: int, network: str, timeout_s: int) -> Terms:
        """Return the terms of a challenge, and remember them: what was asked for is accepted."""
        terms = Terms(self.pay_to, BASE_USDC, network, amount_base, timeout_s)
        fault = self.script.take("challenge", self.name, intent)
        if fault == "other_payee":
            terms = replace(terms, pay_to=self.other_payee)
        elif fault == "other_asset":
            terms = replace(terms, token=OTHER_TOKEN)
        elif fault == "other_network":
            terms = replace(terms, network=OTHER_NETWORK)
        elif fault == "dearer":
            terms = replace(terms, amount_base=amount_base * 2)
        elif fault == "cheaper":
            terms = replace(terms, amount_base=max(1, amount_base // 2))
        self.asked.setdefault((route, intent), []).append(terms)
        return terms

    def take(self, route: str, intent: str, header: str, sender: int) -> Sale | None:
        """Book a payment: its new sale, or None for one that was shown before. Raises PaymentRefused."""
        authorization, signature = read_payment(header)
        shown = Shown(self.clock.now_ms(), sender, self.name, route, intent, authorization, signature, header)
        self.shown.append(shown)
        self.on_shown(shown)
        if authorization.nonce in self.sales:
            return None
        fitting = (
            terms
            for terms in self.asked.get((route, intent), [])
            if (terms.pay_to, terms.amount_base) == (authorization.pay_to, authorization.value_base)
        )
        terms = next(fitting, None)
        if terms is None:
            raise PaymentRefused("not what was asked for")
        if recover_address(authorization.digest, signature) != authorization.authorizer:
            raise PaymentRefused("invalid_signature")
        if authorization.valid_before <= self.clock.now_s() + BLOCK_S:
            raise PaymentRefused("expired")
        sale = Sale(shown, again=self.script.take("again", self.name, intent) or "same")
        self.sales[sale.nonce] = sale
        return sale

    def collect_later(self, sale: Sale, due_s: float, done: Callable[[bool], None] | None = None) -> None:
        """Collect in so many seconds, as the script has it; `done` hears whether the money came."""
        self.busy += 1
        self.spawn(self._collect_later(sale, due_s, done))

    async def _collect_later(self, sale: Sale, due_s: float, done: Callable[[bool], None] | None) -> None:
        try:
            collected = await self.collect(sale, due_s)
        finally:
            self.busy -= 1
        if done is not None:
            done(collected)

    async def collect(self, sale: Sale, due_s: float = 0.0) -> bool:
        """Collect and wait until it is sure; False if it can never be collected any more."""
        fault = self.script.take("settle", self.name, sale.shown.intent)
        valid_before_s = sale.shown.authorization.valid_before
        if fault == "near_deadline":
            due_s = max(0.0, valid_before_s - 2 * BLOCK_S - self._chain_s())
        if fault == "never":
            sale.state = "unpaid"
            return False
        await asyncio.sleep(due_s)
        while True:
            tx_hash = self.chain.settle(sale.shown.authorization)
            if fault == "twice":
                self.chain.settle(sale.shown.authorization)
            if await self._is_sure(tx_hash, sale):
                sale.state = "settled"
                return True
            if self._chain_s() >= valid_before_s:
                sale.state = "unpaid"
                return False

    async def _is_sure(self, tx_hash: bytes, sale: Sale) -> bool:
        """Wait for a transaction to be deep enough; False if a fork took it out, or it failed."""
        for _ in range(BLOCKS_UNTIL_SURE):
            await asyncio.sleep(BLOCK_S)
            for mined in reversed(self.chain._chain):
                receipt = next((r for r in mined.receipts if r.tx_hash == tx_hash), None)
                if receipt is not None:
                    break
            else:
                continue
            if self.chain.newest.number - receipt.block.number > self.chain._final_lag:
                authorization = sale.shown.authorization
                used = (authorization.token.address, authorization.authorizer, authorization.nonce)
                return receipt.status == 1 or used in self.chain._chain[-1].state.used
        return False

    def _chain_s(self) -> int:
        return self.chain.newest.time_s


def read_payment(header: str) -> tuple[Authorization, bytes]:
    """Return the authorization and signature in a payment header of either version. Raises PaymentRefused."""
    try:
        document = json.loads(base64.b64decode(header, validate=True))
        fields, accepted = document["payload"]["authorization"], document.get("accepted", {})
        asset = parse_address(accepted["asset"]) if "asset" in accepted else BASE_USDC.address
        authorization = Authorization(
            token=OTHER_TOKEN if asset == OTHER_TOKEN.address else BASE_USDC,
            authorizer=parse_address(fields["from"]),
            pay_to=parse_address(fields["to"]),
            value_base=parse_uint(fields["value"]),
            valid_after=parse_uint(fields["validAfter"]),
            valid_before=parse_uint(fields["validBefore"]),
            nonce=parse_bytes32(fields["nonce"]),
        )
        return authorization, parse_hex(document["payload"]["signature"], 65)
    except (KeyError, TypeError, ValueError, binascii.Error, ContractError) as error:
        raise PaymentRefused(f"unreadable: {error}") from error


def address_text(address: Address) -> str:
    """Return an address as vendors write it."""
    return checksum(address)

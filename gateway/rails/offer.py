"""The records that a rail makes out of a 402: a challenge, and the offers in it; of x402 and of MPP.

They know nothing of policy, wallets or prices. Theory: everything the wire said is checked once, when it is parsed;
from then on an offer is bytes and integers, and what must be echoed is kept as the text to echo, so that no shared
record is mutable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from contracts.codec import Address
    from gateway.rails.codes import Problem

__all__ = ["AnyOffer", "Challenge", "MppChallenge", "MppOffer", "Offer", "Rail", "RejectedEntry", "Split"]

Rail = Literal["x402", "mpp"]


@dataclass(frozen=True, slots=True)
class Offer:
    """One way to satisfy a challenge.

    `amount_base` is in the asset's base units, > 0 and < 2^256. `max_timeout_s` is the server's wish, advisory for
    a payer. `wire_*` keep the server's own spelling, which a credential repeats. `accepted_json` is the v2 entry as
    compact JSON, to be echoed whole; '' in version 1. What the server claims of the token's EIP-712 domain is not kept:
    a token's domain is our own table's.
    """

    rail: Literal["x402"]
    version: Literal[1, 2]
    scheme: str
    chain_id: int
    asset: Address
    pay_to: Address
    amount_base: int
    max_timeout_s: int
    wire_network: str
    wire_pay_to: str
    accepted_json: str


@dataclass(frozen=True, slots=True)
class Split:
    """A part of an MPP charge that goes to somebody else than the offer's payee; the charge's amount includes it."""

    pay_to: Address
    amount_base: int
    memo: bytes | None
    wire_pay_to: str


@dataclass(frozen=True, slots=True)
class MppOffer:
    """One MPP challenge of intent `charge`; named like `Offer` where it means the same.

    `amount_base` includes the splits; 0 asks for a proof of identity, and then `asset` and `pay_to` may be the zero
    address. `modes` are the ways of collecting that the server takes, none named meaning any. `header` is the request's
    header for the credential. `memo` is 32 bytes that an older seller prescribes. `echo` are the challenge's own
    texts, (name, value), which the credential repeats.
    """

    rail: Literal["mpp"]
    method: Literal["tempo", "evm"]
    chain_id: int
    asset: Address
    pay_to: Address
    amount_base: int
    splits: tuple[Split, ...]
    fee_payer: bool
    modes: tuple[str, ...]
    expires_at_ms: int
    realm: str
    challenge_id: str
    header: Literal["Authorization", "Payment-Authorization"]
    memo: bytes | None
    wire_network: str
    wire_pay_to: str
    echo: tuple[tuple[str, str], ...]

    @property
    def is_proof(self) -> bool:
        """Whether it asks who we are, and for no money."""
        return self.amount_base == 0

    @property
    def push_only(self) -> bool:
        """Whether the server wants us to send the transaction, and takes its hash alone."""
        return self.modes == ("push",)


AnyOffer = Offer | MppOffer


@dataclass(frozen=True, slots=True)
class RejectedEntry:
    """An entry of `accepts`, or an MPP challenge, that we do not understand: its place, and why."""

    raw_index: int
    code: Problem
    why: str
    field: str
    rail: Rail = "x402"


@dataclass(frozen=True, slots=True)
class Challenge:
    """A 402 that asks for an x402 payment; `resource_json` and `extensions` ((key, compact JSON) pairs) are for the v2 echo."""

    offers: tuple[Offer, ...]
    rejected: tuple[RejectedEntry, ...]
    resource_json: str | None
    extensions: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class MppChallenge:
    """The MPP challenges of one 402, sorted: `offers` cost money, `proofs` ask for identity, the rest is `rejected`."""

    offers: tuple[MppOffer, ...]
    proofs: tuple[MppOffer, ...]
    rejected: tuple[RejectedEntry, ...]

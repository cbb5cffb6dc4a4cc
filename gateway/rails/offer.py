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
    from gateway.rails.problems import Problem

__all__ = ["AnyOffer", "Challenge", "MppChallenge", "MppOffer", "Offer", "Rail", "RejectedEntry", "Source", "Split"]

Rail = Literal["x402", "mpp"]
Source = Literal["header", "legacy_header", "body"]


@dataclass(frozen=True, slots=True)
class Offer:
    """One way to satisfy a challenge.

    `amount_base` is in the asset's base units, > 0 and < 2^256. `max_timeout_s` is the server's wish, advisory for
    a payer. `resource` is what the entry itself names, '' where only the challenge does. `wire_*` keep the server's own
    spelling, which a credential repeats. `domain_name` and `domain_version` are the server's claim about the token's
    EIP-712 domain: hints, never used for a token we know. `accepted_json` is the v2 entry as compact JSON, to be echoed
    whole; '' in version 1.
    """

    rail: Literal["x402"]
    version: Literal[1, 2]
    scheme: str
    chain_id: int
    asset: Address
    pay_to: Address
    amount_base: int
    max_timeout_s: int
    resource: str
    domain_name: str | None
    domain_version: str | None
    wire_network: str
    wire_pay_to: str
    accepted_json: str
    raw_index: int


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
    address. `modes` are the ways of collecting that the server takes, none named meaning any. `expires_at_ms` is None
    only where the caller allowed it; `max_timeout_s` is what is left until then, advisory. `header` is the request's
    header for the credential. `memo` is 32 bytes that an older seller prescribes. `echo` are the challenge's own
    texts, (name, value), which the credential repeats; `request_b64`, `digest` and `opaque` are among them. Other
    texts are the server's words: bounded, free of control characters, '' where it said nothing.
    """

    rail: Literal["mpp"]
    method: Literal["tempo", "evm"]
    intent: Literal["charge"]
    chain_id: int
    asset: Address
    pay_to: Address
    amount_base: int
    splits: tuple[Split, ...]
    fee_payer: bool
    modes: tuple[str, ...]
    expires_at_ms: int | None
    max_timeout_s: int
    realm: str
    challenge_id: str
    request_b64: str
    digest: str | None
    opaque: str | None
    header: Literal["Authorization", "Payment-Authorization"]
    memo: bytes | None
    description: str
    external_id: str
    wire_network: str
    wire_pay_to: str
    echo: tuple[tuple[str, str], ...]
    raw_index: int
    resource: str = ""

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
    """A 402 that asks for an x402 payment.

    `error` and `resource` are the server's words, bounded and free of control characters. `resource_json` and
    `extensions` ((key, compact JSON) pairs) are for the v2 echo. `digest` is the SHA-256 of the bytes that were
    parsed.
    """

    version: Literal[1, 2]
    source: Source
    offers: tuple[Offer, ...]
    rejected: tuple[RejectedEntry, ...]
    error: str
    resource: str
    resource_json: str | None
    extensions: tuple[tuple[str, str], ...]
    digest: bytes


@dataclass(frozen=True, slots=True)
class MppChallenge:
    """The MPP challenges of one 402, sorted: `offers` cost money, `proofs` ask for identity, the rest is `rejected`.

    `digest` is the SHA-256 of the field values that were parsed.
    """

    offers: tuple[MppOffer, ...]
    proofs: tuple[MppOffer, ...]
    rejected: tuple[RejectedEntry, ...]
    digest: bytes

"""The two records that a rail makes out of a 402: a challenge, and the offers in it.

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

__all__ = ["Challenge", "Offer", "RejectedEntry", "Source"]

Source = Literal["header", "legacy_header", "body"]


@dataclass(frozen=True, slots=True)
class Offer:
    """One way to satisfy a challenge.

    `amount_base` is in the asset's base units, > 0 and < 2^256. `max_timeout_s` is the server's wish, advisory for
    a payer. `wire_*` keep the server's own spelling, which a credential repeats. `domain_name` and `domain_version`
    are the server's claim about the token's EIP-712 domain: hints, never used for a token we know. `accepted_json`
    is the v2 entry as compact JSON, to be echoed whole; '' in version 1.
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
class RejectedEntry:
    """An entry of `accepts` that we do not understand: its place, and why."""

    raw_index: int
    code: Problem
    why: str
    field: str


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

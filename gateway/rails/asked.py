"""Everything that one 402 asks for, on both rails.

It must not know what is allowed or wanted: that is `choose`. Theory: sellers offer one order on several rails, and
some of them get one of the two wrong; before anything is signed the other is as good, so what cannot be read is kept
with its reason and spoils nothing beside it. Only when nothing can be read is the 402 itself at fault.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeVar

from gateway.rails.mpp.challenge import parse_mpp
from gateway.rails.offer import RejectedEntry
from gateway.rails.problems import ChallengeError
from gateway.rails.x402.challenge import parse_challenge

if TYPE_CHECKING:
    from collections.abc import Callable

    from multidict import MultiMapping

    from gateway.rails.offer import AnyOffer, Challenge, MppChallenge, MppOffer, Rail

__all__ = ["Asked", "parse_asked"]

_Parsed = TypeVar("_Parsed")

_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)
_HTTP_DATE = re.compile(r"[A-Z][a-z]{2}, (\d\d) ([A-Z][a-z]{2}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT", re.ASCII)
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class Asked:
    """A 402 that asks for a payment or for a proof of identity, on one rail or on both.

    `unread` are the rails' whole challenges that could not be read although another could. `retry_after_s` is how
    long the server wants us to wait before we pay, None when it does not say.
    """

    x402: Challenge | None
    mpp: MppChallenge | None
    unread: tuple[RejectedEntry, ...] = ()
    retry_after_s: int | None = None

    @property
    def offers(self) -> tuple[AnyOffer, ...]:
        """What costs money: MPP's offers, then x402's, each in the server's order. No proof is ever among them."""
        mpp: tuple[AnyOffer, ...] = () if self.mpp is None else self.mpp.offers
        return mpp if self.x402 is None else mpp + self.x402.offers

    @property
    def proofs(self) -> tuple[MppOffer, ...]:
        """Challenges that ask who we are, and for no money."""
        return () if self.mpp is None else self.mpp.proofs

    @property
    def rejected(self) -> tuple[RejectedEntry, ...]:
        """Everything that could not be read, and why."""
        mpp = () if self.mpp is None else self.mpp.rejected
        return mpp + (() if self.x402 is None else self.x402.rejected) + self.unread

    def without(self, refused: AnyOffer) -> Asked:
        """The same, less one offer."""
        x402, mpp = self.x402, self.mpp
        if x402 is not None:
            x402 = replace(x402, offers=tuple(offer for offer in x402.offers if offer is not refused))
        if mpp is not None:
            mpp = replace(mpp, offers=tuple(offer for offer in mpp.offers if offer is not refused))
        return replace(self, x402=x402, mpp=mpp)


def parse_asked(status: int, headers: MultiMapping[str], body: bytes, now_ms: int) -> Asked | None:
    """What an answer asks for on either rail, or None when it asks for nothing; `headers` must be case-insensitive.

    Raises ChallengeError only if a rail's challenge cannot be read and there is no readable one of the other.
    """
    faults: list[tuple[Rail, ChallengeError]] = []
    mpp = _attempt(faults, "mpp", lambda: parse_mpp(status, headers))
    x402 = _attempt(faults, "x402", lambda: parse_challenge(status, headers, body))
    if mpp is None and x402 is None:
        if faults:
            raise faults[0][1]
        return None
    unread = tuple(RejectedEntry(0, fault.code, fault.message, fault.field, rail) for rail, fault in faults)
    return Asked(x402, mpp, unread, _retry_after(headers, now_ms))


def _attempt(
    faults: list[tuple[Rail, ChallengeError]], rail: Rail, parse: Callable[[], _Parsed | None]
) -> _Parsed | None:
    try:
        return parse()
    except ChallengeError as fault:
        faults.append((rail, fault))
        return None


def _retry_after(headers: MultiMapping[str], now_ms: int) -> int | None:
    """The longest wait that the header names, in seconds or as a date (RFC 9110, 10.2.3); what is neither says nothing."""
    waits = [_wait(value.strip(), now_ms) for value in headers.getall("Retry-After", ())]
    return max((wait for wait in waits if wait is not None), default=None)


def _wait(text: str, now_ms: int) -> int | None:
    if _SECONDS.fullmatch(text) is not None:
        return int(text)
    date = _HTTP_DATE.fullmatch(text)
    if date is None or date[2] not in _MONTHS:
        return None
    day, year, hour, minute, second = (int(date[group]) for group in (1, 3, 4, 5, 6))
    try:
        at = datetime(year, _MONTHS.index(date[2]) + 1, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    return max(0, -(-(int(at.timestamp()) * 1000 - now_ms) // 1000))

"""Why a credential is not taken, in the words of paymentauth.org, and the document that says so.

It must not know HTTP servers or whether a fresh challenge goes with it. Theory: stock clients pay again when they see a
402, so a refusal is only ever raised of a credential of which nothing has left us; what may have moved is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PROBLEM_BASE", "CredentialRefused", "MppProblem", "problem_document"]

PROBLEM_BASE: Final = "https://paymentauth.org/problems/"


class MppProblem(StrEnum):
    """The problem types; all but the last two are answered 402 with fresh challenges."""

    PAYMENT_REQUIRED = "payment-required"
    PAYMENT_INSUFFICIENT = "payment-insufficient"
    PAYMENT_EXPIRED = "payment-expired"
    VERIFICATION_FAILED = "verification-failed"
    MALFORMED_CREDENTIAL = "malformed-credential"
    INVALID_CHALLENGE = "invalid-challenge"
    METHOD_UNSUPPORTED = "method-unsupported"
    BAD_REQUEST = "bad-request"

    @property
    def status(self) -> int:
        """The HTTP status that goes with it."""
        return 400 if self in {MppProblem.METHOD_UNSUPPORTED, MppProblem.BAD_REQUEST} else 402


_TITLES: Final[Mapping[MppProblem, str]] = MappingProxyType(
    {
        MppProblem.PAYMENT_REQUIRED: "Payment is required",
        MppProblem.PAYMENT_INSUFFICIENT: "The payment is less than was asked for",
        MppProblem.PAYMENT_EXPIRED: "The challenge has expired",
        MppProblem.VERIFICATION_FAILED: "The payment does not verify",
        MppProblem.MALFORMED_CREDENTIAL: "The credential cannot be read",
        MppProblem.INVALID_CHALLENGE: "The challenge is not one of ours, or not for this request",
        MppProblem.METHOD_UNSUPPORTED: "The payment method is not served",
        MppProblem.BAD_REQUEST: "The request pays in more than one way",
    }
)


@dataclass(slots=True)
class CredentialRefused(Exception):  # noqa: N818 - a decision, not a fault
    """Nothing was sent for this credential, and nothing will be. `detail` is for people and holds none of its bytes."""

    problem: MppProblem
    detail: str

    def __post_init__(self) -> None:
        Exception.__init__(self, f"{self.problem}: {self.detail}")


def problem_document(problem: MppProblem, detail: str, challenge_id: str = "") -> dict[str, object]:
    """Return the RFC 9457 document; `challenge_id` is of the fresh challenge that goes with it, "" where none does."""
    document: dict[str, object] = {
        "type": PROBLEM_BASE + problem,
        "title": _TITLES[problem],
        "status": problem.status,
        "detail": detail,
    }
    return document | {"challengeId": challenge_id} if challenge_id else document

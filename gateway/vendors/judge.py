"""What an answer to a presented credential says about delivery, by its status and framing alone: one table for all.

Must not know a vendor, a route or a body's meaning.  Theory: only a complete 2xx can be a delivery and only a 4xx can be
a refusal; everything else leaves open whether the vendor acted, and unknown is not failed (P5).
"""

from dataclasses import dataclass
from typing import Final

from gateway.core.payment import Delivery, Fault
from gateway.http.port import UpstreamResponse

__all__ = ["AGENT_FAULTS", "INPUT_FAULTS", "UNKNOWN", "Verdict", "judge", "judge_stranger"]

AGENT_FAULTS: Final = frozenset({400, 404, 405, 409, 410, 411, 413, 414, 415, 416, 422})
"""Refusals of what the agent asked. The other 4xx (402 above all) speak of what the gateway did, or of the vendor."""

INPUT_FAULTS: Final = frozenset({400, 413, 415, 422})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the vendor did, and whose doing it was if it refused."""

    delivery: Delivery
    fault: Fault


UNKNOWN: Final = Verdict(Delivery.UNKNOWN, Fault.NONE)
_DELIVERED: Final = Verdict(Delivery.DELIVERED, Fault.NONE)
_REFUSED_INPUT: Final = Verdict(Delivery.REFUSED, Fault.AGENT)
_REFUSED: Final = Verdict(Delivery.REFUSED, Fault.VENDOR)


def judge(answer: UpstreamResponse) -> Verdict:
    """Return the verdict on an answer of a vendor whose document is known; total over every status, never raises.

    A 2xx whose end was not seen (more to come, or only the connection's closing marked it) is unknown. So is a 3xx:
    nobody knows what the vendor did before it pointed elsewhere.
    """
    status = answer.status
    if 200 <= status < 300:  # noqa: PLR2004 - the class of success, RFC 9110 section 15.3
        complete = answer.rest is None and answer.delimited
        return _DELIVERED if complete else UNKNOWN
    if 400 <= status < 500:  # noqa: PLR2004 - the class of client errors, RFC 9110 section 15.5
        return _REFUSED_INPUT if status in AGENT_FAULTS else _REFUSED
    return UNKNOWN


def judge_stranger(answer: UpstreamResponse) -> Verdict:
    """Return the verdict on an answer of a seller that nobody described; total, never raises.

    Sellers of x402 collect for what is below 400, so a redirect within the origin is what was sold, and a body that
    ends with the connection is all there is. A seller must not be able to charge for refusals by choosing their status,
    so only what is certainly wrong with the request itself is the agent's fault.
    """
    status = answer.status
    if 200 <= status < 400:  # noqa: PLR2004 - what the reference servers collect for
        return _DELIVERED if answer.rest is None else UNKNOWN
    if 400 <= status < 500:  # noqa: PLR2004 - the class of client errors, RFC 9110 section 15.5
        return _REFUSED_INPUT if status in INPUT_FAULTS else _REFUSED
    return UNKNOWN

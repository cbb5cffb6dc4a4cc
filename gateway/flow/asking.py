"""Asking a vendor without paying, and reading what its 402 asks for.

Must not know what is done about it.  Theory: a request that carries no money may fail in every way and nothing is lost;
each way has its own problem.
"""

from gateway.core.problems import Problem
from gateway.flow.call import Call
from gateway.http.port import NotSent, Upstream, UpstreamError, UpstreamRequest, UpstreamResponse
from gateway.rails.asked import Asked, parse_asked

UNHEARD = frozenset({"vendor_timeout", "vendor_answer_malformed"})
"""Problems of a request that left and got no answer that tells anything: it may have been carried out."""

_BY_ERROR = {"redirect_refused": "redirect_refused", "malformed_answer": "vendor_answer_malformed"}


async def ask_vendor(upstream: Upstream, call: Call, request: UpstreamRequest) -> UpstreamResponse:
    """Send a request that pays nothing. Raises Problem where no answer came."""
    try:
        return await upstream.send(call.vendor.origin, request)
    except UpstreamError as error:
        raise unanswered(call.vendor.name, error) from error


def unanswered(vendor_name: str, error: UpstreamError) -> Problem:
    """Return what it is to an agent that a vendor gave no usable answer; of what was done, all but NotSent tells nothing."""
    code = "vendor_unreachable" if isinstance(error, NotSent) else _BY_ERROR.get(error.code, "vendor_timeout")
    return Problem(code, f"{vendor_name}: {error.message}")


async def read_asked(answer: UpstreamResponse, now_ms: int) -> Asked | None:
    """Return what an answer asks for, or None where it asks for nothing that we know; its body is given up.

    Raises ChallengeError for a challenge that cannot be read.
    """
    if answer.rest is not None:
        await answer.rest.close()
    return parse_asked(answer.status, answer.headers, answer.body, now_ms)

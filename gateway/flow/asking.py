"""Asking a vendor without paying, and reading what its 402 asks for.

Must not know what is done about it.  Theory: a request that carries no money may fail in every way and nothing is lost;
each way has its own problem.
"""

from gateway.core.problems import Problem
from gateway.flow.call import Call
from gateway.http.port import NotSent, RedirectRefused, Upstream, UpstreamError, UpstreamRequest, UpstreamResponse
from gateway.rails.asked import Asked, parse_asked


async def ask_vendor(upstream: Upstream, call: Call, request: UpstreamRequest) -> UpstreamResponse:
    """Send a request that pays nothing. Raises Problem where no answer came."""
    try:
        return await upstream.send(call.vendor.origin, request)
    except NotSent as error:
        raise Problem("vendor_unreachable", f"{call.vendor.name}: {error.message}") from error
    except RedirectRefused as error:
        raise Problem("redirect_refused", f"{call.vendor.name}: {error.message}") from error
    except UpstreamError as error:
        raise Problem("vendor_timeout", f"{call.vendor.name}: {error.message}") from error


async def read_asked(answer: UpstreamResponse, now_ms: int) -> Asked | None:
    """Return what an answer asks for, or None where it asks for nothing that we know; its body is given up.

    Raises ChallengeError for a challenge that cannot be read.
    """
    if answer.rest is not None:
        await answer.rest.close()
    return parse_asked(answer.status, answer.headers, answer.body, now_ms)

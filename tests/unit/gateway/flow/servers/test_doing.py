"""What becomes of a call at a vendor that got no answer which tells anything."""

import pytest

from gateway.core.problems import Problem
from gateway.flow.asking import unanswered
from gateway.flow.servers.doing import unknown
from gateway.http.port import NotSent, RedirectRefused, SentUnknown, UpstreamError
from gateway.server_ports import Action

ERRORS: dict[str, tuple[UpstreamError, str, str]] = {
    "it never left": (NotSent("connect_failed", "scripted"), "vendor_unreachable", "vendor_unreachable"),
    "no answer came": (SentUnknown("first_byte_timeout", "scripted"), "vendor_timeout", "action_unknown"),
    "it was cut off": (SentUnknown("connection_lost", "scripted"), "vendor_timeout", "action_unknown"),
    "it was no HTTP": (SentUnknown("malformed_answer", "scripted"), "vendor_answer_malformed", "action_unknown"),
    "it led elsewhere": (RedirectRefused(302), "redirect_refused", "redirect_refused"),
}


@pytest.mark.parametrize(("error", "read", "done"), ERRORS.values(), ids=ERRORS)
def test_what_may_have_been_done_is_told_as_that(error: UpstreamError, read: str, done: str) -> None:
    """Where nothing was to be done the reason itself is told; where the vendor may have heard, that nobody knows."""
    problem = unanswered("shop", error)
    assert isinstance(problem, Problem)
    assert (problem.code, problem.detail.startswith("shop: ")) == (read, True)
    assert unknown(Action.SHOW, "shop", problem).code == read
    assert unknown(Action.REBOOT, "shop", problem).code == done

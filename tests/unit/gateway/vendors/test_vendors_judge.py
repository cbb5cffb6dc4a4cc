"""The shared readings of statuses: every status has a verdict, for a vendor that is known and for one that is not."""

from collections.abc import AsyncIterator

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.core.payment import Delivery, Fault
from gateway.http.port import UpstreamResponse
from gateway.vendors.judge import AGENT_FAULTS, INPUT_FAULTS, UNKNOWN, judge, judge_stranger


class More:
    """A body that goes on."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the rest."""
        yield b"more"

    async def close(self) -> None:
        """Give it up."""


def answer(status: int, **framing: object) -> UpstreamResponse:
    """An answer of this status."""
    return UpstreamResponse(status, CIMultiDictProxy(CIMultiDict()), b"{}", **framing)  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
def test_a_whole_success_is_delivered(status: int) -> None:
    """A 2xx whose end was seen delivers, and is nobody's fault."""
    verdict = judge(answer(status))
    assert (verdict.delivery, verdict.fault) == (Delivery.DELIVERED, Fault.NONE)


@pytest.mark.parametrize("framing", [{"rest": More()}, {"delimited": False}, {"rest": More(), "delimited": False}])
@pytest.mark.parametrize("status", [200, 201, 299])
def test_a_success_whose_end_was_not_seen_is_unknown(status: int, framing: dict[str, object]) -> None:
    """A body that goes on, or that only the closing connection ended, may have been cut off."""
    assert judge(answer(status, **framing)) == UNKNOWN


@pytest.mark.parametrize("status", [400, 404, 405, 409, 410, 411, 413, 414, 415, 416, 422])
def test_a_refusal_of_the_input_is_the_agents_fault(status: int) -> None:
    """What the agent asked was wrong: it bears a refusal that is collected all the same."""
    verdict = judge(answer(status))
    assert (verdict.delivery, verdict.fault) == (Delivery.REFUSED, Fault.AGENT)


@pytest.mark.parametrize("status", sorted(set(range(400, 500)) - AGENT_FAULTS))
def test_any_other_refusal_is_the_vendors_fault(status: int) -> None:
    """A second 402, a 401 to our credential, a 429: not the agent's doing."""
    verdict = judge(answer(status))
    assert (verdict.delivery, verdict.fault) == (Delivery.REFUSED, Fault.VENDOR)


@pytest.mark.parametrize("status", [0, 100, 101, 199, 300, 301, 302, 307, 308, 399, 500, 502, 503, 504, 599, 600, 999])
def test_anything_else_leaves_the_outcome_open(status: int) -> None:
    """A redirect or a server error says nothing of what was done before it."""
    assert judge(answer(status)) == UNKNOWN


def test_a_refusal_that_broke_off_is_still_a_refusal() -> None:
    """The status line says it; the body only explains."""
    assert judge(answer(402, delimited=False)).delivery is Delivery.REFUSED


# strangers


@pytest.mark.parametrize("framing", [{}, {"delimited": False}], ids=["delimited", "until the connection ends"])
@pytest.mark.parametrize("status", range(200, 400))
def test_a_stranger_delivers_below_400(status: int, framing: dict[str, object]) -> None:
    """That is what sellers of x402 collect for, redirects and bodies that end with the connection included."""
    verdict = judge_stranger(answer(status, **framing))
    assert (verdict.delivery, verdict.fault) == (Delivery.DELIVERED, Fault.NONE)


@pytest.mark.parametrize("status", [200, 206, 302, 399])
def test_a_stranger_delivers_nothing_that_goes_on(status: int) -> None:
    """A body of which more is to come is not whole, whatever its status."""
    assert judge_stranger(answer(status, rest=More())) == UNKNOWN


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_only_bad_input_is_the_agents_fault_at_a_stranger(status: int) -> None:
    """These four speak of the request itself."""
    verdict = judge_stranger(answer(status))
    assert (verdict.delivery, verdict.fault) == (Delivery.REFUSED, Fault.AGENT)


@pytest.mark.parametrize("status", sorted(set(range(400, 500)) - {400, 413, 415, 422}))
def test_a_stranger_cannot_choose_who_pays_for_a_refusal(status: int) -> None:
    """A seller that answers 404 or 409 to a paid request and collects has not been paid by the agent."""
    verdict = judge_stranger(answer(status, delimited=False))
    assert (verdict.delivery, verdict.fault) == (Delivery.REFUSED, Fault.VENDOR)


@pytest.mark.parametrize("status", [-1, 0, 100, 199, 500, 502, 504, 599, 600, 999])
def test_a_strangers_error_says_nothing(status: int) -> None:
    """It may have been paid, and may still do what was asked."""
    assert judge_stranger(answer(status)) == UNKNOWN


def test_what_is_blamed_on_the_agent_at_a_stranger_is_blamed_on_it_everywhere() -> None:
    """The reading of strangers is never the harder one on the agent."""
    assert INPUT_FAULTS < AGENT_FAULTS

"""One 402 on two rails: both are read, neither spoils the other, and a proof is never an offer."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.rails.asked import Asked, parse_asked
from gateway.rails.codes import Problem
from gateway.rails.problems import ChallengeError
from tests.unit.gateway.rails.mpp.mpp_bed import MPPX, NOW_MS

X402 = json.loads((Path(__file__).parents[3] / "vectors/x402/sdk.json").read_text())["v2_header"]


def read(
    *lines: str, x402: str | None = None, body: bytes = b"", retry_after: Sequence[str] = (), status: int = 402
) -> Asked | None:
    """Parse a 402 with these WWW-Authenticate lines and this x402 header."""
    headers = CIMultiDict([("WWW-Authenticate", each) for each in lines])
    if x402 is not None:
        headers["PAYMENT-REQUIRED"] = x402
    for value in retry_after:
        headers.add("Retry-After", value)
    return parse_asked(status, headers, body, NOW_MS)


def asked(*lines: str, **options: Any) -> Asked:
    """What this 402 asks for."""
    found = read(*lines, **options)
    assert found is not None
    return found


def test_both_rails_offers_stand_together() -> None:
    """MPP's first, then x402's, each in the server's order."""
    both = asked(MPPX["joined"], x402=X402)
    assert [offer.rail for offer in both.offers] == ["mpp", "mpp", "x402", "x402"]
    assert [offer.chain_id for offer in both.offers] == [42431, 8453, 84532, 8453]
    assert (both.proofs, both.rejected, both.unread, both.retry_after_s) == ((), (), (), None)


def test_either_rail_may_be_alone() -> None:
    """The other is None then."""
    mpp, x402 = asked(MPPX["plain"]), asked(x402=X402)
    assert (mpp.x402, len(mpp.offers)) == (None, 1)
    assert (x402.mpp, len(x402.offers), x402.proofs) == (None, 2, ())


def test_a_proof_is_exposed_apart() -> None:
    """An amount of zero is never the cheapest offer."""
    found = asked(MPPX["proof"], MPPX["plain"], x402=X402)
    assert [proof.amount_base for proof in found.proofs] == [0]
    assert all(offer.amount_base > 0 for offer in found.offers)


@pytest.mark.parametrize(
    ("lines", "x402", "rail", "code"),
    [
        (['Payment id="1'], X402, "mpp", Problem.CHALLENGE_MALFORMED),
        ([MPPX["plain"]], "!!", "x402", Problem.CHALLENGE_MALFORMED),
        ([MPPX["plain"]], "eyJ4NDAyVmVyc2lvbiI6OX0", "x402", Problem.VERSION_UNKNOWN),
    ],
)
def test_an_unreadable_rail_does_not_spoil_a_readable_one(
    lines: list[str], x402: str, rail: str, code: Problem
) -> None:
    """Before anything is signed the other is as good, and the reason is kept."""
    found = asked(*lines, x402=x402)
    assert found.offers
    assert [(entry.rail, entry.code) for entry in found.unread] == [(rail, code)]
    assert set(found.unread) <= set(found.rejected)


@pytest.mark.parametrize(("lines", "x402"), [(['Payment id="1'], None), ([], "!!"), (['Payment id="1'], "!!")])
def test_nothing_readable_is_an_error(lines: list[str], x402: str | None) -> None:
    """The 402 itself is at fault then."""
    with pytest.raises(ChallengeError) as caught:
        read(*lines, x402=x402)
    assert caught.value.code is Problem.CHALLENGE_MALFORMED


def test_a_rejected_challenge_is_still_an_answer() -> None:
    """It was read; `choose` says why it is not paid."""
    found = asked(MPPX["session"])
    assert found.offers == ()
    assert [entry.code for entry in found.rejected] == [Problem.UNSUPPORTED_PAYMENT_INTENT]


@pytest.mark.parametrize("status", [200, 401, 403, 500])
def test_only_a_402_asks(status: int) -> None:
    """Whatever its headers say."""
    assert read(MPPX["plain"], x402=X402, status=status) is None


def test_another_402_asks_for_nothing() -> None:
    """Invoices and low balances are passed on, never paid."""
    assert read('Bearer realm="x"', body=b'{"error":"OVERDUE_INVOICE"}') is None


def test_an_offer_can_be_left_out() -> None:
    """The same 402 less one offer, of either rail."""
    both = asked(MPPX["plain"], MPPX["proof"], x402=X402)
    mpp, first, second = both.offers
    assert both.without(mpp).offers == (first, second)
    assert both.without(second).offers == (mpp, first)
    assert both.without(mpp).proofs == both.proofs
    assert asked(x402=X402).without(mpp).offers == (first, second)


@pytest.mark.parametrize(
    ("values", "wait_s"),
    [
        ((), None),
        (("7",), 7),
        ((" 0 ",), 0),
        (("7", "30"), 30),
        (("soon", "30"), 30),
        (("Tue, 06 Jan 2026 11:56:00 GMT",), 60),
        (("Tue, 06 Jan 2026 11:00:00 GMT",), 0),
        (("Tue, 30 Feb 2026 11:00:00 GMT",), None),
        (("Tue, 06 Foo 2026 11:00:00 GMT",), None),
        (("-1",), None),
        (("1.5",), None),
        (("９",), None),
        (("1" * 10,), None),
        (("",), None),
    ],
)
def test_retry_after_is_exposed(values: tuple[str, ...], wait_s: int | None) -> None:
    """A payer waits as long as the server says, in seconds or as a date; what is neither says nothing."""
    assert asked(MPPX["plain"], retry_after=values).retry_after_s == wait_s


@given(st.lists(st.text(max_size=40), max_size=2), st.none() | st.text(max_size=40), st.binary(max_size=60), st.text())
def test_nothing_but_a_challenge_error_ever_comes_out(
    lines: list[str], x402: str | None, body: bytes, retry_after: str
) -> None:
    """Any 402 is an answer, none, or the one typed error."""
    try:
        found = read(*lines, MPPX["plain"], x402=x402, body=body, retry_after=[retry_after])
    except ChallengeError:
        return
    assert found is not None

"""Rights around being paid: sign-in challenges, sellers' terms, and how far the tills were read."""

from collections.abc import Iterator
from typing import Any

import pytest

from gateway.core.commands import Done
from gateway.core.paid_commands import MoveTillCursor, PutSeller, TakeNonce
from tests.factories import CHAIN_ID, NOW_MS, TOKEN, make_identity, open_core, seeded
from tests.paid_factories import TILL, Desk, digest, make_seller, newer


@pytest.fixture
def desk() -> Iterator[Desk]:
    """A desk whose rows are proven after each test."""
    opened = Desk(seeded(open_core()))
    yield opened
    opened.prove()


def seller(**changes: Any) -> PutSeller:
    """Return the command that keeps acc_1's terms."""
    return PutSeller(make_seller(**changes), "operator", NOW_MS)


def test_a_sign_in_challenge_is_used_once(desk: Desk) -> None:
    """P13: per realm, in one group and over commits; vendors' challenges are others."""
    desk.post(make_identity(1))
    results, step = desk.core.post([TakeNonce("siwx", "challenge 1", NOW_MS)] * 2)
    desk.view.advance(step)
    assert results[0] == Done()
    assert results[1].code == "challenge_used"  # type: ignore[union-attr]
    assert desk.refused(TakeNonce("siwx", "challenge 1", NOW_MS)) == "challenge_used"
    assert desk.post(TakeNonce("mpp", "challenge 1", NOW_MS)) == Done()
    assert desk.post(TakeNonce("dropmpp", "challenge 1", NOW_MS)) == Done()
    assert desk.refused(TakeNonce("mpp", "\udc00", NOW_MS)) == "bad_request"
    assert desk.refused(TakeNonce("mpp", "x" * 5_000, NOW_MS)) == "bad_request"


def test_sellers_terms_are_set_changed_and_ended(desk: Desk) -> None:
    """Each is the next version; what has ended is in no view, and may begin again."""
    assert desk.post(seller()) == Done()
    assert desk.view.sellers == {"acc_1": make_seller()}
    assert desk.refused(seller()) == "changed_meanwhile"
    cheaper = newer(make_seller(), gas_budget_wei=10**30, payees=(b"\x01" * 20,), latency_s=1.25)
    assert desk.post(PutSeller(cheaper, "operator", NOW_MS)) == Done()
    assert desk.view.sellers == {"acc_1": cheaper}
    ended = newer(cheaper, ended_at_ms=NOW_MS)
    assert desk.post(PutSeller(ended, "operator", NOW_MS)) == Done()
    assert desk.view.sellers == {}
    assert desk.core.book.paid.seller("acc_1") == ended
    assert desk.post(PutSeller(newer(ended, ended_at_ms=None), "operator", NOW_MS)) == Done()
    assert desk.kinds(4) == ["seller.set", "seller.set", "seller.ended", "seller.set"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"account_id": "acc_9"}, "not_found"),
        ({"window_s": 0}, "bad_request"),
        ({"latency_s": -1.0}, "bad_request"),
        ({"latency_s": float("nan")}, "bad_request"),
        ({"payees": (b"x",)}, "bad_request"),
        ({"gas_budget_wei": 2**256}, "bad_request"),
        ({"version": 2}, "changed_meanwhile"),
    ],
)
def test_terms_that_mean_nothing_are_refused(desk: Desk, change: dict[str, Any], code: str) -> None:
    """An operator's slip is an answer, not a broken store."""
    assert desk.refused(seller(**change)) == code


def test_a_tills_cursor_goes_forward_only(desk: Desk) -> None:
    """What was read stays read, of each token at each till by itself."""
    here, there = (TILL, TOKEN), (b"\x12" * 20, TOKEN)
    assert desk.post(MoveTillCursor(CHAIN_ID, (here,), 10, digest("10"))) == Done()
    assert desk.post(MoveTillCursor(CHAIN_ID, (here,), 10, digest("ten"))) == Done(changed=False)
    assert desk.post(MoveTillCursor(CHAIN_ID, (here,), 9, digest("9"))) == Done(changed=False)
    assert desk.post(MoveTillCursor(CHAIN_ID, (here, there), 8, digest("8"))) == Done()
    assert desk.post(MoveTillCursor(1, (here,), 3, digest("3"))) == Done()
    assert desk.view.till_cursors == {
        (CHAIN_ID, *here): (10, digest("10")),
        (CHAIN_ID, *there): (8, digest("8")),
        (1, *here): (3, digest("3")),
    }

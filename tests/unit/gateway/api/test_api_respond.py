"""Problems as answers: the headers that their status calls for."""

import pytest
from aiohttp.test_utils import make_mocked_request

from gateway.api.exchange import Exchange
from gateway.api.respond import problem_answer
from gateway.core.problems import TYPES, Problem
from tests.fakes.store import InlineStore, memory_database
from tests.unit.gateway.api.paid_bed import PAID


async def _at_once(_what: str) -> None:
    return None


@pytest.mark.parametrize(
    ("problem", "retry_after"),
    [
        (Problem("vendor_busy", "full", extra={"retry_after_s": 17}), "17"),
        (Problem("vendor_login_failed", "shut", extra={"retry_after_s": 600}), "600"),
        (Problem("frozen", "by the operator"), "300"),
        (Problem("too_many_calls", "at once"), "1"),
        (Problem("till_short", "it has too little"), "60"),
        (Problem("price_untold", "it is silent"), "60"),
        (Problem("facilitator_unavailable", "it hangs"), "5"),
        (Problem("too_many_open_payments", "they are under way"), "30"),
        (Problem("topup_taken", "it has a payment"), None),
        (Problem("not_found", "nothing"), None),
    ],
)
async def test_retry_after_is_what_the_problem_knows(problem: Problem, retry_after: str | None) -> None:
    """A problem that knows the time states it, in the header as in the document; others have their type's."""
    exchange = Exchange(make_mocked_request("GET", "/"), "req_12345678")
    db = memory_database()
    store = InlineStore.over(db, None, before_commit=_at_once, after_commit=_at_once, before_read=_at_once)
    answer = problem_answer(exchange, store, problem)
    await store.close()
    db.close()
    assert (answer.status, answer.headers.get("Retry-After")) == (problem.status, retry_after)


async def test_whoever_is_to_wait_is_told_how_long() -> None:
    """Every 429 and 503 that the routes of being paid may answer names the seconds, as the page and OpenAPI say."""
    db = memory_database()
    store = InlineStore.over(db, None, before_commit=_at_once, after_commit=_at_once, before_read=_at_once)
    codes = {code for endpoint in PAID for code in endpoint.problems if TYPES[code].status in {429, 503}}
    for code in codes:
        answer = problem_answer(Exchange(make_mocked_request("GET", "/"), "req_12345678"), store, Problem(code, "wait"))
        assert int(answer.headers["Retry-After"]) > 0, code
    assert {"too_many_calls", "till_short", "facilitator_unavailable", "too_many_open_payments", "not_ready"} <= codes
    await store.close()
    db.close()

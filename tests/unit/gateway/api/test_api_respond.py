"""Problems as answers: the headers that their status calls for."""

import pytest
from aiohttp.test_utils import make_mocked_request

from gateway.api.exchange import Exchange
from gateway.api.respond import problem_answer
from gateway.core.problems import Problem
from tests.fakes.store import InlineStore, memory_database


async def _at_once(_what: str) -> None:
    return None


@pytest.mark.parametrize(
    ("problem", "retry_after"),
    [
        (Problem("vendor_busy", "full", extra={"retry_after_s": 17}), "17"),
        (Problem("vendor_login_failed", "shut", extra={"retry_after_s": 600}), "600"),
        (Problem("frozen", "by the operator"), "300"),
        (Problem("too_many_calls", "at once"), "1"),
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

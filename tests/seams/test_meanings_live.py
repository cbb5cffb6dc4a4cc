"""The golden 402s against what says them: every sandbox vendor and every reference seller, asked now."""

import json
import time

import pytest
from multidict import CIMultiDict

from gateway.core.routes import Pricing
from gateway.core.view import View
from gateway.flow.meaning import approved_payees, classify
from sandbox.shared_vendor.driver import Answer
from tests.meaning_cases import account_vendors, load_cases, paid_vendors
from tests.tools.live_meanings import everything, shape, told

CASES = {case.name: case for case in load_cases() if case.live}


@pytest.fixture(scope="module")
def live() -> dict[str, Answer]:
    """Every live 402, asked once."""
    return dict(everything())


def test_every_golden_answer_marked_live_is_asked_for(live: dict[str, Answer]) -> None:
    """No vector claims to be real that nobody says, and nothing that is said has no vector."""
    assert live.keys() == CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_the_live_answer_has_the_golden_shape(live: dict[str, Answer], name: str) -> None:
    """Status, headers and the structure of every JSON in them are as recorded; regenerate the vectors where they are not."""
    recorded = CASES[name].response
    assert shape(*told(live[name])) == json.loads(
        json.dumps(shape(recorded["status"], recorded["headers"], recorded["body"]))
    )


@pytest.mark.parametrize("name", CASES)
def test_the_live_answer_has_the_golden_meaning(live: dict[str, Answer], name: str) -> None:
    """What is really said means what its vector says."""
    case, answer = CASES[name], live[name]
    now_ms = case.now_ms if name.startswith(("mppx", "pympp")) else int(time.time() * 1000)
    headers = CIMultiDict(answer.headers)
    accounts, paid = account_vendors(), paid_vendors()
    if case.vendor in accounts:
        speaks = accounts[case.vendor].speaks
        found = classify(speaks, answer.status, headers, answer.raw, now_ms, after_payment=False)
    else:
        vendor = paid[case.vendor]
        match = vendor.match(case.method, case.path.partition("?")[0])
        assert match is not None
        found = classify(
            vendor.speaks,
            answer.status,
            headers,
            answer.raw,
            now_ms,
            after_payment=case.after_payment,
            free=match.route.pricing is Pricing.FREE,
            payees=lambda: approved_payees(vendor, View()),
        )
    assert found.meaning == case.expect["meaning"], found.why

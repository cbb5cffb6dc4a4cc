"""Explaining a 402: the verdict of a real call on every golden answer, and no trace of having looked (P3, P8, P9)."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from contracts.codec import parse_address
from contracts.tokens import BASE_USDC
from gateway.core import commands as c
from gateway.core.apikeys import new_key
from gateway.core.book import PriceView
from gateway.core.meaning import Meaning
from gateway.core.problems import TYPES
from gateway.core.records import AgentAccount, ApiKey, Budget, Resource
from gateway.flow.call import Call
from gateway.flow.explain import Explained, Explainer, explain_account
from gateway.store import queries
from gateway.store.sqlite import SqliteStore
from gateway.system import SystemEntropy
from gateway.vendors.surrogate import digest
from tests.meaning_cases import PRICES, Case, account_vendors, load_cases, paid_vendors

CASES = {case.name: case for case in load_cases()}
PAID, ACCOUNTS = paid_vendors(), account_vendors()
ASKED_OF_US = [case for case in CASES.values() if case.vendor in PAID]
WEATHER = CASES["x402_v1"]


class StillClock:
    """A clock that stands where a case does."""

    def __init__(self) -> None:
        self.at_ms = 0

    def now_ms(self) -> int:
        return self.at_ms

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(f"an explanation waits for nobody, let alone {seconds} s")


@dataclass
class Desk:
    """A store with one rich account, a rental of its own, and approved prices."""

    store: SqliteStore
    clock: StillClock
    key: ApiKey

    async def explain(self, case: Case, **changes: Any) -> Explained:
        """Explain a case, at its time, to the account's own key."""
        self.clock.at_ms = case.now_ms
        vendor = PAID[case.vendor]
        match = vendor.match(case.method, case.path.partition("?")[0])
        assert match is not None
        call = Call(self.key, "req_1", vendor, match, case.method, case.path, (), case.request_body.encode())
        explainer = Explainer(self.store, self.clock, digest)
        return await explainer.explain(replace(call, **changes), case.given)

    async def post(self, command: c.Command) -> None:
        """Decide something that must be accepted."""
        assert isinstance(await self.store.post(command), c.Done)

    async def trace(self) -> list[Any]:
        """Everything that an explanation could have left behind."""
        tasks = await self.store.query(queries.OPEN_TASK_COUNT)
        view = self.store.view
        return [
            [dict(row) for row in tasks],
            (view.journal_seq, view.journal_head, dict(view.balances), dict(view.open_payments)),
            (set(view.payees), dict(view.prices), dict(view.budget_uses)),
        ]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """One account with 100 USD."""
    store = await SqliteStore.open(tmp_path / "gateway.db")
    made = new_key("acc_1", "test", ("proxy",), (), 1, SystemEntropy().bytes).key
    running = Desk(store, StillClock(), made)
    await running.post(c.OpenAccount(AgentAccount("acc_1", "acc_1", 1)))
    await running.post(c.CreditAccount("acc_1", 100_000_000, "credit", "", "test", 1))
    await running.post(c.AddKey(made))
    for (vendor, item), price_base in PRICES.items():
        await running.post(c.ApprovePrice(vendor, item, price_base, "configuration", 1))
    await running.post(c.RecordResource(rental(), 1))
    yield running
    await store.close()


def rental(account_id: str = "acc_1", ref: str = "rental-1") -> Resource:
    """A rental of VpsAgent's."""
    return Resource(
        vendor="vpsagent",
        ref=ref,
        account_id=account_id,
        payment_id="",
        kind="sandbox_1h",
        state="active",
        surrogate_digest=digest("surrogate-1"),
        sealed_secret=None,
        expires_at_ms=None,
        as_of_ms=1,
    )


@pytest.mark.parametrize("case", ASKED_OF_US, ids=lambda case: case.name)
async def test_a_golden_402_gets_the_verdict_of_its_vector(desk: Desk, case: Case) -> None:
    """Meaning, problem and payment of every golden answer, and not a trace in the store afterwards."""
    before = await desk.trace()
    found = await desk.explain(case)
    assert (found.meaning, found.problem, found.would_pay) == (
        case.expect["meaning"],
        case.expect["problem"],
        case.expect["would_pay"],
    ), found.why
    assert found.why
    assert found.problem is None or found.problem in TYPES
    assert await desk.trace() == before


@pytest.mark.parametrize("case", ASKED_OF_US, ids=lambda case: case.name)
async def test_checks_end_at_the_first_that_fails(desk: Desk, case: Case) -> None:
    """A payment has passed every check; a problem is the last check's."""
    found = await desk.explain(case)
    assert [check.passed for check in found.checks[:-1]] == [True] * (len(found.checks) - 1)
    assert found.checks[-1].passed == (found.problem is None)
    assert not (found.would_pay and found.problem)


@pytest.mark.parametrize(
    "case", [case for case in CASES.values() if case.vendor in ACCOUNTS], ids=lambda case: case.name
)
def test_account_vendors_are_explained_and_never_paid(case: Case) -> None:
    """A balance, a bill, and a challenge in such a vendor's mouth: 503 to the agent, nothing paid."""
    found = explain_account(ACCOUNTS[case.vendor], case.given)
    assert (found.meaning, found.problem, found.would_pay, found.offer) == (
        case.expect["meaning"],
        case.expect["problem"],
        False,
        None,
    )


def test_an_account_vendors_other_status_asks_for_nothing() -> None:
    """201 from an account vendor ends nothing."""
    given = replace(CASES["cryptovps_low_balance"].given, status=201)
    found = explain_account(ACCOUNTS["cryptovps"], given)
    assert (found.meaning, found.problem) == (Meaning.UNKNOWN, None)


async def test_what_would_be_paid_is_told_in_full(desk: Desk) -> None:
    """Offer, quote, price and item of a rental."""
    found = await desk.explain(CASES["vpsagent_rent"])
    assert found.quote is not None
    assert found.offer is found.quote.offer
    assert (found.offer.rail, found.offer.amount_base, found.quote.hold_base) == ("x402", 500_000, 500_000)
    assert (found.expected_base, found.quote.token) == (500_000, BASE_USDC)
    assert found.item is not None
    assert found.item.name == "sandbox_1h"


async def test_a_refused_price_is_told_beside_our_own(desk: Desk) -> None:
    """What was asked, and what was expected."""
    found = await desk.explain(CASES["crafted_dearer_than_quoted"])
    assert found.offer is not None
    assert (found.offer.amount_base, found.expected_base, found.quote) == (600_000, 500_000, None)


async def test_an_own_address_reads_like_a_strangers(desk: Desk) -> None:
    """P9: whoever writes the answer that is judged cannot find our treasury with it."""
    own = await desk.explain(CASES["crafted_our_own_address"])
    stranger = await desk.explain(CASES["crafted_payee_unknown"])
    assert own.offer is not None
    assert stranger.offer is not None
    checks = [[(each.check, each.problem) for each in found.checks] for found in (own, stranger)]
    assert checks[0] == checks[1]
    assert (own.meaning, own.problem) == (stranger.meaning, "payee_not_allowed")
    assert own.why.replace(own.offer.wire_pay_to, "X") == stranger.why.replace(stranger.offer.wire_pay_to, "X")


async def test_only_ones_own_rental_is_explained(desk: Desk) -> None:
    """P9: another's rental and one that never was get the same words."""
    await desk.post(c.OpenAccount(AgentAccount("acc_2", "acc_2", 1)))
    await desk.post(c.RecordResource(rental("acc_2", "rental-2"), 1))
    case = CASES["vpsagent_renew"]
    words = []
    for ref in ("rental-2", "rental-3"):
        found = await desk.explain(replace(case, path=case.path.replace("rental-1", ref)))
        assert (found.problem, found.would_pay) == ("not_found", False)
        words.append(found.why.replace(ref, "X"))
    assert words[0] == words[1]


async def test_a_token_that_is_not_the_rentals_is_not_explained(desk: Desk) -> None:
    """The surrogate counts as in a call."""
    case = CASES["vpsagent_renew"]
    found = await desk.explain(replace(case, path=case.path.replace("surrogate-1", "other")))
    assert found.problem == "not_found"
    found = await desk.explain(replace(case, path=case.path.partition("?")[0]))
    assert found.problem == "input_refused"


async def test_another_wallet_tenants_server_does_not_exist(desk: Desk) -> None:
    """On the wallet that all agents share, what a path names must be one's own before anything else is looked at."""
    case = replace(CASES["dropmpp_create"], path="/v1/servers/strange/extend", request_body='{"minutes": 60}')
    assert (await desk.explain(case)).problem == "not_found"


async def test_input_that_a_call_would_refuse_is_refused_here(desk: Desk) -> None:
    """What the vendor would charge for and then refuse is named before the price."""
    found = await desk.explain(replace(CASES["vpsagent_rent"], request_body='{"sku": "no_such"}'))
    assert (found.problem, found.checks[-1].check, found.would_pay) == ("input_refused", "request", False)


async def test_an_unapproved_price_is_a_refusal_and_no_task(desk: Desk) -> None:
    """A call would open a task; an explanation says so and opens none."""
    case = replace(CASES["vpsagent_rent"], request_body='{"sku": "sandbox_6h"}')
    before = await desk.trace()
    assert (await desk.explain(case)).problem == "price_unknown"
    assert await desk.trace() == before


@pytest.mark.parametrize("scope", ["all", "vendor:x402", "account:acc_1", f"asset:{BASE_USDC.asset_id}"])
async def test_a_freeze_stops_it_here_as_well(desk: Desk, scope: str) -> None:
    """Every scope that covers the purchase; the reason is the operator's own."""
    await desk.post(c.SetFreeze(scope, frozen=True, reason="secret reason", by="me", at_ms=1))
    found = await desk.explain(WEATHER)
    assert (found.problem, found.would_pay) == ("frozen", False)
    assert "secret" not in found.why


async def test_a_freeze_stops_a_proof(desk: Desk) -> None:
    """A proof is stopped by the same freezes as money."""
    await desk.post(c.SetFreeze("vendor:dropmpp", frozen=True, reason="", by="me", at_ms=1))
    assert (await desk.explain(CASES["dropmpp_proof"])).problem == "frozen"


async def test_the_keys_budget_and_the_balance_count(desk: Desk) -> None:
    """A budget that does not cover it, then an account that cannot pay it."""
    budget = Budget("b", 999, 3600, "x402", None)
    found = await desk.explain(WEATHER, key=replace(desk.key, budgets=(budget,)))
    assert (found.problem, found.checks[-1].check) == ("budget_exhausted", "budget")
    elsewhere = replace(desk.key, budgets=(replace(budget, vendor="mpp"),))
    assert (await desk.explain(WEATHER, key=elsewhere)).would_pay
    poor = await desk.explain(WEATHER, key=replace(desk.key, account_id="acc_poor"))
    assert (poor.problem, poor.would_pay) == ("insufficient_balance", False)


async def test_an_open_renewal_stops_another(desk: Desk) -> None:
    """One renewal of a rental at a time."""
    case = CASES["vpsagent_renew"]
    assert (await desk.explain(case)).would_pay
    await desk.post(c.RecordResource(replace(rental(ref="rental-9"), open_renewal="pay_1"), 1))
    found = await desk.explain(replace(case, path=case.path.replace("rental-1", "rental-9")))
    assert (found.problem, found.would_pay) == ("renewal_open", False)


async def test_a_catalogue_that_was_raised_with_the_challenge_is_not_believed(desk: Desk) -> None:
    """P8: the vendor's own fresh statement is held against what was approved."""
    desk.store.view.prices["vpsagent", "sandbox_1h"] = PriceView(900_000, CASES["vpsagent_rent"].now_ms, 500_000)
    assert (await desk.explain(CASES["vpsagent_rent"])).problem == "price_above_quote"


async def test_a_payee_approved_since_is_paid(desk: Desk) -> None:
    """The committed view counts, as in a call."""
    payee = parse_address("0x976EA74026E726554dB657fA54763abd0C3a0aa9", "payee")
    await desk.post(c.ApprovePayee("x402", 8453, payee, "me", 1))
    assert (await desk.explain(CASES["crafted_payee_unknown"])).would_pay

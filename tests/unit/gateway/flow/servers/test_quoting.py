"""Where a server is made, at a price that its vendor has just named; and one reason for everybody who was not chosen."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateway.core.commands import ObserveBalance, SetFreeze
from gateway.core.money import format_amount, parse_amount
from gateway.core.plan import Need
from gateway.core.problems import Problem
from gateway.core.spec import ServerSpec
from gateway.flow.servers.keys import KeyPrices
from gateway.flow.servers.runner import Who
from tests.unit.gateway.flow.servers.catalogue_bed import LITEVPS, SMALL_BASE, VPSAGENT, Home, Line, started

MONTH_S = 30 * 86_400
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh"


def need(**members: Any) -> ServerSpec:
    """Return a spec of a need."""
    return ServerSpec(Need(**members))


async def refused(home: Home, asked: ServerSpec, who: Who | None = None) -> Problem:
    """Ask for a quote that there is not; return why."""
    with pytest.raises(Problem) as caught:
        await home.quoting.quote(who or home.who, asked)
    return caught.value


def reasons(losers: Any) -> dict[str, str]:
    """Return why each plan lost."""
    return {each["plan"]: each["reason"] for each in losers}


async def test_the_cheapest_that_fits_is_quoted(tmp_path: Path) -> None:
    """For an hour the vendor by the minute wins; every plan is either it or has one reason; nothing was spent."""
    async with started(tmp_path) as home:
        quote, shown = await home.quoting.quote(home.who, need(min_memory_mib=1024, for_s=3600))
        assert shown["plan"]["id"] == "litevps/small"
        assert (quote.candidate.vendor, quote.candidate.plan, quote.account_id) == ("litevps", "small", "acc_1")
        assert shown["first_charge"] == format_amount(quote.candidate.first_charge_max_base)
        assert sum(parse_amount(line["amount"]) for line in shown["lines"]) == quote.candidate.first_charge_max_base
        assert shown["running_cost"] == {"hourly": "0.0042", "monthly": None}
        told = [shown["plan"]["id"], *(each["plan"] for each in shown["candidates_lost"])]
        assert Counter(told) == Counter(plan.key for plan in await home.catalogue.plans())
        assert reasons(shown["candidates_lost"])["vpsagent/sandbox_1h"] == "sandbox"
        assert reasons(shown["candidates_lost"])["litevps/large"] == "dearer"
        assert home.store.view.balances["acc_1"].held_base == 0
        assert await home.rows("SELECT id FROM payments WHERE account_id = 'acc_1'") == []


async def test_a_term_is_quoted_with_the_vendors_own_price(tmp_path: Path) -> None:
    """The price of the very request that would buy, asked for a moment ago."""
    async with started(tmp_path) as home:
        quote, shown = await home.quoting.quote(home.who, need(vendors=("vpsagent",), for_s=MONTH_S))
        assert quote.candidate.first_charge_max_base == SMALL_BASE
        assert home.line.count(VPSAGENT, "/rent") == 1
        assert shown["lines"] == [{"what": f"one term of {MONTH_S} s", "amount": "9.990000"}]
        assert (shown["pays"], shown["hold_max_s"] > 0) == ("on_success", True)
        assert set(reasons(shown["candidates_lost"]).values()) == {"vendor_excluded", "sandbox"}


async def test_whoever_refuses_has_lost_to_the_next(tmp_path: Path) -> None:
    """A vendor that does not sell it now is passed over with its reason."""
    async with started(tmp_path, Line(rent=(503, 0))) as home:
        asked = need(vendors=("vpsagent", "cryptovps"), min_memory_mib=4096, for_s=12 * MONTH_S)
        _, shown = await home.quoting.quote(home.who, asked)
        assert shown["vendor"] == "cryptovps"
        assert reasons(shown["candidates_lost"])["vpsagent/server_small_1mo"] == "unavailable"


async def test_a_price_that_drifted_is_no_offer(tmp_path: Path) -> None:
    """P8 holds for quotes: what is not approved is not quoted, and a human is asked."""
    async with started(tmp_path, Line(rent=(402, 12_000_000))) as home:
        problem = await refused(home, need(plan="vpsagent/server_small_1mo", sandbox=True))
        assert problem.code == "price_above_quote"
        assert ("price_changed", "vpsagent/server_small_1mo") in await home.tasks()


async def test_a_need_goes_to_whoever_the_balance_can_pay(tmp_path: Path) -> None:
    """The dearer start of a cheaper term loses for want of balance; where nothing can be paid that is what is said."""
    async with started(tmp_path) as home:
        poor = await home.asking("proxy", credit_base=1_000_000)
        asked = need(vendors=("vpsagent", "litevps"), min_memory_mib=4096, for_s=12 * MONTH_S)
        _, shown = await home.quoting.quote(poor, asked)
        assert shown["plan"]["id"] == "litevps/large"
        assert reasons(shown["candidates_lost"])["vpsagent/server_small_1mo"] == "balance"
        penniless = await home.asking("proxy", credit_base=0)
        problem = await refused(home, asked, penniless)
        assert problem.code == "insufficient_balance"
        assert "balance" in reasons(problem.extra["candidates_lost"]).values()


async def test_a_named_plan_is_quoted_whatever_the_balance(tmp_path: Path) -> None:
    """Its price is what an agent needs to know in order to top up."""
    async with started(tmp_path) as home:
        poor = await home.asking("proxy", credit_base=1)
        quote, shown = await home.quoting.quote(poor, need(plan="vpsagent/server_small_1mo", sandbox=True))
        assert quote.candidate.first_charge_max_base == SMALL_BASE
        assert shown["candidates_lost"] == []


async def test_a_key_buys_where_its_scope_reaches(tmp_path: Path) -> None:
    """Other vendors' plans lose with key_scope, named or not."""
    async with started(tmp_path) as home:
        narrow = await home.asking("proxy:cryptovps")
        _, shown = await home.quoting.quote(narrow, need(for_s=3600))
        assert shown["vendor"] == "cryptovps"
        assert reasons(shown["candidates_lost"])["litevps/small"] == "key_scope"
        problem = await refused(home, need(plan="litevps/small"), narrow)
        assert (problem.code, reasons(problem.extra["candidates_lost"])) == (
            "no_plan_fits",
            {"litevps/small": "key_scope"},
        )


async def test_what_goes_onto_the_server_narrows_the_choice(tmp_path: Path) -> None:
    """SSH keys and user data need a vendor that is certain to take them."""
    async with started(tmp_path) as home:
        key, _ = await home.gateway.neutral.keys.add(home.gateway.neutral.keys.parse("acc_1", "laptop", PUBLIC_KEY))
        asked = ServerSpec(Need(), ssh_keys=(key.id,))
        _, shown = await home.quoting.quote(home.who, asked)
        assert shown["vendor"] == "litevps"
        assert reasons(shown["candidates_lost"])["cryptovps/vc2-1c-1gb"] == "feature:ssh_keys"


async def test_what_a_vendor_takes_for_keys_is_quoted_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines name each key and add up; the bound of whoever is asked next covers them as well."""
    async with started(tmp_path) as home:
        keys = home.gateway.neutral.keys
        key, _ = await keys.add(keys.parse("acc_1", "laptop", PUBLIC_KEY))
        asked = ServerSpec(Need(vendors=("litevps",)), ssh_keys=(key.id,))
        free = await home.quoting.choose(home.who, asked)

        async def priced(*_: Any) -> Any:
            return ((key.id, 1_000),)

        monkeypatch.setattr(KeyPrices, "of", priced)
        dear = await home.quoting.choose(home.who, asked)
        added = [
            b.first_charge_max_base - a.first_charge_max_base
            for a, b in zip(free.candidates, dear.candidates, strict=True)
        ]
        assert added == [1_000] * len(free.candidates)
        assert len(added) > 1
        quote, shown = await home.quoting.quote(home.who, asked)
        assert shown["lines"][-1] == {"what": f"SSH key {key.id} registered, once", "amount": "0.001000"}
        assert sum(parse_amount(line["amount"]) for line in shown["lines"]) == quote.candidate.first_charge_max_base


async def test_who_would_not_take_a_key_has_lost_in_the_quote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all its plans, for one asking; a key that is not the account's is nobody's."""
    async with started(tmp_path) as home:
        keys, asked_of = home.gateway.neutral.keys, list[str]()
        key, _ = await keys.add(keys.parse("acc_1", "laptop", PUBLIC_KEY))

        async def refuse(_: object, __: Who, vendor: Any, ___: object) -> Any:
            asked_of.append(vendor.name)
            raise Problem("price_unknown", "no price of a key was approved")

        monkeypatch.setattr(KeyPrices, "of", refuse)
        problem = await refused(home, ServerSpec(Need(vendors=("litevps",)), ssh_keys=(key.id,)))
        assert reasons(problem.extra["candidates_lost"])["litevps/small"] == "price_unknown"
        assert reasons(problem.extra["candidates_lost"])["litevps/large"] == "price_unknown"
        assert asked_of == ["litevps"]
        strange = await refused(home, ServerSpec(Need(), ssh_keys=("sshk_1",)))
        assert (strange.code, strange.field) == ("not_found", "ssh_keys")


@pytest.mark.parametrize(
    ("members", "code", "field"),
    [
        ({"plan": "nobody/small"}, "bad_request", "plan"),
        ({"plan": "litevps/none"}, "not_found", "plan"),
        ({"vendors": ("nobody",)}, "bad_request", "need/vendors"),
        ({"not_vendors": ("nobody",)}, "bad_request", "need/vendors"),
        ({"min_vcpu": 1000}, "no_plan_fits", None),
    ],
)
async def test_what_is_not_there_is_not_quoted(
    tmp_path: Path, members: dict[str, Any], code: str, field: str | None
) -> None:
    """The problem says whether the vendor, the plan or a plan that fits is missing."""
    async with started(tmp_path) as home:
        problem = await refused(home, need(**members))
        assert (problem.code, problem.field) == (code, field)


async def test_no_plan_fits_says_why_for_each(tmp_path: Path) -> None:
    """Every plan has its reason, and a vendor without plans is told as well."""
    async with started(tmp_path, Line(down={LITEVPS})) as home:
        problem = await refused(home, need(min_vcpu=1000))
        assert set(reasons(problem.extra["candidates_lost"]).values()) == {"vcpu", "sandbox"}
        assert [each["vendor"] for each in problem.extra["stale"]] == ["litevps"]


async def test_a_vendor_without_a_billing_rule_sells_nothing(tmp_path: Path) -> None:
    """The operator's silence is a reason of its own."""
    async with started(tmp_path, vrtx="") as home:
        problem = await refused(home, need(vendors=("vrtx",)))
        assert reasons(problem.extra["candidates_lost"])["vrtx/7"] == "billing_rule_unset"


async def test_a_frozen_vendor_sells_nothing(tmp_path: Path) -> None:
    """It is passed over without being asked."""
    async with started(tmp_path) as home:
        await home.catalogue.refresh()
        asked = home.line.count(VPSAGENT)
        await home.store.post(SetFreeze("vendor:vpsagent", frozen=True, reason="drill", by="me", at_ms=home.clock.ms))
        problem = await refused(home, need(plan="vpsagent/server_small_1mo", sandbox=True))
        assert reasons(problem.extra["candidates_lost"]) == {"vpsagent/server_small_1mo": "unavailable"}
        assert home.line.count(VPSAGENT) == asked


async def test_prices_that_nobody_stated_for_a_day_are_not_chosen(tmp_path: Path) -> None:
    """They are shown, and lose as stale_price."""
    async with started(tmp_path) as home:
        await home.catalogue.refresh()
        home.line.down.add(LITEVPS)
        home.pass_s(2 * 86_400)
        problem = await refused(home, need(vendors=("litevps",)))
        assert reasons(problem.extra["candidates_lost"])["litevps/small"] == "stale_price"


async def test_candidates_come_with_bounds(tmp_path: Path) -> None:
    """The first is the vendor's word; the others' bounds are a little above what they are expected to charge."""
    async with started(tmp_path) as home:
        choice = await home.quoting.choose(home.who, need(min_memory_mib=4096, for_s=12 * MONTH_S))
        assert len(choice.candidates) == len(choice.plans) > 1
        keys = [f"{each.vendor}/{each.plan}" for each in choice.candidates]
        assert keys == [plan.key for plan in choice.plans]
        term = choice.candidates[keys.index("vpsagent/server_small_1mo")]
        assert term.first_charge_max_base >= SMALL_BASE
        crypto = next(each for each in choice.candidates if each.vendor == "cryptovps")
        assert crypto.region


async def test_a_quote_is_kept_and_taken_by_its_owner_until_it_is_over(tmp_path: Path) -> None:
    """What it covers is the plan, region and image that were chosen; another account finds nothing."""
    async with started(tmp_path) as home:
        asked = ServerSpec(Need(vendors=("cryptovps",), region="AMS", for_s=3600), minutes=7)
        quote, shown = await home.quoting.quote(home.who, asked)
        found, document = await home.quoting.take("acc_1", quote.id)
        assert found == quote
        spec = ServerSpec.from_document(document)
        assert (spec.need.plan, spec.need.region) == (f"cryptovps/{quote.candidate.plan}", "ams")
        assert quote.candidate.region == shown["region"] == "ams"
        assert spec.minutes is None  # this vendor sells no minutes
        assert await home.quoting.shown("acc_1", quote.id) == shown == json.loads(quote.document)
        for account_id, quote_id in (("acc_2", quote.id), ("acc_1", "quo_none")):
            with pytest.raises(Problem, match="not_found"):
                await home.quoting.take(account_id, quote_id)
            with pytest.raises(Problem, match="not_found"):
                await home.quoting.shown(account_id, quote_id)
        home.pass_s(601)
        with pytest.raises(Problem, match="quote_expired"):
            await home.quoting.take("acc_1", quote.id)
        assert await home.quoting.shown("acc_1", quote.id) == shown


async def test_a_quote_outlives_its_process(tmp_path: Path) -> None:
    """It binds after a restart as well, its spec unsealed."""
    line = Line()
    async with started(tmp_path, line) as home:
        spec = ServerSpec(Need(plan="litevps/small", sandbox=True), user_data="#cloud-config")
        quote, _ = await home.quoting.quote(home.who, spec)
        clock = home.clock
    async with started(tmp_path, line, clock=clock) as home:
        found, document = await home.quoting.take("acc_1", quote.id)
        assert found == quote
        assert document["user_data"] == "#cloud-config"


async def test_an_empty_vendor_account_is_not_the_agents_to_know(tmp_path: Path) -> None:
    """What the operator has left at a vendor decides nothing here, and is told to nobody."""
    async with started(tmp_path) as home:
        await home.store.post(ObserveBalance("litevps", 0, 100, 10**9, "task_9", home.clock.ms))
        _, shown = await home.quoting.quote(home.who, need(vendors=("litevps",)))
        assert "balance" not in reasons(shown["candidates_lost"]).values()

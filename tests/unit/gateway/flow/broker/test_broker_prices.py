"""The price book: what a vendor has told stands for a while; what it does not tell is told as that, and opens no task."""

import dataclasses

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.account_ports import AccountTerms, AccountVendor, Order
from gateway.core.problems import Problem
from gateway.core.tariff import Rule
from gateway.flow.broker.bound import Bounds
from gateway.flow.broker.fence import Named
from gateway.flow.broker.prices import FRESH_S, KEPT_S, PriceBook
from gateway.flow.call import AccountCall
from gateway.http.port import NotSent, UpstreamRequest, UpstreamResponse
from gateway.system import SystemEntropy
from gateway.vendors.litevps import LiteVps
from tests.factories import make_key
from tests.unit.gateway.flow.spend_bed import StillClock

TERMS = AccountTerms(86_400, 2_000_000, Rule.STARTED_UNITS, 2, suspend_first=True, grace_s=3600)
LIST = b'[{"id": "small", "price_hourly": 0.01, "vcpu": 1, "memory_mb": 1024, "disk_gb": 10}]'
SMALL = Order("small", "box")


class Desk:
    """One account at LiteVPS whose vendor answers as the test says; None is no answer."""

    def __init__(self, said: bytes | None = None, terms: AccountTerms = TERMS) -> None:
        self.vendor: AccountVendor = LiteVps("litevps", "https://api.litevps.example", terms)
        self.said, self.asked = said, 0

    async def ask(self, _request: UpstreamRequest, _how: object) -> UpstreamResponse:
        """Answer, or not."""
        self.asked += 1
        if self.said is None:
            raise NotSent("connection_refused", "nobody listens")
        return UpstreamResponse(200, CIMultiDictProxy(CIMultiDict[str]()), self.said)


async def untold(book: PriceBook, desk: Desk, order: Order = SMALL) -> str:
    """Return what an order that has no price now is told."""
    with pytest.raises(Problem) as caught:
        await book.bound(desk, await book.filled(desk, order), None)  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.status) == ("price_untold", 503)
    return caught.value.detail


@pytest.mark.parametrize("said", [None, b"[]", b"<html>"], ids=["no answer", "no prices", "no list"])
async def test_prices_that_are_not_told_now_are_told_as_that(said: bytes | None) -> None:
    """No human has to approve anything, so none is promised; the vendor is asked again by the next order."""
    book, desk = PriceBook(StillClock()), Desk(said)
    assert await untold(book, desk) == "litevps does not tell its prices now"
    desk.said = LIST
    assert (await book.bound(desk, SMALL, None)).hourly == "0.01"  # type: ignore[arg-type]


async def test_a_list_stands_for_a_day_without_an_answer() -> None:
    """A vendor that is away for a while is still ordered from at its own prices, and not for ever."""
    clock, desk = StillClock(), Desk(LIST)
    book = PriceBook(clock)
    await book.of(desk)  # type: ignore[arg-type]
    desk.said = None
    clock.ms += (FRESH_S + 1) * 1000
    assert (await book.bound(desk, SMALL, None)).kind == "small"  # type: ignore[arg-type]
    clock.ms += KEPT_S * 1000
    await untold(book, desk)


async def test_sizes_that_no_price_covers_and_templates_that_are_not_told_wait_too() -> None:
    """Neither is the agent's mistake for sure, nor a price that somebody could approve."""
    assert await untold(PriceBook(StillClock()), Desk(LIST), Order(None, "box", {"vcpu": 64})) == (
        "no price of this is known at litevps"
    )
    assert await untold(PriceBook(StillClock()), Desk(b"[]"), Order(None, "box", template="web")) == (
        "litevps does not tell its templates now"
    )


async def test_a_rule_whose_price_the_vendor_does_not_state_is_not_ordered_by() -> None:
    """Billed by the month, a plan with an hourly price alone has none."""
    clock, desk = StillClock(), Desk(LIST, dataclasses.replace(TERMS, rule=Rule.MONTHLY))
    match = desk.vendor.match("POST", "/api/vps")
    assert match is not None
    body = b'{"plan_id": "small", "name": "box"}'
    call = AccountCall(make_key(), "req_1", desk.vendor, match, "POST", "/api/vps", (), body)
    bounds = Bounds(PriceBook(clock), clock, clock, SystemEntropy())
    with pytest.raises(Problem) as caught:
        await bounds.of(call, desk, Named({}))  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.detail) == (
        *("price_untold", "litevps states no price of this for the rule monthly"),
    )


async def test_a_clock_that_is_set_back_keeps_no_price_and_no_refusal() -> None:
    """What counted for minutes by a clock that was wrong does not count for a day by the one that is right."""
    clock, desk = StillClock(), Desk(LIST)
    book = PriceBook(clock)
    match = desk.vendor.match("POST", "/api/vps")
    assert match is not None
    body = b'{"plan_id": "small", "name": "box"}'
    call = AccountCall(make_key(), "req_1", desk.vendor, match, "POST", "/api/vps", (), body)
    bounds = Bounds(book, clock, clock, SystemEntropy())
    bound = await bounds.of(call, desk, Named({}))  # type: ignore[arg-type]
    bounds.was_dearer("litevps", bound.price)
    with pytest.raises(Problem):
        await bounds.of(call, desk, Named({}))  # type: ignore[arg-type]
    assert desk.asked == 1
    clock.ms -= 86_400_000
    assert (await bounds.of(call, desk, Named({}))).price == bound.price  # type: ignore[arg-type]
    assert desk.asked == 2

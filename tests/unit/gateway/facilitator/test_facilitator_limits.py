"""How often one may ask, and what there is to buy."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.codec import Address
from contracts.tokens import BASE_USDC
from gateway.facilitator.discovery import Sellable, Wanted, find, priced
from gateway.facilitator.limits import PerMinute
from gateway.rails.x402.selling import Price


class Time:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100

    def __call__(self) -> int:
        return self.now_s


def test_a_burst_passes_and_then_the_mean_counts() -> None:
    """Sixty at once, then one a second; the wait that is told is long enough."""
    time = Time()
    limit = PerMinute(60, time)
    assert [limit.take(b"a") for _ in range(60)] == [None] * 60
    assert limit.take(b"a") == 1
    time.now_s += 1
    assert limit.take(b"a") is None
    assert limit.take(b"a") == 1
    assert limit.take(b"b") is None


def test_a_small_limit_says_how_long_to_wait() -> None:
    """Two a minute: half a minute for the next, and asking in vain does not put it off."""
    time = Time()
    limit = PerMinute(2, time)
    assert [limit.take(b"a"), limit.take(b"a")] == [None, None]
    assert limit.take(b"a") == 30
    time.now_s += 20
    assert limit.take(b"a") == 10
    time.now_s += 10
    assert limit.take(b"a") is None


def test_memory_is_bounded_by_time_and_by_number() -> None:
    """Whoever has not asked for a minute is forgotten, and so is the eldest beyond the most."""
    time = Time()
    limit = PerMinute(10, time, max_keys=5)
    for number in range(50):
        limit.take(bytes((number,)))
    assert len(limit._buckets) == 5
    time.now_s += 61
    for number in range(3):
        limit.take(bytes((200 + number,)))
    assert sorted(limit._buckets) == [bytes((200 + number,)) for number in range(3)]


def pack(name: str, amount: str, *networks: str, **more: Any) -> Sellable:
    """Return something that is sold."""
    ways = [{"scheme": "exact", "network": each, "amount": amount, "payTo": "0xAb" + "0" * 38} for each in networks]
    return Sellable(f"https://gateway.test/v1/topups/packs/{name}", ways, 1_800_000_000, **more)


PACKS = (
    pack("ten", "10000000", "eip155:8453", metadata={"description": "ten dollars"}),
    pack("one", "1000000", "eip155:8453", "eip155:84532", extensions={"payment-identifier": {}}),
    pack("two", "2000000", "eip155:84532"),
)


def test_everything_is_listed_in_a_stable_order() -> None:
    """Pages follow each other whatever the order in which packs are configured."""
    found = find(PACKS, Wanted(limit=2))
    assert [item["resource"].rpartition("/")[2] for item in found["items"]] == ["one", "ten"]
    assert found["pagination"] == {"limit": 2, "offset": 0, "total": 3}
    (last,) = find(PACKS, Wanted(limit=2, offset=2))["items"]
    assert last["resource"].endswith("/two")
    assert (last["type"], last["x402Version"], last["lastUpdated"]) == ("http", 2, 1_800_000_000)
    assert find(PACKS, Wanted(offset=9))["items"] == []


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (Wanted(network="eip155:84532"), ["one", "two"]),
        (Wanted(network="eip155:84532", scheme="exact"), ["one", "two"]),
        (Wanted(scheme="upto"), []),
        (Wanted(pay_to="0xaB" + "0" * 38), ["one", "ten", "two"]),
        (Wanted(pay_to="0xcd" + "0" * 38), []),
        (Wanted(kind="http"), ["one", "ten", "two"]),
        (Wanted(kind="mcp"), []),
        (Wanted(extensions=("payment-identifier",)), ["one"]),
    ],
)
def test_filters_are_about_one_way_to_pay(wanted: Wanted, names: list[str]) -> None:
    """Each filter by itself, and together."""
    found = find(PACKS, wanted)
    assert [item["resource"].rpartition("/")[2] for item in found["items"]] == names
    assert found["pagination"]["total"] == len(names)


def test_a_route_of_ours_is_told_as_its_402_asks_for_it() -> None:
    """Each price in version 2's members, and no order: that is made when somebody asks the route itself."""
    prices = [Price(BASE_USDC, Address(b"\x11" * 20), 1_000_000)]
    sold = priced("https://gateway.test/v1/topups/packs/one", "1 USD of credit", prices, 300, 1_800_000_000)
    (item,) = find([sold], Wanted(network="eip155:8453", pay_to="0x" + "11" * 20))["items"]
    (way,) = item["accepts"]
    assert (way["amount"], way["maxTimeoutSeconds"]) == ("1000000", 300)
    assert way["extra"] == {"name": "USD Coin", "version": "2"}
    assert item["metadata"] == {"description": "1 USD of credit"}

"""A catalogue that did not help is left alone for a while, and no longer than that."""

from types import SimpleNamespace
from typing import Any

from gateway.flow.house import PAUSE_MS, House
from tests.unit.gateway.flow.spend_bed import StillClock


async def test_a_catalogue_without_the_price_is_read_again_after_its_pause_whatever_the_clock_does() -> None:
    """Not before its pause is over; and at once where the clock was set back a day."""
    clock, nothing, reads = StillClock(), None, list[str]()
    store: Any = SimpleNamespace(view=SimpleNamespace(prices={}))
    house = House(store=store, upstream=nothing, prover=nothing, clock=clock)  # type: ignore[arg-type]
    vendor = SimpleNamespace(name="shop", terms=SimpleNamespace(terms_ttl_s=60))
    call: Any = SimpleNamespace(vendor=vendor, request_id="req_1")

    async def read(_vendor: object, target: str, _request_id: str) -> None:
        reads.append(target)

    house._read = read  # type: ignore[method-assign, assignment]
    for later_ms, times in ((0, 1), (PAUSE_MS - 1, 1), (1, 2), (-86_400_000, 3), (0, 3)):
        clock.ms += later_ms
        await house._refresh(call, "/plans", ["small"])
        assert len(reads) == times

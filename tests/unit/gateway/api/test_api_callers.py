"""Whose address counts: the peer's, and behind the operator's own proxies the one that they were called from."""

import dataclasses
import ipaddress
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.api.attempts import site_of
from gateway.api.callers import MAX_HOPS, Callers
from gateway.api.keyless import Keyless
from gateway.api.server import build_api
from tests.unit.gateway.api.bed import _Watched
from tests.unit.gateway.api.test_api_topups import pay, shop_in

TRUSTED = [ipaddress.ip_network(each) for each in ("10.0.0.0/8", "fd00::/8", "127.0.0.0/8")]
FORGED = "203.0.113.66"


@pytest.mark.parametrize(
    ("peer", "forwarded", "caller"),
    [
        ("10.1.1.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.1.1.1", [f"{FORGED}, 198.51.100.7"], "198.51.100.7"),
        ("10.1.1.1", [FORGED, "198.51.100.7"], "198.51.100.7"),
        ("10.1.1.1", ["198.51.100.7, 10.9.9.9 , fd00::1"], "198.51.100.7"),
        ("10.1.1.1", [f"10.2.2.2,{FORGED},198.51.100.7,10.9.9.9"], "198.51.100.7"),
        ("10.1.1.1", ["198.51.100.7:4711"], "198.51.100.7"),
        ("fd00::5", ["[2001:db8::7]:443"], "2001:db8::7"),
        ("fd00::5", ["2001:db8::7"], "2001:db8::7"),
        ("::ffff:10.1.1.1", ["::ffff:198.51.100.7"], "198.51.100.7"),
        ("10.1.1.1", ["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
        ("10.1.1.1", [], "10.1.1.1"),
        ("10.1.1.1", [""], "10.1.1.1"),
        ("10.1.1.1", [f"{FORGED}, unknown"], "10.1.1.1"),
        ("10.1.1.1", [f"{FORGED}, unknown, 10.2.2.2"], "10.2.2.2"),
        ("198.51.100.9", [FORGED], "198.51.100.9"),
        ("2001:db8::9", [FORGED], "2001:db8::9"),
        (None, [FORGED], None),
        ("", [FORGED], ""),
    ],
)
def test_the_right_most_address_outside_of_the_trusted_networks_counts(
    peer: str | None, forwarded: Sequence[str], caller: str | None
) -> None:
    """What stands to its left the caller may have written itself; what no trusted proxy sent is not read at all."""
    assert Callers(TRUSTED).named(peer, forwarded) == caller


@pytest.mark.parametrize("lines", [1, 2, 100])
def test_no_more_entries_are_read_than_proxies_can_be_in_a_row(lines: int) -> None:
    """A long header costs no more than a short one, in one line or in many: behind so many proxies the last one counts."""
    inside = [f"10.0.{n // 256}.{n % 256}" for n in range(12_000)]
    size = len(inside) // lines
    forwarded = [", ".join(inside[n * size : (n + 1) * size]) for n in range(lines)]
    assert Callers(TRUSTED).named("10.1.1.1", [FORGED, *forwarded]) == inside[-MAX_HOPS]
    reached = [FORGED, "198.51.100.7", *inside[1 - MAX_HOPS :]]
    assert Callers(TRUSTED).named("10.1.1.1", [", ".join(reached)]) == "198.51.100.7"
    assert Callers(TRUSTED).named("10.1.1.1", reached) == "198.51.100.7"


def test_an_ipv6_caller_behind_a_proxy_is_its_network() -> None:
    """Whoever has one address of a /64 has them all: the limits see one caller, written in whatever way."""
    callers = Callers(TRUSTED)
    one, other, third = (
        site_of(callers.named("10.1.1.1", [entry])) for entry in ("2001:db8::1", "[2001:db8::2]:9", "2001:db8:0:1::1")
    )
    assert one == other != third


async def test_keyless_callers_behind_a_proxy_have_a_part_each(tmp_path: Path) -> None:
    """Each may pay as often as one may, however many come through one proxy; without trust all of them are the proxy."""
    async with shop_in(tmp_path) as shop:
        trusting = dataclasses.replace(
            shop.bed.server.api.deps, topups=shop.topups, keyless=Keyless(per_site=1), callers=Callers(TRUSTED)
        )
        trustless = dataclasses.replace(trusting, keyless=Keyless(per_site=1), callers=Callers())

        async def statuses(n: int) -> list[int]:
            header = {name.replace("_", "-"): value for name, value in pay(await shop.post(None), n).items()}
            found = []
            for address in callers:
                headers = {"X-Forwarded-For": f"{FORGED}, {address}", **header}
                got = await shop.bed.bare("POST", "/v1/topups", url=url, data=b'{"amount":"5"}', headers=headers)
                found.append(got.status)
            return found

        callers = ["198.51.100.1", "198.51.100.2", "198.51.100.1", "2001:db8::1", "2001:db8::2"]
        async with _Watched.of(build_api(trusting)) as url:
            assert await statuses(1) == [200, 200, 429, 200, 429]
        async with _Watched.of(build_api(trustless)) as url:
            assert await statuses(2) == [200, 429, 429, 429, 429]

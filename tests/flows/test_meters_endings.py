"""The end of what runs: asked for until it is confirmed, proven by two lists, and never concluded from one silence."""

from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.core.problems import Problem
from sandbox.shared_vendor.driver import Driver
from tests.flows.meter_bed import EMAIL, HOUR_S, MINUTE_S, PASSWORD, SOON_S, TOKEN, Bed, start_vendor, stop_all

KINDS = {"cryptovps": "cryptovps", "litevps": "litevps", "vrtx": "vrtx"}
ACCOUNTS: Mapping[str, Mapping[str, Any]] = {"vrtx": {"billing_rule": "started_units"}}


@pytest.fixture(scope="module")
def processes() -> Iterator[Mapping[str, Driver]]:
    """All three vendors."""
    drivers = {name: start_vendor(kind) for name, kind in KINDS.items()}
    yield drivers
    stop_all(drivers.values())


@pytest.fixture
async def bed(tmp_path: Path, processes: Mapping[str, Driver]) -> AsyncIterator[Bed]:
    """A gateway in front of vendors that begin anew; its books are verified at the end."""
    for driver in processes.values():
        driver.admin("POST", "/reset")
        driver.lift()
    async with Bed(tmp_path, processes, KINDS, ACCOUNTS) as opened:
        yield opened


def exact(bed: Bed, vendor: str, ref: str) -> bool:
    """Say whether a server cost what its vendor bills, to one base unit."""
    return abs(bed.charged(ref).total_base - bed.billed(vendor, ref)) <= 1


@pytest.mark.parametrize("vendor", KINDS)
async def test_an_agents_own_destruction_ends_its_charges(bed: Bed, vendor: str) -> None:
    """Through the proxy, confirmed at once or as soon as the vendor says so; what was held beyond is the agent's again."""
    key = await bed.account("acc_1")
    ref = await bed.made(key, vendor)
    await bed.pass_time(90 * MINUTE_S + 25, 15 * MINUTE_S)
    await bed.act(key, vendor, ref)
    assert bed.meter(ref)["state"] in {"ending", "ended"}
    await bed.pass_time(15 * MINUTE_S, MINUTE_S)
    assert bed.meter(ref)["state"] == "ended"
    assert exact(bed, vendor, ref)
    assert bed.held("acc_1") == 0
    assert (await bed.store.resource(vendor, ref)).state == "destroyed"  # type: ignore[union-attr]


async def test_a_destruction_that_was_promised_and_never_happens_is_asked_for_again(bed: Bed) -> None:
    """LiteVPS says yes and keeps the machine: not charged, asked for again and again, and a human is told."""
    key = await bed.account("acc_1")
    ref = await bed.made(key, "litevps")
    await bed.pass_time(10 * MINUTE_S + 27, MINUTE_S)
    bed.drivers["litevps"].fault("destroy", mode="never")
    await bed.act(key, "litevps", ref)
    cost = bed.billed("litevps", ref)
    await bed.pass_time(40 * MINUTE_S, MINUTE_S)
    assert bed.asked("litevps", "DELETE") >= 3
    meter = bed.running(ref)
    assert (meter.state.value, meter.running_since_ms) == ("ending", None)
    assert bed.tasks()["not_destroyed"] == f"litevps/{ref}"
    await bed.pass_time(HOUR_S, 10 * MINUTE_S)
    assert abs(bed.charged(ref).total_base - cost) <= 1
    assert bed.billed("litevps", ref) == cost


async def test_cryptovps_is_not_charged_from_the_promise_on(bed: Bed) -> None:
    """Its document ends the bill at the DELETE: hours of DESTROYING cost nothing, here as there."""
    key = await bed.account("acc_1")
    ref = await bed.server(key, "cryptovps")
    await bed.pass_time(HOUR_S + 10, 10 * MINUTE_S)
    bed.drivers["cryptovps"].fault("destroy", mode="late", after_s=5 * HOUR_S)
    await bed.act(key, "cryptovps", ref)
    await bed.pass_time(6 * HOUR_S, 30 * MINUTE_S)
    assert bed.meter(ref)["state"] == "ended"
    assert bed.charged(ref).captured_base == 2 * 13_700
    assert exact(bed, "cryptovps", ref)


async def test_vrtx_is_charged_until_the_deletion_is_confirmed(bed: Bed) -> None:
    """Its document does not say when the bill stops: the hours of a slow deletion are the vendor's, and its agent's."""
    key = await bed.account("acc_1")
    ref = await bed.server(key, "vrtx")
    await bed.pass_time(HOUR_S + 10, 10 * MINUTE_S)
    bed.drivers["vrtx"].fault("destroy", mode="late", after_s=3 * HOUR_S)
    await bed.act(key, "vrtx", ref)
    await bed.pass_time(2 * HOUR_S, 10 * MINUTE_S)
    assert bed.meter(ref)["state"] == "ending"
    await bed.pass_time(2 * HOUR_S, 10 * MINUTE_S)
    assert bed.meter(ref)["state"] == "ended"
    assert bed.charged(ref).total_base == 5 * 5_300
    assert exact(bed, "vrtx", ref)


async def test_a_404_to_a_destruction_proves_nothing(bed: Bed) -> None:
    """What answers lags behind a new server: it is asked for until it is really gone."""
    key = await bed.account("acc_1")
    ref = await bed.server(key, "vrtx")
    bed.drivers["vrtx"].fault("status", "delete", status=404, body={"error": {"code": "NOT_FOUND", "message": "-"}})
    bed.drivers["vrtx"].fault("status", "get", status=404, body={"error": {"code": "NOT_FOUND", "message": "-"}})
    await bed.act(key, "vrtx", ref)
    assert bed.meter(ref)["state"] == "ending"
    assert bed.drivers["vrtx"].state()["servers"][ref]["deleted_ms"] is None
    await bed.pass_time(MINUTE_S, SOON_S)
    assert bed.meter(ref)["state"] == "ended"
    assert bed.drivers["vrtx"].state()["servers"][ref]["deleted_ms"] is not None
    assert exact(bed, "vrtx", ref)


async def test_a_destruction_whose_answer_is_lost_is_asked_for_again(bed: Bed) -> None:
    """Its agent wanted it gone, nobody knows whether the vendor heard: the gateway sees to it."""
    key = await bed.account("acc_1")
    ref = await bed.server(key, "cryptovps")
    await bed.pass_time(10 * MINUTE_S, MINUTE_S)
    bed.drivers["cryptovps"].fault("cut", "delete", when="before", times=3)
    with pytest.raises(Problem) as lost:
        await bed.act(key, "cryptovps", ref)
    assert lost.value.code == "vendor_timeout"
    await bed.pass_time(MINUTE_S, SOON_S)
    assert bed.meter(ref)["state"] == "ended"
    assert exact(bed, "cryptovps", ref)


@pytest.mark.parametrize("vendor", KINDS)
async def test_a_server_that_is_not_listed_yet_is_not_gone(bed: Bed, vendor: str) -> None:
    """Lists lag five minutes behind its creation: it is charged from the beginning, and never taken for absent."""
    key = await bed.account("acc_1")
    bed.drivers[vendor].fault("lag", by_s=300, get=True)
    ref = await bed.server(key, vendor)
    await bed.pass_time(30 * MINUTE_S, MINUTE_S)
    assert bed.meter(ref)["state"] == "running"
    assert "meter.ended" not in bed.journal(ref)


@pytest.mark.parametrize("vendor", KINDS)
async def test_what_vanishes_is_ended_by_two_lists_at_the_time_of_the_first(bed: Bed, vendor: str) -> None:
    """The operator destroyed it in the vendor's portal: one list proves nothing, a second, ten minutes on, does."""
    key = await bed.account("acc_1")
    ref = await bed.made(key, vendor)
    await bed.pass_time(20 * MINUTE_S + 25, 5 * MINUTE_S)
    driver = bed.drivers[vendor]
    answer = driver.call(
        "DELETE", f"{PATHS_OF[vendor]}/{ref}", headers={"Authorization": f"Bearer {login(driver, vendor)}"}
    )
    assert answer.status < 300
    await bed.advance(6 if vendor == "cryptovps" else 0)
    await bed.sweep()
    await bed.pass_time(MINUTE_S, MINUTE_S)
    first_ms = bed.business.at_ms
    await bed.pass_time(8 * MINUTE_S, MINUTE_S)
    assert bed.meter(ref)["state"] == "running"
    await bed.pass_time(5 * MINUTE_S, MINUTE_S)
    meter = bed.meter(ref)
    assert meter["state"] == "ended"
    assert meter["ended_at_ms"] <= first_ms
    assert bed.charged(ref).total_base - bed.billed(vendor, ref) <= 2 * 71  # LiteVPS: a look a minute


@pytest.mark.parametrize("vendor", KINDS)
async def test_lists_that_cannot_be_read_prove_nothing(bed: Bed, vendor: str) -> None:
    """For hours the list is empty of meaning: nothing ends, nothing is forgotten."""
    key = await bed.account("acc_1")
    ref = await bed.server(key, vendor)
    await bed.pass_time(2 * MINUTE_S, MINUTE_S)
    bed.drivers[vendor].fault("status", "list", status=200, body={"data": [{"uuid": 1}], "servers": "none"}, times=None)
    await bed.pass_time(2 * HOUR_S, 10 * MINUTE_S)
    assert bed.meter(ref)["state"] == "running"
    bed.drivers[vendor].lift()
    await bed.pass_time(20 * MINUTE_S, MINUTE_S)
    assert bed.meter(ref)["state"] == "running"


async def test_a_machine_that_destroys_itself_is_charged_until_then(bed: Bed) -> None:
    """LiteVPS ends a template's machine by its ttl: lists that no longer have it prove that it did, at that time."""
    key = await bed.account("acc_1")
    ref = await bed.made(key, "litevps", template="agent-sandbox")
    await bed.pass_time(50 * MINUTE_S + 27, 5 * MINUTE_S)
    await bed.pass_time(30 * MINUTE_S, MINUTE_S)
    meter = bed.meter(ref)
    assert (meter["state"], meter["ended_at_ms"]) == ("ended", meter["created_at_ms"] + 60 * MINUTE_S * 1000)
    assert exact(bed, "litevps", ref)


async def test_a_list_without_states_takes_none_away(bed: Bed) -> None:
    """VRTX's lists do not tell whether an installed server runs: that is asked for until it is known, and stays."""
    key = await bed.account("acc_1")
    ref = await bed.server(key, "vrtx")
    states = []
    for seconds in (30, 5 * MINUTE_S, 2 * HOUR_S):
        await bed.pass_time(seconds, min(seconds / 5, 5 * MINUTE_S))
        thing = await bed.store.resource("vrtx", ref)
        assert thing is not None
        states.append(thing.state)
    assert states == ["provisioning", "running", "running"]
    assert bed.asked("vrtx", "GET", f"/{ref}") + bed.asked("vrtx", "GET", f"/{ref}/status") <= 24


async def test_errors_and_suspensions_are_not_charged_where_the_vendor_does_not(bed: Bed) -> None:
    """CryptoVPS: a server that failed is "not billed further", and one on hold is off; each back is a new hour."""
    key = await bed.account("acc_1")
    driver = bed.drivers["cryptovps"]
    held = await bed.server(key, "cryptovps")
    driver.fault("provision", mode="error")
    failed = await bed.server(key, "cryptovps")
    await bed.pass_time(HOUR_S + 10, 5 * MINUTE_S)
    driver.admin("POST", f"/servers/{held}", {"abuse": True})
    await bed.pass_time(5 * HOUR_S, 5 * MINUTE_S)
    driver.admin("POST", f"/servers/{held}", {"abuse": False})
    await bed.sweep()
    await bed.pass_time(30 * MINUTE_S, 5 * MINUTE_S)
    for ref in (held, failed):
        await bed.act(key, "cryptovps", ref)
    await bed.pass_time(MINUTE_S, SOON_S)
    assert bed.charged(failed).captured_base == 13_700
    assert bed.charged(held).total_base == 3 * 13_700
    assert exact(bed, "cryptovps", held)
    assert exact(bed, "cryptovps", failed)


async def test_a_strangers_thing_with_our_mark_is_told_to_the_operator(bed: Bed) -> None:
    """An order was proven absent and its server appears all the same: nobody pays for it, so a human must see it."""
    key = await bed.account("acc_1")
    driver = bed.drivers["cryptovps"]
    driver.fault("lag", by_s=2 * HOUR_S, get=True)
    driver.fault("cut", "create", when="after")
    with pytest.raises(Problem):
        await bed.server(key, "cryptovps")
    await bed.pass_time(15 * MINUTE_S, MINUTE_S)
    assert bed.store.view.meters == {}
    assert bed.held("acc_1") == 0
    kept = await bed.server(key, "cryptovps")  # something must run, or nobody looks
    await bed.pass_time(3 * HOUR_S, 10 * MINUTE_S)
    (orphan,) = set(driver.state()["servers"]) - {kept}
    assert bed.tasks()["orphaned_thing"] == f"cryptovps/{orphan}"


PATHS_OF = {"cryptovps": "/servers", "litevps": "/api/vps", "vrtx": "/api/v2/servers"}


def login(driver: Driver, vendor: str) -> str:
    """Return a token of the operator's own, outside of the gateway."""
    body = {"email": EMAIL, "password": PASSWORD}
    if vendor == "cryptovps":
        return str(driver.post("/auth/login", body).json()["accessToken"])
    return TOKEN if vendor == "vrtx" else str(driver.post("/api/auth/login", body).json()["token"])

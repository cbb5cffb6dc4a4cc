"""`/v1/servers/{id}/renewals` and `/v1/fleets` as their agents meet them over HTTP, before scripted shops."""

import contextlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web

from gateway.api.deps import ApiDeps
from gateway.api.fleets import FLEET
from gateway.api.server import build_api
from gateway.api.server_view import SERVER
from gateway.core.apikeys import new_key
from gateway.core.commands import AddKey
from gateway.core.times import utc_text
from gateway.flow.servers.fleets import SPEC
from gateway.flow.servers.neutral import Neutral
from gateway.system import SystemEntropy
from tests.flows.test_api_servers import Front
from tests.unit.gateway.api.shape import check
from tests.unit.gateway.flow.lease_desk import DAY_MS, HOUR_MS, REF, TERM_S, Leases, leases_opened
from tests.unit.gateway.flow.spend_bed import NOW_MS

UNTIL = utc_text(NOW_MS + 10 * DAY_MS)
FLEET_ASKED: dict[str, Any] = {"name": "web", "count": 2, "need": {}, "until": UNTIL, "budget": "4"}


class Hall:
    """The API on loopback, and the leases behind it."""

    def __init__(self, leases: Leases, front: Front) -> None:
        self.leases, self.front, self.ask = leases, front, front.ask

    async def leased(self, left_ms: int = 20 * DAY_MS) -> str:
        """Return the path of a server that is paid for so much longer."""
        server = await self.leases.leased(left_ms)
        self.leases.renews()
        return f"/v1/servers/{server.id}"

    async def fleet(self, token: str = "fleet-1", **changes: Any) -> Any:
        """Order a fleet; return its answer."""
        return await self.ask("POST", "/v1/fleets", {**FLEET_ASKED, **changes}, token=token)


@pytest.fixture
async def hall(tmp_path: Path) -> AsyncIterator[Hall]:
    """Two shops with monthly terms behind the API."""
    async with leases_opened(tmp_path) as leases, contextlib.AsyncExitStack() as stack:
        deps = _deps(leases)
        runner = web.ServerRunner(build_api(deps), shutdown_timeout=0.2)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        client = await stack.enter_async_context(aiohttp.ClientSession())
        front = Front(leases.desk, cast("Any", None), f"http://{host}:{port}", client, {})
        rights = {
            "acc_1": ("proxy", "read"),
            "acc_2": ("proxy", "read"),
            "reader": ("read",),
            "narrow": ("proxy:nowhere", "read"),
        }
        for name, scopes in rights.items():
            account = name if name.startswith("acc_") else "acc_1"
            made = new_key(account, name, scopes, (), leases.bed.clock.ms, SystemEntropy().bytes)
            await leases.bed.post(AddKey(made.key))
            front.keys[name] = made.text.reveal()
        yield Hall(leases, front)


def _deps(leases: Leases) -> ApiDeps:
    desk, bed, unused = leases.desk, leases.bed, cast("Any", None)
    neutral = Neutral(
        servers=desk.rentals,
        keeping=desk.keeping,
        doing=leases.renewing._doing,
        catalogue=unused,
        quoting=unused,
        ordering=desk.ordering,
        seeing=desk.seeing,
        acting=unused,
        snapshots=unused,
        keys=unused,
        renewing=leases.renewing,
        fleets=leases.fleets,
        telling=unused,
    )
    return ApiDeps(
        store=bed.store,
        spend=bed.spend,
        vendors=bed.vendors,
        heads=bed.heads,
        sealer=bed.sealer,
        clock=bed.clock,
        entropy=SystemEntropy(),
        sightings=lambda _: None,
        ready=list,
        on_broken=os.abort,
        neutral=neutral,
    )


# renewals


async def test_time_is_bought_and_the_server_tells_that_it_is_under_way(hall: Hall) -> None:
    """202 with the server; its renewal is open and names its payment, until it is settled and the end has moved."""
    path = await hall.leased()
    got = await hall.ask("POST", path + "/renewals", {"units": 2}, token="renew-1")
    assert got.status == 202, got.body
    check(got.json, SERVER)
    (payment,) = hall.leases.bed.open
    assert got.json["renewal"] == {"state": "open", "payment_id": payment.id}
    assert hall.leases.renewed == [b'{"units": 2}']
    refused = await hall.ask("POST", path + "/renewals", {"units": 1}, token="renew-2")
    assert (refused.status, refused.json["code"], refused.json["payment_id"]) == (409, "renewal_open", payment.id)
    await hall.leases.bed.settle(payment)
    hall.leases.shows(20 * DAY_MS + 2 * TERM_S * 1000)
    await hall.leases.sweep(HOUR_MS // 2)
    shown = (await hall.ask("GET", path)).json
    assert shown["renewal"] == {"state": "none", "payment_id": None}
    assert shown["expires_at"] > got.json["expires_at"]


async def test_the_same_request_again_buys_nothing_more(hall: Hall) -> None:
    """While it is under way, and after it is over; another body under its key is a conflict."""
    path = await hall.leased()
    for _ in range(2):
        assert (await hall.ask("POST", path + "/renewals", {}, token="renew-1")).status == 202
    await hall.leases.bed.settle(hall.leases.bed.open[0])
    hall.leases.shows(20 * DAY_MS + TERM_S * 1000)
    await hall.leases.sweep(HOUR_MS // 2)
    again = await hall.ask("POST", path + "/renewals", {}, token="renew-1")
    assert (again.status, again.headers["Idempotent-Replayed"]) == (202, "true")
    assert len(hall.leases.renewed) == 1
    other = await hall.ask("POST", path + "/renewals", {"units": 2}, token="renew-1")
    assert other.json["code"] == "idempotency_conflict"


async def test_what_was_refused_while_another_was_under_way_is_bought_by_the_same_request_later(hall: Hall) -> None:
    """A 409 bought nothing for this request, so its repeat is not answered with somebody else's renewal."""
    path = await hall.leased()
    await hall.ask("POST", path + "/renewals", {}, token="renew-1")
    assert (await hall.ask("POST", path + "/renewals", {}, token="renew-2")).json["code"] == "renewal_open"
    await hall.leases.bed.settle(hall.leases.bed.open[0])
    hall.leases.shows(20 * DAY_MS + TERM_S * 1000)
    await hall.leases.sweep(HOUR_MS // 2)
    for _ in range(2):
        assert (await hall.ask("POST", path + "/renewals", {}, token="renew-2")).status == 202
    assert len(hall.leases.renewed) == 2


async def test_a_cap_that_is_too_low_is_refused_unpaid(hall: Hall) -> None:
    """X-Max-Charge counts; under the same key with a higher cap it is bought."""
    path = await hall.leased()
    low = await hall.ask("POST", path + "/renewals", {}, token="renew-1", headers={"X-Max-Charge": "0.2"})
    assert (low.status, low.json["code"], hall.leases.renewed) == (409, "price_above_max_charge", []), low.body
    high = await hall.ask("POST", path + "/renewals", {}, token="renew-1", headers={"X-Max-Charge": "0.25"})
    assert (high.status, len(hall.leases.renewed)) == (202, 1), high.body


async def test_until_when_may_be_asked_for_instead(hall: Hall) -> None:
    """As many terms as last until then."""
    path = await hall.leased()
    until = utc_text(hall.leases.bed.clock.ms + 60 * DAY_MS)
    assert (await hall.ask("POST", path + "/renewals", {"until": until})).status == 202
    assert hall.leases.renewed == [b'{"units": 2}']


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"units": 0}, "units"),
        ({"units": "1"}, "units"),
        ({"units": True}, "units"),
        ({"units": 13}, "units"),
        ({"units": 1, "until": UNTIL}, "units"),
        ({"until": "tomorrow"}, "until"),
        ({"until": utc_text(NOW_MS + DAY_MS)}, "until"),
        ({"months": 1}, "months"),
    ],
)
async def test_what_names_no_time_that_can_be_bought_is_refused(
    hall: Hall, document: dict[str, Any], field: str
) -> None:
    """400, naming the member; nothing is asked of the shop."""
    path = await hall.leased()
    got = await hall.ask("POST", path + "/renewals", document)
    assert (got.status, got.json.get("field")) == (400, field), got.body
    assert not hall.leases.renewed


async def test_renewals_are_their_servers_owners(hall: Hall) -> None:
    """P9, and scopes."""
    path = await hall.leased()
    assert (await hall.ask("GET", path + "/renewals", account="reader")).json == {"entries": [], "next": None}
    assert (await hall.ask("GET", path + "/renewals", account="acc_2")).status == 404
    assert (await hall.ask("POST", path + "/renewals", {}, account="acc_2")).status == 404
    assert (await hall.ask("POST", path + "/renewals", {}, account="reader")).json["code"] == "scope_missing"
    assert not hall.leases.renewed


# fleets


async def test_a_fleet_is_taken_shown_listed_changed_and_ended(hall: Hall) -> None:
    """Its whole life over HTTP, each answer in the stated shape."""
    got = await hall.fleet()
    assert got.status == 202, got.body
    check(got.json, FLEET)
    assert (got.json["state"], got.json["count"], got.json["budget"]) == ("active", 2, "4.000000")
    path = f"/v1/fleets/{got.json['id']}"
    changed = await hall.ask("PATCH", path, {"count": 1, "budget": "5.5", "until": utc_text(NOW_MS + 20 * DAY_MS)})
    check(changed.json, FLEET)
    assert (changed.json["count"], changed.json["budget"]) == (1, "5.500000")
    assert [entry["id"] for entry in (await hall.ask("GET", "/v1/fleets")).json["entries"]] == [got.json["id"]]
    ending = await hall.ask("DELETE", path)
    assert (ending.status, ending.json["state"]) == (202, "ending")
    await hall.leases.fleets.sweep()
    assert (await hall.ask("GET", path)).json["state"] == "ended"
    assert (await hall.ask("PATCH", path, {"count": 2})).json["code"] == "server_ended"


async def test_a_fleet_names_its_servers_and_what_they_cost(hall: Hall) -> None:
    """Held at first, spent once it is collected."""
    made = 0

    def sold(_: Any) -> Any:
        nonlocal made
        made += 1
        hall.leases.shows(25 * DAY_MS, f"{REF}-{made}")
        return hall.leases.box(25 * DAY_MS, f"{REF}-{made}")

    hall.leases.desk.told.orders["shop"] = sold
    path = f"/v1/fleets/{(await hall.fleet()).json['id']}"
    await hall.leases.fleets.sweep()
    await hall.leases.desk.ordering.drain(5.0)
    shown = (await hall.ask("GET", path)).json
    assert (shown["alive"], len(shown["servers"]), shown["held"]) == (2, 2, "0.500000")
    for payment in list(hall.leases.bed.open):
        await hall.leases.bed.settle(payment)
    shown = (await hall.ask("GET", path)).json
    assert (shown["spent"], shown["held"], shown["made"]) == ("0.500000", "0.000000", 2)
    server = (await hall.ask("GET", f"/v1/servers/{shown['servers'][0]}")).json
    assert (server["fleet"], server["max_total"]) == (shown["id"], "2.000000")


async def test_a_repeated_order_of_a_fleet_is_the_same_fleet(hall: Hall) -> None:
    """200 and a header that says so; without a key there is no order."""
    first, again = await hall.fleet(), await hall.fleet()
    assert (again.status, again.headers["Idempotent-Replayed"], again.json["id"]) == (200, "true", first.json["id"])
    assert (await hall.fleet(count=3)).json["code"] == "idempotency_conflict"
    keyless = await hall.ask("POST", "/v1/fleets", FLEET_ASKED)
    assert (keyless.status, keyless.json["field"]) == (400, "Idempotency-Key")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"count": 0}, "count"),
        ({"count": 101}, "count"),
        ({"count": "2"}, "count"),
        ({"budget": "0"}, "budget"),
        ({"budget": 4}, "budget"),
        ({"until": "2030-01-01"}, "until"),
        ({"until": "2020-01-01T00:00:00Z"}, "until"),
        ({"name": "-"}, "name"),
        ({"plan": "shop/small"}, "plan"),
        ({"keep_until": UNTIL}, "keep_until"),
    ],
)
async def test_a_fleet_that_cannot_be_meant_is_refused(hall: Hall, changes: dict[str, Any], field: str) -> None:
    """400, naming the member; nothing is kept."""
    got = await hall.fleet(**changes)
    assert (got.status, got.json.get("field")) == (400, field), got.body
    assert not (await hall.ask("GET", "/v1/fleets")).json["entries"]


async def test_a_fleet_of_an_older_version_is_shown_with_what_it_asked_for(hall: Hall) -> None:
    """`arch` can be asked for no more; a fleet that was taken with it is shown, listed, changed and ended all the same."""
    keeping, first = hall.leases.desk.keeping, (await hall.fleet()).json["id"]
    fleet = replace(await hall.leases.fleets.fleet("acc_1", first), id=keeping.new_id("flt"), client_token="old")
    stored = '{"need":{"arch":"arm64"},"ssh_keys":[],"user_data":"","minutes":null,"snapshot":""}'
    await keeping.place(replace(fleet, sealed_spec=keeping.seal(SPEC, fleet.id, json.loads(stored))), "created")
    path = f"/v1/fleets/{fleet.id}"
    for method, document in (("GET", None), ("PATCH", {"count": 1}), ("DELETE", None)):
        got = await hall.ask(method, path, document)
        check(got.json, FLEET)
        assert got.json["need"] == {"arch": "arm64"}
    listed = (await hall.ask("GET", "/v1/fleets")).json
    assert {entry["id"] for entry in listed["entries"]} == {first, fleet.id}


async def test_a_fleet_is_its_accounts_own_and_a_readers_to_read(hall: Hall) -> None:
    """P9, and scopes."""
    path = f"/v1/fleets/{(await hall.fleet()).json['id']}"
    for method, document in (("GET", None), ("PATCH", {"count": 1}), ("DELETE", None)):
        assert (await hall.ask(method, path, document, account="acc_2")).status == 404
    assert (await hall.ask("GET", path, account="reader")).status == 200
    assert (await hall.ask("DELETE", path, account="reader")).json["code"] == "scope_missing"


async def test_a_fleet_is_changed_only_by_a_key_that_may_do_as_much(hall: Hall) -> None:
    """P8: a fleet spends with the key that ordered it, so a narrower key of the account neither raises nor ends it."""
    path = f"/v1/fleets/{(await hall.fleet()).json['id']}"
    before = (await hall.ask("GET", path)).json
    for method, document in (("PATCH", {"budget": "1000.00"}), ("DELETE", None)):
        got = await hall.ask(method, path, document, account="narrow")
        assert (got.status, got.json["code"]) == (403, "scope_missing")
    after = (await hall.ask("GET", path)).json
    assert (after["budget"], after["state"]) == (before["budget"], before["state"])


async def test_a_fleet_at_a_vendor_that_does_not_exist_is_refused(hall: Hall) -> None:
    """It would wait for ever: nothing is kept."""
    got = await hall.fleet(need={"vendors": ["nowhere"]})
    assert (got.status, got.json["code"], got.json["field"]) == (400, "bad_request", "need/vendors")
    assert not (await hall.ask("GET", "/v1/fleets")).json["entries"]

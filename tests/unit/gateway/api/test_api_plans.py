"""`/v1/plans`, `/v1/quotes` and what `/v1/vendors` says of them, over HTTP, on the assembled gateway."""

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from gateway.api import catalogue, plans, quotes
from gateway.api.catalogue_views import QUOTE
from gateway.api.server import build_api
from gateway.core.apikeys import new_key
from gateway.core.commands import AddKey
from gateway.serve import _deps
from gateway.server_ports import Feature
from gateway.system import SystemEntropy
from tests.unit.gateway.api.bed import Got
from tests.unit.gateway.api.shape import check
from tests.unit.gateway.flow.servers.catalogue_bed import LITEVPS, Home, started
from tests.unit.gateway.flow.spend_bed import NOW_MS


@dataclass
class Door:
    """The gateway's agents' side, running. `key` is acc_1's, which may read and spend everywhere."""

    home: Home
    url: str
    key: str
    client: aiohttp.ClientSession

    async def ask(self, method: str, path: str, document: Any = None, **headers: str) -> Got:
        """Ask as an agent; `key` among the headers is another key."""
        key = headers.pop("key", self.key)
        said = {"Authorization": f"Bearer {key}", **{name.replace("_", "-"): text for name, text in headers.items()}}
        data = None if document is None else json.dumps(document).encode()
        target = URL(self.url + path, encoded=True)
        async with self.client.request(method, target, data=data, headers=said) as answer:
            return Got(answer.status, answer.headers, await answer.read())

    async def ids(self, query: str = "") -> list[str]:
        """Return the ids of the plans that a query shows."""
        got = await self.ask("GET", f"/v1/plans{query}")
        assert got.status == 200, got.body
        check(got.json, plans.ENDPOINTS[0].answer)
        return [entry["id"] for entry in got.json["entries"]]

    async def new_key(self, account_id: str, *scopes: str) -> str:
        """Add a key; return its text."""
        made = new_key(account_id, "test", scopes, (), NOW_MS, SystemEntropy().bytes)
        await self.home.store.post(AddKey(made.key))
        return made.text.reveal()


@contextlib.asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Door]:
    """Start the gateway and its HTTP side."""
    async with contextlib.AsyncExitStack() as stack:
        home = await stack.enter_async_context(started(directory))

        def broken() -> None:
            raise AssertionError("the store broke")

        api = build_api(_deps(home.gateway, home.gateway.loops(broken), broken))
        runner = web.ServerRunner(api, shutdown_timeout=0.2)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        client = await stack.enter_async_context(aiohttp.ClientSession())
        door = Door(home, f"http://{host}:{port}", "", client)
        door.key = await door.new_key("acc_1", "proxy", "read")
        yield door


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    """The gateway's agents' side, running."""
    async with opened(tmp_path) as running:
        yield running


# plans


async def test_plans_are_listed_by_price_and_cost_nothing(door: Door) -> None:
    """The cheapest hour first; what is made for trying is shown where it is asked for."""
    got = await door.ask("GET", "/v1/plans")
    check(got.json, plans.ENDPOINTS[0].answer)
    hourly = [float(entry["price"]["hourly"]) for entry in got.json["entries"]]
    assert hourly == sorted(hourly)
    assert got.json["stale"] == []
    assert "X-Charge" not in got.headers
    assert {entry["vendor"] for entry in got.json["entries"]} == {"cryptovps", "litevps", "vpsagent", "vrtx"}
    assert not any(entry["sandbox"] for entry in got.json["entries"])
    assert "vpsagent/sandbox_1h" in await door.ids("?sandbox=true")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?vendor=litevps", ["litevps/small", "litevps/large"]),
        ("?vendor=litevps&sort=-hourly", ["litevps/large", "litevps/small"]),
        ("?vendor=litevps&sort=-memory", ["litevps/large", "litevps/small"]),
        ("?vendor=litevps&min_vcpu=2", ["litevps/large"]),
        ("?vendor=litevps&min_memory_mib=1024&max_hourly=0.0042", ["litevps/small"]),
        ("?vendor=litevps&min_disk_gib=81", []),
        ("?vendor=litevps&image=ubuntu", ["litevps/small"]),
        ("?region=FRANKFURT-6", ["vrtx/7"]),
        ("?feature=exec", ["litevps/small", "litevps/large"]),
        ("?feature=renew&sandbox=true", ["vpsagent/server_small_1mo", "vpsagent/sandbox_1h"]),
    ],
)
async def test_plans_are_narrowed_and_sorted(door: Door, query: str, expected: list[str]) -> None:
    """By need, vendor and feature; what a vendor does not state meets nothing."""
    assert await door.ids(query) == expected


FULFILLED = {
    "min_vcpu": "1",
    "min_memory_mib": "1",
    "min_disk_gib": "1",
    "region": "frankfurt-6",
    "image": "ubuntu",
    "max_hourly": "10",
}


@pytest.mark.parametrize("name", plans.FILTERS)
async def test_whatever_may_be_asked_for_is_stated_by_some_vendor(door: Door, name: str) -> None:
    """What no vendor's document states would refuse every plan, whatever is asked for: so nobody is offered to ask."""
    assert await door.ids(f"?{name}={FULFILLED[name]}")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?min_vcpu=0", "min_vcpu"),
        ("?min_vcpu=two", "min_vcpu"),
        ("?min_vcpu=1.5", "min_vcpu"),
        ("?max_hourly=cheap", "max_hourly"),
        ("?vendor=nobody", "vendor"),
        ("?arch=x86_64", "query"),
        ("?feature=fly", "feature"),
        ("?sandbox=yes", "sandbox"),
        ("?sort=colour", "sort"),
        ("?colour=red", "query"),
        ("?min_vcpu=1&min_vcpu=2", "min_vcpu"),
        ("?after=nobody/none", "after"),
        ("?limit=0", "limit"),
    ],
)
async def test_a_query_that_cannot_be_meant_is_refused(door: Door, query: str, field: str) -> None:
    """It names the parameter."""
    got = await door.ask("GET", f"/v1/plans{query}")
    assert (got.status, got.code, got.json["field"]) == (400, "bad_request", field)


async def test_pages_show_every_plan_once(door: Door) -> None:
    """One after the other they are the whole list."""
    whole, paged, after = await door.ids("?sandbox=true&sort=-vcpu"), list[str](), ""
    while True:
        got = await door.ask("GET", f"/v1/plans?sandbox=true&sort=-vcpu&limit=2{after}")
        paged += [entry["id"] for entry in got.json["entries"]]
        if got.json["next"] is None:
            break
        after = f"&after={got.json['next']}"
    assert paged == whole
    assert len(set(paged)) == len(paged) > 4


async def test_a_vendor_that_does_not_answer_is_told(door: Door) -> None:
    """Its plans stay for a while, and are told to be old."""
    await door.ids()
    door.home.line.down.add(LITEVPS)
    door.home.pass_s(301)
    await door.home.catalogue.refresh()
    got = await door.ask("GET", "/v1/plans?vendor=litevps")
    assert len(got.json["entries"]) == 2
    (stale,) = got.json["stale"]
    assert (stale["vendor"], stale["as_of"]) == ("litevps", "2027-01-15T08:00:00.000Z")


async def test_plans_need_a_key_that_reads(door: Door) -> None:
    """Without the scope nothing is told."""
    spender = await door.new_key("acc_1", "proxy")
    assert (await door.ask("GET", "/v1/plans", key=spender)).code == "scope_missing"


# quotes


async def test_a_quote_binds_and_is_shown_again(door: Door) -> None:
    """Its document is the same later; another account does not see it."""
    got = await door.ask("POST", "/v1/quotes", {"need": {"min_memory_mib": 4096, "for_s": 3600}})
    assert got.status == 201, got.body
    check(got.json, QUOTE)
    assert got.json["vendor"] in {"litevps", "vrtx", "cryptovps"}
    assert "X-Charge" not in got.headers
    assert got.headers["X-Balance-Available"] == "100.000000"
    assert (await door.ask("GET", f"/v1/quotes/{got.json['id']}")).json == got.json
    other = await door.home.asking("read")
    stranger = await door.new_key(other.account_id, "read")
    assert (await door.ask("GET", f"/v1/quotes/{got.json['id']}", key=stranger)).code == "not_found"


async def test_the_same_request_gets_the_same_quote(door: Door) -> None:
    """Under one Idempotency-Key there is one quote, and another body is a conflict."""
    body = {"plan": "litevps/small"}
    first = await door.ask("POST", "/v1/quotes", body, Idempotency_Key="once")
    again = await door.ask("POST", "/v1/quotes", body, Idempotency_Key="once")
    assert first.status == again.status == 201
    assert again.json == first.json
    assert again.headers["Idempotent-Replayed"] == "true"
    other = await door.ask("POST", "/v1/quotes", {"plan": "litevps/large"}, Idempotency_Key="once")
    assert (other.status, other.code) == (409, "idempotency_conflict")
    assert (await door.ask("POST", "/v1/quotes", body)).json["id"] != first.json["id"]


async def test_no_quote_says_why(door: Door) -> None:
    """Each plan with its reason."""
    got = await door.ask("POST", "/v1/quotes", {"need": {"min_vcpu": 1000}})
    assert (got.status, got.code) == (409, "no_plan_fits")
    assert {each["reason"] for each in got.json["candidates_lost"]} == {"vcpu", "sandbox"}


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 400, "plan"),
        ({"need": {"min_vcpu": "2"}}, 400, "need/min_vcpu"),
        ({"plan": "litevps/small", "name": "x"}, 400, "name"),
        ({"plan": "nobody/small"}, 400, "plan"),
        ({"plan": "litevps/none"}, 404, "plan"),
    ],
)
async def test_a_body_that_cannot_be_meant_is_refused(
    door: Door, body: dict[str, Any], status: int, field: str | None
) -> None:
    """It names the member."""
    got = await door.ask("POST", "/v1/quotes", body)
    assert (got.status, got.json.get("field")) == (status, field)


async def test_a_key_that_only_reads_gets_no_quote(door: Door) -> None:
    """A quote is asked for with a key that could buy; one of the vendors is enough."""
    reader, narrow = await door.new_key("acc_1", "read"), await door.new_key("acc_1", "proxy:litevps")
    body = {"need": {}}
    assert (await door.ask("POST", "/v1/quotes", body, key=reader)).code == "scope_missing"
    got = await door.ask("POST", "/v1/quotes", body, key=narrow)
    assert (got.status, got.json["vendor"]) == (201, "litevps")


# vendors


async def test_vendors_say_what_they_can_do_and_how_they_do(door: Door) -> None:
    """Every feature has an answer; limits and health are told without asking anybody."""
    await door.home.catalogue.refresh()
    asked = len(door.home.line.seen)
    got = await door.ask("GET", "/v1/vendors")
    check(got.json, next(e for e in catalogue.ENDPOINTS if e.path == "/v1/vendors").answer)
    views = {view["name"]: view for view in got.json["vendors"]}
    assert all(set(view["features"]) == set(Feature) for view in views.values())
    assert views["litevps"]["features"]["exec"] == "yes"
    assert views["cryptovps"]["features"]["exec"] == "no"
    assert views["vpsagent"]["pays"] == "on_success"
    assert views["vpsagent"]["renew"]["slow"] is True
    assert views["vpsagent"]["renew"]["grace_s"] is None  # its document tells of a grace, and not how long it is
    assert views["cryptovps"]["renew"] is None
    assert views["cryptovps"]["snapshots"]["retention_s"] == 7 * 86_400
    assert views["vrtx"]["limits"]["rates"] != []
    assert {view["limits"]["calls_at_once"] for view in views.values()} == {64}
    assert views["vpsagent"]["health"]["state"] == "ok"
    assert views["cryptovps"]["health"]["state"] == "unknown"
    assert len(door.home.line.seen) == asked


def test_every_endpoint_says_what_it_takes() -> None:
    """The OpenAPI page is made from them."""
    assert {(e.method, e.path) for e in (*plans.ENDPOINTS, *quotes.ENDPOINTS)} == {
        ("GET", "/v1/plans"),
        ("POST", "/v1/quotes"),
        ("GET", "/v1/quotes/{id}"),
    }

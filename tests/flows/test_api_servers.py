"""`/v1/servers` as its agents meet it over HTTP, before scripted shops: orders, waits, changes, and what is refused."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web

from gateway.api.deps import ApiDeps
from gateway.api.server import build_api
from gateway.api.server_view import SERVER
from gateway.core.apikeys import new_key
from gateway.core.commands import AddKey
from gateway.core.records import Budget
from gateway.core.server import Quote, ServerState
from gateway.flow.servers.acting import Acting
from gateway.flow.servers.doing import Doing
from gateway.flow.servers.hooks import HookSettings
from gateway.flow.servers.neutral import Neutral
from gateway.flow.servers.runner import Runner
from gateway.flow.servers.seeing import WAITS_PER_ACCOUNT
from gateway.flow.servers.snapshots import Snapshots
from gateway.flow.servers.telling import Telling
from gateway.http.port import SentUnknown
from gateway.store.told import TellableJournal
from gateway.system import SystemEntropy
from tests.unit.gateway.api.shape import check
from tests.unit.gateway.flow.order_desk import Desk, advanced, desk_opened, told

NEED: dict[str, Any] = {"need": {"min_vcpu": 1}}
MADE = told(server="box-1", state="provisioning", access={"password": "s3cret"})
RUNNING = told(server="box-1", state="running", address="192.0.2.1")
LOST = SentUnknown("connection_lost", "scripted")
LATER, EARLIER = "2099-01-01T00:00:00Z", "2020-01-01T00:00:00Z"


@dataclass(frozen=True)
class Got:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The document."""
        return json.loads(self.body)


@dataclass
class Front:
    """The API on loopback, and the desk behind it."""

    desk: Desk
    telling: Telling
    url: str
    client: aiohttp.ClientSession
    keys: dict[str, str]

    async def ask(self, method: str, path: str = "/v1/servers", document: Any = None, **options: Any) -> Got:
        """Ask as an account; `token` is the Idempotency-Key."""
        headers = {"Authorization": f"Bearer {self.keys[options.pop('account', 'acc_1')]}"}
        token = options.pop("token", None)
        if token is not None:
            headers["Idempotency-Key"] = token
        headers |= options.pop("headers", {})
        body = options.pop("raw", None) if document is None else json.dumps(document).encode()
        async with self.client.request(method, self.url + path, headers=headers, data=body) as answer:
            return Got(answer.status, dict(answer.headers), await answer.read())

    async def order(self, token: str = "token-1", query: str = "", **changes: Any) -> Got:
        """Order what can be had."""
        return await self.ask("POST", "/v1/servers" + query, {**NEED, **changes}, token=token)

    async def made(self, token: str = "token-1", **changes: Any) -> Any:
        """Order a server that its shop begins to make at once, and return it as it is then."""
        got = await self.order(token, **changes)
        assert got.status == 202, got.body
        await advanced(self.desk.ordering, got.json["id"])
        return (await self.ask("GET", f"/v1/servers/{got.json['id']}")).json

    async def add_key(self, name: str, scopes: tuple[str, ...], *budgets: Budget) -> None:
        """Let acc_1 have another key."""
        made = new_key("acc_1", name, scopes, budgets, self.desk.bed.clock.ms, SystemEntropy().bytes)
        await self.desk.bed.post(AddKey(made.key))
        self.keys[name] = made.text.reveal()

    async def looked(self) -> None:
        """Let the loop that looks turn, a while later."""
        self.desk.bed.clock.ms += 5_000
        await self.desk.seeing.sweep()
        self.desk.bed.clock.ms += 5_000
        await self.desk.seeing.sweep()
        await self.desk.seeing.drain(5.0)


@contextlib.asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Front]:
    """Start everything."""
    async with desk_opened(directory) as desk, contextlib.AsyncExitStack() as stack:
        bed = desk.bed
        deps = _deps(desk)
        assert deps.neutral is not None
        runner = web.ServerRunner(build_api(deps), shutdown_timeout=0.2)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        client = await stack.enter_async_context(aiohttp.ClientSession())
        front = Front(desk, deps.neutral.telling, f"http://{host}:{port}", client, {})
        scopes = {"acc_1": ("proxy", "read"), "acc_2": ("proxy", "read"), "reader": ("read",)}
        for name, allowed in scopes.items():
            account = "acc_1" if name == "reader" else name
            made = new_key(account, name, allowed, (), bed.clock.ms, SystemEntropy().bytes)
            await bed.post(AddKey(made.key))
            front.keys[name] = made.text.reveal()
        yield front


def _deps(desk: Desk) -> ApiDeps:
    bed, unused = desk.bed, cast("Any", None)
    runner = Runner(bed.spend, None, bed.vendors, {})
    doing = Doing(desk.keeping, runner, desk.rentals)
    acting = Acting(doing, desk.seeing, Snapshots(doing, desk.seeing, desk.ordering))
    neutral = Neutral(
        servers=desk.rentals,
        keeping=desk.keeping,
        doing=doing,
        catalogue=unused,
        quoting=unused,
        ordering=desk.ordering,
        seeing=desk.seeing,
        acting=acting,
        snapshots=unused,
        keys=unused,
        renewing=unused,
        fleets=unused,
        telling=Telling(desk.keeping, TellableJournal(bed.store), unused, SystemEntropy(), HookSettings()),
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


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Front]:
    """Two shops behind the API."""
    async with opened(tmp_path) as running:
        running.desk.answers("shop", MADE)
        running.desk.shows("box-1", RUNNING)
        yield running


# ordering


async def test_an_order_is_taken_at_once_and_told_with_all_that_is_known(front: Front) -> None:
    """202 while it is ordered; a moment later it has a vendor, a payment whose axes stand apart, and what it holds."""
    got = await front.order(name="web-1", keep_until=LATER, max_total="5")
    assert got.status == 202
    check(got.json, SERVER)
    assert (got.json["name"], got.json["auto_renew"], got.json["max_total"]) == ("web-1", True, "5.000000")
    assert got.json["keep_until"] == "2099-01-01T00:00:00.000Z"
    await advanced(front.desk.ordering, got.json["id"])
    shown = (await front.ask("GET", f"/v1/servers/{got.json['id']}")).json
    check(shown, SERVER)
    assert (shown["state"], shown["vendor"], shown["plan"], shown["ref"]) == (
        "provisioning",
        "shop",
        "shop/small",
        "box-1",
    )
    assert shown["payment"] == {
        "id": front.desk.payment.id,
        "delivery": "delivered",
        "transfer": "presented",
        "charge": "held",
    }
    assert (shown["spent"], shown["held"]) == ("0.000000", "0.250000")
    assert shown["links"]["proxy"] == "/proxy/shop/free/box-1"
    assert "s3cret" not in json.dumps(shown)


async def test_the_statement_of_a_server_follows_its_payment(front: Front) -> None:
    """What was held is spent once it is settled."""
    made = await front.made()
    await front.desk.bed.settle(front.desk.payment)
    shown = (await front.ask("GET", f"/v1/servers/{made['id']}")).json
    assert (shown["spent"], shown["held"], shown["payment"]["charge"]) == ("0.250000", "0.000000", "captured")


async def test_why_its_paid_time_ends_is_told_as_far_as_it_is_known(front: Front) -> None:
    """Not renewed because nobody asked for it, renewed, or paid for until it is wanted no longer."""
    ends_ms = 4_070_908_800_000  # LATER
    front.desk.answers("shop", told(server="box-1", state="running", expires_at_ms=ends_ms))
    made = await front.made()
    path = f"/v1/servers/{made['id']}"
    assert (made["expires_at"], made["expires_because"]) == ("2099-01-01T00:00:00.000Z", "not_renewed")
    assert (await front.ask("PATCH", path, {"auto_renew": True})).json["expires_because"] is None
    assert (await front.ask("PATCH", path, {"keep_until": LATER})).json["expires_because"] == "keep_until"


async def test_an_order_needs_an_idempotency_key(front: Front) -> None:
    """Nothing is kept of one without, and the header is named."""
    got = await front.ask("POST", document=NEED)
    assert (got.status, got.json["code"], got.json["field"]) == (400, "bad_request", "Idempotency-Key")
    assert front.desk.keeping.view.servers == {}


async def test_the_same_order_again_is_the_same_server(front: Front) -> None:
    """200 and Idempotent-Replayed, as it is by then; another body under the key is a conflict."""
    made = await front.made()
    again = await front.order()
    assert (again.status, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert (again.json["id"], again.json["ref"]) == (made["id"], "box-1")
    assert not {"X-Payment-Id", "X-Charge"} & again.headers.keys()  # it cost nothing again
    other = await front.order(name="other")
    assert (other.status, other.json["code"]) == (409, "idempotency_conflict")
    assert len(front.desk.told.sold) == 1


async def test_an_order_that_waits_is_answered_when_it_runs(front: Front) -> None:
    """201 with what it cost, in one request."""
    ordering = asyncio.create_task(front.order(query="?wait=running&timeout_s=30"))
    assert await front.desk.keeping.until(lambda: bool(front.desk.bed.open), 5.0)
    await front.desk.ordering.drain(5.0)
    await front.looked()
    got = await ordering
    assert (got.status, got.json["state"], got.json["address"]) == (201, "running", "192.0.2.1")
    assert (got.headers["X-Wait"], got.headers["X-Charge"]) == ("reached", "0.250000")


async def test_an_order_that_fails_while_it_is_waited_for_says_why(front: Front) -> None:
    """202, ended, and the reason: nothing was charged."""
    await front.desk.bed.freeze("account:acc_1")
    got = await front.order(query="?wait=running&timeout_s=30")
    assert (got.status, got.headers["X-Wait"], got.json["state"]) == (202, "ended", "failed")
    assert got.json["reason"].startswith("frozen: ")
    assert "X-Payment-Id" not in got.headers


async def test_max_charge_bounds_the_first_charge(front: Front) -> None:
    """A header that caps a proxied call caps an order as well, before anything is kept."""
    got = await front.ask("POST", document=NEED, token="t", headers={"X-Max-Charge": "0.25"})
    assert (got.status, got.json["code"]) == (409, "price_above_max_charge")
    assert front.desk.keeping.view.servers == {}


async def test_a_quote_is_bought_by_its_id(front: Front) -> None:
    """With a name and bounds of its own; what was quoted cannot be said again."""
    quote_id, now_ms = "quo_" + "0" * 26, front.desk.bed.clock.ms
    candidate = front.desk.ways.candidates[0]
    quote = Quote(quote_id, "acc_1", candidate, "{}", b"", now_ms, now_ms + 60_000)
    await front.desk.keeping.put(quote, "made")
    spec: dict[str, Any] = {
        "need": {"plan": "shop/small"},
        "ssh_keys": [],
        "user_data": "",
        "minutes": None,
        "snapshot": "",
    }
    front.desk.ways.quotes[quote_id] = (quote, spec)
    both = await front.ask("POST", document={"quote": quote_id, "image": "debian-12"}, token="a")
    assert (both.status, both.json["code"]) == (400, "bad_request")
    got = await front.ask("POST", document={"quote": quote_id, "name": "web-1"}, token="b")
    assert (got.status, got.json["quote"]) == (202, quote_id)


BAD: dict[str, tuple[Any, str | None]] = {
    "no object": ([], None),
    "unknown member": ({**NEED, "lable": "x"}, "lable"),
    "neither plan nor need": ({"name": "x"}, "plan"),
    "both": ({**NEED, "plan": "shop/small"}, "plan"),
    "a name of no host": ({**NEED, "name": "a b"}, "name"),
    "a time without a zone": ({**NEED, "keep_until": "2099-01-01T00:00:00"}, "keep_until"),
    "a time that has passed": ({**NEED, "keep_until": EARLIER}, "keep_until"),
    "no such day": ({**NEED, "keep_until": "2099-02-30T00:00:00Z"}, "keep_until"),
    "a number of money": ({**NEED, "max_total": 5}, "max_total"),
    "no money at all": ({**NEED, "max_total": "0"}, "max_total"),
    "too many decimals": ({**NEED, "max_total": "1.0000001"}, "max_total"),
    "a flag in words": ({**NEED, "auto_renew": "yes"}, "auto_renew"),
    "no id of a quote": ({"quote": "quo_1"}, "quote"),
    "an unknown need": ({"need": {"cpu": 1}}, "need/cpu"),
    "a need in words": ({"need": {"min_vcpu": "1"}}, "need/min_vcpu"),
}


@pytest.mark.parametrize("case", BAD)
async def test_an_order_with_two_readings_is_none(front: Front, case: str) -> None:
    """400 that names the member; nothing is kept, and nothing leaves."""
    body, named = BAD[case]
    got = await front.ask("POST", document=body, token="t")
    assert (got.status, got.json["code"], got.json.get("field")) == (400, "bad_request", named)
    assert front.desk.keeping.view.servers == {}


async def test_a_body_beyond_the_limit_is_refused(front: Front) -> None:
    """It is not read to its end."""
    got = await front.ask("POST", raw=b" " * 600_000, token="t")
    assert (got.status, got.json["code"]) == (413, "body_oversized")


async def test_a_key_that_may_only_read_orders_nothing(front: Front) -> None:
    """403; it sees the account's servers all the same."""
    made = await front.made()
    got = await front.ask("POST", document=NEED, token="t", account="reader")
    assert (got.status, got.json["code"]) == (403, "scope_missing")
    for method, document in (("DELETE", None), ("PATCH", {"name": "x"})):
        refused = await front.ask(method, f"/v1/servers/{made['id']}", document, account="reader")
        assert refused.status == 403
    assert (await front.ask("GET", f"/v1/servers/{made['id']}", account="reader")).status == 200


# reading


async def test_servers_are_listed_newest_first_by_pages_and_filters(front: Front) -> None:
    """Pages by cursor; state, vendor and open narrow; another account sees none of them."""
    names = ("one", "two", "three")
    front.desk.answers("shop", *(told(server=f"box-{name}", state="provisioning") for name in names))
    made = [await front.made(f"token-{name}", name=name) for name in names]
    first = (await front.ask("GET", "/v1/servers?limit=2")).json
    assert [entry["name"] for entry in first["entries"]] == ["three", "two"]
    rest = (await front.ask("GET", f"/v1/servers?limit=2&after={first['next']}")).json
    assert ([entry["id"] for entry in rest["entries"]], rest["next"]) == ([made[0]["id"]], None)
    for query, count in (
        ("state=provisioning", 3),
        ("state=running", 0),
        ("vendor=other", 0),
        ("open=true&vendor=shop", 3),
    ):
        assert len((await front.ask("GET", f"/v1/servers?{query}")).json["entries"]) == count, query
    assert (await front.ask("GET", "/v1/servers", account="acc_2")).json == {"entries": [], "next": None}


@pytest.mark.parametrize(
    ("query", "field"),
    [("state=up", "state"), ("open=1", "open"), ("fleet=x", "fleet"), ("limit=0", "limit"), ("colour=red", "query")],
)
async def test_a_list_is_asked_for_strictly(front: Front, query: str, field: str) -> None:
    """What no filter knows is refused, not ignored."""
    got = await front.ask("GET", f"/v1/servers?{query}")
    assert (got.status, got.json["field"]) == (400, field)


async def test_another_accounts_server_does_not_exist(front: Front) -> None:
    """P9: shown, waited for, changed or destroyed: 404, word for word as for no server at all."""
    made = await front.made()
    said = set()
    for server_id in (made["id"], "srv_" + "0" * 26):
        for method, path, document in (
            ("GET", "", None),
            ("GET", "?wait=running", None),
            ("PATCH", "", {"name": "mine"}),
            ("DELETE", "", None),
        ):
            got = await front.ask(method, f"/v1/servers/{server_id}{path}", document, account="acc_2")
            said.add((got.status, got.json["code"], got.json["detail"]))
    assert said == {(404, "not_found", "there is no such server of yours")}


async def test_a_wait_ends_as_it_ends(front: Front) -> None:
    """Reached, ended, or the time was over: always the server as it is, and which of them in X-Wait."""
    made = await front.made()
    path = f"/v1/servers/{made['id']}"
    late = await front.ask("GET", f"{path}?wait=running&timeout_s=0")
    assert (late.status, late.headers["X-Wait"], late.json["state"]) == (200, "timeout", "provisioning")
    waiting = asyncio.create_task(front.ask("GET", f"{path}?wait=settled&timeout_s=30"))
    await asyncio.sleep(0.05)
    await front.looked()
    got = await waiting
    assert (got.headers["X-Wait"], got.json["state"]) == ("reached", "running")
    await front.desk.bed.freeze("account:acc_1")
    failed = (await front.order("token-2", query="?wait=failed&timeout_s=5")).json
    ended = await front.ask("GET", f"/v1/servers/{failed['id']}?wait=running&timeout_s=30")
    assert (ended.headers["X-Wait"], ended.json["state"]) == ("ended", "failed")


@pytest.mark.parametrize(
    "query", ["wait=up", "wait=running&timeout_s=301", "wait=running&timeout_s=1.5", "timeout_s=5"]
)
async def test_a_wait_is_asked_for_strictly(front: Front, query: str) -> None:
    """A state that there is, and a whole number of seconds within the limit."""
    made = await front.made()
    assert (await front.ask("GET", f"/v1/servers/{made['id']}?{query}")).status == 400


async def test_a_servers_events_are_streamed_as_they_happen(front: Front) -> None:
    """Its own and no other server's, each with an id from which the stream goes on."""
    made = await front.made()
    url, headers = f"{front.url}/v1/servers/{made['id']}", {"Authorization": f"Bearer {front.keys['acc_1']}"}
    async with front.client.get(url, headers={**headers, "Accept": "text/event-stream"}) as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        front.desk.answers("shop", told(server="box-2", state="provisioning"))
        await front.made("token-2")
        await front.looked()
        await front.telling.sweep()
        told_lines: list[str] = []
        async with asyncio.timeout(10):
            while not any(line.startswith("data:") for line in told_lines):
                told_lines.append((await stream.content.readline()).decode().strip())
    data = json.loads(next(line for line in told_lines if line.startswith("data:")).removeprefix("data:"))
    assert (data["type"], data["data"]["server_id"]) == ("server.running", made["id"])
    assert any(line.startswith("id: evt_") for line in told_lines)
    got = await front.ask("GET", f"/v1/servers/{made['id']}", account="acc_2", headers={"Accept": "text/event-stream"})
    assert got.status == 404


# changing


async def test_what_is_wanted_of_a_server_can_be_changed(front: Front) -> None:
    """Name, time and bounds, each by itself; null takes a bound away."""
    made = await front.made(keep_until=LATER, max_total="5")
    path = f"/v1/servers/{made['id']}"
    got = await front.ask("PATCH", path, {"name": "web-2", "auto_renew": False})
    assert (got.status, got.json["name"], got.json["auto_renew"]) == (200, "web-2", False)
    assert got.json["keep_until"] == "2099-01-01T00:00:00.000Z"
    got = await front.ask("PATCH", path, {"keep_until": None, "max_total": None})
    assert (got.json["keep_until"], got.json["max_total"], got.json["auto_renew"]) == (None, None, False)
    version = got.json["version"]
    assert (await front.ask("PATCH", path, {})).json["version"] == version
    check(got.json, SERVER)


RAISES: dict[str, Any] = {
    "a higher max_total": {"max_total": "5.000001"},
    "no max_total": {"max_total": None},
    "a later keep_until": {"keep_until": "2099-01-01T00:00:01Z"},
    "no keep_until": {"keep_until": None},
    "renewals": {"auto_renew": True},
}


@pytest.mark.parametrize("case", RAISES)
async def test_only_whoever_could_have_ordered_it_lets_it_cost_more(front: Front, case: str) -> None:
    """The key that ordered pays: one with a budget, or with fewer scopes, raises no bound of it, and may lower them."""
    made = await front.made(keep_until=LATER, max_total="5", auto_renew=False)
    path = f"/v1/servers/{made['id']}"
    await front.add_key("narrow", ("proxy:shop", "read"))
    await front.add_key("bounded", ("proxy", "read"), Budget("bud_1", 1_000_000, 60))
    await front.add_key("equal", ("keys", "proxy", "read"))
    for name in ("narrow", "bounded"):
        got = await front.ask("PATCH", path, RAISES[case], account=name)
        assert (got.status, got.json["code"]) == (403, "scope_missing")
        assert got.json["field"] in RAISES[case]
    assert (await front.ask("GET", path)).json["version"] == made["version"]
    lower = {"name": "web-9", "max_total": "4", "keep_until": "2098-01-01T00:00:00Z", "auto_renew": False}
    assert (await front.ask("PATCH", path, lower, account="narrow")).status == 200
    for name in ("equal", "acc_1"):
        assert (await front.ask("PATCH", path, RAISES[case], account=name)).status == 200
        assert (await front.ask("PATCH", path, lower)).status == 200


async def test_a_key_that_may_not_call_its_vendor_changes_nothing(front: Front) -> None:
    """403 that names the scope, even for a name."""
    made = await front.made()
    await front.add_key("elsewhere", ("proxy:other", "read"))
    got = await front.ask("PATCH", f"/v1/servers/{made['id']}", {"name": "x"}, account="elsewhere")
    assert (got.status, got.json["code"], got.json["scope"]) == (403, "scope_missing", "proxy:shop")
    assert (await front.ask("GET", f"/v1/servers/{made['id']}")).json["name"] == made["name"]


async def test_an_order_that_could_not_be_waited_for_is_not_taken(front: Front) -> None:
    """429 before anything is ordered, where the account has as many waiting requests as it may."""
    made = await front.made()
    seeing = front.desk.seeing
    waiting = [asyncio.create_task(seeing.wait("acc_1", made["id"], "stopped", 30)) for _ in range(WAITS_PER_ACCOUNT)]
    await asyncio.sleep(0)
    got = await front.order("token-2", "?wait=running&timeout_s=5")
    assert (got.status, got.json["code"]) == (429, "too_many_calls")
    assert list(front.desk.keeping.view.servers) == [made["id"]]
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.parametrize(
    "body",
    [
        {"state": "running"},
        {"keep_until": EARLIER},
        {"name": None},
        {"name": ""},
        {"auto_renew": None},
        {"max_total": "-1"},
        [],
    ],
)
async def test_a_change_is_asked_for_strictly(front: Front, body: Any) -> None:
    """What cannot be changed, or means nothing, changes nothing."""
    made = await front.made()
    assert (await front.ask("PATCH", f"/v1/servers/{made['id']}", body)).status == 400
    assert (await front.ask("GET", f"/v1/servers/{made['id']}")).json["version"] == made["version"]


async def test_a_server_that_has_ended_is_changed_no_more(front: Front) -> None:
    """409, with its state."""
    await front.desk.bed.freeze("account:acc_1")
    failed = (await front.order(query="?wait=failed&timeout_s=5")).json
    got = await front.ask("PATCH", f"/v1/servers/{failed['id']}", {"name": "x"})
    assert (got.status, got.json["code"]) == (409, "server_ended")


async def test_a_vendor_that_destroys_nothing_says_so(front: Front) -> None:
    """501 with the capability and who has it; nothing is kept of the wish."""
    made = await front.made()
    got = await front.ask("DELETE", f"/v1/servers/{made['id']}")
    assert (got.status, got.json["code"], got.json["capability"]) == (501, "capability_missing", "destroy")
    assert got.json["vendors"] == []
    assert (await front.ask("GET", f"/v1/servers/{made['id']}")).json["wanted"] == "kept"


async def test_an_order_that_is_under_way_can_be_called_off(front: Front) -> None:
    """202 and wanted destroyed; when it proves that nothing was made, it ends as that."""
    front.desk.answers("shop", LOST)
    made = await front.made()
    assert made["state"] == "order_unknown"
    got = await front.ask("DELETE", f"/v1/servers/{made['id']}")
    assert (got.status, got.json["wanted"], got.json["state"]) == (202, "destroyed", "order_unknown")
    assert not {"X-Payment-Id", "X-Charge"} & got.headers.keys()  # what its order cost is no cost of its end
    await front.desk.bed.bury(front.desk.payment)
    await front.desk.ordering.drain(5.0)
    shown = (await front.ask("GET", f"/v1/servers/{made['id']}")).json
    assert shown["state"] == ServerState.DESTROYED
    assert len(front.desk.told.sold) == 1
    assert (shown["held"], shown["spent"]) == ("0.000000", "0.000000")


async def test_what_two_tries_cost_is_told_together(front: Front) -> None:
    """The first vendor's order died, the second one's is held: only that counts."""
    front.desk.answers("shop", LOST)
    front.desk.answers("other", MADE)
    made = await front.made()
    await front.desk.bed.bury(front.desk.payment)
    await front.desk.ordering.drain(5.0)
    shown = (await front.ask("GET", f"/v1/servers/{made['id']}")).json
    assert (shown["vendor"], shown["held"], shown["spent"]) == ("other", "0.250000", "0.000000")

"""The typed client against a gateway that loses answers, asks to come again, and refuses."""

import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
import pytest

from gateway_client import GatewayClient, GatewayProblem
from gateway_client import client as client_module
from tests.unit.gateway.api.bed import opened
from tests.unit.gateway.api.paid_bed import whole_table
from tests.unit.gateway_client.odd_gateway import break_off, hang_up, odd_gateway, refuse, say, stream

SERVER = {"id": "srv_1", "state": "running"}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses between tries are not what is tested here."""
    monkeypatch.setattr(client_module, "PAUSE_S", 0.001)


@pytest.mark.parametrize("first", [hang_up, break_off], ids=["no answer", "half an answer"])
async def test_a_lost_answer_is_asked_for_again_under_the_same_key(first: Any) -> None:
    """The repeat is the same request, key and body included, so what it orders is made once."""
    async with odd_gateway(first, say(202, SERVER)) as gateway, GatewayClient(gateway.url, "gk_key") as client:
        assert await client.create_server(name="box", plan="vrtx/1") == SERVER
    one, two = gateway.asked
    assert one.headers["idempotency-key"] == two.headers["idempotency-key"]
    assert (one.method, one.target, one.body) == (two.method, two.target, two.body)


async def test_a_key_of_the_callers_is_the_one_that_is_sent() -> None:
    """Whoever names a key may come back after its own crash; without one, two orders have two keys."""
    async with odd_gateway(say(202, SERVER)) as gateway, GatewayClient(gateway.url, "gk_key") as client:
        await client.create_server(name="box", plan="vrtx/1", idempotency_key="mine")
        await client.create_server(name="box", plan="vrtx/1")
        await client.create_server(name="box", plan="vrtx/1")
    keys = [asked.headers["idempotency-key"] for asked in gateway.asked]
    assert keys[0] == "mine"
    assert len(set(keys)) == 3


@pytest.mark.parametrize(("status", "code"), [(429, "too_many_calls"), (503, "overloaded"), (504, "outcome_unknown")])
async def test_whoever_is_asked_to_come_again_comes_again(status: int, code: str) -> None:
    """With the same key, after the pause that the answer names."""
    script = refuse(status, code, retry_after="0"), say(202, SERVER)
    async with odd_gateway(*script) as gateway, GatewayClient(gateway.url, "gk_key") as client:
        assert await client.renew("srv_1", units=1) == SERVER
    assert len({asked.headers["idempotency-key"] for asked in gateway.asked}) == 1
    assert len(gateway.asked) == 2


async def test_it_waits_as_long_as_retry_after_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """At least so long, and at most the client's own bound, however much is asked for."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(client_module.asyncio, "sleep", sleep)
    script = refuse(503, "frozen", retry_after="7"), refuse(503, "frozen", retry_after="86400"), say(200, {})
    async with odd_gateway(*script) as gateway, GatewayClient(gateway.url, "gk_key") as client:
        await client.balance()
    assert [seconds for seconds in slept if seconds] == [7.0, client_module.RETRY_AFTER_MOST_S]


async def test_it_gives_up_with_the_last_refusal() -> None:
    """After so many tries the problem is the caller's."""
    async with odd_gateway(refuse(503, "overloaded")) as gateway, GatewayClient(gateway.url, "gk_key") as client:
        with pytest.raises(GatewayProblem) as raised:
            await client.balance()
    assert raised.value.code == "overloaded"
    assert len(gateway.asked) == client_module.TRIES


async def test_it_gives_up_with_the_last_failure_to_connect() -> None:
    """A gateway that is not there is an error of the connection, not a problem of the gateway's."""
    async with odd_gateway(hang_up) as gateway, GatewayClient(gateway.url, "gk_key") as client:
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.balance()
    assert len(gateway.asked) >= client_module.TRIES  # aiohttp repeats a GET once by itself


@pytest.mark.parametrize("first", [hang_up, refuse(503, "overloaded")], ids=["no answer", "503"])
async def test_a_command_is_never_sent_twice(first: Any) -> None:
    """Without a key a repeat might run it again, so the caller decides."""
    async with odd_gateway(first, say(200, {"job": {}})) as gateway, GatewayClient(gateway.url, "gk_key") as client:
        with pytest.raises((GatewayProblem, aiohttp.ClientConnectionError)):
            await client.run("srv_1", "rm -rf /srv/old")
    assert len(gateway.asked) == 1
    assert "idempotency-key" not in gateway.asked[0].headers


@pytest.mark.parametrize("status", [400, 402, 403, 404, 409, 422, 500, 501, 502])
async def test_a_refusal_is_final(status: int) -> None:
    """What would be refused again is not sent again, with a key or without."""
    async with odd_gateway(refuse(status, "some_code")) as gateway, GatewayClient(gateway.url, "gk_key") as client:
        with pytest.raises(GatewayProblem) as raised:
            await client.create_server(name="box", plan="vrtx/1")
    assert (raised.value.status, raised.value.code) == (status, "some_code")
    assert len(gateway.asked) == 1


async def test_a_problem_is_passed_on_whole() -> None:
    """Its members are attributes; what only some problems have is in `extra`."""
    lost = [{"plan": "vrtx/1", "reason": "memory", "detail": "too little"}]
    answer = refuse(409, "no_plan_fits", candidates_lost=lost, field="need")
    async with odd_gateway(answer) as gateway, GatewayClient(gateway.url, "gk_key") as client:
        with pytest.raises(GatewayProblem) as raised:
            await client.quote(need={"min_vcpu": 64})
    problem = raised.value
    assert (problem.title, problem.detail, problem.remedy, problem.request_id) == (
        "A title",
        "a detail",
        "a remedy",
        "req-1",
    )
    assert problem.extra == {"candidates_lost": lost, "field": "need"}
    assert str(problem) == "409 no_plan_fits: a detail"


async def test_an_answer_that_is_no_problem_document_is_one_all_the_same() -> None:
    """A proxy's HTML page between the client and the gateway has a status, and its first words."""

    async def page(_request: Any) -> aiohttp.web.StreamResponse:
        return aiohttp.web.Response(status=502, text="<html>Bad Gateway</html>" + "x" * 1000)

    async with odd_gateway(page) as gateway, GatewayClient(gateway.url, "gk_key") as client:
        with pytest.raises(GatewayProblem) as raised:
            await client.balance()
    assert (raised.value.status, raised.value.code) == (502, "unknown")
    assert raised.value.detail.startswith("<html>Bad Gateway</html>")
    assert len(raised.value.detail) == 200


async def test_ids_and_filters_are_encoded() -> None:
    """What a caller hands in cannot lead to another route."""
    async with (
        odd_gateway(say(200, {"entries": [], "next": None})) as gateway,
        GatewayClient(gateway.url, "gk_key") as client,
    ):
        await client.server("../../v1/keys?x=1#y")
        await client.servers(state="running", open=True, after="srv_&limit=9")
    assert gateway.asked[0].target == "/v1/servers/..%2F..%2Fv1%2Fkeys%3Fx%3D1%23y"
    path, _, query = gateway.asked[1].target.partition("?")
    assert path == "/v1/servers"
    assert dict(parse_qsl(query)) == {"state": "running", "open": "true", "after": "srv_&limit=9"}


async def test_the_key_is_sent_and_shown_nowhere() -> None:
    """As Bearer; a base URL with or without a slash at its end is the same."""
    async with odd_gateway(say(200, {})) as gateway, GatewayClient(gateway.url + "/", "gk_secret") as client:
        await client.balance()
        assert "gk_secret" not in repr(client)
    assert gateway.asked[0].headers["authorization"] == "Bearer gk_secret"
    assert gateway.asked[0].target == "/v1/balance"


async def test_only_its_own_connections_are_closed() -> None:
    """A session that was handed in is its owner's."""
    async with odd_gateway(say(200, {})) as gateway, aiohttp.ClientSession() as session:
        async with GatewayClient(gateway.url, "gk_key", session) as client:
            await client.balance()
        assert not session.closed
        own = GatewayClient(gateway.url, "gk_key")
        await own.balance()
        await own.close()
        with pytest.raises(RuntimeError, match="closed"):
            await own.balance()


async def test_files_are_bytes() -> None:
    """What is read comes as it is, what is written goes as it is."""
    content = b"\x00\xff\r\n"

    async def file(_request: Any) -> aiohttp.web.StreamResponse:
        return aiohttp.web.Response(body=content, content_type="application/octet-stream")

    async with odd_gateway(file) as gateway, GatewayClient(gateway.url, "gk_key") as client:
        assert await client.read_file("srv_1", "/root/a b") == content
        await client.write_file("srv_1", "/root/a b", content)
    read, written = gateway.asked
    assert read.target == "/v1/servers/srv_1/files?path=%2Froot%2Fa+b"
    assert (written.method, written.body) == ("PUT", content)
    assert written.headers["content-type"] == "application/octet-stream"


# every method is a route

CALLS: dict[str, Callable[[GatewayClient], Awaitable[Any]]] = {
    "balance": lambda c: c.balance(),
    "statement": lambda c: c.statement("1", 2),
    "payments": lambda c: c.payments("a", 2),
    "payment": lambda c: c.payment("pay_1"),
    "vendors": lambda c: c.vendors(),
    "plans": lambda c: c.plans(min_vcpu=1, sandbox=True, sort="memory"),
    "quote": lambda c: c.quote(need={"min_vcpu": 1}, region="x", image="y", minutes=3),
    "create_server": lambda c: c.create_server(
        name="a", need={"min_vcpu": 1}, wait="running", timeout_s=1, keep_until="t", max_total="1", user_data="x"
    ),
    "servers": lambda c: c.servers(state="running", vendor="v", fleet="f", open=True),
    "server": lambda c: c.server("srv_1", wait="settled", timeout_s=1),
    "change_server": lambda c: c.change_server("srv_1", keep_until=None, auto_renew=False, max_total="1", name="b"),
    "destroy_server": lambda c: c.destroy_server("srv_1"),
    "act": lambda c: c.act("srv_1", "reboot"),
    "credentials": lambda c: c.credentials("srv_1"),
    "run": lambda c: c.run("srv_1", "uptime", timeout_s=1, background=True),
    "jobs": lambda c: c.jobs("srv_1"),
    "job": lambda c: c.job("srv_1", "job_1"),
    "cancel_job": lambda c: c.cancel_job("srv_1", "job_1"),
    "read_file": lambda c: c.read_file("srv_1", "/x"),
    "write_file": lambda c: c.write_file("srv_1", "/x", b""),
    "renew": lambda c: c.renew("srv_1", units=1, until="t"),
    "renewals": lambda c: c.renewals("srv_1"),
    "snapshot": lambda c: c.snapshot("srv_1", "first"),
    "snapshots": lambda c: c.snapshots("a", 1),
    "snapshot_by_id": lambda c: c.snapshot_by_id("snp_1"),
    "delete_snapshot": lambda c: c.delete_snapshot("snp_1"),
    "restore": lambda c: c.restore("snp_1", name="a"),
    "add_ssh_key": lambda c: c.add_ssh_key("me", "ssh-ed25519 A"),
    "ssh_keys": lambda c: c.ssh_keys(),
    "delete_ssh_key": lambda c: c.delete_ssh_key("sshk_1"),
    "create_fleet": lambda c: c.create_fleet(name="f", count=1, need={"min_vcpu": 1}, until="t", budget="1", minutes=2),
    "fleet": lambda c: c.fleet("flt_1"),
    "fleets": lambda c: c.fleets("a", 1),
    "change_fleet": lambda c: c.change_fleet("flt_1", count=2, until="t", budget="2"),
    "end_fleet": lambda c: c.end_fleet("flt_1"),
    "topup_offer": lambda c: c.topup_offer("5"),
    "pack_offer": lambda c: c.pack_offer("one"),
    "topups": lambda c: c.topups("a", 1),
    "topup": lambda c: c.topup("top_1"),
    "receipts": lambda c: c.receipts("a", 1),
    "receipt": lambda c: c.receipt("rcv_1"),
    "refund": lambda c: c.refund(receipt="rcv_1", amount="1", idempotency_key="back-1"),
    "refunds": lambda c: c.refunds("a", 1),
    "refund_by_id": lambda c: c.refund_by_id("ref_1"),
    "deposits": lambda c: c.deposits(),
    "events": lambda c: c.events("evt_1", 2, "server.*"),
    "create_webhook": lambda c: c.create_webhook("https://x.example", ["*"], description="d"),
}
OFFERS = {"topup_offer", "pack_offer"}
OFFER = {
    "type": "https://paymentauth.org/problems/payment-required",
    "title": "Payment required",
    "status": 402,
    "detail": "pay",
    "code": "payment_required",
    "order": "top_1",
    "amount": "5.000000",
    "accepts": [{"scheme": "exact"}],
}
NO_ROUTE_OF_THEIR_OWN = {"close", "call", "follow"}


async def test_every_method_is_a_route_of_the_gateway(tmp_path: Path) -> None:
    """Each asks a route that is served, with parameters and members that it has, and a key where the route needs one."""
    methods = {name for name, _ in inspect.getmembers(GatewayClient, inspect.isfunction) if not name.startswith("_")}
    assert CALLS.keys() == methods - NO_ROUTE_OF_THEIR_OWN
    answer = {"entries": [], "next": None, "vendors": [], "job": {}}
    script = [say(402, OFFER) if name in OFFERS else say(200, answer) for name in CALLS]
    async with (
        opened(tmp_path) as bed,
        odd_gateway(*script) as gateway,
        GatewayClient(gateway.url, "gk_key") as client,
    ):
        table = whole_table(bed)
        for name, call in CALLS.items():
            await call(client)
            asked = gateway.asked[-1]
            path, _, query = asked.target.partition("?")
            found = table.find(path)
            assert found is not None, (name, path)
            endpoint = found.by_method[asked.method]
            assert {key for key, _ in parse_qsl(query, keep_blank_values=True)} <= endpoint.query, name
            if asked.headers.get("content-type") == "application/json":
                assert endpoint.body is not None
                assert asked.json.keys() <= endpoint.body["properties"].keys(), name
            if endpoint.key_needed or endpoint.capped:
                assert "idempotency-key" in asked.headers, name


# paying in


async def test_what_credit_costs_is_the_body_of_the_402() -> None:
    """It is no failure here: an amount is asked for with POST, a pack with GET, and no payment goes with either."""
    async with odd_gateway(say(402, OFFER)) as gateway, GatewayClient(gateway.url, "gk_key") as client:
        offer = await client.topup_offer("5")
        assert (offer["order"], offer["amount"], offer["accepts"]) == ("top_1", "5.000000", [{"scheme": "exact"}])
        assert (await client.pack_offer("a/b"))["title"] == "Payment required"
    amount, pack = gateway.asked
    assert (amount.method, amount.target, amount.json) == ("POST", "/v1/topups", {"amount": "5"})
    assert (pack.method, pack.target, pack.body) == ("GET", "/v1/topups/packs/a%2Fb", b"")
    assert not {"x-payment", "payment-signature", "idempotency-key"} & amount.headers.keys()


async def test_another_refusal_of_credit_is_a_problem() -> None:
    """An amount outside the limits, a place that sells none, and an answer that is no 402."""
    for answer, code in ((refuse(400, "bad_request"), "bad_request"), (say(200), "unknown")):
        async with odd_gateway(answer) as gateway, GatewayClient(gateway.url, "gk_key") as client:
            with pytest.raises(GatewayProblem) as caught:
                await client.topup_offer("5000")
        assert caught.value.code == code


async def test_a_refund_is_repeated_under_its_key() -> None:
    """A lost answer costs a second look and never a second refund."""
    script = hang_up, say(201, {"id": "ref_1"})
    async with odd_gateway(*script) as gateway, GatewayClient(gateway.url, "gk_key") as client:
        assert (await client.refund(topup="top_1", idempotency_key="back-1"))["id"] == "ref_1"
    assert [asked.headers["idempotency-key"] for asked in gateway.asked] == ["back-1", "back-1"]
    assert gateway.asked[1].json == {"topup": "top_1"}


# streams

EVENT_1 = {"type": "server.running", "timestamp": "2026-01-01T00:00:00.000Z", "data": {"id": "evt_1"}}


async def test_events_are_read_as_they_come() -> None:
    """However they are cut into pieces; comments, names and retries are passed over."""
    whole = (
        b"retry: 2000\n\n: nothing new\n\n"
        b'id: evt_1\nevent: server.running\ndata: {"type": "server.running", "timestamp": "2026-01-01T00:00:00.000Z",\n'
        b'data:  "data": {"id": "evt_1"}}\n\n'
        b'id: evt_2\r\ndata:{"type": "x", "timestamp": "t", "data": {"id": "evt_2", "text": "\xc3\xa4"}}\r\n\r\n'
        b"data: this one was cut off"
    )
    pieces = tuple(whole[n : n + 7] for n in range(0, len(whole), 7))
    async with odd_gateway(stream(*pieces)) as gateway, GatewayClient(gateway.url, "gk_key") as client:
        found = [event async for event in client.follow(last_event_id="evt_0")]
    assert found[0] == EVENT_1
    assert found[1]["data"] == {"id": "evt_2", "text": "ä"}
    assert len(found) == 2
    asked = gateway.asked[0]
    assert (asked.target, asked.headers["accept"], asked.headers["last-event-id"]) == (
        "/v1/events",
        "text/event-stream",
        "evt_0",
    )
    assert asked.headers["authorization"] == "Bearer gk_key"


async def test_a_refused_stream_is_a_problem() -> None:
    """Not an empty stream."""
    async with odd_gateway(refuse(429, "too_many_calls")) as gateway, GatewayClient(gateway.url, "gk_key") as client:
        with pytest.raises(GatewayProblem, match="too_many_calls"):
            await anext(client.follow("/v1/servers/srv_1"))
    assert gateway.asked[0].target == "/v1/servers/srv_1"

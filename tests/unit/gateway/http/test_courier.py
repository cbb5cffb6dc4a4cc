"""The courier: posts to public addresses only, judged when they are named and at every connection."""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from gateway.http.courier import MAX_URL_CHARS, Courier, timeouts_of
from gateway.http.egress import EgressRule, Origin, address_allowed
from gateway.http.pool import resolve
from gateway.http.port import NotSent, SentUnknown

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
HEADERS = (("Content-Type", "application/json"),)


@contextlib.asynccontextmanager
async def listening(handle: Callable[[web.BaseRequest], Any]) -> AsyncIterator[str]:
    """Run a server; yield its origin."""
    runner = web.ServerRunner(web.Server(handle, access_log=None), shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield "http://{}:{}".format(*runner.addresses[0][:2])
    finally:
        await runner.cleanup()


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str, port: int = 443) -> list[str]:
    """Let every name mean these addresses; the list may be changed meanwhile."""
    known = list(addresses)

    def look_up(*_: Any, **__: Any) -> list[Any]:
        if not known:
            raise socket.gaierror("no such name")
        return [(socket.AF_INET6 if ":" in each else socket.AF_INET, 1, 6, "", (each, port)) for each in known]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


async def refusal(courier: Courier, url: str) -> str:
    """Return the code with which a URL is refused, at its registration and at a delivery alike."""
    with pytest.raises(NotSent) as named:
        await courier.check(url)
    with pytest.raises(NotSent) as sent:
        await courier.post(url, HEADERS, b"{}")
    assert named.value.code == sent.value.code
    return named.value.code


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[::ffff:127.0.0.1]",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:7f00:1::]",
    ],
)
async def test_addresses_inside_are_refused_as_they_stand(host: str) -> None:
    """Loopback, private, link-local, metadata, and every IPv6 spelling of them."""
    assert await refusal(Courier(), f"https://{host}/hook") == "url_refused"


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "localhost", "017700000001"])
async def test_other_spellings_of_this_machine_are_refused(host: str) -> None:
    """What only a resolver understands is judged by what the resolver says."""
    assert await refusal(Courier(timeouts=timeouts_of(5)), f"https://{host}/hook") in {
        "address_refused",
        "connect_failed",
    }


@pytest.mark.parametrize("address", ["10.1.2.3", "169.254.169.254", "::1", "::ffff:10.0.0.1", "fd00:ec2::254"])
async def test_names_that_lead_inside_are_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """A name is what its owner says that it is."""
    resolving(monkeypatch, address)
    assert await refusal(Courier(), "https://hook.example/x") == "address_refused"


async def test_name_that_changes_its_meaning_is_judged_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: public when it is named, inside when it is posted to."""
    hits: list[str] = []

    async def handle(request: web.BaseRequest) -> web.Response:
        hits.append(request.path)
        return web.Response()

    async with listening(handle) as origin:
        port = int(origin.rpartition(":")[2])
        known = resolving(monkeypatch, "93.184.216.34", port=port)
        courier = Courier(allow_http=True)
        await courier.check(f"http://rebind.example:{port}/")
        known[:] = ["127.0.0.1"]
        with pytest.raises(NotSent) as refused:
            await courier.post(f"http://rebind.example:{port}/", HEADERS, b"{}")
    assert refused.value.code == "address_refused"
    assert hits == []


async def test_private_one_among_public_addresses_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several addresses only those that are public are tried."""
    resolving(monkeypatch, "127.0.0.1", "93.184.216.34", "::ffff:10.0.0.1", "2606:4700::1111")
    assert await resolve(EgressRule(Origin.parse("https://mixed.example"))) == ["93.184.216.34", "2606:4700::1111"]


async def test_name_without_an_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be told anything."""
    resolving(monkeypatch)
    assert await refusal(Courier(), "https://nowhere.example/") == "connect_failed"


@pytest.mark.parametrize(
    "url",
    [
        "http://agent.example/",
        "ftp://agent.example/",
        "file:///etc/passwd",
        "agent.example/hook",
        "https://",
        "https://user:secret@agent.example/",
        "https://agent.example/#fragment",
        "https://agent.example\\@10.0.0.1/",
        "https://agent.example/\r\nX: y",
        "https://agent.example/a b",
        "https://agent.example:0/",
        "https://agent.example:99999/",
        "https://ägent.example/",
        "https://agent.example/" + "x" * MAX_URL_CHARS,
        "",
    ],
)
async def test_what_is_no_plain_https_url_is_refused(url: str) -> None:
    """No other scheme, no user, no fragment, nothing that libraries read in two ways."""
    assert await refusal(Courier(), url) == "url_refused"


async def test_operator_may_allow_networks_and_plain_http() -> None:
    """Those networks, and no others."""
    seen: list[tuple[str, str, bytes]] = []

    async def handle(request: web.BaseRequest) -> web.Response:
        seen.append((request.raw_path, request.headers["Host"], await request.read()))
        return web.Response(status=202, headers={"Retry-After": "7"}, body=b"x" * 100_000)

    async with listening(handle) as origin:
        courier = Courier(LOOPBACK, allow_http=True)
        await courier.check(f"{origin}/a?b=c")
        answer = await courier.post(f"{origin}/a?b=c", HEADERS, b'{"n":1}')
        assert (answer.status, answer.retry_after_s) == (202, 7)
        assert seen == [("/a?b=c", origin.removeprefix("http://"), b'{"n":1}')]
        assert await refusal(courier, "http://10.0.0.1/") == "url_refused"
        assert await refusal(Courier(LOOPBACK), origin) == "url_refused"


def test_networks_do_not_open_what_they_do_not_name() -> None:
    """An IPv6 spelling of an address is not the network's address; all that is public stays allowed."""
    rule = EgressRule(Origin.parse("https://x.example"), allow_networks=(ipaddress.ip_network("10.0.0.0/8"),))
    assert [address_allowed(rule, each) for each in ("10.1.1.1", "11.0.0.1", "1.1.1.1")] == [True, True, True]
    refused = ("192.168.0.1", "::ffff:10.0.0.1", "127.0.0.1", "fe80::1")
    assert not any(address_allowed(rule, each) for each in refused)


async def test_redirects_are_not_followed() -> None:
    """Neither within the origin nor away from it."""
    hits: list[str] = []

    async def handle(request: web.BaseRequest) -> web.Response:
        hits.append(request.path)
        where = "/elsewhere" if request.path == "/same" else "http://127.0.0.2:1/"
        return web.Response(status=302, headers={"Location": where})

    async with listening(handle) as origin:
        courier = Courier(LOOPBACK, allow_http=True)
        assert (await courier.post(f"{origin}/same", HEADERS, b"{}")).status == 302
        with pytest.raises(SentUnknown) as refused:
            await courier.post(f"{origin}/away", HEADERS, b"{}")
    assert refused.value.code == "redirect_refused"
    assert hits == ["/same", "/away"]


async def test_silent_receiver_is_left_in_time() -> None:
    """The whole post has one limit."""

    async def handle(_: web.BaseRequest) -> web.Response:
        await asyncio.sleep(5)
        return web.Response()

    async with listening(handle) as origin:
        courier = Courier(LOOPBACK, allow_http=True, timeouts=timeouts_of(0.2))
        with pytest.raises(SentUnknown) as late:
            await courier.post(f"{origin}/", HEADERS, b"{}")
    assert late.value.code in {"first_byte_timeout", "total_timeout"}


@pytest.mark.parametrize("text", ["Wed, 21 Oct 2026 07:28:00 GMT", "-1", "1.5", "٣", "9" * 9, ""])
async def test_retry_after_that_is_no_number_of_seconds_is_not_read(text: str) -> None:
    """A receiver cannot make us wait for ever, or stumble."""

    async def handle(_: web.BaseRequest) -> web.Response:
        return web.Response(status=503, headers={"Retry-After": text})

    async with listening(handle) as origin:
        assert (await Courier(LOOPBACK, allow_http=True).post(origin, HEADERS, b"{}")).retry_after_s is None


@pytest.mark.parametrize("total_s", [0.1, 1.0, 5.0, 15.0, 60.0])
def test_every_time_limit_leaves_room_for_an_answer(total_s: float) -> None:
    """Connecting takes at most a half of it."""
    limits = timeouts_of(total_s)
    assert limits.connect_s <= min(5.0, total_s / 2)
    assert limits.total_s == total_s

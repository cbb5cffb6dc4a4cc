"""`/v1/webhooks`: made once, by keys that may, at addresses that are public; what became of each delivery."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.api import webhooks
from gateway.core.server import HookDeliveryState
from gateway.flow.servers.hooks import Hooks, HookSettings
from gateway.http.courier import Courier
from tests.unit.gateway.api.bed import Bed, Got
from tests.unit.gateway.api.events_bed import EventsBed, events_on
from tests.unit.gateway.api.shape import check
from tests.unit.gateway.flow.servers.telling_bed import Receiver, receiving


@pytest.fixture
async def on(bed: Bed) -> AsyncIterator[EventsBed]:
    """Events and webhooks on the bed; receivers on loopback are allowed."""
    async with events_on(bed) as running:
        yield running


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """An endpoint that takes everything."""
    async with receiving() as running:
        yield running


async def make(on: EventsBed, url: str, *events: str, key: str | None = None, **headers: str) -> Got:
    """Make a webhook."""
    body = json.dumps({"url": url, "events": events or ["*"], "description": "mine"})
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await on.bed.ask("POST", "/v1/webhooks", key, data=body, headers=named)


async def until(looks_so: Callable[[], Any], what: str) -> None:
    """Wait until the background has done something."""
    for _ in range(500):
        if looks_so():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"never: {what}")


def answers(method: str, path: str) -> Any:
    """Return the declared shape of a route's answer."""
    return next(e.answer for e in webhooks.ENDPOINTS if (e.method, e.path) == (method, path))


async def test_webhook_is_made_listed_shown_changed_and_deleted(on: EventsBed, receiver: Receiver) -> None:
    """Its secret is in the first answer only; every answer has the declared shape."""
    made = await make(on, receiver.url, "server.*", "server.*", "payment.held")
    assert made.status == 201
    check(made.json, answers("POST", "/v1/webhooks"))
    assert made.json["events"] == ["server.*", "payment.held"]
    path = f"/v1/webhooks/{made.json['id']}"
    shown = await on.bed.ask("GET", path)
    check(shown.json, answers("GET", "/v1/webhooks/{id}"))
    assert {**shown.json, "secret": made.json["secret"]} == made.json
    listed = await on.bed.ask("GET", "/v1/webhooks")
    assert listed.json == {"entries": [shown.json], "next": None}
    assert b"whsec_" not in shown.body + listed.body
    changed = await on.bed.ask("PATCH", path, data=json.dumps({"events": ["*"], "disabled": True}))
    assert (changed.json["events"], changed.json["disabled"], changed.json["description"]) == (["*"], True, "mine")
    assert changed.json["disabled_reason"]
    enabled = await on.bed.ask("PATCH", path, data=json.dumps({"disabled": False, "description": ""}))
    assert (enabled.json["disabled"], enabled.json["description"]) == (False, "")
    deleted = await on.bed.ask("DELETE", path)
    assert deleted.json["deleted_at"] is not None
    assert (await on.bed.ask("GET", path)).code == "not_found"
    assert (await on.bed.ask("DELETE", path)).code == "not_found"


async def test_events_arrive_at_the_webhook(on: EventsBed, receiver: Receiver) -> None:
    """And what became of each is listed, the newest first, in pages."""
    made = (await make(on, receiver.url, "server.*")).json
    for _ in range(3):
        await on.server()
    path = f"/v1/webhooks/{made['id']}/deliveries"
    await until(lambda: len(receiver.got) == 3 and not on.bed.store.view.deliveries, "three deliveries")
    first = (await on.bed.ask("GET", f"{path}?limit=2")).json
    second = (await on.bed.ask("GET", f"{path}?limit=2&after={first['next']}")).json
    check(first, answers("GET", "/v1/webhooks/{id}/deliveries"))
    entries = first["entries"] + second["entries"]
    assert {each["state"] for each in entries} == {HookDeliveryState.DELIVERED}
    ids = [each["event"] for each in entries]
    assert sorted(ids, key=lambda text: -int(text.removeprefix("evt_"))) == ids
    assert set(ids) == {each.id for each in receiver.got}
    assert second["next"] is None


async def test_test_event_and_replay_under_idempotency_keys(on: EventsBed, receiver: Receiver) -> None:
    """A repeated request sends nothing again; a new one does, under the event's own id."""
    made = (await make(on, receiver.url, "fleet.*")).json
    path = f"/v1/webhooks/{made['id']}"
    tested = [await on.bed.ask("POST", f"{path}/test", headers={"Idempotency-Key": "t"}) for _ in range(2)]
    assert [got.status for got in tested] == [202, 202]
    check(tested[0].json, answers("POST", "/v1/webhooks/{id}/test"))
    assert tested[0].json == tested[1].json
    assert tested[1].headers["Idempotent-Replayed"] == "true"
    await until(lambda: not on.bed.store.view.deliveries and receiver.got, "the test's delivery")
    assert (receiver.types, receiver.got[0].id) == (["webhook.test"], tested[0].json["event"])
    again = f"{path}/deliveries/{tested[0].json['event']}/replay"
    for key in ("r1", "r1", "r2"):
        got = await on.bed.ask("POST", again, headers={"Idempotency-Key": key}, data=b"{}")
        assert got.status == 202
        check(got.json, answers("POST", "/v1/webhooks/{id}/deliveries/{event}/replay"))
        await until(lambda: not on.bed.store.view.deliveries, "the replayed delivery")
    assert [each.id for each in receiver.got] == [tested[0].json["event"]] * 3


async def test_rotation_shows_the_new_secret_once(on: EventsBed, receiver: Receiver) -> None:
    """A repeat under its key shows it again and rotates nothing, also after another rotation."""
    made = (await make(on, receiver.url)).json
    path = f"/v1/webhooks/{made['id']}/rotate"
    first = await on.bed.ask("POST", path, headers={"Idempotency-Key": "one"})
    check(first.json, answers("POST", "/v1/webhooks/{id}/rotate"))
    second = await on.bed.ask("POST", path)
    again = await on.bed.ask("POST", path, headers={"Idempotency-Key": "one"})
    assert again.json == first.json
    assert len({made["secret"], first.json["secret"], second.json["secret"]}) == 3
    hook = on.telling.hooks.one("acc_1", made["id"])
    held = [secret.reveal() for secret in on.telling.hooks.secrets(hook, 0)]
    assert held == [second.json["secret"], first.json["secret"]]
    assert (await on.bed.ask("GET", f"/v1/webhooks/{made['id']}")).json["previous_secret_until"] is not None


async def test_repeat_under_an_idempotency_key_makes_one_webhook(on: EventsBed, receiver: Receiver) -> None:
    """Asked again, or at once, the same request gets the same webhook and secret; another body conflicts."""
    several = await asyncio.gather(*(make(on, receiver.url, Idempotency_Key="k") for _ in range(4)))
    assert len({got.body for got in several}) == 1
    assert len(on.bed.store.view.hooks) == 1
    other = await make(on, receiver.url, "server.*", Idempotency_Key="k")
    assert (other.status, other.code) == (409, "idempotency_conflict")
    assert (await on.bed.ask("DELETE", f"/v1/webhooks/{several[0].json['id']}")).status == 200
    assert (await make(on, receiver.url, Idempotency_Key="k")).json == several[0].json
    assert not on.bed.store.view.hooks  # what was deleted since stays deleted


async def test_kept_answers_webhook_exists_even_after_a_crash(
    on: EventsBed, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P12: where only the sealed answer was committed, the repeat makes the webhook that the answer holds."""

    async def killed(*_: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(Hooks, "create", killed)
        assert (await make(on, receiver.url, Idempotency_Key="k")).code == "internal"
    assert not on.bed.store.view.hooks
    made = (await make(on, receiver.url, Idempotency_Key="k")).json
    hook = on.telling.hooks.one("acc_1", made["id"])
    assert [secret.reveal() for secret in on.telling.hooks.secrets(hook, 0)] == [made["secret"]]


async def test_secret_is_sealed_at_rest(on: EventsBed, receiver: Receiver, tmp_path: Path) -> None:
    """P10: neither the record nor the kept answer shows it to whoever reads the disk."""
    made = (await make(on, receiver.url, Idempotency_Key="k")).json

    def written() -> bytes:
        return b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())

    assert made["id"].encode() in written()
    assert made["secret"].removeprefix("whsec_").encode() not in written()


async def test_another_accounts_webhook_is_not_there(on: EventsBed, receiver: Receiver) -> None:
    """P9: by no method, and its deliveries and events neither."""
    made = (await make(on, receiver.url, "server.*")).json
    await on.server()
    await until(lambda: receiver.got, "a delivery")
    path, key = f"/v1/webhooks/{made['id']}", on.keys["acc_2"]
    asked = [
        ("GET", path, b""),
        ("PATCH", path, b'{"url":"https://evil.example/"}'),
        ("DELETE", path, b""),
        ("POST", f"{path}/rotate", b""),
        ("POST", f"{path}/test", b""),
        ("GET", f"{path}/deliveries", b""),
        ("POST", f"{path}/deliveries/{receiver.got[0].id}/replay", b""),
    ]
    for method, target, body in asked:
        got = await on.bed.ask(method, target, key, data=body or None)
        assert (got.status, got.code) == (404, "not_found"), (method, target)
    assert (await on.bed.ask("GET", "/v1/webhooks", key)).json["entries"] == []
    own = (await make(on, receiver.url, key=key)).json
    stolen = await on.bed.ask("POST", f"/v1/webhooks/{own['id']}/deliveries/{receiver.got[0].id}/replay", key)
    assert stolen.code == "not_found"


@pytest.mark.parametrize(("scopes", "status"), [(("read",), 403), (("proxy",), 403), (("proxy:shop", "read"), 201)])
async def test_making_a_webhook_takes_a_key_that_may_act_and_read(
    on: EventsBed, receiver: Receiver, scopes: tuple[str, ...], status: int
) -> None:
    """Who names an address is told everything: not a key that may not read, nor one that only watches."""
    key = await on.bed.new_key(*scopes)
    got = await make(on, receiver.url, key=key)
    assert got.status == status
    if status == 403:
        made = (await make(on, receiver.url)).json["id"]
        for method, path in (("DELETE", made), ("PATCH", made), ("POST", f"{made}/rotate"), ("POST", f"{made}/test")):
            refused = await on.bed.ask(method, f"/v1/webhooks/{path}", key, data=b"{}" if method != "DELETE" else None)
            assert refused.code == "scope_missing", (method, path)


@pytest.mark.parametrize(
    "url",
    [
        "http://agent.example/",
        "https://127.0.0.1/",
        "https://10.0.0.1/hook",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::1]/",
        "https://[::ffff:169.254.169.254]/",
        "https://[fd00:ec2::254]/",
        "https://0x7f.1/",
        "https://localhost/",
        "https://user@agent.example/",
        "ftp://agent.example/",
        "not a url",
    ],
)
async def test_addresses_inside_are_refused(bed: Bed, url: str) -> None:
    """At registration and at a change alike, without saying what is there."""
    async with events_on(bed, courier=Courier()) as on:
        got = await make(on, url)
        assert (got.status, got.code, got.json["field"]) == (422, "webhook_url_refused", "url")
        assert not bed.store.view.hooks


async def test_names_that_lead_inside_are_refused_and_public_ones_taken(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a name means is asked when it is named, also when a webhook is moved."""
    addresses = {"inside.example": "192.168.1.7", "meta.example": "::ffff:169.254.169.254", "public.example": "1.1.1.1"}
    real = socket.getaddrinfo

    def look_up(host: str, *rest: Any, **more: Any) -> Any:
        if not str(host).endswith(".example"):
            return real(host, *rest, **more)
        if host not in addresses:
            raise socket.gaierror("no such name")
        return [(2, 1, 6, "", (addresses[host], 443))]

    async with events_on(bed, courier=Courier()) as on:
        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        for name in ("inside.example", "meta.example", "nowhere.example"):
            got = await make(on, f"https://{name}/")
            assert (got.code, got.json["detail"]) == (
                "webhook_url_refused",
                "its name does not lead to a public address now",
            )
        made = await make(on, "https://public.example/")
        assert made.status == 201
        path = f"/v1/webhooks/{made.json['id']}"
        moved = await on.bed.ask("PATCH", path, data=b'{"url":"https://inside.example/"}')
        assert moved.code == "webhook_url_refused"
        assert (await on.bed.ask("GET", path)).json["url"] == "https://public.example/"


async def test_webhooks_of_an_account_are_bounded(bed: Bed, receiver: Receiver) -> None:
    """A repeat of an earlier request still works; another account has room of its own."""
    async with events_on(bed, HookSettings(hooks_per_account=1)) as on:
        first = await make(on, receiver.url, Idempotency_Key="k")
        assert (await make(on, receiver.url)).code == "bad_request"
        assert (await make(on, receiver.url, Idempotency_Key="k")).json == first.json
        assert (await make(on, receiver.url, key=on.keys["acc_2"])).status == 201


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"url":"https://a.example/","url":"https://b.example/","events":["*"]}',
        {"url": "https://a.example/"},
        {"events": ["*"]},
        {"url": 1, "events": ["*"]},
        {"url": "", "events": ["*"]},
        {"url": "https://a.example/" + "x" * 2_048, "events": ["*"]},
        {"url": "https://a.example/", "events": []},
        {"url": "https://a.example/", "events": "*"},
        {"url": "https://a.example/", "events": [1]},
        {"url": "https://a.example/", "events": ["task.*"]},
        {"url": "https://a.example/", "events": ["*"] * 33},
        {"url": "https://a.example/", "events": ["*"], "description": None},
        {"url": "https://a.example/", "events": ["*"], "description": "x" * 201},
        {"url": "https://a.example/", "events": ["*"], "description": "a\nb"},
        {"url": "https://a.example/", "events": ["*"], "secret": "whsec_mine"},
        {"url": "https://a.example/", "events": ["*"], "disabled": True},
    ],
)
async def test_malformed_bodies_make_no_webhook(on: EventsBed, body: Any) -> None:
    """Whatever is not exactly a webhook's description is refused, and nothing is made."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    got = await on.bed.ask("POST", "/v1/webhooks", data=raw)
    assert (got.status, got.code) == (400, "bad_request")
    assert not on.bed.store.view.hooks


async def test_malformed_changes_change_nothing(on: EventsBed, receiver: Receiver) -> None:
    """Nor do bodies where none belongs, or ids that are none."""
    made = (await make(on, receiver.url)).json
    path = f"/v1/webhooks/{made['id']}"
    for body in (b'{"disabled":1}', b'{"events":[]}', b'{"url":null}', b'{"id":"x"}'):
        assert (await on.bed.ask("PATCH", path, data=body)).code == "bad_request"
    for action in ("rotate", "test", "deliveries/evt_1/replay"):
        assert (await on.bed.ask("POST", f"{path}/{action}", data=b'{"x":1}')).code == "bad_request"
    assert (await on.bed.ask("GET", f"{path}/deliveries?after=x")).code == "bad_request"
    assert (await on.bed.ask("POST", f"{path}/deliveries/x/replay")).code == "not_found"
    assert (await on.bed.ask("POST", "/v1/webhooks", data=b" " * 16_385)).code == "body_oversized"
    assert (await on.bed.ask("GET", path)).json["events"] == ["*"]


async def test_disabled_webhook_is_neither_tested_nor_replayed_to(on: EventsBed, receiver: Receiver) -> None:
    """The refusal says what to do first."""
    made = (await make(on, receiver.url)).json
    path = f"/v1/webhooks/{made['id']}"
    await on.bed.ask("PATCH", path, data=b'{"disabled":true}')
    for action in ("test", "deliveries/evt_1/replay"):
        got = await on.bed.ask("POST", f"{path}/{action}")
        assert (got.code, "PATCH" in got.json["detail"]) == ("bad_request", True)


async def test_webhooks_page_in_order(on: EventsBed, receiver: Receiver) -> None:
    """Pages by id, without gap or repeat."""
    for _ in range(3):
        await make(on, receiver.url)
    first = (await on.bed.ask("GET", "/v1/webhooks?limit=2")).json
    second = (await on.bed.ask("GET", f"/v1/webhooks?limit=2&after={first['next']}")).json
    assert len({each["id"] for each in first["entries"] + second["entries"]}) == 3
    assert second["next"] is None

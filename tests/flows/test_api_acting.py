"""Actions, credentials, commands, files, snapshots and SSH keys over HTTP: strict bodies, named limits, whole answers."""

import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import pytest

from gateway.core.server import Server, ServerState
from tests.flows.acting_bed import AccountActs, Serving, acts_on, served
from tests.flows.broker_bed import Bed, Got

MIB = 1024 * 1024
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh laptop"


@dataclass
class Door:
    """The API in front of one running machine of acc_1's."""

    acts: AccountActs
    serving: Serving
    client: aiohttp.ClientSession
    server: Server

    async def ask(
        self, method: str, path: str, document: Any = None, *, account: str = "acc_1", raw: Any = None, **headers: str
    ) -> Got:
        """Ask; `path` may name the server as `@`."""
        sent = {"Authorization": f"Bearer {self.acts.bed.keys[account]}"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        body = io.BytesIO(raw) if isinstance(raw, bytes) else raw
        if document is not None:
            body = json.dumps(document).encode()
        url = self.serving.url + path.replace("@", f"/v1/servers/{self.server.id}")
        async with self.client.request(method, url, headers=sent, data=body) as answer:
            return Got(answer.status, answer.headers, await answer.read())


@pytest.fixture
async def door(broker_bed: Bed) -> AsyncIterator[Door]:
    """At LiteVPS, which has everything."""
    async with acts_on(broker_bed, "litevps") as acts, served(acts) as serving:
        yield Door(acts, serving, broker_bed.client, await acts.running())


async def test_an_action_answers_with_the_server_on_its_way(door: Door) -> None:
    """202, and a repeat of the same request says that it is one."""
    first = await door.ask("POST", "@/actions", {"action": "reboot"}, Idempotency_Key="r")
    again = await door.ask("POST", "@/actions", {"action": "reboot"}, Idempotency_Key="r")
    assert (first.status, first.json["state"]) == (202, "rebooting")
    assert (again.status, again.headers["Idempotent-Replayed"]) == (202, "true")
    other = await door.ask("POST", "@/actions", {"action": "stop"}, Idempotency_Key="r")
    assert (other.status, other.problem) == (409, "idempotency_conflict")


@pytest.mark.parametrize(
    ("path", "document", "field"),
    [
        ("@/actions", {"action": "explode"}, "action"),
        ("@/actions", {"action": ["stop"]}, "action"),
        ("@/actions", {}, None),
        ("@/actions", {"action": "stop", "force": True}, "force"),
        ("@/exec", {"command": ""}, "command"),
        ("@/exec", {"command": 7}, "command"),
        ("@/exec", {"command": "a\0b"}, "command"),
        ("@/exec", {"command": "\ud800"}, "command"),
        ("@/exec", {"command": "c" * 65_537}, "command"),
        ("@/exec", {"command": "true", "timeout_s": 0}, "timeout_s"),
        ("@/exec", {"command": "true", "timeout_s": True}, "timeout_s"),
        ("@/exec", {"command": "true", "background": 1}, "background"),
        ("@/exec", {"command": "true", "cwd": "/"}, "cwd"),
        ("@/snapshots", {"name": "../up"}, "name"),
        ("@/snapshots", {"name": None}, "name"),
        ("/v1/ssh-keys", {"name": "", "public_key": PUBLIC_KEY}, "name"),
        ("/v1/ssh-keys", {"name": "x", "public_key": None}, "public_key"),
        ("/v1/ssh-keys", {"name": "x"}, None),
    ],
)
async def test_a_body_has_one_reading_or_none(door: Door, path: str, document: Any, field: str | None) -> None:
    """400 that names the member; nothing was sent."""
    before = len(door.acts.bed.upstream.seen)
    got = await door.ask("POST", path, document)
    assert (got.status, got.problem, got.json.get("field")) == (400, "bad_request", field)
    assert len(door.acts.bed.upstream.seen) == before


async def test_a_member_that_stands_twice_is_refused(door: Door) -> None:
    """And so is what is no JSON object, and a query that nobody reads."""
    for raw in (b'{"action":"stop","action":"start"}', b"[]", b"{", b"", b'{"action":"stop"} x'):
        assert (await door.ask("POST", "@/actions", raw=raw)).problem == "bad_request"
    assert (await door.ask("GET", "@/credentials?as=root")).problem == "bad_request"


@pytest.mark.parametrize(
    ("path", "limit"),
    [("@/actions", 1024), ("@/exec", 256 * 1024), ("@/snapshots", 4096), ("/v1/ssh-keys", 16 * 1024)],
)
async def test_a_body_that_is_too_large_names_its_limit(door: Door, path: str, limit: int) -> None:
    """413 before it is parsed."""
    got = await door.ask("POST", path, raw=b" " * (limit + 1))
    assert (got.status, got.problem, got.json["limit_bytes"]) == (413, "body_oversized", limit)


async def test_a_command_and_its_jobs(door: Door) -> None:
    """Waited for, and in the background."""
    got = await door.ask("POST", "@/exec", {"command": "echo hello"})
    assert got.status == 200
    assert got.json["job"]["stdout"] == "hello\n"
    assert got.headers["Cache-Control"] == "no-store"
    begun = (await door.ask("POST", "@/exec", {"command": "sleep 900", "background": True})).json["job"]
    assert begun["id"] in {job["id"] for job in (await door.ask("GET", "@/jobs")).json["entries"]}
    assert (await door.ask("DELETE", f"@/jobs/{begun['id']}")).json["job"]["state"] == "cancelled"
    assert (await door.ask("GET", f"@/jobs/{begun['id']}")).json["job"]["state"] == "cancelled"
    for wrong in ("no-such-job", "%2e%2e", "a%2Fb", "%00", "%C3%A9"):
        assert (await door.ask("GET", f"@/jobs/{wrong}")).status in {404, 422}, wrong
    denied = await door.ask("POST", "@/exec", {"command": "shutdown"})
    assert (denied.status, denied.problem) == (403, "upstream_policy_denied")


async def test_files_pass_as_they_are(door: Door) -> None:
    """Whole and streamed, both ways; HEAD shows that it is there, and no byte of it."""
    for name, content in (("small", b"\0\xff small"), ("empty", b""), ("large", bytes(range(256)) * 12 * 1024)):
        put = await door.ask("PUT", f"@/files?path=/root/{name}", raw=content)
        assert (put.status, put.body) == (204, b"")
        got = await door.ask("GET", f"@/files?path=/root/{name}")
        assert (got.status, got.body == content) == (200, True)
        assert got.headers["Content-Type"] == "application/octet-stream"
        assert got.headers["X-Content-Type-Options"] == "nosniff"
        head = await door.ask("HEAD", f"@/files?path=/root/{name}")
        assert (head.status, head.body) == (200, b"")
    for path in ("", "?path=", "?path=root/x", "?path=/a%0Ab", "?path=/a&path=/b", f"?path=/{'a' * 4096}"):
        got = await door.ask("GET", f"@/files{path}")
        assert (got.status, got.problem) == (400, "bad_request"), path
    assert (await door.ask("GET", "@/files?path=/root/none")).status == 404


async def test_a_file_that_is_too_large_is_cut_off_by_name(broker_bed: Bed) -> None:
    """413 with the limit, also where its length was not said before; what is there stays whole."""
    api = broker_bed.api.api
    api.deps = replace(api.deps, settings=replace(api.deps.settings, stream_bytes=2 * MIB))
    async with acts_on(broker_bed, "litevps") as acts, served(acts) as serving:
        door = Door(acts, serving, broker_bed.client, await acts.running())

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield bytes(MIB)

        for raw in (bytes(2 * MIB + 1), pieces()):
            got = await door.ask("PUT", "@/files?path=/root/big", raw=raw)
            assert (got.status, got.problem, got.json["limit_bytes"]) == (413, "body_oversized", 2 * MIB)
        assert (await door.ask("GET", "@/files?path=/root/big")).status == 404


async def test_snapshots_are_listed_page_by_page(door: Door) -> None:
    """Of the server and of the account, the newest first; a snapshot's document names its end where that is known."""
    made = [(await door.ask("POST", "@/snapshots", {"name": f"s{n}"})).json["id"] for n in range(3)]
    page = (await door.ask("GET", "@/snapshots?limit=2")).json
    rest = (await door.ask("GET", f"@/snapshots?limit=2&after={page['next']}")).json
    assert [entry["id"] for entry in (*page["entries"], *rest["entries"])] == made[::-1]
    assert (rest["next"], len((await door.ask("GET", "/v1/snapshots")).json["entries"])) == (None, 3)
    shown = (await door.ask("GET", f"/v1/snapshots/{made[0]}")).json
    assert (shown["name"], shown["state"], shown["expires_at"]) == ("s0", "available", None)
    assert (await door.ask("DELETE", f"/v1/snapshots/{made[0]}")).json["state"] == "deleted"
    unnamed = await door.ask("POST", "@/snapshots", Idempotency_Key="unnamed")
    again = await door.ask("POST", "@/snapshots", Idempotency_Key="unnamed")
    assert (unnamed.status, again.json["id"]) == (202, unnamed.json["id"])
    named = await door.ask("POST", f"/v1/snapshots/{made[1]}/restore", {"name": "again"})
    assert (named.status, named.json["field"]) == (400, "name")
    bounded = await door.ask("POST", f"/v1/snapshots/{made[1]}/restore", {"max_total": "1"})
    assert (bounded.status, bounded.json["field"]) == (400, "max_total")
    refused = await door.ask("POST", f"/v1/snapshots/{made[1]}/restore")
    assert (refused.status, refused.problem, refused.json["state"]) == (409, "server_not_ready", "running")


async def test_a_restore_to_a_new_server_needs_a_key(broker_bed: Bed) -> None:
    """What it orders is made once, so the request must be one that can be told from another."""
    async with acts_on(broker_bed, "cryptovps") as acts, served(acts) as serving:
        door = Door(acts, serving, broker_bed.client, await acts.running())
        made = (await door.ask("POST", "@/snapshots", {"name": "mine"})).json["id"]
        got = await door.ask("POST", f"/v1/snapshots/{made}/restore")
        assert (got.status, got.problem, got.json["field"]) == (400, "bad_request", "Idempotency-Key")
        for _ in range(20):
            broker_bed.advance(61)
            if (await door.ask("GET", f"/v1/snapshots/{made}")).json["state"] == "available":
                break
        path, cap = f"/v1/snapshots/{made}/restore", {"X_Max_Charge": "0.000001"}
        dear = await door.ask("POST", path, {"name": "again"}, Idempotency_Key="dear", **cap)
        assert (dear.status, dear.problem) == (409, "price_above_max_charge")
        until, bounds = "2040-01-31T12:00:00.000Z", {"max_total": "9.500000", "auto_renew": False}
        kept = await door.ask("POST", path, {"keep_until": until, **bounds}, Idempotency_Key="kept")
        assert (kept.status, kept.json["keep_until"]) == (202, until)
        assert (kept.json["max_total"], kept.json["auto_renew"]) == ("9.500000", False)
        for field, value in (("max_total", "lots"), ("keep_until", "2001-01-01T00:00:00Z"), ("auto_renew", 1)):
            wrong = await door.ask("POST", path, {field: value}, Idempotency_Key="wrong")
            assert (wrong.status, wrong.json["field"]) == (400, field)
        first = await door.ask("POST", f"/v1/snapshots/{made}/restore", {"name": "again"}, Idempotency_Key="k")
        again = await door.ask("POST", f"/v1/snapshots/{made}/restore", {"name": "again"}, Idempotency_Key="k")
        assert (first.status, again.status) == (202, 202)
        assert first.json["id"] == again.json["id"] != door.server.id
        assert again.headers["Idempotent-Replayed"] == "true"
        other = await door.ask("POST", f"/v1/snapshots/{made}/restore", {"name": "other"}, Idempotency_Key="k")
        assert other.problem == "idempotency_conflict"
        await acts.orders.until(first.json["id"], ServerState.RUNNING)


async def test_credentials_where_there_are_none_name_who_has_them(door: Door) -> None:
    """501 with the capability and the vendors that have it."""
    got = await door.ask("GET", "@/credentials")
    assert (got.status, got.problem, got.json["capability"]) == (501, "capability_missing", "credentials")
    assert got.json["vendors"] == ["vrtx"]


async def test_ways_in_are_never_stored(broker_bed: Bed) -> None:
    """VRTX: no-store, for a key that may spend there and for no other."""
    async with acts_on(broker_bed, "vrtx") as acts, served(acts) as serving:
        door = Door(acts, serving, broker_bed.client, await acts.running())
        got = await door.ask("GET", "@/credentials")
        assert (got.status, got.headers["Cache-Control"]) == (200, "no-store")
        assert got.json["password"]
        assert not any(got.json["password"] in str(entry) for entry in broker_bed.logs.entries)


async def test_an_ssh_key_is_kept_listed_and_deleted(door: Door) -> None:
    """The same again is the same; another under its Idempotency-Key is refused."""
    body = {"name": "laptop", "public_key": f"{PUBLIC_KEY}\n"}
    made = await door.ask("POST", "/v1/ssh-keys", body, Idempotency_Key="k")
    assert made.status == 201
    assert (made.json["public_key"], made.json["installed"]) == (PUBLIC_KEY, [])
    again = await door.ask("POST", "/v1/ssh-keys", body, Idempotency_Key="k")
    assert (again.json, again.headers["Idempotent-Replayed"]) == (made.json, "true")
    assert (await door.ask("POST", "/v1/ssh-keys", body)).json == made.json
    other = await door.ask("POST", "/v1/ssh-keys", {**body, "name": "x"}, Idempotency_Key="k")
    assert other.problem == "idempotency_conflict"
    one = f"/v1/ssh-keys/{made.json['id']}"
    assert (await door.ask("GET", "/v1/ssh-keys")).json == {"entries": [made.json], "next": None}
    assert (await door.ask("GET", one)).json == made.json
    assert (await door.ask("DELETE", one)).json == made.json
    assert (await door.ask("GET", one)).status == 404
    refused = await door.ask("POST", "/v1/ssh-keys", {"name": "x", "public_key": f'command="x" {PUBLIC_KEY}'})
    assert (refused.status, refused.problem, refused.json["field"]) == (422, "input_refused", "public_key")


async def test_nobody_elses_things_exist(door: Door) -> None:
    """P9: 404 on every route, whatever is sent."""
    snapshot = (await door.ask("POST", "@/snapshots", {"name": "mine"})).json["id"]
    key = (await door.ask("POST", "/v1/ssh-keys", {"name": "k", "public_key": PUBLIC_KEY})).json["id"]
    for method, path, document in (
        ("POST", "@/actions", {"action": "stop"}),
        ("GET", "@/credentials", None),
        ("POST", "@/exec", {"command": "true"}),
        ("GET", "@/jobs", None),
        ("GET", "@/jobs/1", None),
        ("DELETE", "@/jobs/1", None),
        ("GET", "@/files?path=/etc/hosts", None),
        ("PUT", "@/files?path=/etc/hosts", {}),
        ("POST", "@/snapshots", {}),
        ("GET", "@/snapshots", None),
        ("GET", f"/v1/snapshots/{snapshot}", None),
        ("DELETE", f"/v1/snapshots/{snapshot}", None),
        ("POST", f"/v1/snapshots/{snapshot}/restore", {}),
        ("GET", f"/v1/ssh-keys/{key}", None),
        ("DELETE", f"/v1/ssh-keys/{key}", None),
    ):
        got = await door.ask(method, path, document, account="acc_2")
        assert (got.status, got.problem) == (404, "not_found"), (method, path, got.body)
    for path in ("/v1/snapshots", "/v1/ssh-keys"):
        assert (await door.ask("GET", path, account="acc_2")).json["entries"] == []


async def test_a_download_that_breaks_off_is_seen_to(door: Door) -> None:
    """A gateway that stops half-way through a file breaks the connection: half a file is no file."""
    assert (await door.ask("PUT", "@/files?path=/root/large", raw=bytes(24 * MIB))).status == 204
    sent = {"Authorization": f"Bearer {door.acts.bed.keys['acc_1']}"}
    url = f"{door.serving.url}/v1/servers/{door.server.id}/files?path=/root/large"
    async with door.client.get(url, headers=sent) as answer:
        assert await answer.content.read(1024)
        door.serving.api.refuse_new()
        with pytest.raises(aiohttp.ClientError):
            await answer.read()

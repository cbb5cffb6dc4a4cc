"""A server's whole life at each account vendor: made, used, charged as the vendor bills it, destroyed, given back."""

import json
from collections.abc import AsyncIterator

import pytest

from tests.flows.broker_bed import ALL, CREATES, CREDIT_BASE, EMAIL, PASSWORD, TOKEN, Bed, ref_in, server_path

HOLDS = {"cryptovps": 14_881, "litevps": 8_540, "vrtx": 5_300}  # what the first hour may cost at most
CHARGES = {"cryptovps": 13_700, "litevps": 140, "vrtx": 5_300}  # of 70 s: an hour, a minute, an hour
NAMES = {"cryptovps": "label", "litevps": "name", "vrtx": "hostname"}
LISTS = {"cryptovps": "cryptovps/servers", "litevps": "litevps/api/vps", "vrtx": "vrtx/api/v2/servers"}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl agent"


def shown(kind: str, document: object) -> list[dict[str, object]]:
    """The servers on a list, as the vendor documents it."""
    if kind == "cryptovps":
        assert isinstance(document, dict)
        return list(document["servers"])
    if kind == "vrtx":
        assert isinstance(document, dict)
        return list(document["data"])
    assert isinstance(document, list)
    return document


@pytest.mark.parametrize("kind", ALL)
async def test_server_is_made_used_and_destroyed(broker_bed: Bed, kind: str) -> None:
    """A create holds an hour; the agent sees its own name; the end charges what was used, and nothing stays held."""
    bed, name = broker_bed, CREATES[kind][1][NAMES[kind]]
    got = await bed.create(kind)
    assert got.status in (201, 202)
    assert (got.headers["X-Charge"], bed.balance()) == (
        f"0.{HOLDS[kind]:06d}",
        (CREDIT_BASE - HOLDS[kind], HOLDS[kind]),
    )
    ref = ref_in(kind, got.json)
    (made,) = bed.servers(kind)
    marked = made.get("label") or made.get("name")
    assert marked != name
    assert marked.startswith(name.partition(".")[0] + "-g")
    await bed.later(kind, 70)
    for path in (server_path(kind, ref), LISTS[kind]):
        seen = await bed.ask("GET", path)
        assert seen.status == 200
        assert name.encode() in seen.body
        assert marked.encode() not in seen.body
    assert [server.get("uuid", server.get("id")) for server in shown(kind, seen.json)] == [ref]
    assert (await bed.end(kind, ref)).status in (202, 204)
    await bed.later(kind, 601)
    assert (bed.meters, bed.open, bed.servers(kind)) == ([], [], [])
    assert bed.balance() == (CREDIT_BASE - CHARGES[kind], 0)
    (payment,) = await bed.payments()
    assert (payment["charge"], payment["captured"]) == ("captured", f"0.{CHARGES[kind]:06d}")
    await bed.sound()


async def test_litevps_machine_is_used_as_its_document_says(broker_bed: Bed) -> None:
    """Exec, jobs, files, snapshots, keys and a renaming: passed on, and shown under the agent's own names."""
    bed = broker_bed
    key = (await bed.ask("POST", "litevps/api/keys", {"name": "k", "public_key": KEY})).json["id"]
    ref = await bed.running("litevps", ssh_key_ids=[key])
    one = server_path("litevps", ref)
    ran = await bed.ask("POST", f"{one}/exec", {"command": "uname -a"})
    assert (ran.status, ran.json["exit_code"]) == (200, 0)
    job = (await bed.ask("POST", f"{one}/exec", {"command": "sleep 1", "background": True})).json["job_id"]
    assert (await bed.ask("GET", f"{one}/jobs/{job}")).status == 200
    assert job in (await bed.ask("GET", f"{one}/jobs")).body.decode()
    put = await bed.ask("PUT", f"{one}/files?path=/root/x", raw=b'{"id": "not ours to read"}')
    assert put.status in (200, 201, 204)
    assert (await bed.ask("GET", f"{one}/files?path=/root/x")).body == b'{"id": "not ours to read"}'
    assert (await bed.ask("GET", f"{one}/vnc-port")).headers["Cache-Control"] == "no-store"
    renamed = await bed.ask("PUT", one, {"name": "other"})
    assert (renamed.status, renamed.json["name"]) == (200, "other")
    assert (await bed.ask("GET", one)).json["name"] == "other"
    assert bed.servers("litevps")[0]["name"] == f"other-{bed.meters[0].token}"
    assert [entry["id"] for entry in (await bed.ask("GET", "litevps/api/keys")).json] == [key]
    denied = await bed.ask("POST", f"{one}/exec", {"command": "mkfs /dev/vda"})
    assert (denied.status, denied.problem) == (403, "upstream_policy_denied")


async def test_long_name_is_cut_for_the_vendor_and_whole_for_its_agent(broker_bed: Bed) -> None:
    """A mark takes room in a name; its agent never sees that."""
    for kind, name in (("litevps", "n" * 63), ("cryptovps", "l" * 64), ("vrtx", "h" * 60 + ".example.com")):
        ref = await broker_bed.server(kind, **{NAMES[kind]: name})
        got = await broker_bed.ask("GET", server_path(kind, ref))
        assert name.encode() in got.body, kind


async def test_stopped_machine_costs_nothing_from_the_answer_on(broker_bed: Bed) -> None:
    """LiteVPS charges running minutes: what an agent's own call shows counts at once, not at the next look."""
    bed = broker_bed
    ref = await bed.running("litevps")
    await bed.ask("POST", f"{server_path('litevps', ref)}/stop")
    bed.advance(5)
    assert (await bed.ask("GET", server_path("litevps", ref))).json["state"] == "stopped"
    await bed.settled()
    (meter,) = bed.meters
    assert meter.running_since_ms is None
    assert meter.accrued == "7/50000"  # one minute


async def test_template_that_ends_by_itself_has_its_end_from_the_create_on(broker_bed: Bed) -> None:
    """`ttl_minutes` becomes the resource's expiry, and a look that does not tell it takes it not away."""
    bed = broker_bed
    ref = await bed.running("litevps", ttl_minutes=30)
    resource = await bed.store.resource("litevps", ref)
    assert resource is not None
    assert resource.expires_at_ms is not None
    assert -60_000 < resource.expires_at_ms - (bed.clock.now_ms() - 70_000 + 1_800_000) < 5_000


async def test_vrtx_pages_and_short_ids_are_the_agents_own(broker_bed: Bed) -> None:
    """Pages are cut from what is the agent's, whatever else the account holds; eight characters name its own server."""
    bed = broker_bed
    await bed.server("vrtx", account="acc_2")
    refs = [await bed.server("vrtx", hostname=f"app-{number}.example.com") for number in range(3)]
    page = (await bed.ask("GET", "vrtx/api/v2/servers?page=2&per_page=2")).json
    assert page["meta"] == {"current_page": 2, "last_page": 2, "per_page": 2, "total": 3}
    assert len(page["data"]) == 1
    short = await bed.ask("GET", f"vrtx/api/v2/servers/{refs[0][:8]}")
    assert short.json["data"]["uuid"] == refs[0]
    assert (await bed.ask("GET", f"vrtx/api/v2/servers/{refs[0][:8]}/credentials")).status == 200


async def test_backup_is_restored_to_a_server_of_its_own_charges(broker_bed: Bed) -> None:
    """CryptoVPS: a restore costs what its backup's plan costs, and what it makes is the agent's."""
    bed = broker_bed
    ref = await bed.running("cryptovps")
    backup = (await bed.ask("POST", "cryptovps/backups", {"serverId": ref})).json["backup"]["id"]
    bed.advance(300)
    assert [b["id"] for b in (await bed.ask("GET", "cryptovps/backups")).json["backups"]] == [backup]
    restored = await bed.ask("POST", f"cryptovps/backups/{backup}/restore")
    assert (restored.status, restored.headers["X-Charge"]) == (202, "0.014881")
    other = restored.json["server"]["id"]
    listed = (await bed.ask("GET", "cryptovps/servers")).json["servers"]
    assert {server["id"] for server in listed} == {ref, other}
    assert (await bed.ask("DELETE", f"cryptovps/backups/{backup}")).status == 202
    assert len(bed.meters) == 2


@pytest.mark.parametrize("kind", ALL)
async def test_secrets_are_in_no_log_and_in_no_row(broker_bed: Bed, kind: str) -> None:
    """P10: neither the operator's credentials, nor agents' keys, nor what an answer tells once, in logs or in the database."""
    bed = broker_bed
    ref = await bed.running(kind)
    secrets = [PASSWORD, TOKEN, *bed.keys.values()]
    if kind == "vrtx":
        got = await bed.ask("GET", f"{server_path(kind, ref)}/credentials", headers={"Idempotency-Key": "k"})
        assert got.headers["Cache-Control"] == "no-store"
        secrets.append(got.json["data"]["root_password"])
    else:
        login = "/auth/login" if kind == "cryptovps" else "/api/auth/login"
        body = {"email": "agent@example.com", "password": bed.keys["acc_1"]}
        got = await bed.ask("POST", kind + login, body)
        secrets.append(got.json["accessToken" if kind == "cryptovps" else "token"])
    bed.driver(kind).fault("cut", "create", when="after")
    await bed.create(kind, headers={"Idempotency-Key": "other"})
    await bed.end(kind, ref)
    logs = json.dumps(bed.logs.entries, default=str)
    rows = b"".join(path.read_bytes() for path in bed.directory.glob("gateway.db*"))
    bearers = {value for request in bed.upstream.seen for name, value in request.headers if name == "Authorization"}
    assert bearers
    for secret in (*secrets, *(bearer.removeprefix("Bearer ") for bearer in bearers)):
        assert secret not in logs
        assert secret.encode() not in rows
    assert EMAIL not in logs


async def test_long_file_is_streamed_to_the_agents_own_machine_alone(broker_bed: Bed) -> None:
    """A file is no document: one longer than what is kept in memory passes, and still only to a machine of the agent's own."""
    bed, content = broker_bed, b"x" * (1024 * 1024 + 1)

    async def pieces() -> AsyncIterator[bytes]:
        yield content[:-1]
        yield content[-1:]

    target = f"litevps/api/vps/{await bed.running('litevps')}/files?path=/root/long"
    foreign = await bed.ask("PUT", target, raw=pieces(), account="acc_2")
    assert (foreign.status, foreign.json) == (404, {"error": "server not found"})
    put = await bed.ask("PUT", target, raw=pieces())
    assert put.status // 100 == 2, put.body
    assert (await bed.ask("GET", target)).body == content

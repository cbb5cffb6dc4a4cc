"""One suite of vendor-neutral behaviours, run on all five sandbox vendors over HTTP.

Where vendors differ, GET /v1/vendors says so, and a test follows what it says: none of them knows a vendor's name.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from tests.flows.neutral_bed import VENDORS, Agent, NeutralBed, Places, opened, places

pytestmark = pytest.mark.asyncio(loop_scope="module")

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh contract"
STRANGE = "reticulating"
WAIT_S = 40
ENDED = {"destroyed", "lapsed", "failed", "lost"}


@dataclass
class Case:
    """One vendor as GET /v1/vendors and GET /v1/plans tell of it, an agent that rents there, and one that does not.

    `shared` is a server that tests may use and leave running, with how it came to be.
    """

    bed: NeutralBed
    name: str
    said: dict[str, Any]
    everybody: list[dict[str, Any]]
    plan: dict[str, Any]
    agent: Agent
    stranger: Agent
    shared: dict[str, Any] = field(default_factory=dict)

    def can(self, feature: str) -> bool:
        """Say whether the vendor does this for certain."""
        return bool(self.said["features"][feature] == "yes")

    @property
    def order(self) -> dict[str, Any]:
        """What a quote or an order of the plan names: a region and an image where there is a choice."""
        lasting = [image["id"] for image in self.plan["images"] if image["ttl_s"] is None]
        chosen = {"region": self.plan["regions"][:1], "image": lasting[:1]}
        return {"plan": self.plan["id"]} | {name: found[0] for name, found in chosen.items() if found}

    async def made(self, agent: Agent | None = None, **more: Any) -> dict[str, Any]:
        """Order a server and wait until it runs."""
        agent = agent or self.agent
        path = f"/v1/servers?wait=running&timeout_s={WAIT_S}"
        made: dict[str, Any] = await agent.good("POST", path, {**self.order, "name": "box", **more})
        assert made["state"] == "running", made
        return made

    async def running(self) -> str:
        """Return the route of the shared server, which runs."""
        if not self.shared:
            self.shared = await self.made()
        return f"/v1/servers/{self.shared['id']}"

    async def waited(self, path: str, state: str) -> dict[str, Any]:
        """Wait for a state as agents do, in one request, and return the server then."""
        got = await self.agent.ask("GET", f"{path}?wait={state}&timeout_s={WAIT_S}")
        assert (got.status, got.headers["X-Wait"]) == (200, "reached"), got.body
        shown: dict[str, Any] = got.json
        return shown

    async def lacks(self, feature: str, method: str, path: str, document: Any = None) -> None:
        """A 501 names what is missing, and the vendors that have it."""
        got = await self.agent.ask(method, path, document)
        assert (got.status, got.problem) == (501, "capability_missing"), got.body
        able = sorted(each["name"] for each in self.everybody if each["features"][feature] == "yes")
        assert (got.json["capability"], got.json["vendors"]) == (feature, able)


@pytest.fixture(scope="module")
def here() -> Iterator[Places]:
    """The chains and the vendors."""
    with places() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bed(here: Places, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NeutralBed]:
    """One gateway in front of all of them."""
    async with opened(here, tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=VENDORS)
async def case(bed: NeutralBed, request: pytest.FixtureRequest) -> Case:
    """One vendor, its cheapest plan for a first purchase, and two accounts."""
    name = request.param
    agent, stranger = await bed.agent(f"acc_{name}"), await bed.agent(f"acc_{name}_stranger")
    path = f"/v1/plans?vendor={name}&sandbox=true&limit=100"
    listed = await agent.until(path, lambda page: bool(page["entries"]))
    everybody = (await agent.good("GET", "/v1/vendors"))["vendors"]
    said = next(each for each in everybody if each["name"] == name)
    plan = min((each for each in listed["entries"] if each["available"]), key=first_price)
    return Case(bed, name, said, everybody, plan, agent, stranger)


def first_price(plan: dict[str, Any]) -> Decimal:
    """Return what the first term, or the first hour, of a plan costs."""
    price = plan["price"]
    return Decimal(price["term"] or price["hourly"]) + Decimal(price["setup"])


def at(text: str) -> datetime:
    """Return a time of the API."""
    return datetime.fromisoformat(text)


async def balance(agent: Agent) -> dict[str, Decimal]:
    """Return an account's figures."""
    shown = await agent.good("GET", "/v1/balance")
    return {name: Decimal(shown[name]) for name in ("available", "held", "spent", "credited")}


async def paid(agent: Agent, path: str) -> dict[str, Any]:
    """Return a server of paid time once its first time is paid for: a vendor may hand it over before that."""
    shown: dict[str, Any] = await agent.until(path, lambda told: told["payment"]["charge"] == "captured")
    return shown


# what there is


async def test_every_vendor_says_what_it_can_do(case: Case) -> None:
    """Every feature is answered, by one of three words; what is done with paid time and snapshots is there where they are."""
    assert set(case.said["features"].values()) <= {"yes", "no", "unknown"}
    assert len({frozenset(each["features"]) for each in case.everybody}) == 1
    assert (case.said["renew"] is not None) == case.can("renew")
    assert (case.said["snapshots"] is not None) == case.can("snapshots")
    assert case.said["health"]["state"] in {"ok", "unknown"}  # nobody asks a vendor whose plans are known without it
    assert case.said["hold_max_s"] > 0
    assert case.said["pays"] in {"on_success", "at_once", "by_time"}


async def test_a_plan_is_listed_with_an_exact_price(case: Case) -> None:
    """By the hour, exactly, with where it is known from; reading it costs nothing."""
    before = await balance(case.agent)
    got = await case.agent.ask("GET", f"/v1/plans?vendor={case.name}&sandbox=true")
    assert "X-Charge" not in got.headers
    entries = got.json["entries"]
    assert [Decimal(each["price"]["hourly"]) for each in entries] == sorted(
        Decimal(each["price"]["hourly"]) for each in entries
    )
    for entry in entries:
        assert entry["id"] == f"{case.name}/{entry['plan']}"
        assert entry["vendor"] == case.name
        assert Decimal(entry["price"]["hourly"]) > 0
        assert entry["price"]["currency"] == "USD"
        assert (entry["price"]["as_of"] is None) == (entry["price"]["source"] != "api")
        assert entry["billing"] == case.said["billing"]
        if entry["price"]["term_s"] is not None:
            exact = Decimal(entry["price"]["term"]) * 3600 / entry["price"]["term_s"]
            assert 0 <= Decimal(entry["price"]["hourly"]) - exact < Decimal("0.000001")
    assert await balance(case.agent) == before


async def test_a_need_narrows_the_list(case: Case) -> None:
    """What a plan has is found by asking for it, and what it has not is not."""
    sizes = [each for each in ("vcpu", "memory_mib", "disk_gib") if case.plan[each] is not None]
    assert sizes
    for size in sizes:
        for more, listed in ((0, True), (1, False)):
            path = f"/v1/plans?vendor={case.name}&sandbox=true&limit=100&min_{size}={case.plan[size] + more}"
            found = {each["id"] for each in (await case.agent.good("GET", path))["entries"]}
            assert (case.plan["id"] in found) is listed


# ordering


async def test_a_quote_bounds_what_buying_with_it_costs(case: Case) -> None:
    """The first charge is at most the quote's, whose lines add up to it; a quote spends nothing."""
    before = await balance(case.agent)
    quoted = await case.agent.good("POST", "/v1/quotes", case.order)
    assert await balance(case.agent) == before
    most = Decimal(quoted["first_charge"])
    assert sum(Decimal(line["amount"]) for line in quoted["lines"]) == most
    assert (quoted["vendor"], quoted["plan"]["id"]) == (case.name, case.plan["id"])
    assert (quoted["hold_max_s"], quoted["pays"]) == (case.said["hold_max_s"], case.said["pays"])
    assert await case.agent.good("GET", f"/v1/quotes/{quoted['id']}") == quoted
    path = f"/v1/servers?wait=running&timeout_s={WAIT_S}"
    made = await case.agent.good("POST", path, {"quote": quoted["id"], "name": "quoted"})
    assert (made["state"], made["quote"], made["vendor"]) == ("running", quoted["id"], case.name)
    assert 0 < Decimal(made["spent"]) + Decimal(made["held"]) <= most
    case.shared = made


async def test_the_same_token_twice_is_one_server(case: Case) -> None:
    """Also at the same time; another order under it is refused, and one without it is not taken."""
    before = len(await case.agent.all_of("/v1/servers"))
    order = {**case.order, "name": "twice"}
    answers = await asyncio.gather(*(case.agent.ask("POST", "/v1/servers", order, token="once") for _ in range(3)))
    assert {got.status for got in answers} <= {200, 201, 202}
    ids = {got.json["id"] for got in answers}
    assert len(ids) == 1
    again = await case.agent.ask("POST", "/v1/servers", order, token="once")
    assert (again.status, again.json["id"], again.headers["Idempotent-Replayed"]) == (200, *ids, "true")
    other = await case.agent.ask("POST", "/v1/servers", {**order, "name": "other"}, token="once")
    assert (other.status, other.problem) == (409, "idempotency_conflict")
    bare = await case.agent.client.post(
        f"{case.agent.url}/v1/servers", json=order, headers={"Authorization": f"Bearer {case.agent.key}"}
    )
    assert (bare.status, (await bare.json())["field"]) == (400, "Idempotency-Key")
    (server_id,) = ids
    await case.waited(f"/v1/servers/{server_id}", "running")
    assert len(await case.agent.all_of("/v1/servers")) == before + 1
    if case.can("destroy"):
        await case.agent.good("DELETE", f"/v1/servers/{server_id}")


async def test_a_server_is_waited_for_until_it_runs(case: Case) -> None:
    """One request answers when it does; then it has an address, and is listed as running."""
    made = await case.agent.good("POST", "/v1/servers", {**case.order, "name": "waited"})
    assert made["state"] in {"ordering", "order_unknown", "provisioning"}
    shown = await case.waited(f"/v1/servers/{made['id']}", "running")
    assert shown["address"]
    assert shown["ready_at"] is not None
    assert (shown["expires_at"] is not None) == case.can("renew")
    assert shown["ref"] is not None
    listed = await case.agent.all_of(f"/v1/servers?vendor={case.name}&state=running")
    assert made["id"] in {each["id"] for each in listed}
    if case.can("destroy"):
        await case.agent.good("DELETE", f"/v1/servers/{made['id']}")


async def test_what_a_vendor_does_not_take_is_refused_before_it_costs(case: Case) -> None:
    """An order that names what the vendor has not got is refused by its field, and no server is left."""
    agent = await case.bed.agent(f"acc_{case.name}_refused")
    wrong: dict[str, Any] = {"region": "no-such-region", "image": "no-such-image"}
    if not case.can("user_data"):
        wrong["user_data"] = "#!/bin/sh\ntrue\n"
    if not case.can("ssh_keys"):
        key = await agent.good("POST", "/v1/ssh-keys", {"name": "mine", "public_key": PUBLIC_KEY})
        wrong["ssh_keys"] = [key["id"]]
    for name, value in wrong.items():
        for path in ("/v1/quotes", "/v1/servers"):
            got = await agent.ask("POST", path, {**case.order, name: value})
            assert (got.status, got.problem) in {(409, "no_plan_fits"), (422, "input_refused")}, (name, got.body)
            if got.problem == "no_plan_fits":
                assert [each["plan"] for each in got.json["candidates_lost"]] == [case.plan["id"]]
            else:
                assert got.json["field"] == name
    shown = await balance(agent)
    assert (shown["available"], shown["held"]) == (shown["credited"], 0)
    assert await agent.all_of("/v1/servers") == []


# having


async def test_the_way_in_is_shown_to_its_owner(case: Case) -> None:
    """Never cached; where the document knows of none, the answer says who has one."""
    path = f"{await case.running()}/credentials"
    if not case.can("credentials"):
        await case.lacks("credentials", "GET", path)
        return
    got = await case.agent.ask("GET", path)
    assert (got.status, got.headers["Cache-Control"]) == (200, "no-store")
    assert got.json["username"] == "root"
    assert got.json.get("password") or got.json.get("private_key")


@pytest.mark.parametrize(
    ("action", "state"), [("stop", "stopped"), ("start", "running"), ("reboot", "running")], ids=lambda value: value
)
async def test_a_server_is_switched(case: Case, action: str, state: str) -> None:
    """Off, on and over again, each until a look shows it."""
    path = await case.running()
    if not case.can(action):
        await case.lacks(action, "POST", f"{path}/actions", {"action": action})
        return
    acted = await case.agent.good("POST", f"{path}/actions", {"action": action})
    assert acted["wanted"] == "kept"
    await case.waited(path, state)


async def test_commands_run_in_it(case: Case) -> None:
    """At once, and as jobs that are listed and shown."""
    path = await case.running()
    if not case.can("exec"):
        await case.lacks("exec", "POST", f"{path}/exec", {"command": "echo hello"})
    else:
        job = (await case.agent.good("POST", f"{path}/exec", {"command": "echo hello"}))["job"]
        assert (job["state"], job["exit_code"], job["stdout"]) == ("done", 0, "hello\n")
    if not case.can("jobs"):
        await case.lacks("jobs", "GET", f"{path}/jobs")
        return
    command = {"command": "echo later", "background": True}
    begun = (await case.agent.good("POST", f"{path}/exec", command))["job"]
    shown = await case.agent.until(
        f"{path}/jobs/{begun['id']}", lambda told: told["job"]["state"] not in {"pending", "running"}
    )
    assert (shown["job"]["state"], shown["job"]["stdout"]) == ("done", "later\n")
    assert begun["id"] in {each["id"] for each in (await case.agent.good("GET", f"{path}/jobs"))["entries"]}


async def test_files_go_in_and_come_out(case: Case) -> None:
    """Byte for byte."""
    path = f"{await case.running()}/files?path=/root/contract.bin"
    if not case.can("files"):
        await case.lacks("files", "GET", path)
        return
    content = bytes(range(256)) * 5000
    put = await case.agent.ask("PUT", path, raw=content)
    assert put.status in {200, 201, 204}, put.body
    got = await case.agent.ask("GET", path)
    assert (got.status, got.body == content) == (200, True)


async def test_a_snapshot_is_taken_and_restored(case: Case) -> None:
    """In place where the vendor does that, else as a new server; deleted where it can be."""
    path = await case.running()
    if not case.can("snapshots"):
        await case.lacks("snapshots", "POST", f"{path}/snapshots", {"name": "mine"})
        await case.lacks("snapshots", "GET", f"{path}/snapshots")
        return
    taken = await case.agent.good("POST", f"{path}/snapshots", {"name": "mine"})
    assert (taken["server"], taken["vendor"]) == (case.shared["id"], case.name)
    one = f"/v1/snapshots/{taken['id']}"
    await case.agent.until(one, lambda told: told["state"] == "available")
    assert taken["id"] in {each["id"] for each in await case.agent.all_of(f"{path}/snapshots")}
    assert taken["id"] in {each["id"] for each in await case.agent.all_of("/v1/snapshots")}
    if case.can("restore_in_place"):
        await _restored_in_place(case, path, one)
    else:
        assert case.can("restore_to_new")
        restored = await case.agent.good("POST", f"{one}/restore", {"name": "again"})
        assert restored["id"] != case.shared["id"]
        await case.waited(f"/v1/servers/{restored['id']}", "running")
        if case.can("destroy"):
            await case.agent.good("DELETE", f"/v1/servers/{restored['id']}")
    if case.can("snapshot_delete"):
        await case.agent.good("DELETE", one)
        assert (await case.agent.good("GET", one))["state"] == "deleted"


async def _restored_in_place(case: Case, path: str, one: str) -> None:
    if case.said["snapshots"]["requires_stopped"]:
        refused = await case.agent.ask("POST", f"{one}/restore", {})
        assert (refused.status, refused.problem) == (409, "server_not_ready")
        await case.agent.good("POST", f"{path}/actions", {"action": "stop"})
        await case.waited(path, "stopped")
    restored = await case.agent.good("POST", f"{one}/restore", {})
    assert restored["id"] == case.shared["id"]
    if case.said["snapshots"]["requires_stopped"]:
        await case.agent.good("POST", f"{path}/actions", {"action": "start"})
    await case.waited(path, "running")


async def _keyed_within_its_quote(case: Case, text: str) -> None:
    """A quote covers what its vendor takes for learning of a key: the account pays no more than its first charge."""
    agent = await case.bed.agent(f"acc_{case.name}_keyed")
    key = await agent.good("POST", "/v1/ssh-keys", {"name": "quoted", "public_key": text})
    quoted = await agent.good("POST", "/v1/quotes", {**case.order, "ssh_keys": [key["id"]]})
    most = Decimal(quoted["first_charge"])
    assert sum(Decimal(line["amount"]) for line in quoted["lines"]) == most
    path = f"/v1/servers?wait=running&timeout_s={WAIT_S}"
    made = await agent.good("POST", path, {"quote": quoted["id"], "name": "quoted"})
    assert made["state"] == "running", made
    shown = await balance(agent)
    assert 0 < shown["held"] + shown["spent"] <= most
    if case.can("destroy"):
        await agent.good("DELETE", f"/v1/servers/{made['id']}")


async def test_an_ssh_key_is_installed(case: Case) -> None:
    """Kept once for the account, and known to the vendor from the first server that is made with it."""
    text = PUBLIC_KEY.replace(" contract", f" {case.name}")
    key = await case.agent.good("POST", "/v1/ssh-keys", {"name": "contract", "public_key": text})
    assert key["fingerprint"].startswith("SHA256:")
    if not case.can("ssh_keys"):
        got = await case.agent.ask("POST", "/v1/quotes", {**case.order, "ssh_keys": [key["id"]]})
        assert (got.status, got.problem) == (409, "no_plan_fits")
        lost = {(each["plan"], each["reason"]) for each in got.json["candidates_lost"]}
        assert lost == {(case.plan["id"], "feature:ssh_keys")}
        return
    await _keyed_within_its_quote(case, text)
    made = await case.made(name="keyed", ssh_keys=[key["id"]])
    shown = await case.agent.good("GET", f"/v1/ssh-keys/{key['id']}")
    assert case.name in shown["installed"]
    if case.can("destroy"):
        await case.agent.good("DELETE", f"/v1/servers/{made['id']}")
    await case.agent.good("DELETE", f"/v1/ssh-keys/{key['id']}")
    assert (await case.agent.ask("GET", f"/v1/ssh-keys/{key['id']}")).status == 404


async def test_paid_time_is_bought(case: Case) -> None:
    """Its end moves once the renewal is paid, by what was bought; the payment is listed. Elsewhere time is not bought."""
    path = await case.running()
    if not case.can("renew"):
        await case.lacks("renew", "POST", f"{path}/renewals", {"units": 1})
        return
    before = await paid(case.agent, path)
    units = 60 if case.said["renew"]["unit_s"] == 60 else 1
    unit_s = case.said["renew"]["unit_s"] or case.plan["price"]["term_s"]
    await case.agent.good("POST", f"{path}/renewals", {"units": units})
    after = await case.agent.until(path, lambda told: told["expires_at"] != before["expires_at"])
    assert (at(after["expires_at"]) - at(before["expires_at"])).total_seconds() == units * unit_s
    assert len((await case.agent.good("GET", f"{path}/renewals"))["entries"]) == 1
    assert Decimal(after["spent"]) + Decimal(after["held"]) > Decimal(before["spent"]) + Decimal(before["held"])


async def test_what_an_agent_wants_of_it_can_be_changed(case: Case) -> None:
    """Its name here, and what it may cost: a limit that is used up already buys nothing more."""
    path = await case.running()
    await case.agent.until(path, lambda told: told["renewal"]["state"] == "none")
    # What is charged as it runs is destroyed once it has used its limit up, which the planner may see before we lift it.
    limit = "0.000001" if case.can("renew") else "1000.000000"
    changed = await case.agent.good("PATCH", path, {"name": "renamed", "max_total": limit})
    assert (changed["name"], changed["max_total"]) == ("renamed", limit)
    if case.can("renew"):
        got = await case.agent.ask("POST", f"{path}/renewals", {"units": 1})
        assert (got.status, got.problem) == (409, "max_total_reached"), got.body
    back = await case.agent.good("PATCH", path, {"max_total": None})
    assert (back["max_total"], back["name"]) == (None, "renamed")
    assert back["version"] > changed["version"]


async def test_nobody_else_finds_it(case: Case) -> None:
    """P9: another account gets a 404 on every route of the server, of its snapshots and of its quote."""
    path, stranger = await case.running(), case.stranger
    quoted = await case.agent.good("POST", "/v1/quotes", case.order)
    asked: list[tuple[str, str, Any]] = [
        ("GET", path, None),
        ("GET", f"{path}?wait=running&timeout_s=1", None),
        ("PATCH", path, {"name": "mine"}),
        ("DELETE", path, None),
        *(("POST", f"{path}/actions", {"action": action}) for action in ("start", "stop", "reboot")),
        ("GET", f"{path}/credentials", None),
        ("POST", f"{path}/exec", {"command": "true"}),
        ("GET", f"{path}/files?path=/etc/passwd", None),
        ("GET", f"{path}/jobs", None),
        ("GET", f"{path}/jobs/job_1", None),
        ("DELETE", f"{path}/jobs/job_1", None),
        ("POST", f"{path}/renewals", {"units": 1}),
        ("GET", f"{path}/renewals", None),
        ("POST", f"{path}/snapshots", {"name": "mine"}),
        ("GET", f"{path}/snapshots", None),
        ("GET", f"/v1/quotes/{quoted['id']}", None),
        ("POST", "/v1/servers", {"quote": quoted["id"], "name": "mine"}),
    ]
    for one in await case.agent.all_of("/v1/snapshots"):
        asked += [
            ("GET", f"/v1/snapshots/{one['id']}", None),
            ("POST", f"/v1/snapshots/{one['id']}/restore", {}),
            ("DELETE", f"/v1/snapshots/{one['id']}", None),
        ]
    for method, route, document in asked:
        got = await stranger.ask(method, route, document)
        assert (got.status, got.problem) == (404, "not_found"), (method, route, got.body)
    put = await stranger.ask("PUT", f"{path}/files?path=/root/x", raw=b"x")
    assert (put.status, put.problem) == (404, "not_found")
    for route in ("/v1/servers", "/v1/snapshots", "/v1/ssh-keys"):
        assert await stranger.all_of(route) == []
    assert (await case.agent.good("GET", path))["state"] == "running"
    assert (await balance(stranger))["spent"] == 0


# the end, and what it cost


async def test_every_cent_is_in_the_statement(case: Case) -> None:
    """Of an account that had one server: what was captured for it, by the statement, the balance and the server itself."""
    agent = await case.bed.agent(f"acc_{case.name}_once")
    made = await case.made(agent, name="counted")
    path = f"/v1/servers/{made['id']}"
    if case.can("renew"):
        ended_at = (await paid(agent, path))["expires_at"]
        await agent.good("POST", f"{path}/renewals", {"units": case.said["renew"]["min_units"]})
        await agent.until(path, lambda told: told["expires_at"] != ended_at)
    if case.can("destroy"):
        assert (await agent.good("DELETE", path))["wanted"] == "destroyed"
        shown = await agent.until(path, lambda told: told["state"] in ENDED)
        assert (shown["state"], shown["wanted"]) == ("destroyed", "destroyed")
        again = await agent.ask("DELETE", path)
        assert again.status in {200, 202, 409}
    else:
        got = await agent.ask("DELETE", path)
        assert (got.status, got.problem, got.json["capability"]) == (501, "capability_missing", "destroy")
        assert case.name not in got.json["vendors"]
    await agent.until("/v1/balance", lambda told: Decimal(told["held"]) == 0, within_s=60)
    shown, have = await agent.good("GET", path), await balance(agent)
    entries = await agent.all_of("/v1/statement")
    captured = sum(Decimal(each["amount"]) for each in entries if each["kind"] in {"capture", "debit"})
    assert captured == have["spent"] == Decimal(shown["spent"]) > 0
    assert Decimal(shown["held"]) == 0
    assert have["available"] == have["credited"] - have["spent"]
    held = {each["id"]: Decimal(each["amount"]) for each in entries if each["kind"] == "hold"}
    closed = [each for each in entries if each["hold_id"] is not None]
    assert {each["hold_id"] for each in closed} == set(held)
    for each in closed:
        assert Decimal(each["amount"]) <= held[each["hold_id"]]


async def test_a_state_that_no_document_names_is_unknown(case: Case) -> None:
    """It is said as such, with the vendor's word, and an operator is told; its money is not touched by it."""
    made = await case.made(name="odd")
    case.bed.places.call_it(case.name, made["ref"], STRANGE)
    shown = await case.waited(f"/v1/servers/{made['id']}", "unknown")
    assert STRANGE in shown["reason"]
    tasks = await case.bed.gateway.parts.store.query("SELECT kind, subject FROM tasks")
    assert ("unknown_state", f"{case.name}/{STRANGE}") in {(task["kind"], task["subject"]) for task in tasks}

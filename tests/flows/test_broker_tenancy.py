"""P9: two agents on one vendor account. Every declared route is tried against the other's things, in every spelling.

The routes come from the modules' own tables: one that is added there and not here fails. What must not appear (ids, names,
addresses, marks, figures of the other agent and of the shared account) is looked for in every byte of every answer, and
what the vendor holds is compared before and after.
"""

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

import pytest

from gateway.core.routes import Place, Pricing, Route
from tests.flows.broker_bed import ALL, CREATES, Bed, Got, server_path
from tests.flows.test_broker_life import KEY

THEIRS = "zzforeign"  # in every name that the other agent gives
OPERATORS = re.compile(r"(?<![\d.])9\d\d\.\d")  # the operator's own balance: a thousand, less what was spent

Ids = dict[str, str]


@dataclass
class Scene:
    """Both agents' things at one vendor, by kind of thing, and what of the other's must never be seen."""

    bed: Bed
    kind: str
    own: Ids = field(default_factory=dict)
    foreign: Ids = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)

    def books(self) -> Any:
        """What the vendor holds, less what time alone changes."""
        state = self.bed.driver(self.kind).state()
        held = {name: state.get(name) for name in ("servers", "machines", "backups", "accounts")}
        return json.loads(json.dumps(held), object_hook=_timeless)

    def theirs(self) -> Any:
        """What it holds of the other agent's."""
        books = self.books()
        return {
            ref: table[ref]
            for table in (books["servers"] or {}, books["machines"] or {}, books["backups"] or {})
            for ref in self.foreign.values()
            if ref in table
        }

    def saw(self, got: Got, what: object) -> None:
        """Nothing of the other's is in an answer, nor of the account's; but for an id that the request itself wrote."""
        said = got.body.decode("utf-8", "replace") + json.dumps(dict(got.headers.items()))
        asked = re.sub(r"\\+u([0-9a-f]{4})", lambda each: chr(int(each[1], 16)), unquote(json.dumps(what, default=str)))
        for secret in self.hidden:
            assert secret not in said or secret in asked, (what, secret, got.status, said)
        assert OPERATORS.search(said) is None, (what, said)

    async def ask(self, method: str, target: str, **options: Any) -> Got:
        """Ask as the agent under test, and look at every byte of the answer."""
        got = await self.bed.ask(method, self.kind + target, **options)
        self.saw(got, (method, target, options))
        return got


def _timeless(document: dict[str, Any]) -> dict[str, Any]:
    """Leave out what time alone changes: charges, and how long a thing has been up."""
    changing = (
        "balance",
        "purse",
        "entries",
        "minutes",
        "hours",
        "charged",
        "up_since",
        "spent",
        "seq",
        "billing_round",
    )
    return {name: value for name, value in document.items() if not name.startswith(changing)}


async def cryptovps(bed: Bed, account: str, name: str) -> Ids:
    """A server, and a backup of it."""
    server = await bed.running("cryptovps", account=account, label=name)
    made = await bed.ask("POST", "cryptovps/backups", {"serverId": server}, account=account)
    return {"server": server, "backup": made.json["backup"]["id"]}


async def litevps(bed: Bed, account: str, name: str) -> Ids:
    """A key, a server that has it, a snapshot and a job there."""
    body = {"name": f"{name}-key", "public_key": KEY}
    key = (await bed.ask("POST", "litevps/api/keys", body, account=account)).json["id"]
    server = await bed.running("litevps", account=account, name=name, ssh_key_ids=[key])
    one = server_path("litevps", server)
    await bed.ask("POST", f"{one}/snapshots", {"name": f"{name}-snap"}, account=account)
    command = {"command": f"echo {name}", "background": True}
    job = (await bed.ask("POST", f"{one}/exec", command, account=account)).json["job_id"]
    return {"server": server, "key": key, "job": job, "snapshot": f"{name}-snap"}


async def vrtx(bed: Bed, account: str, name: str) -> Ids:
    """A server."""
    return {"server": await bed.running("vrtx", account=account, hostname=f"{name}.example.com")}


SCENES = {"cryptovps": cryptovps, "litevps": litevps, "vrtx": vrtx}


@pytest.fixture(params=ALL)
async def scene(broker_bed: Bed, request: pytest.FixtureRequest) -> Scene:
    """Two agents with the same kinds of things."""
    made = Scene(broker_bed, request.param)
    made.own = await SCENES[made.kind](broker_bed, "acc_1", "mine")
    made.foreign = await SCENES[made.kind](broker_bed, "acc_2", THEIRS)
    theirs = {meter.token for meter in broker_bed.meters if meter.account_id == "acc_2"}
    await broker_bed.later(
        made.kind, 400
    )  # jobs and backups are done: nothing of theirs changes by itself from here on
    shown = await broker_bed.ask("GET", server_path(made.kind, made.foreign["server"]), account="acc_2")
    addresses = re.findall(r"\d+\.\d+\.\d+\.(?!1\b)\d+", shown.body.decode())
    assert addresses
    await broker_bed.credit("acc_2", 23_456_789)
    balance = broker_bed.balance("acc_2")[0]
    figure = f"{balance // 10**6}.{balance % 10**6:06d}"
    made.hidden = {THEIRS, *made.foreign.values(), *theirs, *addresses, figure}
    return made


def plain(_: Ids) -> Any:
    """Return no body."""
    return None


# What each route takes, with things named by kind. A route that is declared and not here fails the test.
BODIES: dict[str, dict[str, Callable[[Ids], Any]]] = {
    "cryptovps": {
        "register": lambda _: {"email": "zz@example.com", "password": "not-a-key-1"},
        "login": lambda _: {"email": "zz@example.com", "password": "not-a-key-1"},
        "create": lambda _: CREATES["cryptovps"][1],
        "bulk": lambda _: {**CREATES["cryptovps"][1], "count": 1},
        "backup": lambda ids: {"serverId": ids["server"]},
        **dict.fromkeys(("me", "billing", "servers", "server", "destroy", "backups", "restore"), plain),
        **dict.fromkeys(("delete_backup", "guide", "docs", "custom_requests"), plain),
    },
    "litevps": {
        "register": lambda _: {"email": "zz@example.com", "password": "not-a-key-1"},
        "login": lambda _: {"email": "zz@example.com", "password": "not-a-key-1"},
        "create": lambda ids: {**CREATES["litevps"][1], "ssh_key_ids": [ids["key"]]},
        "batch_create": lambda ids: {"vms": [{**CREATES["litevps"][1], "ssh_key_ids": [ids["key"]]}]},
        "batch_delete": lambda ids: {"ids": [ids["server"]]},
        "batch_exec": lambda ids: {"ids": [ids["server"]], "command": "hostname"},
        "update": lambda _: {"name": "taken"},
        "snapshot": lambda _: {"name": "taken"},
        "exec": lambda _: {"command": "hostname"},
        "add_key": lambda _: {"name": "mine", "public_key": KEY},
        "add_funds": lambda _: {"amount": 10},
        "add_notify_email": lambda _: {"email": "zz@example.com"},
        "add_token": lambda _: {"name": "mine"},
        **dict.fromkeys(("health", "agent_json", "openapi", "pricing", "me", "balance", "history"), plain),
        **dict.fromkeys(("notify_emails", "delete_notify_email", "tokens", "delete_token", "list", "get"), plain),
        **dict.fromkeys(("delete", "start", "stop", "restart", "vnc_port", "snapshots", "restore_snapshot"), plain),
        **dict.fromkeys(("delete_snapshot", "upload", "download", "jobs", "job", "cancel_job"), plain),
        **dict.fromkeys(("templates", "template", "keys", "delete_key"), plain),
    },
    "vrtx": {
        "create": lambda _: CREATES["vrtx"][1],
        "power": lambda _: {"action": "kill"},
        **dict.fromkeys(("plans", "locations", "templates", "servers", "server", "status"), plain),
        **dict.fromkeys(("credentials", "delete", "backups"), plain),
    },
}
PARAMETERS = {"server_id": "server", "uuid": "server", "id": "server", "backup_id": "backup", "job_id": "job"}


def spellings(ref: str, own: str) -> Iterator[str]:
    """Yield every way that we know to write another's id into a path."""
    swapped = ref.swapcase()
    yield from (ref, ref.upper(), swapped, ref[:8], ref[:8].upper(), quote(ref, safe=""))
    yield "".join(f"%{byte:02X}" for byte in ref.encode())
    yield "".join(f"%{byte:02x}" for byte in ref.encode())
    yield "".join(f"%25{byte:02X}" for byte in ref.encode())
    yield from (
        f"{ref}%20",
        f"%20{ref}",
        f"{ref}%00",
        f"{ref}%0a",
        f"{ref}.",
        f"{ref};",
        f"{ref},{own}",
        f"{own},{ref}",
    )
    yield from (f"{own}/../{ref}", f"{own}%2F..%2F{ref}", f"./{ref}", f"{ref}/.", f"{ref}/", f"%2e/{ref}", f"/{ref}")
    yield from (
        f"{own}%5c..%5c{ref}",
        f"{ref}%3fx=1",
        f"{own}%23{ref}",
        f"{{{ref}}}",
        f"urn:uuid:{ref}",
        ref.replace("-", ""),
    )
    yield "".join(chr(ord(char) + 0xFEE0) if char.isalnum() else char for char in ref).encode().hex("%").join(["%", ""])


def queries(ids: Ids, own: Ids) -> Iterator[str]:
    """Yield queries that name another's things under every name that a vendor may read."""
    names = (
        "id",
        "ids",
        "ids[]",
        "uuid",
        "server",
        "server_id",
        "serverId",
        "vps_id",
        "account",
        "account_id",
        "user_id",
    )
    for name, ref in itertools.product((*names, "filter[server]", "token", "label", "name", "search"), ids.values()):
        yield f"?{name}={ref}"
    yield f"?id={own['server']}&id={ids['server']}"
    yield from ("?all=1", "?scope=account", "?page=1&page=2", "?per_page=100&account=all", "?limit=1000000&offset=0")


def paths(route: Route, ids: Ids, own: Ids, kind: str) -> Iterator[tuple[str, bool]]:
    """Yield a route's paths with another's things in its parameters, one by one and all at once; and whether it is a ref."""
    places = [segment.strip("{}*") for segment in route.segments if segment.startswith("{")]
    referred = {ref.name for ref in route.refs if ref.place is Place.PATH}
    if not places:
        yield "/" + "/".join(route.segments), False
        return
    for chosen in (*((place,) for place in places), tuple(places)):
        tried = [spellings(_named(place, route, ids), _named(place, route, own)) for place in chosen]
        for spelled in zip(*tried, strict=True):
            filled = {place: _named(place, route, own) for place in places} | dict(zip(chosen, spelled, strict=True))
            parts = [filled.get(part.strip("{}*"), part) if part.startswith("{") else part for part in route.segments]
            yield "/" + "/".join(parts), not referred.isdisjoint(chosen)


def _named(place: str, route: Route, ids: Ids) -> str:
    if place == "name":
        return ids["snapshot"]
    kinds = {ref.name: ref.kind for ref in route.refs}
    return ids[kinds.get(place, PARAMETERS.get(place, "server"))]


async def test_every_declared_route_against_the_others_things(scene: Scene) -> None:
    """Nothing of the other's is visible by any id in a path, a query or a body, and nothing of it changes."""
    bed, kind, vendor = scene.bed, scene.kind, scene.bed.side.vendors[scene.kind]
    assert {route.name for route in vendor.routes} == set(BODIES[kind])
    before, tried = scene.theirs(), 0
    assert before
    for route, method in ((each, method) for each in vendor.routes for method in each.methods):
        body = BODIES[kind][route.name]
        names_other = json.dumps(body(scene.foreign)) != json.dumps(body(scene.own))
        for target, is_ref in paths(route, scene.foreign, scene.own, kind):
            whole = scene.books() if is_ref and target.endswith(tuple(scene.foreign.values())) else None
            got = await scene.ask(method, target, document=body(scene.own))
            tried += 1
            if is_ref and route.pricing not in (Pricing.LOCAL, Pricing.CLOSED):
                assert got.status in (400, 404, 405, 422), (method, target, got.status, got.body)
            assert whole is None or scene.books() == whole, (method, target)
        if names_other and route.pricing is not Pricing.LOCAL:
            (target, _), *_ = paths(route, scene.own, scene.own, kind)
            await scene.ask(method, target, document=body(scene.foreign))
            tried += 1
        bed.advance(61)  # the vendor's limits are not what is tested
    assert scene.theirs() == before
    assert tried > 30
    await bed.sound()


async def test_queries_reach_nobodys_things(scene: Scene) -> None:
    """A query that the document does not name is refused; one that it names shows the agent's own alone."""
    before = scene.theirs()
    vendor = scene.bed.side.vendors[scene.kind]
    for route in vendor.routes:
        if "GET" not in route.methods or route.public:
            continue
        (path, _), *_ = paths(route, scene.own, scene.own, scene.kind)
        for query in queries(scene.foreign, scene.own):
            got = await scene.ask("GET", path + query)
            assert got.status in (200, 400, 403, 404, 422), (path, query, got.body)
            if route.pricing is Pricing.FREE and not _documented(vendor.queries.get(route.name, ()), query):
                assert (got.status, got.problem) == (422, "input_refused"), (path, query)
        scene.bed.advance(61)
    assert scene.theirs() == before


def _documented(allowed: Iterable[str], query: str) -> bool:
    return {name for name, _ in parse_qsl(query[1:], keep_blank_values=True)} <= set(allowed)


async def test_bodies_reach_nobodys_things(scene: Scene) -> None:
    """Twice the same member, other cases, arrays, objects, escapes, other media types: no body means another's thing."""
    own, ids, before, whole = scene.own, scene.foreign, scene.theirs(), scene.books()
    vendor = scene.bed.side.vendors[scene.kind]
    refs = [(route, ref) for route in vendor.routes for ref in route.refs if ref.place is Place.BODY]
    refs += [(route, None) for route in vendor.routes if route.name in ("batch_exec", "batch_delete")]
    assert bool(refs) == (scene.kind != "vrtx")
    for route, ref in refs:
        member, mine, theirs = (
            ("ids", own["server"], ids["server"]) if ref is None else (ref.name, own[ref.kind], ids[ref.kind])
        )
        base = {k: v for k, v in BODIES[scene.kind][route.name](own).items() if k != member}
        for raw in bodies(base, member, mine, theirs):
            for media in ("application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
                got = await scene.ask(
                    route.methods[0], "/" + "/".join(route.segments), raw=raw, headers={"Content-Type": media}
                )
                assert got.status in (207, 400, 404, 422), (route.name, raw, got.body)
        scene.bed.advance(61)
    assert scene.theirs() == before
    assert {k: set(v or ()) for k, v in scene.books().items()} == {k: set(v or ()) for k, v in whole.items()}


def bodies(base: dict[str, Any], member: str, mine: str, theirs: str) -> Iterator[bytes]:
    """Yield bodies that name another's thing; none of them has only the agent's own in it."""
    rest = json.dumps(base)[1:-1]
    rest = f", {rest}" if rest else ""
    escaped = "".join(f"\\u{ord(char):04x}" for char in theirs)
    values = [f'"{theirs}"', f'["{theirs}"]', f'["{theirs}", "{theirs}"]', f'"{escaped}"', f'["{escaped}"]']
    values += [
        f'{{"id": "{theirs}"}}',
        f'[["{theirs}"]]',
        f'[{{"id": "{theirs}"}}]',
        f'"{theirs.upper()}"',
        f'" {theirs}"',
    ]
    values += [f'["{theirs.upper()}"]', f'["{theirs} "]', f'"{mine},{theirs}"', f'["{mine},{theirs}"]']
    for value in values:
        yield f'{{"{member}": {value}{rest}}}'.encode()
    for other in (
        member.upper(),
        member.lower() + " ",
        f"{member}[]",
        f"{member}[0]",
        "id",
        "server_id",
        "vps_ids",
        "__proto__",
    ):
        yield f'{{"{other}": "{theirs}"{rest}, "{member}": "{theirs}"}}'.encode()
    yield f'{{"{member}": "{mine}", "{member}": "{theirs}"{rest}}}'.encode()
    yield f'{{"{member}": ["{mine}"], "{member}": ["{theirs}"]{rest}}}'.encode()
    yield f"{member}={theirs}".encode()
    yield f"[{json.dumps({member: theirs})}]".encode()
    yield f'\ufeff{{"{member}": "{theirs}"{rest}}}'.encode()


async def test_lists_show_each_agent_its_own(scene: Scene) -> None:
    """The control: what one agent never sees, the other does, at the same routes."""
    vendor = scene.bed.side.vendors[scene.kind]
    listing = [route for route in vendor.routes if route.listings and not route.segments[-1].startswith("{")]
    for route in (each for each in listing if each.methods == ("GET",)):
        target = "/" + "/".join(route.segments)
        mine = await scene.ask("GET", target)
        theirs = await scene.bed.ask("GET", scene.kind + target, account="acc_2")
        assert (mine.status, theirs.status) == (200, 200)
        kind = route.listings[0].kind
        assert scene.own[kind].encode() in mine.body
        assert scene.foreign[kind].encode() in theirs.body
        assert scene.own[kind].encode() not in theirs.body


async def test_accounts_figures_are_each_agents_own(scene: Scene) -> None:
    """Balance, spend, history and headers speak of the agent, never of the account or of the other."""
    vendor = scene.bed.side.vendors[scene.kind]
    own = scene.bed.balance("acc_1")[0]
    local = [route for route in vendor.routes if route.pricing is Pricing.LOCAL and route.methods == ("GET",)]
    for route in local:
        got = await scene.ask("GET", "/" + "/".join(route.segments))
        assert got.status == 200
        if route.name in ("billing", "balance", "me"):
            assert f"{own // 10**6}.{own % 10**6 // 10**4:02d}".encode() in got.body
    if scene.kind == "litevps":
        got = await scene.ask("GET", "/api/vps")
        assert got.headers["X-Balance-Remaining"] == f"{own // 10**6}.{own % 10**6 // 100:04d}"
    assert not any(
        name.lower().startswith("x-ratelimit") for name in (await scene.ask("GET", _list(vendor.routes))).headers
    )


def _list(routes: tuple[Route, ...]) -> str:
    route = next(r for r in routes if r.listings and r.methods == ("GET",) and not r.refs)
    return "/" + "/".join(route.segments)


async def test_unmarked_names_of_other_orders_do_not_pass(scene: Scene) -> None:
    """A name in which an agent writes another's mark is a name like any other."""
    (token,) = [meter.token for meter in scene.bed.meters if meter.account_id == "acc_2"]
    member = {"cryptovps": "label", "litevps": "name", "vrtx": "hostname"}[scene.kind]
    ref = await scene.bed.server(scene.kind, **{member: f"a-{token}"})
    assert ref not in scene.foreign.values()
    before = scene.theirs()
    await scene.bed.later(scene.kind, 70)
    assert len(scene.bed.meters) == 3
    assert scene.theirs() == before

"""LiteVPS's real answers, of the sandbox's vendor on every route, as the module reads them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.account_ports import AccountTerms, LocalAnswer, Own, PartAnswer, Told
from gateway.core.login import Credentials
from gateway.core.payment import Delivery, Fault
from gateway.core.routes import Match, Pricing
from gateway.core.strict_json import dump_json, parse_json
from gateway.core.tariff import Rule
from gateway.http.port import UpstreamRequest, UpstreamResponse
from gateway.vendors.litevps import LiteVps
from sandbox.process import SandboxProcess
from sandbox.shared_vendor.driver import Answer, Driver
from tests.factories import unmark
from wallets.secret import Secret

EMAIL, PASSWORD = "ops@example.com", "s3cr3t-long"
STANDING_TOKEN = "vtk_configured"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl agent"
MARK = "g234567abcdefghi2"
CONFIG: dict[str, Any] = {
    "clock_rate": 0,
    "login_per_min": 0,
    "turnstile_tokens": ["human"],
    "accounts": [{"email": EMAIL, "password": PASSWORD, "balance": "10.5", "tokens": [STANDING_TOKEN]}],
}
TERMS = AccountTerms(86_400, 2_000_000, Rule.STARTED_UNITS, 2, suspend_first=True, grace_s=60)
VENDOR = LiteVps("litevps", "http://vendor.invalid", TERMS)


class Bed:
    """The vendor as the gateway meets it: requests checked, sent and read by the module; counts the routes it saw."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.seen: set[str] = set()

    def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Send a request of the module's own."""
        body = request.body if isinstance(request.body, bytes) else b""
        return _response(self.driver.call(request.method, request.target, raw=body, headers=dict(request.headers)))

    def ask(
        self, method: str, target: str, document: Any = None, *, raw: bytes | None = None
    ) -> tuple[Match, UpstreamResponse]:
        """Ask as an agent does, with its input checked and its name marked."""
        match = matched(method, target)
        body = raw if raw is not None else b"" if document is None else json.dumps(document).encode()
        VENDOR.check_input(match, body)
        self.seen.add(match.route.name)
        sent = VENDOR.marked(match, body, MARK)
        answer = self.driver.call(method, target, raw=sent, headers=dict(VENDOR.headers_for(match, "")))
        return match, _response(answer)

    def told(self, method: str, target: str, document: Any = None, *, raw: bytes | None = None) -> Told:
        """What the module makes of the answer, which must be a delivery."""
        match, answer = self.ask(method, target, document, raw=raw)
        told = VENDOR.read(match, answer)
        assert told.delivery is Delivery.DELIVERED, answer.body
        return told

    def created(self, **changes: Any) -> str:
        """Create a server and return its ref."""
        nano = next(price for price in self.prices() if price.hourly == "0.0042")
        told = self.told("POST", "/api/vps", {"name": "web-01", "plan_id": nano.kind, **changes})
        (ref,) = told.created
        return ref

    def running(self, **changes: Any) -> str:
        """Create a server, wait until it runs, and return its ref."""
        ref = self.created(**changes)
        self.driver.advance(20)
        return ref

    def prices(self) -> Any:
        """The price list."""
        return VENDOR.read_prices(self.ask("GET", "/api/pricing")[1])

    def state(self, ref: str) -> tuple[str, bool | None]:
        """A server's state, and whether it is charged."""
        (thing,) = self.told("GET", f"/api/vps/{ref}").things
        return thing.state, thing.charged


def _response(answer: Answer) -> UpstreamResponse:
    return UpstreamResponse(answer.status, CIMultiDictProxy(CIMultiDict(answer.headers)), answer.raw)


def matched(method: str, target: str) -> Match:
    """The match that must exist."""
    found = VENDOR.match(method, target.partition("?")[0])
    assert found is not None
    return found


@pytest.fixture(scope="module")
def process() -> Iterator[SandboxProcess]:
    """One vendor process for all tests of this module."""
    with SandboxProcess.start("sandbox.litevps", CONFIG) as started:
        yield started


@pytest.fixture
def bed(process: SandboxProcess) -> Bed:
    """A vendor as after its start, entered by the module's own login."""
    driver = Driver(process)
    driver.admin("POST", "/reset")
    bed = Bed(driver)
    plan = VENDOR.login
    assert plan is not None
    token = plan.read(bed.send(plan.request(Credentials(EMAIL, Secret(PASSWORD)))))
    assert token is not None
    assert token.lives_s == 86_400
    driver.token = token.value.reveal()
    return bed


def test_every_route_is_read(bed: Bed) -> None:
    """All that the vendor answers itself, once: what each says of things, and the balance in each header."""
    for path in ("/health", "/.well-known/agent.json", "/openapi.json", "/api/pricing"):
        match, answer = bed.ask("GET", path)
        assert VENDOR.read(match, answer).delivery is Delivery.DELIVERED
        assert VENDOR.read_balance(answer) is None
    (key,) = bed.told("POST", "/api/keys", {"name": "my-key", "public_key": KEY}).created
    assert [thing.ref for thing in bed.told("GET", "/api/keys").things] == [key]
    ref = bed.running(ssh_key_ids=[key])
    one = f"/api/vps/{ref}"
    assert bed.state(ref) == ("running", True)
    assert [thing.ref for thing in bed.told("GET", "/api/vps").things] == [ref]
    assert bed.told("PUT", one, {"name": "web-02"}).things[0].name == f"web-02-{MARK}"
    assert set(bed.told("GET", f"{one}/vnc-port").document) == {"port"}
    bed.told("PUT", f"{one}/files?path=/root/x.json", raw=b'{"id": "not a thing"}')
    assert bed.told("GET", f"{one}/files?path=/root/x.json").document is None
    assert bed.told("POST", f"{one}/exec", {"command": "uname -a"}).created == ()
    (job,) = bed.told(
        "POST", f"{one}/exec", {"command": "sleep 900", "timeout_seconds": 600, "background": True}
    ).created
    assert bed.told("GET", f"{one}/jobs").created == (job,)
    assert bed.told("GET", f"{one}/jobs/{job}").things[0].state == "pending"
    assert bed.told("DELETE", f"{one}/jobs/{job}").things[0].state == "cancelled"
    bed.told("POST", f"{one}/snapshots", {"name": "snap-1"})
    assert [entry["name"] for entry in bed.told("GET", f"{one}/snapshots").document] == ["snap-1"]
    assert bed.told("POST", f"{one}/restart").things[0].state == "running"
    assert bed.told("POST", f"{one}/stop").things[0].charged is True
    bed.driver.advance(3)
    assert bed.state(ref) == ("stopped", False)
    assert bed.told("POST", f"{one}/snapshots/snap-1/restore").things[0].charged is None
    bed.told("DELETE", f"{one}/snapshots/snap-1")
    assert bed.told("POST", f"{one}/start").things[0].charged is None
    assert len(VENDOR.read_templates(bed.ask("GET", "/api/templates")[1])) == 3
    bed.told("GET", "/api/templates/docker-host")
    assert bed.told("DELETE", f"/api/keys/{key}").things[0].gone
    assert bed.told("DELETE", one).things[0].state == "destroying"
    assert VENDOR.read_list(bed.send(_some(VENDOR.list_request(1)))) == ((), False)
    theirs = {
        route.name
        for route in VENDOR.routes
        if route.pricing in {Pricing.FREE, Pricing.METERED} and not route.split and route.name != "create"
    }
    assert theirs | {"create"} == bed.seen


def _some(request: UpstreamRequest | None) -> UpstreamRequest:
    assert request is not None
    return request


def test_a_servers_life_by_the_modules_own_requests(bed: Bed) -> None:
    """Found by its mark in the list, shown, stopped, destroyed; a create whose answer was lost is answered from it."""
    ref = bed.created()
    found = VENDOR.read_list(bed.send(_some(VENDOR.list_request(1))))
    assert found is not None
    (thing,) = found[0]
    assert (thing.ref, unmark(thing.name), thing.state, thing.hourly) == (
        ref,
        ("web-01", MARK),
        "provisioning",
        "0.0042",
    )
    assert thing.charged is False
    shown = bed.send(VENDOR.show_request(ref))
    status, body = VENDOR.created_answer(matched("POST", "/api/vps"), shown) or (0, b"")
    told = VENDOR.read(matched("POST", "/api/vps"), UpstreamResponse(status, shown.headers, body))
    assert (status, told.created) == (201, (ref,))
    bed.driver.advance(20)
    bed.send(_some(VENDOR.stop_request(ref)))
    bed.driver.advance(3)
    assert bed.state(ref) == ("stopped", False)
    assert bed.send(VENDOR.destroy_request(ref)).status == 204
    missing = bed.send(VENDOR.show_request(ref))
    assert VENDOR.created_answer(matched("POST", "/api/vps"), missing) is None
    again = VENDOR.read(matched("DELETE", f"/api/vps/{ref}"), bed.send(VENDOR.destroy_request(ref)))
    assert (again.delivery, again.fault) == (Delivery.REFUSED, Fault.AGENT)


def test_the_operators_balance(bed: Bed) -> None:
    """In the header of every authenticated answer, refusals too; by a JWT and by a standing token alike."""
    assert VENDOR.read_balance(bed.send(_some(VENDOR.balance_request()))) == 10_500_000
    assert VENDOR.read_balance(bed.send(VENDOR.show_request("none"))) == 10_500_000
    bed.driver.token = STANDING_TOKEN
    bed.driver.admin("POST", "/balance", {"email": EMAIL, "set": "0.042"})
    large = max(bed.prices(), key=lambda price: float(price.hourly))
    match, answer = bed.ask("POST", "/api/vps", {"name": "web-01", "plan_id": large.kind})
    assert (answer.status, VENDOR.read_balance(answer)) == (402, 42_000)
    told = VENDOR.read(match, answer)
    assert (told.delivery, told.fault) == (Delivery.REFUSED, Fault.NONE)


@pytest.mark.parametrize("mode", ["last_digits", "exponent"])
def test_floats_with_noise(bed: Bed, mode: str) -> None:
    """Prices and balances are read to their digits, whatever a careless float made of them."""
    bed.driver.fault("noise", mode=mode)
    nano = bed.prices()[0]
    (ref,) = bed.told("POST", "/api/vps", {"name": "web-01", "plan_id": nano.kind}).created
    (thing,) = bed.told("GET", f"/api/vps/{ref}").things
    assert thing.hourly == nano.hourly == ("0.0042" if mode == "exponent" else "0.004200000000002")
    assert VENDOR.read_balance(bed.send(_some(VENDOR.balance_request()))) == 10_500_000


def test_templates_bound_what_they_cost(bed: Bed) -> None:
    """The cheapest plan that holds a template's sizes is what the vendor charges; its life is known before the order."""
    templates = {each.name: each for each in VENDOR.read_templates(bed.ask("GET", "/api/templates")[1])}
    for slug, changes in (("ubuntu-22-small", {}), ("agent-sandbox", {"memory_mb": 1024}), ("docker-host", {})):
        document = {"name": "vm", "template": slug, **changes}
        order = VENDOR.order(matched("POST", "/api/vps"), json.dumps(document).encode())
        filled = templates[slug].fill(order)
        assert filled.sizes is not None
        fitting = [
            float(price.hourly)
            for price in bed.prices()
            if all(price.traits[trait] >= size for trait, size in filled.sizes.items())
        ]
        (thing,) = bed.told("POST", "/api/vps", document).things
        assert float(thing.hourly or "nan") == min(fitting)
        lives_s = None if thing.expires_at_ms is None else (thing.expires_at_ms - (thing.created_at_ms or 0)) // 1000
        assert lives_s == filled.lives_s
    assert templates["agent-sandbox"].lives_s == 3600


def test_the_denylist(bed: Bed) -> None:
    """A blocked command is the vendor's policy; one that its machine cannot take is not."""
    ref = bed.running()
    match, answer = bed.ask("POST", f"/api/vps/{ref}/exec", {"command": "echo about to reboot"})
    told = VENDOR.read(match, answer)
    assert (answer.status, told.problem, told.fault) == (403, "upstream_policy_denied", Fault.AGENT)
    assert not VENDOR.refuses_us(answer)
    assert told.document is None
    bed.driver.fault("exec", mode="lost")
    lost = VENDOR.read(*bed.ask("POST", f"/api/vps/{ref}/exec", {"command": "echo hi"}))
    assert (lost.delivery, lost.problem) == (Delivery.UNKNOWN, None)


def test_states_that_nobody_named(bed: Bed) -> None:
    """An unknown word is unknown, and says nothing of charges."""
    ref = bed.created()
    bed.driver.fault("state", of=ref, value="hibernating")
    assert bed.state(ref) == ("unknown", None)


@pytest.mark.parametrize("route", ["create", "exec"])
def test_batches_are_their_single_calls(bed: Bed, route: str) -> None:
    """Taken apart, each asked by itself, and put together in the shape that the vendor's own batch has."""
    if route == "create":
        method, target = "POST", "/api/vps/batch"
        document: Any = {"vms": [{"name": "w1", "template": "ubuntu-22-small"}, {"name": "w2", "template": "made-up"}]}
    else:
        method, target = "POST", "/api/vps/batch/exec"
        document = {"ids": [bed.running(), "made-up"], "command": "uptime", "timeout_seconds": 10}
    ours = _batch(bed, method, target, document)
    theirs = bed.driver.post(target, document)
    assert ours.status == theirs.status == 207
    for mine, its in zip(_plain(ours)["results"], theirs.json()["results"], strict=True):
        assert mine.keys() == its.keys()
        assert mine.get("index") == its.get("index")
        assert mine.get("vps_id") == its.get("vps_id")
        assert mine.get("error") == its.get("error")


def test_a_batch_of_destructions(bed: Bed) -> None:
    """The mine and the made-up are told apart, in the vendor's own members."""
    first, second = bed.created(), bed.created(name="web-02")
    theirs = bed.driver.delete("/api/vps/batch", {"ids": [first, "made-up"]}).json()
    ours = _plain(_batch(bed, "DELETE", "/api/vps/batch", {"ids": [second, "made-up"]}))
    assert ours["results"] == [{**theirs["results"][0], "id": second}, theirs["results"][1]]
    assert bed.told("GET", "/api/vps").things == ()


def _batch(bed: Bed, method: str, target: str, document: Any) -> LocalAnswer:
    match, body = matched(method, target), json.dumps(document).encode()
    VENDOR.check_input(match, body)
    answers = []
    for part in VENDOR.split(match, body):
        single, answer = bed.ask(part.method, part.target, raw=part.body)
        told = VENDOR.read(single, answer)
        shown = told.document if told.document is not None or not answer.body else parse_json(answer.body)
        answers.append(PartAnswer(part.index, answer.status, shown, part.ref))
    return VENDOR.join(match, tuple(answers))


def _plain(answer: LocalAnswer) -> Any:
    return json.loads(dump_json(answer.document))


def test_local_answers_have_the_vendors_shapes(bed: Bed) -> None:
    """Member by member as the vendor's own: profile, balance, history, addresses, login, registration, refusal."""
    bed.running()
    entry = {"id": "1", "amount_base": 70, "at_ms": 1_700_000_000_000, "ref": "v-1"}
    own = Own("a", "n", 10_500_000, 0, EMAIL, 0, entries=(entry,), query={"limit": "1"}, token="t")
    for path in ("/api/me", "/api/billing/balance", "/api/billing/history?limit=1", "/api/billing/notify-emails"):
        ours = VENDOR.local(matched("GET", path), b"", own)
        theirs = bed.driver.get(path)
        assert _shape(_plain(ours)) == _shape(parse_json(theirs.raw)), path
        assert ours.status == theirs.status
    secret = {"email": "new@example.com", "password": PASSWORD, "cf-turnstile-response": "human"}
    registered = bed.driver.post("/api/auth/register", secret)
    mine = VENDOR.local(matched("POST", "/api/auth/register"), b"", own)
    assert (mine.status, mine.document.keys()) == (registered.status, registered.json().keys())
    wrong = bed.driver.post("/api/auth/login", {"email": EMAIL, "password": "wrong"})
    turned = VENDOR.local(matched("POST", "/api/auth/login"), b"", Own("a", "n", 0, 0, "", 0))
    assert (turned.status, turned.document) == (wrong.status, wrong.json())
    header = bed.driver.get("/api/me").headers["x-balance-remaining"]
    whole, _, decimals = VENDOR.own_headers(own)[0][1].partition(".")
    assert (whole.isdigit(), len(decimals)) == (True, len(header.partition(".")[2]))


def _shape(document: Any) -> Any:
    """The members of a document, whatever they hold."""
    if isinstance(document, dict):
        return {name: _shape(value) for name, value in document.items()}
    if isinstance(document, list):
        return [_shape(value) for value in document]
    return None

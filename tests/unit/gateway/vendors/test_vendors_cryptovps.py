"""CryptoVPS's tables, login and local answers: every route of the document, and figures that are the agent's own."""

import inspect
import json
from fractions import Fraction
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.account_ports import AccountTerms, AccountVendor, Own
from gateway.core.login import Credentials
from gateway.core.rates import AUTH, CALLS, Rate
from gateway.core.routes import Match, Ownership, Place, Pricing, Priority, Retry, Route
from gateway.core.tariff import Rule, Tariff, rate_of
from gateway.http.port import UpstreamRequest, UpstreamResponse
from gateway.vendors.capabilities import CAPABILITY_NAMES
from gateway.vendors.cryptovps import CryptoVps
from gateway.vendors.cryptovps.routes import BACKUP_STATES, PRICES, REGIONS, STATES
from gateway.vendors.overrides import RouteOverride
from wallets.secret import Secret

TERMS = AccountTerms(3600, 1_000_000, Rule.STARTED_UNITS, 24, suspend_first=False, grace_s=0)
VENDOR = CryptoVps("cryptovps", "https://api.example", TERMS)
SERVER_ID, BACKUP_ID = "5b0f6a52-35f0-4d2c-9c0c-6f8a3d0e7b11", "b-1"
OWN = Own("acc_1", "Ann", 9_960_000, 12_000, "agent@example.com", 1, token="t0k")

DOCUMENTED = [
    ("POST", "/auth/register", "register"),
    ("POST", "/auth/login", "login"),
    ("GET", "/auth/me", "me"),
    ("GET", "/billing", "billing"),
    ("GET", "/servers", "servers"),
    ("POST", "/servers", "create"),
    ("POST", "/servers/bulk", "bulk"),
    ("GET", f"/servers/{SERVER_ID}", "server"),
    ("DELETE", f"/servers/{SERVER_ID}", "destroy"),
    ("GET", "/backups", "backups"),
    ("POST", "/backups", "backup"),
    ("POST", f"/backups/{BACKUP_ID}/restore", "restore"),
    ("DELETE", f"/backups/{BACKUP_ID}", "delete_backup"),
    ("GET", "/llms.txt", "guide"),
    ("GET", "/docs", "docs"),
    ("GET", "/docs/custom-requests", "custom_requests"),
]
PATHS = {name: (method, path) for method, path, name in DOCUMENTED}


def matched(name: str) -> Match:
    """The match of a route by its name."""
    found = VENDOR.match(*PATHS[name])
    assert found is not None
    return found


def route(name: str) -> Route:
    """A route by its name."""
    return matched(name).route


def replied(body: object, status: int = 200) -> UpstreamResponse:
    """A JSON answer."""
    return UpstreamResponse(status, CIMultiDictProxy(CIMultiDict()), json.dumps(body).encode())


@pytest.mark.parametrize(("method", "path", "name"), DOCUMENTED)
def test_every_route_of_the_document_is_declared(method: str, path: str, name: str) -> None:
    """By its method, and the table holds nothing else."""
    found = VENDOR.match(method, path)
    assert found is not None
    assert found.route.name == name
    assert {each.name for each in VENDOR.routes} == set(PATHS)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("PUT", "/servers"),
        ("PATCH", f"/servers/{SERVER_ID}"),
        ("POST", f"/servers/{SERVER_ID}"),
        ("GET", "/servers/"),
        ("GET", "/servers/a/b"),
        ("GET", "/servers/a%2Fb"),
        ("GET", "/servers/.."),
        ("DELETE", "/servers"),
        ("GET", f"/backups/{BACKUP_ID}"),
        ("POST", "/auth/logout"),
        ("GET", "/plans"),
        ("GET", "/Servers"),
        ("GET", "/docs/other"),
    ],
)
def test_what_is_not_documented_does_not_exist(method: str, path: str) -> None:
    """No method, no spelling, no detour."""
    assert VENDOR.match(method, path) is None


def test_every_route_is_classified() -> None:
    """What costs is metered, what speaks of the account is answered here, the rest is free."""
    by_pricing = {pricing: {r.name for r in VENDOR.routes if r.pricing is pricing} for pricing in Pricing}
    assert by_pricing[Pricing.METERED] == {"create", "bulk", "restore"}
    assert by_pricing[Pricing.LOCAL] == {"register", "login", "me", "billing"}
    assert not by_pricing[Pricing.PRICED] | by_pricing[Pricing.MAYBE] | by_pricing[Pricing.CLOSED]
    assert {r.name for r in VENDOR.routes if r.opens} == {"register", "login"}
    assert {r.name for r in VENDOR.routes if r.public} == {"guide", "docs", "custom_requests"}
    assert {r.name for r in VENDOR.routes if r.ends} == {"destroy", "delete_backup"}
    assert {r.name for r in VENDOR.routes if r.split} == {"bulk"}
    assert {r.name for r in VENDOR.routes if r.secret} >= {"create", "bulk", "restore", "server", "login"}


def test_every_named_thing_is_checked() -> None:
    """Each parameter of a path and the one id in a body, by its kind; each answer that shows things says which."""
    named = {r.name: [(ref.place, ref.name, ref.kind) for ref in r.refs] for r in VENDOR.routes if r.refs}
    assert named == {
        "server": [(Place.PATH, "server_id", "server")],
        "destroy": [(Place.PATH, "server_id", "server")],
        "backup": [(Place.BODY, "serverId", "server")],
        "restore": [(Place.PATH, "backup_id", "backup")],
        "delete_backup": [(Place.PATH, "backup_id", "backup")],
    }
    for each in VENDOR.routes:
        parameters = [segment.strip("{}") for segment in each.segments if segment.startswith("{")]
        assert [ref.name for ref in each.refs if ref.place is Place.PATH] == parameters
    shown = {r.name: (r.listings[0].member, r.listings[0].kind) for r in VENDOR.routes if r.listings}
    assert shown == {
        "servers": ("servers", "server"),
        "server": ("server", "server"),
        "create": ("server", "server"),
        "bulk": ("servers", "server"),
        "restore": ("server", "server"),
        "backups": ("backups", "backup"),
        "backup": ("backup", "backup"),
    }
    owning = {r.name for r in VENDOR.routes if r.ownership is Ownership.CREATES}
    assert owning == {"create", "bulk", "restore", "backup"}


def test_a_lost_answer_is_handled_by_the_vendors_means() -> None:
    """A create is looked for, a restore and a backup carry no mark, everything else changes nothing twice."""
    assert route("create").retry is Retry.FIND
    never = {r.name for r in VENDOR.routes if r.retry is Retry.NEVER and r.pricing is not Pricing.LOCAL}
    assert never == {"restore", "backup", "bulk"}
    assert all(route(name).safe for name in ("servers", "server", "destroy", "backups", "delete_backup"))
    assert not any(route(name).safe for name in ("create", "bulk", "restore", "backup"))


def test_destruction_goes_before_creation_before_polls() -> None:
    """Where requests must wait for the vendor's limit."""
    assert route("destroy").priority is Priority.DESTROY
    assert {route(name).priority for name in ("create", "bulk", "restore")} == {Priority.CREATE}
    assert {route(name).priority for name in ("servers", "server", "backups")} == {Priority.POLL}
    assert set(VENDOR.rates) == {Rate(100, 60, CALLS), Rate(10, 60, AUTH)}


@pytest.mark.parametrize(
    ("plan", "monthly", "hourly"),
    [
        ("vc2-1c-1gb", "10", "0.014881"),
        ("vc2-1c-2gb", "18", "0.026786"),
        ("vc2-2c-4gb", "34", "0.050596"),
        ("vc2-4c-8gb", "62", "0.092262"),
        ("vc2-6c-16gb", "120", "0.178572"),
    ],
)
def test_an_hour_is_bound_by_the_shortest_month(plan: str, monthly: str, hourly: str) -> None:
    """A month by its 672 hours, rounded up: never below the exact bound, never a millionth above it."""
    price = next(price for price in PRICES if price.kind == plan)
    assert (price.monthly, price.hourly) == (monthly, hourly)
    assert 0 <= rate_of(hourly) - Fraction(int(monthly), 672) < Fraction(1, 1_000_000)
    assert price.traits is not None
    assert set(price.traits) == {"vcpu", "memory_mib", "disk_gib"}


def test_the_catalogue_is_the_documents() -> None:
    """Five plans, all regions once, and the sizes in the units that their names say."""
    assert len(REGIONS) == len(set(REGIONS)) == 29
    assert {"ams", "mex", "scl", "del", "mel", "tlv"} <= set(REGIONS)
    beast = next(price for price in VENDOR.prices if price.kind == "vc2-6c-16gb")
    assert beast.traits == {"vcpu": 6, "memory_mib": 16_384, "disk_gib": 320}


def test_states_say_what_is_charged() -> None:
    """A server is charged from its provisioning on; suspended, failed and destroyed ones are not."""
    assert dict(STATES.values()) == {
        "provisioning": True,
        "running": True,
        "suspended": False,
        "error": False,
        "destroying": False,
        "destroyed": False,
    }
    assert set(BACKUP_STATES.values()) == {"pending", "available", "error", "expired"}


def test_the_bill_is_by_started_hours_from_creation() -> None:
    """Also while it is off; and an accepted destruction ends it."""
    assert (VENDOR.unit_s, VENDOR.while_running, VENDOR.ends_on_accept) == (3600, False, True)
    tariff = Tariff(rate_of("0.0137"), VENDOR.unit_s, Rule.STARTED_UNITS, None, VENDOR.while_running)
    assert tariff.cost(0, 3_600_001) == Fraction("0.0274")


def test_it_is_what_the_port_says() -> None:
    """Every member of the seam is there, with its parameters; nothing of it waits."""
    for name, member in inspect.getmembers(AccountVendor, inspect.isfunction):
        if name.startswith("_"):
            continue
        mine = getattr(CryptoVps, name)
        assert list(inspect.signature(mine).parameters) == list(inspect.signature(member).parameters), name
        assert not inspect.iscoroutinefunction(mine)
    for name in AccountVendor.__annotations__:
        assert hasattr(VENDOR, name), name


def test_what_it_has_not_is_said() -> None:
    """No templates, no price route, no stop, no key, no pages, no queries, no headers of the account."""
    assert (VENDOR.price_target, VENDOR.template_target, VENDOR.pager) == (None, None, None)
    assert (VENDOR.resumes, dict(VENDOR.queries), VENDOR.own_headers(OWN)) == (frozenset(), {}, ())
    assert (VENDOR.read_prices(replied({})), VENDOR.read_templates(replied({}))) == ((), ())
    assert VENDOR.stop_request(SERVER_ID) is None
    assert VENDOR.list_request(2) is None
    assert VENDOR.speaks == {"low_vendor_balance"}
    assert VENDOR.name_member == "label"


def test_a_body_that_we_read_as_json_is_sent_as_json() -> None:
    """Whatever media type the agent claimed: the vendor must not read it in another way."""
    assert VENDOR.headers_for(matched("create"), "key") == (("Content-Type", "application/json"),)
    assert VENDOR.headers_for(matched("backup"), "key") == (("Content-Type", "application/json"),)
    assert VENDOR.headers_for(matched("restore"), "key") == ()


def test_our_own_requests() -> None:
    """List, show, destroy and balance, with ids that cannot change the path."""
    assert VENDOR.list_request(1) == UpstreamRequest("GET", "/servers", may_resend=True)
    assert VENDOR.show_request("a/b").target == "/servers/a%2Fb"
    assert VENDOR.destroy_request(SERVER_ID) == UpstreamRequest("DELETE", f"/servers/{SERVER_ID}")
    assert VENDOR.balance_request() == UpstreamRequest("GET", "/billing", may_resend=True)


def test_a_thing_has_one_name() -> None:
    """Its id, exactly."""
    assert VENDOR.canonical("server", "a", {"a", "b"}) == "a"
    assert VENDOR.canonical("server", "A", {"a", "b"}) is None


def test_records_hold_no_credentials() -> None:
    """Also where an agent put its own into a query."""
    assert VENDOR.scrub("/servers?token=abc&a=1") == "/servers?token=***&a=1"


def test_capabilities_admit_what_is_not_documented() -> None:
    """All questions answered; how root gets in is not among the known ones."""
    assert tuple(VENDOR.capabilities) == CAPABILITY_NAMES
    assert (VENDOR.capabilities["root_password"], VENDOR.capabilities["ssh_keys"]) == ("unknown", "unknown")
    assert (VENDOR.capabilities["power"], VENDOR.capabilities["webhooks"]) == ("no", "no")


def test_ceilings_may_be_set_for_what_is_metered() -> None:
    """And for nothing else."""
    vendor = CryptoVps("c", "https://api.example", TERMS, {"create": RouteOverride(ceiling_base=7)})
    found = vendor.match("POST", "/servers")
    assert found is not None
    assert found.route.ceiling_base == 7
    with pytest.raises(ValueError, match="servers"):
        CryptoVps("c", "https://api.example", TERMS, {"servers": RouteOverride(ceiling_base=7)})


def test_the_login_is_refreshed_before_it_ends() -> None:
    """E-mail and password for fifteen minutes, anew after twelve; the request is the document's."""
    plan = VENDOR.login
    assert plan is not None
    assert (plan.lives_s, plan.refresh_after_s) == (900, 720)
    request = plan.request(Credentials("ops@example.com", Secret('p"w')))
    assert (request.method, request.target, request.may_resend) == ("POST", "/auth/login", False)
    assert isinstance(request.body, bytes)
    assert json.loads(request.body) == {"email": "ops@example.com", "password": 'p"w'}


@pytest.mark.parametrize(
    ("body", "token"),
    [
        ({"accessToken": "e30.x.y", "user": {}}, "e30.x.y"),
        ({"accessToken": ""}, None),
        ({"accessToken": "a\r\nX: y"}, None),
        ({"accessToken": "a b"}, None),
        ({"accessToken": "é"}, None),
        ({"accessToken": 5}, None),
        ({"token": "a"}, None),
        ([], None),
    ],
)
def test_a_token_must_fit_into_a_header(body: object, token: str | None) -> None:
    """Whatever else a login is answered with is no token."""
    plan = VENDOR.login
    assert plan is not None
    found = plan.read(replied(body))
    assert (None if found is None else found.value.reveal()) == token


@pytest.mark.parametrize(
    ("name", "status", "document"),
    [
        (
            "register",
            201,
            {"accessToken": "t0k", "user": {"id": "acc_1", "email": "agent@example.com", "balance": "9.96"}},
        ),
        (
            "login",
            200,
            {"accessToken": "t0k", "user": {"id": "acc_1", "email": "agent@example.com", "balance": "9.96"}},
        ),
        ("me", 200, {"user": {"id": "acc_1", "email": "agent@example.com", "balance": "9.96"}}),
        ("billing", 200, {"balance": "9.96", "hourlySpend": "0.012"}),
    ],
)
def test_the_account_is_answered_in_the_vendors_shape(name: str, status: int, document: dict[str, Any]) -> None:
    """With the agent's own figures, as texts."""
    said = VENDOR.local(matched(name), b"", OWN)
    assert (said.status, said.document) == (status, document)


def test_without_a_token_there_is_no_login() -> None:
    """It is refused as the vendor refuses a wrong password; a route of the vendor's is not answered here at all."""
    stranger = Own("acc_1", "Ann", 0, 0, "a@example.com", 1)
    said = VENDOR.local(matched("login"), b"", stranger)
    assert (said.status, said.document) == (401, {"error": "invalid email or password"})
    with pytest.raises(ValueError, match="servers"):
        VENDOR.local(matched("servers"), b"", OWN)


def test_refusals_are_worded_as_the_vendors() -> None:
    """`error`, and for wrong input a 400 with `details`."""
    said = VENDOR.refusal(404, "server not found")
    assert (said.status, said.document) == (404, {"error": "server not found"})
    for status in (400, 422):
        said = VENDOR.refusal(status, "label is too long")
        expected = {"error": "validation failed", "details": [{"message": "label is too long"}]}
        assert (said.status, said.document) == (400, expected)

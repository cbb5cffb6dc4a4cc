"""VRTX's data: every route of its document and no other, its states, limits and capabilities, and the class around them."""

import dataclasses
from typing import Any

import pytest

from gateway.account_ports import AccountTerms, AccountVendor, Own
from gateway.core.problems import Problem
from gateway.core.rates import Rate
from gateway.core.routes import Listing, Match, Ownership, Place, Pricing, Priority, Ref, Retry
from gateway.core.tariff import Rule
from gateway.vendors.capabilities import CAPABILITY_NAMES
from gateway.vendors.overrides import RouteOverride
from gateway.vendors.vrtx import Vrtx
from gateway.vendors.vrtx.routes import CAPABILITIES, QUERIES, RATES, ROUTES, state_of

UUID = "a1b2c3d4-e5f6-7890-abcd-ef1234567890"
BASE = "/api/v2"
TERMS = AccountTerms(
    period_s=3600,
    ceiling_base=90_000_000,
    rule=Rule.STARTED_UNITS,
    warn_periods=2,
    suspend_first=True,
    grace_s=600,
)
OWN = Own("acc_1", "agent", 1, 4, "agent@example.com", 0)

# method, path, route, pricing, ownership, retry, secret, what the query may hold
DECLARED: list[tuple[str, str, str, Pricing, Ownership, Retry, bool, set[str]]] = [
    ("GET", "/plans", "plans", Pricing.FREE, Ownership.NONE, Retry.SAFE, False, {"page", "per_page", "location_id"}),
    ("GET", "/locations", "locations", Pricing.FREE, Ownership.NONE, Retry.SAFE, False, set()),
    ("GET", "/locations/6/templates", "templates", Pricing.FREE, Ownership.NONE, Retry.SAFE, False, set()),
    ("POST", "/servers", "create", Pricing.METERED, Ownership.CREATES, Retry.KEYED, False, set()),
    ("GET", "/servers", "servers", Pricing.FREE, Ownership.NONE, Retry.SAFE, False, {"page", "per_page", "status"}),
    ("GET", f"/servers/{UUID}", "server", Pricing.FREE, Ownership.OWNER, Retry.SAFE, False, set()),
    ("GET", f"/servers/{UUID}/status", "status", Pricing.FREE, Ownership.OWNER, Retry.SAFE, False, set()),
    ("GET", f"/servers/{UUID}/credentials", "credentials", Pricing.FREE, Ownership.OWNER, Retry.SAFE, True, set()),
    ("POST", f"/servers/{UUID}/power", "power", Pricing.FREE, Ownership.OWNER, Retry.NEVER, False, set()),
    ("DELETE", f"/servers/{UUID}", "delete", Pricing.FREE, Ownership.OWNER, Retry.SAFE, False, set()),
    (
        "GET",
        f"/servers/{UUID}/backups",
        "backups",
        Pricing.FREE,
        Ownership.OWNER,
        Retry.SAFE,
        True,
        {"page", "per_page"},
    ),
]


def make(**overrides: RouteOverride) -> Vrtx:
    """The module for one account."""
    return Vrtx("vrtx", "https://vrtx.example", TERMS, overrides)


def found(method: str, path: str) -> Match:
    """The route of a request that has one."""
    match = make().match(method, path)
    assert match is not None
    return match


@pytest.mark.parametrize("row", DECLARED, ids=lambda row: row[2])
def test_each_route_of_the_document_is_classified(
    row: tuple[str, str, str, Pricing, Ownership, Retry, bool, set[str]],
) -> None:
    """What a route costs, names, hides and may repeat stands in its row."""
    method, path, name, pricing, ownership, retry, secret, query = row
    route = found(method, BASE + path).route
    assert (route.name, route.pricing, route.ownership) == (name, pricing, ownership)
    assert (route.retry, route.secret, QUERIES[name]) == (retry, secret, query)
    names_a_server = UUID in path
    assert route.refs == ((Ref(Place.PATH, "uuid", "server"),) if names_a_server else ())
    assert (found(method, BASE + path).ref == UUID) is names_a_server


def test_the_table_holds_nothing_else() -> None:
    """Each declared route is in the list above, once, and only GETs may be sent twice unasked."""
    assert sorted(route.name for route in ROUTES) == sorted(row[2] for row in DECLARED)
    assert set(QUERIES) == {route.name for route in ROUTES}
    assert {route.methods for route in ROUTES if route.safe} == {("GET",)}
    assert [route.name for route in ROUTES if not route.safe] == ["create", "power", "delete"]
    assert [route.name for route in ROUTES if route.ends] == ["delete"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *[("GET", "/plans"), ("GET", "/servers"), ("POST", "/"), ("GET", BASE), ("GET", f"{BASE}/")],
        *[(method, f"{BASE}/{path}") for method in ("GET", "POST") for path in ("billing", "ssh-keys", "invoices")],
        *[("GET", f"{BASE}/security-groups"), ("GET", f"{BASE}/account"), ("POST", f"{BASE}/plans")],
        *[("POST", f"{BASE}/servers/{UUID}/backups"), ("DELETE", f"{BASE}/servers/{UUID}/backups/b1")],
        *[("POST", f"{BASE}/servers/{UUID}/reinstall"), ("PATCH", f"{BASE}/servers/{UUID}")],
        *[("PUT", f"{BASE}/servers/{UUID}"), ("DELETE", f"{BASE}/servers"), ("GET", f"{BASE}/servers/")],
        *[("GET", f"{BASE}/servers/{UUID}/"), ("GET", f"/api/v1/servers/{UUID}"), ("GET", f"/API/v2/servers/{UUID}")],
        *[("GET", f"{BASE}/servers/{UUID}%2Fcredentials"), ("GET", f"{BASE}/servers/../billing")],
        *[("GET", f"{BASE}/servers/{UUID}/%2e%2e/x"), ("get", f"{BASE}/plans"), ("HEAD", f"{BASE}/servers")],
    ],
)
def test_what_the_document_only_mentions_does_not_exist(method: str, path: str) -> None:
    """Billing, keys, groups and the writing of backups have no documented path; other spellings are no routes."""
    assert make().match(method, path) is None


def test_listings_say_where_servers_stand() -> None:
    """In `data`, by `uuid`; the list of all is paged and must be cut anew."""
    listings = {route.name: route.listings for route in ROUTES if route.listings}
    shown = (Listing("data", "server", "uuid"),)
    assert listings == {
        "create": shown,
        "server": shown,
        "servers": (Listing("data", "server", "uuid", paged=True),),
    }


def test_the_urgent_goes_first() -> None:
    """A destruction before a creation before what agents read, and waiting agents' polls last."""
    priorities = {route.name: route.priority for route in ROUTES if route.priority is not Priority.CALL}
    assert priorities == {"create": Priority.CREATE, "delete": Priority.DESTROY, "status": Priority.POLL}
    assert (Rate(120, 60), Rate(30, 10)) == RATES


@pytest.mark.parametrize(
    ("told", "word"),
    [
        ({"status": "installing", "state": "stopped"}, "provisioning"),
        ({"status": "installing", "state": "running"}, "provisioning"),
        ({"status": "installing"}, "provisioning"),
        ({"status": "suspended", "state": "running"}, "suspended"),
        ({"status": None, "state": "running"}, "running"),
        ({"status": None, "state": "running", "password_status": "ready"}, "running"),
        ({"status": None, "state": "running", "password_status": "generating"}, "provisioning"),
        ({"status": None, "state": "stopped"}, "stopped"),
        ({"status": None}, "unknown"),
        ({"status": None, "password_status": "ready"}, "unknown"),
        ({"state": "running"}, "unknown"),
        ({"status": "install_failed", "state": "stopped"}, "unknown"),
        ({"status": "migrating", "state": "running"}, "unknown"),
        ({"status": None, "state": "paused"}, "unknown"),
        ({"status": "running"}, "unknown"),
        ({"status": None, "state": "suspended"}, "unknown"),
        ({"status": 7, "state": "running"}, "unknown"),
        ({"status": ["installing"]}, "unknown"),
        ({"status": None, "state": {"a": 1}}, "unknown"),
        ({"status": False, "state": "running"}, "unknown"),
        ({"status": "", "state": "running"}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_states_are_a_total_map(told: dict[str, Any], word: str) -> None:
    """Ready is running, no status, and a password that is not being made; strange words are unknown, never an error."""
    assert state_of(told) == word


def test_every_capability_has_an_answer() -> None:
    """What the document only mentions is unknown, never guessed."""
    assert list(CAPABILITIES) == list(CAPABILITY_NAMES)
    unknown = {name for name, answer in CAPABILITIES.items() if answer == "unknown"}
    assert unknown == {"snapshots", "ssh_keys"}
    assert "unknown" in CAPABILITIES["destroy"]
    assert make().capabilities is CAPABILITIES


def test_the_class_is_an_account_vendor() -> None:
    """A configured token, no login, no balance, no prices without asking; charged whatever the state until it is gone."""
    vendor: AccountVendor = make()
    assert (vendor.login, vendor.prices, vendor.price_target) == (None, (), "/api/v2/plans?per_page=100")
    assert (vendor.unit_s, vendor.while_running, vendor.ends_on_accept) == (3600, False, False)
    assert (vendor.name_member, vendor.template_target, vendor.resumes) == ("name", None, frozenset())
    assert (vendor.speaks, vendor.own_headers(OWN)) == ({"overdue_invoice"}, ())
    assert vendor.balance_request() is None
    assert vendor.stop_request(UUID) is None
    price_match = vendor.match("GET", (vendor.price_target or "").partition("?")[0])
    assert price_match is not None
    assert price_match.route.name == "plans"


def test_requests_of_our_own_match_declared_routes() -> None:
    """Listing, showing and destroying use the document's paths, whole pages at a time."""
    vendor = make()
    listed = vendor.list_request(3)
    assert listed is not None
    assert (listed.method, listed.target) == ("GET", "/api/v2/servers?page=3&per_page=100")
    shown, destroyed = vendor.show_request(UUID), vendor.destroy_request(UUID)
    for request, name in ((listed, "servers"), (shown, "server"), (destroyed, "delete")):
        assert found(request.method, request.target.partition("?")[0]).route.name == name
        assert request.body == b""
    assert vendor.show_request("a/../b?c").target == "/api/v2/servers/a%2F..%2Fb%3Fc"


def test_only_a_create_takes_the_key() -> None:
    """POST /power has no key in the document, so it gets none."""
    key = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
    json_type = ("Content-Type", "application/json")
    assert make().headers_for(found("POST", f"{BASE}/servers"), key) == (json_type, ("Idempotency-Key", key))
    assert make().headers_for(found("POST", f"{BASE}/servers/{UUID}/power"), key) == (json_type,)
    assert make().headers_for(found("DELETE", f"{BASE}/servers/{UUID}"), key) == ()


def test_only_a_create_is_marked() -> None:
    """Other bodies leave as the agent wrote them, byte for byte."""
    token = "gabcdefgh234567zz"
    body = b'{ "action": "kill" }'
    for method, path in (("POST", f"{BASE}/servers/{UUID}/power"), ("GET", f"{BASE}/plans")):
        assert make().marked(found(method, path), body, token) == body
    order = b'{"plan_id":1,"location_id":6,"template_slug":"debian-12"}'
    assert token.encode() in make().marked(found("POST", f"{BASE}/servers"), order, token)


def test_the_ceiling_is_the_accounts_unless_overridden() -> None:
    """One metered route; others have no ceiling to change."""
    ceilings = {route.name: route.ceiling_base for route in make().routes if route.ceiling_base}
    assert ceilings == {"create": 90_000_000}
    lower = make(create=RouteOverride(ceiling_base=5))
    assert {route.ceiling_base for route in lower.routes} == {0, 5}
    for name in ("plans", "delete", "login"):
        with pytest.raises(ValueError, match=name):
            make(**{name: RouteOverride(ceiling_base=5)})
    with pytest.raises(ValueError, match="ceiling"):
        Vrtx("vrtx", "https://vrtx.example", dataclasses.replace(TERMS, ceiling_base=0))


def test_there_is_no_login_and_no_bulk() -> None:
    """The agent's key stands where the token would; what has no documented route is answered 404 or refused."""
    vendor, create = make(), found("POST", f"{BASE}/servers")
    assert vendor.password_in(create, b'{"email":"a@b.c","password":"x"}') is None
    assert vendor.local(create, b"", OWN).status == 404
    assert vendor.join(create, ()).status == 404
    with pytest.raises(Problem) as refused:
        vendor.split(create, b"{}")
    assert refused.value.code == "input_refused"
    assert all(route.pricing not in (Pricing.LOCAL, Pricing.CLOSED) for route in ROUTES)
    assert not any(route.split or route.opens or route.public for route in ROUTES)


def test_credentials_in_a_query_are_scrubbed() -> None:
    """Nobody should write one there; a log must not show it all the same."""
    assert make().scrub("/api/v2/servers?page=2&token=s3cret") == "/api/v2/servers?page=2&token=***"

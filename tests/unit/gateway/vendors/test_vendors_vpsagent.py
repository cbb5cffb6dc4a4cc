"""VpsAgent's table and its tokens: every route of the document, and a query that only the gateway can complete."""

import pytest

from gateway.core.commands import AccountLimits
from gateway.core.problems import Problem
from gateway.core.routes import Match, Ownership, Pricing, Represent, Route, Window
from gateway.ports import VendorTerms
from gateway.vendors.overrides import RouteOverride
from gateway.vendors.vpsagent import VpsAgent
from gateway.vendors.vpsagent.routes import STATES, TOKEN_ROUTES, state_of
from wallets.secret import Secret

TERMS = VendorTerms(b"\1" * 20, (), frozenset(), 0, {}, 300, 3600, AccountLimits(1, 1, 1, 1, 1))
VENDOR = VpsAgent("vpsagent", "https://vps.example", TERMS)
RENTAL_ID = "0a1b2c3d-0000-4000-8000-00000000000f"
REAL = Secret("Re4l/token+with=odd&chars")


def matched(method: str, path: str) -> Match:
    """The match that must exist."""
    found = VENDOR.match(method, path)
    assert found is not None
    return found


INSTANCE = matched("GET", f"/instance/{RENTAL_ID}")
RENEW = matched("POST", f"/rentals/{RENTAL_ID}/renew")


@pytest.mark.parametrize(
    ("method", "path", "name", "ref"),
    [
        ("GET", "/catalog", "catalog", None),
        ("POST", "/rent", "rent", None),
        ("GET", f"/rentals/{RENTAL_ID}", "rental", RENTAL_ID),
        ("POST", f"/rentals/{RENTAL_ID}/renew", "renew", RENTAL_ID),
        ("GET", f"/instance/{RENTAL_ID}", "instance", RENTAL_ID),
        ("GET", "/healthz", "healthz", None),
    ],
)
def test_every_route_of_the_document_is_declared(method: str, path: str, name: str, ref: str | None) -> None:
    """By its method alone, with the rental it is about."""
    found = matched(method, path)
    assert (found.route.name, found.ref) == (name, ref)
    others = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} - {method}
    assert all(VENDOR.match(other, path) is None for other in others)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/Catalog",
        "/catalog/",
        "//catalog",
        "/rent/x",
        "/rentals",
        "/rentals/",
        "/rentals//renew",
        "/rentals/a%2Frenew",
        "/rentals/../catalog",
        "/rentals/%2e%2e/renew",
        "/instance/a/b",
        "/admin",
        "/openapi.json",
        "catalog",
    ],
)
def test_what_the_document_does_not_name_does_not_exist(path: str) -> None:
    """Nor does another spelling of what it names."""
    assert all(VENDOR.match(method, path) is None for method in ("GET", "POST"))


def test_the_table_says_what_money_may_do() -> None:
    """Priced routes with their ceilings, windows and ownership; free ones can never be paid."""
    table = {route.name: route for route in VENDOR.routes}
    assert {name for name, route in table.items() if route.pricing is Pricing.PRICED} == {"catalog", "rent", "renew"}
    assert table["catalog"].ceiling_base == 20_000
    assert {name: table[name].window for name in ("catalog", "rent", "renew")} == {
        "catalog": Window(120, 120),
        "rent": Window(900, 3600),
        "renew": Window(900, 172_800),
    }
    assert {name: route.ownership for name, route in table.items()} == {
        "catalog": Ownership.NONE,
        "rent": Ownership.CREATES,
        "rental": Ownership.OWNER,
        "renew": Ownership.OWNER,
        "instance": Ownership.OWNER,
        "healthz": Ownership.NONE,
    }
    assert all(table[name].represent is Represent.YES for name in ("catalog", "rent", "renew"))
    assert {name for name, route in table.items() if route.renews} == {"renew"}
    assert {name for name, route in table.items() if route.secret} == {"rent", "instance"}
    assert {name for name, route in table.items() if route.safe} == {"catalog", "rental", "instance", "healthz"}


def test_configuration_narrows_a_route_and_its_matches() -> None:
    """The override is what a match carries, not the default."""
    vendor = VpsAgent("v", "https://vps.example", TERMS, {"rent": RouteOverride(5_000_000, Window(8, 30))})
    found = vendor.match("POST", "/rent")
    assert found is not None
    assert (found.route.ceiling_base, found.route.window) == (5_000_000, Window(8, 30))


def test_a_bad_override_names_the_route() -> None:
    """The start stops; nothing is guessed."""
    with pytest.raises(ValueError, match=r"^rentt: no such route"):
        VpsAgent("v", "https://vps.example", TERMS, {"rentt": RouteOverride(5)})


def test_states_are_total() -> None:
    """The document's four, and "unknown" for anything else, whatever its type."""
    assert {state_of(name) for name in STATES} == {"pending_settlement", "active", "renewing", "expired"}
    strange: tuple[object, ...] = ("Active", "deleted", "", None, 7, [], {"a": 1}, True)
    assert {state_of(status) for status in strange} == {"unknown"}


def test_the_surrogate_is_read_and_exchanged() -> None:
    """The vendor gets its own token, encoded; the rest of the target is the agent's, byte for byte."""
    target = f"/instance/{RENTAL_ID}?a=%41&token=sur%2Dro&z"
    assert VENDOR.surrogate_in(INSTANCE, target) == "sur-ro"
    assert (
        VENDOR.outgoing_target(target, "sur-ro", REAL)
        == f"/instance/{RENTAL_ID}?a=%41&token=Re4l%2Ftoken%2Bwith%3Dodd%26chars&z"
    )


def test_without_surrogate_or_credential_the_target_stays() -> None:
    """Nothing is injected that the agent did not ask for."""
    target = f"/instance/{RENTAL_ID}?x=1"
    assert VENDOR.surrogate_in(INSTANCE, target) is None
    assert VENDOR.outgoing_target(target, None, REAL) == target
    assert VENDOR.outgoing_target(f"{target}&token=s", "s", None) == f"{target}&token=s"


def test_a_credential_never_replaces_another_surrogate() -> None:
    """A mix-up of targets stops here, and the error names neither."""
    with pytest.raises(ValueError, match="this surrogate") as caught:
        VENDOR.outgoing_target("/instance/x?token=other", "mine", REAL)
    assert "other" not in str(caught.value)
    assert REAL.reveal() not in str(caught.value)


@pytest.mark.parametrize("query", ["", "?", "?token=", "?token", "?x=1"])
def test_a_renewal_without_a_token_is_refused_unpaid(query: str) -> None:
    """The vendor would say 401, perhaps after it was paid; a free call is passed on for it to say so."""
    with pytest.raises(Problem) as caught:
        VENDOR.surrogate_in(RENEW, f"/rentals/{RENTAL_ID}/renew{query}")
    assert (caught.value.code, caught.value.field) == ("input_refused", "token")
    assert VENDOR.surrogate_in(INSTANCE, f"/instance/{RENTAL_ID}{query}") is None


@pytest.mark.parametrize(
    "query", ["token=a&token=b", "token=a&Token=a", "token=a&token[]=b", "token=a;b=1", "token=%zz"]
)
@pytest.mark.parametrize("match", [INSTANCE, RENEW])
def test_a_query_with_two_readings_is_refused(match: Match, query: str) -> None:
    """Before the credential is put into either of them."""
    with pytest.raises(Problem) as caught:
        VENDOR.surrogate_in(match, f"/x?{query}")
    assert caught.value.code == "bad_request"
    with pytest.raises(Problem):
        VENDOR.outgoing_target(f"/x?{query}", "a", REAL)


def test_other_routes_take_no_token() -> None:
    """A token there means nothing, however often it stands there."""
    routes: set[Route] = {route for route in VENDOR.routes if route.name not in TOKEN_ROUTES}
    assert {VENDOR.surrogate_in(Match(route, {}), "/x?token=a&token=b") for route in routes} == {None}


def test_scrubbing_hides_the_exchanged_target() -> None:
    """What was sent can be logged without the token."""
    sent = VENDOR.outgoing_target("/instance/x?token=s&a=1", "s", REAL)
    assert VENDOR.scrub(sent) == "/instance/x?token=***&a=1"

"""LiteVPS's table: every route of the document, whose things it names and shows, and what may be asked twice."""

import dataclasses
from pathlib import Path

import pytest

from gateway.account_ports import AccountTerms, AccountVendor
from gateway.core.problems import TYPES
from gateway.core.rates import AUTH, Rate
from gateway.core.routes import Listing, Match, Ownership, Place, Pricing, Priority, Ref, Retry
from gateway.core.tariff import Rule
from gateway.vendors.capabilities import CAPABILITY_NAMES
from gateway.vendors.litevps import LiteVps
from gateway.vendors.litevps.routes import CHARGED, JOB_STATES, QUERIES, RESUMES, STATES
from gateway.vendors.overrides import RouteOverride

TERMS = AccountTerms(86_400, 2_000_000, Rule.STARTED_UNITS, 2, suspend_first=True, grace_s=3600)
VENDOR = LiteVps("litevps", "https://api.litevps.example", TERMS)
ONE = "/api/vps/v-1"

# (method, path, name, pricing): the document, line by line.
TABLE = [
    ("POST", "/api/auth/register", "register", Pricing.LOCAL),
    ("POST", "/api/auth/login", "login", Pricing.LOCAL),
    ("GET", "/api/me", "me", Pricing.LOCAL),
    ("GET", "/api/pricing", "pricing", Pricing.FREE),
    ("GET", "/api/vps", "list", Pricing.FREE),
    ("POST", "/api/vps", "create", Pricing.METERED),
    ("GET", ONE, "get", Pricing.FREE),
    ("PUT", ONE, "update", Pricing.FREE),
    ("DELETE", ONE, "delete", Pricing.FREE),
    ("POST", f"{ONE}/start", "start", Pricing.FREE),
    ("POST", f"{ONE}/stop", "stop", Pricing.FREE),
    ("POST", f"{ONE}/restart", "restart", Pricing.FREE),
    ("GET", f"{ONE}/vnc-port", "vnc_port", Pricing.FREE),
    ("GET", f"{ONE}/snapshots", "snapshots", Pricing.FREE),
    ("POST", f"{ONE}/snapshots", "snapshot", Pricing.FREE),
    ("POST", f"{ONE}/snapshots/snap%20one/restore", "restore_snapshot", Pricing.FREE),
    ("DELETE", f"{ONE}/snapshots/snap-1", "delete_snapshot", Pricing.FREE),
    ("GET", "/.well-known/agent.json", "agent_json", Pricing.FREE),
    ("GET", "/openapi.json", "openapi", Pricing.FREE),
    ("PUT", f"{ONE}/files", "upload", Pricing.FREE),
    ("GET", f"{ONE}/files", "download", Pricing.FREE),
    ("POST", f"{ONE}/exec", "exec", Pricing.FREE),
    ("GET", f"{ONE}/jobs/j-1", "job", Pricing.FREE),
    ("GET", f"{ONE}/jobs", "jobs", Pricing.FREE),
    ("DELETE", f"{ONE}/jobs/j-1", "cancel_job", Pricing.FREE),
    ("GET", "/api/templates", "templates", Pricing.FREE),
    ("GET", "/api/templates/ubuntu-22-small", "template", Pricing.FREE),
    ("POST", "/api/vps/batch", "batch_create", Pricing.METERED),
    ("DELETE", "/api/vps/batch", "batch_delete", Pricing.FREE),
    ("POST", "/api/vps/batch/exec", "batch_exec", Pricing.FREE),
    ("GET", "/api/keys", "keys", Pricing.FREE),
    ("POST", "/api/keys", "add_key", Pricing.FREE),
    ("DELETE", "/api/keys/k-1", "delete_key", Pricing.FREE),
    ("GET", "/api/billing/balance", "balance", Pricing.LOCAL),
    ("POST", "/api/billing/add-funds", "add_funds", Pricing.CLOSED),
    ("GET", "/api/billing/history", "history", Pricing.LOCAL),
    ("GET", "/api/billing/notify-emails", "notify_emails", Pricing.LOCAL),
    ("POST", "/api/billing/notify-emails", "add_notify_email", Pricing.CLOSED),
    ("DELETE", "/api/billing/notify-emails/n-1", "delete_notify_email", Pricing.CLOSED),
    ("GET", "/api/tokens", "tokens", Pricing.LOCAL),
    ("POST", "/api/tokens", "add_token", Pricing.CLOSED),
    ("DELETE", "/api/tokens/t-1", "delete_token", Pricing.CLOSED),
    ("GET", "/health", "health", Pricing.FREE),
]
ROUTES = {route.name: route for route in VENDOR.routes}


def matched(method: str, path: str) -> Match:
    """The match that must exist."""
    found = VENDOR.match(method, path)
    assert found is not None
    return found


@pytest.mark.parametrize(("method", "path", "name", "pricing"), TABLE)
def test_every_route_of_the_document_is_classified(method: str, path: str, name: str, pricing: Pricing) -> None:
    """By method and path, with what a call of it may cost and who answers it."""
    found = matched(method, path)
    assert (found.route.name, found.route.pricing) == (name, pricing)


def test_nothing_else_is_declared() -> None:
    """Each row of ours is one of the document's, once, and each knows what its query may hold."""
    assert sorted(route.name for route in VENDOR.routes) == sorted(name for _, _, name, _ in TABLE)
    assert QUERIES.keys() == ROUTES.keys()
    assert {name: names for name, names in QUERIES.items() if names} == {
        "history": {"limit", "offset"},
        "upload": {"path"},
        "download": {"path"},
    }


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/api"),
        ("GET", "/api/vps/"),
        ("GET", "/API/vps"),
        ("GET", "/api//vps"),
        ("PATCH", ONE),
        ("HEAD", ONE),
        ("GET", "/api/admin"),
        ("GET", "/api/vps/a%2Fb"),
        ("GET", "/api/vps/../keys"),
        ("GET", "/api/vps/%2e%2e"),
        ("DELETE", f"{ONE}/snapshots/..%2f..%2fv-2"),
        ("DELETE", f"{ONE}/snapshots"),
        ("POST", "/api/vps/batch/delete"),
        ("DELETE", "/api/billing/notify-emails"),
    ],
)
def test_what_the_document_does_not_name_does_not_exist(method: str, path: str) -> None:
    """Nor does another spelling, or a path that the vendor's router might read in another way."""
    assert VENDOR.match(method, path) is None


def test_a_batch_is_no_server() -> None:
    """The fixed path wins over the one with an id, where both would fit."""
    assert matched("DELETE", "/api/vps/batch").route.name == "batch_delete"
    assert matched("POST", "/api/vps/batch/exec").route.name == "batch_exec"


def test_every_id_that_a_request_names_is_declared() -> None:
    """Servers, keys and jobs in the path, keys in a create's body; snapshots have names below their server only."""
    for route in VENDOR.routes:
        named = {segment.strip("{}") for segment in route.segments if segment.startswith("{")} - {"name", "slug"}
        declared = {ref.name for ref in route.refs if ref.place is Place.PATH}
        assert declared == (set() if route.pricing is Pricing.CLOSED else named), route.name
        if named and route.pricing is not Pricing.CLOSED:
            assert (route.ownership, route.ref_parameter) == (Ownership.OWNER, "id")
    assert ROUTES["create"].refs == (Ref(Place.BODY, "ssh_key_ids", "key", optional=True),)
    assert ROUTES["job"].refs == (Ref(Place.PATH, "id", "server"), Ref(Place.PATH, "job_id", "job"))
    assert ROUTES["delete_key"].refs == (Ref(Place.PATH, "id", "key"),)


def test_every_answer_that_shows_servers_or_keys_is_filtered() -> None:
    """The whole document is one thing or a list of them."""
    servers = {name for name, route in ROUTES.items() if Listing("", "server") in route.listings}
    assert servers == {"list", "create", "get", "update", "start", "stop", "restart", "restore_snapshot"}
    assert {name for name, route in ROUTES.items() if Listing("", "key") in route.listings} == {"keys", "add_key"}


def test_what_may_be_repeated() -> None:
    """A create is looked for by its mark, what runs or reboots is never repeated, what only looks may be."""
    assert ROUTES["create"].retry is Retry.FIND
    never = {name for name, route in ROUTES.items() if route.retry is Retry.NEVER and not route.split}
    assert {"exec", "restart", "snapshot", "restore_snapshot", "delete_snapshot", "add_key"} <= never
    looking = {name for name, route in ROUTES.items() if route.methods == ("GET",) and route.pricing is Pricing.FREE}
    assert all(ROUTES[name].retry is Retry.SAFE and ROUTES[name].safe for name in looking)
    assert all(not route.safe for route in VENDOR.routes if route.methods != ("GET",))


def test_what_goes_first_and_what_ends_things() -> None:
    """A destruction before a creation, a poll last; deleting a server or a key ends it, cancelling a job does not."""
    assert ROUTES["delete"].priority is Priority.DESTROY
    assert ROUTES["create"].priority is Priority.CREATE
    assert {ROUTES[name].priority for name in ("list", "get", "jobs", "job")} == {Priority.POLL}
    assert {name for name, route in ROUTES.items() if route.ends} == {"delete", "delete_key"}
    assert {"start", "restart", "restore_snapshot"} == RESUMES == VENDOR.resumes


def test_secrets_logins_and_open_routes() -> None:
    """VNC ports and tokens are secret; only the vendor's own doors need no key; only documents need no credential."""
    assert {name for name, route in ROUTES.items() if route.secret} == {"vnc_port", "login", "register"}
    assert {name for name, route in ROUTES.items() if route.opens} == {"login", "register"}
    assert {name for name, route in ROUTES.items() if route.public} == {"health", "agent_json", "openapi", "pricing"}


def test_a_closed_route_says_why() -> None:
    """And nothing else has a reason to give."""
    for route in VENDOR.routes:
        assert bool(route.reason) is (route.pricing is Pricing.CLOSED), route.name
    assert "/v1/keys" in ROUTES["add_token"].reason
    assert "/v1/topups" in ROUTES["add_funds"].reason


def test_states_are_total_over_the_document() -> None:
    """Every documented word has ours, and every word of ours says whether it is charged; stopped and failed are not."""
    assert dict(STATES) == {"creating": "provisioning", "running": "running", "stopped": "stopped", "error": "error"}
    assert dict(CHARGED) == {"provisioning": False, "running": True, "stopped": False, "error": False}
    assert set(JOB_STATES) == {"pending", "running", "done", "timeout", "cancelled"}


def test_the_vendors_figures() -> None:
    """Ten logins a minute and no other stated limit; minutes, while running, until the DELETE; prices are asked for."""
    assert VENDOR.rates == (Rate(10, 60, AUTH),)
    assert (VENDOR.unit_s, VENDOR.while_running, VENDOR.ends_on_accept) == (60, True, True)
    assert (VENDOR.prices, VENDOR.price_target, VENDOR.template_target) == ((), "/api/pricing", "/api/templates")
    assert VENDOR.speaks == {"low_vendor_balance"}
    assert VENDOR.name_member == "name"
    assert matched("GET", VENDOR.price_target or "").route.public
    assert not matched("GET", VENDOR.template_target or "").route.public


def test_capabilities_answer_every_question() -> None:
    """In the list's order; what the document is silent on is unknown."""
    assert tuple(VENDOR.capabilities) == CAPABILITY_NAMES
    assert VENDOR.capabilities["onboarding_without_human"] == "no"
    assert "unknown" in VENDOR.capabilities["charged"]
    assert "unknown" in VENDOR.capabilities["rate_limit"]


def test_it_is_the_seams_vendor() -> None:
    """Every member that the seam names is there."""
    seam = {name for name in vars(AccountVendor) if not name.startswith("_")} | set(AccountVendor.__annotations__)
    assert [name for name in sorted(seam) if not hasattr(VENDOR, name)] == []


def test_ceilings() -> None:
    """A metered route's is the account's, or the operator's own for it; anything else stops the start."""
    assert {ROUTES[name].ceiling_base for name in ("create", "batch_create")} == {TERMS.ceiling_base}
    changed = LiteVps("l", "https://l.example", TERMS, {"create": RouteOverride(ceiling_base=7)})
    assert {r.ceiling_base for r in changed.routes if r.name == "create"} == {7}
    for overrides in ({"exec": RouteOverride(ceiling_base=7)}, {"nothing": RouteOverride(ceiling_base=7)}):
        with pytest.raises(ValueError, match="metered"):
            LiteVps("l", "https://l.example", TERMS, overrides)
    with pytest.raises(ValueError, match="ceiling"):
        LiteVps("l", "https://l.example", dataclasses.replace(TERMS, ceiling_base=0))


def test_the_policy_problem_is_documented() -> None:
    """Its type is registered, and the table of problems shows it."""
    assert TYPES["upstream_policy_denied"].status == 403
    docs = Path(__file__).parents[4] / "docs" / "api.md"
    assert "| `upstream_policy_denied` | 403 |" in docs.read_text()


def test_our_own_requests() -> None:
    """What the broker asks by itself, on the routes that the document has; ids stay one segment."""
    asked = [
        (VENDOR.list_request(1), "GET", "/api/vps", "list"),
        (VENDOR.show_request("v-1"), "GET", "/api/vps/v-1", "get"),
        (VENDOR.destroy_request("v-1"), "DELETE", "/api/vps/v-1", "delete"),
        (VENDOR.stop_request("v-1"), "POST", "/api/vps/v-1/stop", "stop"),
        (VENDOR.balance_request(), "GET", "/api/billing/balance", "balance"),
    ]
    for request, method, target, name in asked:
        assert request is not None
        assert (request.method, request.target, request.body) == (method, target, b"")
        assert request.may_resend is (method == "GET")
        assert matched(method, target).route.name == name
    assert VENDOR.list_request(2) is None
    assert VENDOR.show_request("a/b").target == "/api/vps/a%2Fb"


def test_only_its_own_spelling_names_a_thing() -> None:
    """An id names itself if the agent owns it, and nothing otherwise."""
    assert VENDOR.canonical("server", "v-1", {"v-1", "v-2"}) == "v-1"
    assert VENDOR.canonical("server", "V-1", {"v-1"}) is None
    assert VENDOR.canonical("server", "v", {"v-1"}) is None


def test_credentials_in_targets_are_scrubbed() -> None:
    """A token in a query does not reach a log; a file's path does."""
    assert VENDOR.scrub("/api/vps?token=vtk_abc") == "/api/vps?token=***"
    assert VENDOR.scrub(f"{ONE}/files?path=/root/x") == f"{ONE}/files?path=/root/x"

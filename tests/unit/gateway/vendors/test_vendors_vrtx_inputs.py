"""What agents may send to VRTX, the mark in a host name, and which server a short id names."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.problems import Problem
from gateway.core.routes import Match, match_route
from gateway.vendors.vrtx.inputs import DEFAULT_NAME, canonical, check_input, marked, marked_name, order
from gateway.vendors.vrtx.routes import ROUTES
from tests.factories import unmark

UUID = "a1b2c3d4-e5f6-7890-abcd-ef1234567890"
TWIN = "a1b2c3d4-0000-4000-8000-000000000000"
OTHER = "ffffffff-e5f6-7890-abcd-ef1234567890"
TOKEN = "gabcdefgh234567zz"
ORDER: dict[str, Any] = {
    "plan_id": 1,
    "location_id": 6,
    "template_slug": "ubuntu-24.04",
    "hostname": "app-01.example.com",
}
LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
HOSTNAME = re.compile(rf"(?=.{{1,253}}\Z){LABEL}(?:\.{LABEL})*")


def at(method: str, path: str) -> Match:
    """The route of a request."""
    match = match_route(ROUTES, method, f"/api/v2{path}")
    assert match is not None
    return match


CREATE, POWER = at("POST", "/servers"), at("POST", f"/servers/{UUID}/power")


def raw(**changes: Any) -> bytes:
    """The document's order with changes; None takes a member out."""
    return json.dumps({name: value for name, value in {**ORDER, **changes}.items() if value is not None}).encode()


def field_of(match: Match, body: bytes) -> str | None:
    """The field that a refusal names."""
    with pytest.raises(Problem) as refused:
        check_input(match, body)
    assert refused.value.code == "input_refused"
    return refused.value.field


@pytest.mark.parametrize(
    ("body", "kind", "name"),
    [
        (raw(), "1", "app-01.example.com"),
        (raw(hostname=None), "1", DEFAULT_NAME),
        (b'{"plan_id":8,"location_id":13,"template_slug":"debian-12","hostname":null}', "8", DEFAULT_NAME),
        (raw(plan_id=10**9, hostname="a"), "1000000000", "a"),
        (raw(hostname="A" * 63 + "." + "b" * 63), "1", "A" * 63 + "." + "b" * 63),
    ],
)
def test_an_order_names_a_plan_and_perhaps_a_host(body: bytes, kind: str, name: str) -> None:
    """The plan's id is the kind on the price list; a server without a name gets one of ours."""
    check_input(CREATE, body)
    assert (order(body).kind, order(body).name, order(body).sizes) == (kind, name, None)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        *[(raw(plan_id=value), "plan_id") for value in (None, 0, -1, "1", True, 1.0, [1], 10**9 + 1)],
        *[(raw(location_id=value), "location_id") for value in (None, 0, "6", False)],
        *[(raw(template_slug=value), "template_slug") for value in (None, "", 7, "a b", "../x", "a\n", "x" * 129)],
        *[
            (raw(hostname=value), "hostname")
            for value in ("", "under_score", "-a", "a-", "a..b", ".a", "a.", "a b", "a" * 64, "é", "a\n", 7)
        ],
        (raw(hostname=".".join(["a" * 62] * 4) + ".bcd"), "hostname"),
        (raw(Plan_ID=2), "plan_id"),
        (raw(**{" hostname": "b"}), "hostname"),
        (raw(ssh_keys=["key-of-another"]), "body"),
        (raw(_method="DELETE"), "body"),
        (raw(uuid=UUID), "body"),
        (b'{"plan_id":1,"plan_id":8,"location_id":6,"template_slug":"debian-12"}', "body"),
        *[(body, "body") for body in (b"", b"[]", b"null", b"{", b"\xff", b"plan_id=1")],
    ],
)
def test_a_bad_order_is_refused(body: bytes, field: str) -> None:
    """By name, before anything is held: wrong types, two readings, members that could name another's thing."""
    assert field_of(CREATE, body) == field
    for use in (lambda: order(body), lambda: marked(body, TOKEN)):
        with pytest.raises(Problem):
            use()


@pytest.mark.parametrize("action", ["start", "shutdown", "restart", "kill"])
@pytest.mark.parametrize("member", ["action", "state", "signal"])
def test_a_power_action_is_one_of_four_words(action: str, member: str) -> None:
    """The document names the words and not the member, so one member of any name holds it."""
    check_input(POWER, json.dumps({member: action}).encode())


@pytest.mark.parametrize(
    ("body", "field"),
    [
        *[(body, "action") for body in (b"{}", b"[]", b'"kill"', b'{"action":"explode"}', b'{"action":7}', b"null")],
        *[(body, "action") for body in (b'{"action":"KILL"}', b'{"action":["kill"]}', b'{"action":null}')],
        (b'{"action":"kill","uuid":"a1b2c3d4"}', "action"),
        (b'{"action":"kill","state":"start"}', "action"),
        (b'{"action":"kill","action":"start"}', "body"),
        (b"", "body"),
        (b"action=kill", "body"),
    ],
)
def test_other_power_bodies_are_refused(body: bytes, field: str) -> None:
    """A second member may name another server, or another action."""
    assert field_of(POWER, body) == field


@pytest.mark.parametrize(
    "match",
    [at("GET", "/plans"), at("GET", f"/servers/{UUID}"), at("DELETE", f"/servers/{UUID}"), at("GET", "/servers")],
)
def test_other_routes_take_no_body(match: Match) -> None:
    """Some frameworks read ids from any body; an empty object is what clients send for none."""
    check_input(match, b"")
    check_input(match, b"{}")
    assert field_of(match, json.dumps({"uuid": OTHER}).encode()) == "body"


def test_the_mark_goes_into_the_first_label() -> None:
    """The rest of the order stays as it was; a nameless server gets a marked name of ours."""
    assert json.loads(marked(raw(), TOKEN)) == {**ORDER, "hostname": f"app-01-{TOKEN}.example.com"}
    nameless = json.loads(marked(raw(hostname=None), TOKEN))
    assert nameless == {**ORDER, "hostname": f"{DEFAULT_NAME}-{TOKEN}"}


@pytest.mark.parametrize(
    ("hostname", "expected"),
    [
        ("app", f"app-{TOKEN}"),
        ("app.example.com", f"app-{TOKEN}.example.com"),
        ("a" * 63, "a" * 45 + f"-{TOKEN}"),
        ("a" * 44 + "-bcd.x", "a" * 44 + f"-{TOKEN}.x"),
        (f"app-{TOKEN[:-1]}y.example.com", f"app-{TOKEN[:-1]}y-{TOKEN}.example.com"),
        # 253 characters: the first label gives way, and where it is too short the last label goes.
        ("b" * 61 + "." + ".".join(["a" * 63] * 3)[:191], "b" * 43 + f"-{TOKEN}." + ".".join(["a" * 63] * 3)[:191]),
        ("b." + ".".join(["a" * 62] * 4), f"b-{TOKEN}." + ".".join(["a" * 62] * 3)),
    ],
)
def test_marks_fit_the_grammar_of_host_names(hostname: str, expected: str) -> None:
    """Long names are cut at the vendor; the agent's own stays in our store."""
    assert marked_name(hostname, TOKEN) == expected


labels = st.from_regex(re.compile(rf"{LABEL}", re.ASCII), fullmatch=True)


@given(st.lists(labels, min_size=1, max_size=8).map(".".join).filter(lambda name: len(name) <= 253))
def test_every_marked_name_is_a_host_name_with_its_mark(hostname: str) -> None:
    """Whatever the agent's own name holds, the token that is found in the first label is ours."""
    name = marked_name(hostname, TOKEN)
    assert HOSTNAME.fullmatch(name)
    found = unmark(name.partition(".")[0])
    assert found is not None
    assert found[1] == TOKEN
    assert hostname.startswith(found[0])


@pytest.mark.parametrize(
    ("name", "owned", "meant"),
    [
        (UUID, {UUID, OTHER}, UUID),
        (UUID.upper(), {UUID}, UUID),
        ("a1b2c3d4", {UUID, OTHER}, UUID),
        ("A1B2C3D4", {UUID}, UUID),
        (UUID, {UUID.upper()}, UUID.upper()),
        ("a1b2c3d4", {UUID, TWIN}, None),
        (UUID, {UUID, TWIN}, UUID),
        ("a1b2c3d4", {OTHER}, None),
        (OTHER, {UUID}, None),
        ("a1b2c3d4", set(), None),
        *[(name, {UUID}, None) for name in ("", "a1b2c3d", "a1b2c3d4-", "a1b2c3d4e", UUID[:-1], UUID + "0", "billing")],
        *[(name, {UUID}, None) for name in (f" {UUID}", f"{UUID}\n", "a1b2c3d٤", "zzzzzzzz", "%a1b2c3d")],
    ],
)
def test_a_short_id_is_looked_for_among_the_agents_own(name: str, owned: set[str], meant: str | None) -> None:
    """Eight characters may be another agent's server too; two of its own with the same eight name neither."""
    assert canonical(name, owned) == meant

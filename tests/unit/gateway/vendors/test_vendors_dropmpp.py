"""dropmpp's table and what agents may send: every route of its document, every input refused before money moves, every item."""

import json
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from gateway.core.commands import AccountLimits
from gateway.core.problems import Problem
from gateway.core.records import Resource
from gateway.core.routes import Match, Ownership, Place, Pricing, Represent
from gateway.ports import PricedItem, VendorTerms
from gateway.vendors.capabilities import CAPABILITY_NAMES
from gateway.vendors.dropmpp import DropMpp
from gateway.vendors.dropmpp.routes import CATALOGUE, MAX_DAYS, MAX_MINUTES, ROUTES, SIZES, create_item, hour_item
from gateway.vendors.overrides import RouteOverride

TERMS = VendorTerms(b"\1" * 20, (), frozenset(), 0, {}, 300, 3600, AccountLimits(1, 1, 1, 1, 1))
MODULE = DropMpp("dropmpp", "https://drop.example", TERMS)
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh me@host"
DOCUMENT = {
    "sizes": ("GET", "/v1/catalog/sizes"),
    "regions": ("GET", "/v1/catalog/regions"),
    "images": ("GET", "/v1/catalog/images"),
    "snapshot_pricing": ("GET", "/v1/catalog/snapshot-pricing"),
    "server_create": ("POST", "/v1/servers"),
    "server_list": ("GET", "/v1/servers"),
    "server_show": ("GET", "/v1/servers/srv_1"),
    "server_extend": ("POST", "/v1/servers/srv_1/extend"),
    "server_snapshot": ("POST", "/v1/servers/srv_1/snapshot"),
    "server_delete": ("DELETE", "/v1/servers/srv_1"),
    "server_reboot": ("POST", "/v1/servers/srv_1/reboot"),
    "server_power": ("POST", "/v1/servers/srv_1/power"),
    "snapshot_list": ("GET", "/v1/snapshots"),
    "snapshot_show": ("GET", "/v1/snapshots/snap_1"),
    "snapshot_extend": ("POST", "/v1/snapshots/snap_1/extend"),
    "snapshot_delete": ("DELETE", "/v1/snapshots/snap_1"),
    "key_create": ("POST", "/v1/keys"),
    "key_list": ("GET", "/v1/keys"),
    "key_delete": ("DELETE", "/v1/keys/key_1"),
}
COSTING = frozenset(
    {
        *("server_create", "server_extend", "server_snapshot", "server_reboot", "server_power"),
        *("snapshot_extend", "key_create"),
    }
)
SERVER = Resource("dropmpp", "srv_1", "acc_1", "", "server", "active", None, None, None, 0, plan="medium")
SNAPSHOT = replace(SERVER, ref="snap_1", kind="snapshot", plan="1.87")


def matched(name: str) -> Match:
    """Return a match of a route."""
    method, path = DOCUMENT[name]
    match = MODULE.match(method, path)
    assert match is not None
    return match


def body(**members: Any) -> bytes:
    """Return a JSON body."""
    return json.dumps(members).encode()


def create(**members: Any) -> bytes:
    """Return a create's body."""
    return body(**{"size": "small", "region": "nyc1", **members})


# the table


def test_every_route_of_the_document_is_declared_and_no_other() -> None:
    """Each is reached by its own method and path."""
    assert {route.name for route in ROUTES} == set(DOCUMENT)
    assert {name: matched(name).route.name for name in DOCUMENT} == {name: name for name in DOCUMENT}
    for method, path in (("GET", "/v1/wallet"), ("PUT", "/v1/servers"), ("GET", "/v1/keys/key_1"), ("GET", "/servers")):
        assert MODULE.match(method, path) is None


def test_what_costs_is_bounded_and_shown_once() -> None:
    """P4: a challenge is good once, so no credential is shown twice; what is free may only ask who we are."""
    for route in ROUTES:
        if route.name in COSTING:
            assert (route.pricing, route.represent) == (Pricing.PRICED, Represent.NO)
            assert route.ceiling_base > 0
            assert route.window.max_s <= 30
            assert not route.proof
            assert not route.safe
        else:
            assert (route.pricing, route.proof, route.ceiling_base) == (Pricing.FREE, True, 0)
        assert route.safe == (route.methods == ("GET",))


def test_every_id_in_a_path_and_a_body_is_fenced() -> None:
    """P9: an id that is not fenced reaches every agent's thing on the one wallet."""
    for route in ROUTES:
        in_path = {ref.name for ref in route.refs if ref.place is Place.PATH}
        assert in_path == {segment.strip("{}") for segment in route.segments if segment.startswith("{")}
        assert bool(in_path) == (route.ownership is Ownership.OWNER)
    in_body = {(ref.name, ref.kind) for ref in matched("server_create").route.refs}
    assert in_body == {("ssh_key_ids", "key"), ("snapshot_id", "snapshot")}


def test_every_list_and_thing_that_is_shown_is_declared() -> None:
    """P9: what shows things says where they stand."""
    shows = {"server_list", "snapshot_list", "key_list", "server_show", "snapshot_show", "server_delete"}
    assert {route.name for route in ROUTES if route.listings and route.pricing is Pricing.FREE} == shows


def test_a_root_password_is_never_cached() -> None:
    """P10: the routes whose answers may hold one are secret."""
    assert {route.name for route in ROUTES if route.secret} == {"server_list", "server_show"}


def test_every_capability_is_answered() -> None:
    """What the document leaves open is unknown, never left out."""
    assert set(MODULE.capabilities) == set(CAPABILITY_NAMES)
    assert MODULE.capabilities["rate_limit"] == "unknown"


def test_an_operator_narrows_a_ceiling_by_name() -> None:
    """As of any vendor; a route that does not exist stops the start."""
    capped = DropMpp("d", "https://d.example", TERMS, {"server_create": RouteOverride(ceiling_base=5)})
    assert next(r for r in capped.routes if r.name == "server_create").ceiling_base == 5
    with pytest.raises(ValueError, match="no such route"):
        DropMpp("d", "https://d.example", TERMS, {"rent": RouteOverride(ceiling_base=5)})


# inputs


@pytest.mark.parametrize(
    ("name", "sent", "field"),
    [
        ("server_create", b"", "body"),
        ("server_create", b"[]", "body"),
        ("server_create", b'{"size":"small","size":"large","region":"nyc1"}', "body"),
        ("server_create", body(region="nyc1"), "size"),
        ("server_create", create(size="xlarge"), "size"),
        ("server_create", create(size=["small"]), "size"),
        ("server_create", create(region="fra1"), "region"),
        ("server_create", create(image=""), "image"),
        ("server_create", create(image=7), "image"),
        ("server_create", create(minutes=0), "minutes"),
        ("server_create", create(minutes=-5), "minutes"),
        ("server_create", create(minutes=1.0), "minutes"),
        ("server_create", create(minutes="60"), "minutes"),
        ("server_create", create(minutes=True), "minutes"),
        ("server_create", create(minutes=None), "minutes"),
        ("server_create", create(minutes=MAX_MINUTES + 1), "minutes"),
        ("server_create", create(ssh_key_ids="key_1"), "ssh_key_ids"),
        ("server_create", create(ssh_key_ids=[1]), "ssh_key_ids"),
        ("server_create", create(ssh_key_ids=["../x"]), "ssh_key_ids"),
        ("server_create", create(ssh_key_ids=["k"] * 101), "ssh_key_ids"),
        ("server_create", create(ssh_key_ids=None), "ssh_key_ids"),
        ("server_create", create(snapshot_id=["snap_1"]), "snapshot_id"),
        ("server_create", create(snapshot_id=None), "snapshot_id"),
        ("server_create", create(user_data="x" * 65_537), "user_data"),
        ("server_create", create(user_data="\u00e9" * 32_769), "user_data"),
        ("server_create", create(user_data={}), "user_data"),
        ("server_create", create(Minutes=600), "minutes"),
        ("server_create", create(volume_id="vol_of_another"), "body"),
        ("server_extend", b"", "body"),
        ("server_extend", body(), "minutes"),
        ("server_extend", body(minutes=0), "minutes"),
        ("server_extend", body(minutes=1, server_id="srv_2"), "body"),
        ("server_snapshot", body(name=""), "name"),
        ("server_snapshot", body(name="a\nb"), "name"),
        ("server_snapshot", body(server_id="srv_2"), "body"),
        ("server_power", b"", "body"),
        ("server_power", body(action="cycle"), "action"),
        ("server_reboot", body(force=True), "body"),
        ("server_delete", body(snapshot=False), "body"),
        ("server_list", body(owner="all"), "body"),
        ("snapshot_extend", body(days=0), "days"),
        ("snapshot_extend", body(days=MAX_DAYS + 1), "days"),
        ("snapshot_extend", body(days="1"), "days"),
        ("key_create", body(name="", public_key=PUBLIC_KEY), "name"),
        ("key_create", body(name="me"), "public_key"),
        ("key_create", body(name="me", public_key="AAAA"), "public_key"),
        ("key_create", body(name="me", public_key=PUBLIC_KEY + "\n" + PUBLIC_KEY), "public_key"),
        ("key_create", body(name="me", public_key="-----BEGIN OPENSSH PRIVATE KEY-----"), "public_key"),
    ],
)
def test_input_that_the_vendor_would_refuse_is_refused_before_it_is_paid(name: str, sent: bytes, field: str) -> None:
    """The vendor charges before it works; and what its document does not name may reach another agent's thing."""
    with pytest.raises(Problem) as caught:
        MODULE.check_input(matched(name), sent)
    assert (caught.value.code, caught.value.field) == ("input_refused", field)


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("server_create", create()),
        ("server_create", create(minutes=MAX_MINUTES, image="debian-12-x64", ssh_key_ids=[], user_data="#!/bin/sh")),
        ("server_create", create(ssh_key_ids=["key_1", "key_2"], snapshot_id="snap_1", user_data="x" * 65_536)),
        ("server_extend", body(minutes=1)),
        ("server_snapshot", b""),
        ("server_snapshot", b"{}"),
        ("server_snapshot", body(name="before the upgrade")),
        ("server_power", body(action="off")),
        ("server_reboot", b""),
        ("server_delete", b""),
        ("snapshot_extend", body(days=MAX_DAYS)),
        ("key_create", body(name="me", public_key=PUBLIC_KEY)),
        ("key_create", body(name="me", public_key=PUBLIC_KEY.rsplit(" ", 1)[0])),
    ],
)
def test_what_the_document_allows_is_let_through(name: str, sent: bytes) -> None:
    """No more is refused than the document refuses."""
    MODULE.check_input(matched(name), sent)


# items


def item(name: str, sent: bytes = b"", resource: Resource | None = None) -> PricedItem | None:
    """Return what a call buys."""
    return MODULE.item(matched(name), sent, resource)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("given", "minutes"), [({}, 1), ({"minutes": 1}, 1), ({"minutes": 90}, 90)])
def test_a_create_buys_a_fee_and_minutes(size: str, given: dict[str, int], minutes: int) -> None:
    """`minutes` left out is one: the vendor's default is priced, and the body stays as the agent wrote it."""
    parts = ((create_item(size), Fraction(1)), (hour_item(size), Fraction(minutes, 60)))
    assert item("server_create", create(size=size, **given)) == PricedItem(parts, 0, 1)


def test_an_extension_buys_hours_of_the_servers_own_size() -> None:
    """At least a cent."""
    expected = PricedItem((("medium/hour", Fraction(7, 60)),), 10_000, 1)
    assert item("server_extend", body(minutes=7), SERVER) == expected


def test_retention_buys_gigabyte_days_of_the_snapshots_own_size() -> None:
    """Exactly, at least a cent."""
    expected = PricedItem((("snapshot/gb-day", Fraction(187, 100) * 30),), 10_000, 1)
    assert item("snapshot_extend", body(days=30), SNAPSHOT) == expected


@pytest.mark.parametrize("plan", ["", "unknown", "xlarge", "1e3", "-1", "1.87"])
def test_what_is_of_no_known_size_is_on_no_price_list(plan: str) -> None:
    """P8: its price would be checked against nothing, so it is never paid."""
    found = item("server_extend", body(minutes=7), replace(SERVER, plan=plan))
    assert found is not None
    assert {name for name, _ in found.parts}.isdisjoint({hour_item(size) for size in SIZES})
    if plan != "1.87":
        kept = item("snapshot_extend", body(days=1), replace(SNAPSHOT, plan=plan))
        assert kept is not None
        assert "snapshot/gb-day" not in dict(kept.parts)


@pytest.mark.parametrize(
    ("name", "sent", "bought"),
    [
        ("server_snapshot", b"", "snapshot"),
        ("server_reboot", b"", "power"),
        ("server_power", body(action="on"), "power"),
        ("key_create", body(name="me", public_key=PUBLIC_KEY), "key"),
    ],
)
def test_flat_charges_are_items_of_their_own(name: str, sent: bytes, bought: str) -> None:
    """The operator approves each once."""
    assert item(name, sent, SERVER) == PricedItem(((bought, Fraction(1)),), 0, 1)


def test_what_is_free_buys_nothing() -> None:
    """No item, no price."""
    assert [item(name) for name in sorted(set(DOCUMENT) - COSTING)] == [None] * (len(DOCUMENT) - len(COSTING))


def test_every_rate_is_stated_somewhere() -> None:
    """The catalogue's routes are declared, free, and tell the items that they are said to tell."""
    for name, target in CATALOGUE.items():
        match = MODULE.match("GET", target)
        assert match is not None, name
        assert match.route.pricing is Pricing.FREE

"""What agents send to VpsAgent: the document's rules, enforced while it costs nothing."""

import json

import pytest

from gateway.core.problems import Problem
from gateway.core.records import Resource
from gateway.core.routes import Match, match_route
from gateway.ports import PricedItem
from gateway.vendors.vpsagent.inputs import check_input, item
from gateway.vendors.vpsagent.routes import ROUTES, SKUS

RENTAL_ID = "0a1b2c3d-0000-4000-8000-00000000000f"
PATHS = {
    "catalog": ("GET", "/catalog"),
    "rent": ("POST", "/rent"),
    "rental": ("GET", f"/rentals/{RENTAL_ID}"),
    "renew": ("POST", f"/rentals/{RENTAL_ID}/renew"),
    "instance": ("GET", f"/instance/{RENTAL_ID}"),
    "healthz": ("GET", "/healthz"),
}
RENTAL = Resource("vpsagent", RENTAL_ID, "acct", "pay", "server_small_1mo", "active", None, None, None, 0)


def matched(name: str) -> Match:
    """The match of a route."""
    found = match_route(ROUTES, *PATHS[name])
    assert found is not None
    assert found.route.name == name
    return found


@pytest.mark.parametrize("sku", SKUS)
def test_every_sku_of_the_document_can_be_rented(sku: str) -> None:
    """Alone, with a region, with members that the document does not forbid."""
    for extra in ({}, {"region": "EU"}, {"region": ""}, {"note": [1.5]}):
        body = json.dumps({"sku": sku, **extra}).encode()
        check_input(matched("rent"), body)
        assert item(matched("rent"), body, None) == PricedItem.of(sku)


NO_OBJECTS = [b"[]", b'"sku"', b"1", b"null", b"{", b"{}{}", b"\xff", b'{"a":NaN}', b"[" * 5000, b'{"a":' * 5000]
BAD_RENTS = [
    (b"", "body"),
    *((body, "body") for body in NO_OBJECTS),
    (b'{"sku":"sandbox_1h","sku":"server_large_12mo"}', "body"),
    (b'{"sku":"sandbox_1h","\\u0073ku":"server_large_12mo"}', "body"),
    (b'{"sku":"sandbox_1h","x":{"a":1,"a":2}}', "body"),
    (b'{"sku":"sandbox_1h","SKU":"server_large_12mo"}', "sku"),
    (b'{"Sku":"sandbox_1h"}', "sku"),
    (b'{"sku":"sandbox_1h"," region":"EU"}', "region"),
    (b"{}", "sku"),
    (b'{"sku":null}', "sku"),
    (b'{"sku":1}', "sku"),
    (b'{"sku":1.5}', "sku"),
    (b'{"sku":["sandbox_1h"]}', "sku"),
    (b'{"sku":{"sandbox_1h":1}}', "sku"),
    (b'{"sku":"sandbox_2h"}', "sku"),
    (b'{"sku":"SANDBOX_1H"}', "sku"),
    (b'{"sku":"sandbox_1h "}', "sku"),
    (b'{"sku":"sandbox_1h","region":null}', "region"),
    (b'{"sku":"sandbox_1h","region":7}', "region"),
    (b'{"sku":"sandbox_1h","region":7.5}', "region"),
]


@pytest.mark.parametrize(("body", "field"), BAD_RENTS)
def test_a_rent_that_would_be_refused_is_refused_unpaid(body: bytes, field: str) -> None:
    """Naming the field; the detail repeats nothing of the body."""
    for ask in (lambda: check_input(matched("rent"), body), lambda: item(matched("rent"), body, None)):
        with pytest.raises(Problem) as caught:
            ask()
        assert (caught.value.code, caught.value.field) == ("input_refused", field)
        assert 'server_large_12mo"' not in caught.value.detail


@pytest.mark.parametrize(("body", "periods"), [(b"", 1), (b"{}", 1), (b'{"periods":1}', 1), (b'{"periods":12}', 12)])
def test_a_renewal_buys_periods_of_what_was_rented(body: bytes, periods: int) -> None:
    """The body may be absent: one period is the document's default."""
    check_input(matched("renew"), body)
    assert item(matched("renew"), body, RENTAL) == PricedItem.of("server_small_1mo", periods)


BAD_RENEWALS = [
    *((body, "body") for body in NO_OBJECTS),
    (b" ", "body"),
    (b'{"periods":1,"periods":12}', "body"),
    (b'{"periods":1,"Periods":12}', "periods"),
    (b'{"periods":0}', "periods"),
    (b'{"periods":13}', "periods"),
    (b'{"periods":-1}', "periods"),
    (b'{"periods":1.0}', "periods"),
    (b'{"periods":1e0}', "periods"),
    (b'{"periods":true}', "periods"),
    (b'{"periods":"1"}', "periods"),
    (b'{"periods":null}', "periods"),
    (b'{"periods":[1]}', "periods"),
    (b'{"periods":' + b"1" * 78 + b"}", "body"),
]


@pytest.mark.parametrize(("body", "field"), BAD_RENEWALS)
def test_a_renewal_that_would_be_refused_is_refused_unpaid(body: bytes, field: str) -> None:
    """Floats, exponents, booleans, 78 digits, and numbers out of range."""
    with pytest.raises(Problem) as caught:
        check_input(matched("renew"), body)
    assert (caught.value.code, caught.value.field) == ("input_refused", field)


def test_a_renewal_of_nothing_known_has_no_price() -> None:
    """None would mean that the ceiling is check enough."""
    with pytest.raises(Problem) as caught:
        item(matched("renew"), b"", None)
    assert caught.value.code == "not_found"


def test_the_catalogue_is_one_item_and_takes_no_body() -> None:
    """A paid GET with a body could be refused after it was paid."""
    check_input(matched("catalog"), b"")
    assert item(matched("catalog"), b"", None) == PricedItem.of("catalog")
    with pytest.raises(Problem) as caught:
        check_input(matched("catalog"), b"{}")
    assert caught.value.field == "body"


@pytest.mark.parametrize("name", ["rental", "instance", "healthz"])
def test_free_routes_buy_nothing(name: str) -> None:
    """And whatever body they get is the vendor's to judge."""
    check_input(matched(name), b"\xff")
    assert item(matched(name), b"\xff", RENTAL) is None

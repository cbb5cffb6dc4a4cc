"""What account vendors' modules share: bodies of documented members alone, marks, exact amounts, times, verdicts."""

import base64
import json
import re
from fractions import Fraction as Exact

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.core.payment import Delivery, Fault
from gateway.core.problems import Problem
from gateway.core.routes import Pricing, Represent, Route
from gateway.core.strict_json import Fraction
from gateway.core.tariff import rate_of
from gateway.http.port import UpstreamResponse
from gateway.vendors.account import (
    base_of,
    choice_in,
    decimal_text,
    document_of,
    integer_in,
    is_ref,
    judge_account,
    jwt_lives_s,
    mark,
    read_object,
    refuse_body,
    request_to,
    segment,
    text_in,
    time_ms,
    usd_text,
    with_ceilings,
)
from gateway.vendors.capabilities import CAPABILITY_NAMES, capabilities
from gateway.vendors.overrides import RouteOverride
from tests.factories import unmark

TOKEN = "gabcdefghij234567"
MEMBERS = ("planId", "label")


def answer(status: int = 200, body: bytes = b"{}", coding: str = "", *, delimited: bool = True) -> UpstreamResponse:
    """A vendor's answer."""
    headers = CIMultiDict({"Content-Encoding": coding} if coding else {})
    return UpstreamResponse(status, CIMultiDictProxy(headers), body, delimited=delimited)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"[]", "body"),
        (b'"planId"', "body"),
        (b"{", "body"),
        (b'{"planId":1,"planId":2}', "body"),
        (b'{"planId":NaN}', "body"),
        (b'{"planId":"\\ud800"}', "body"),
        (b'{"PlanId":"a"}', "planId"),
        (b'{"planId":"a","planid ":"b"}', "planId"),
        (b'{"planId":"a","backupId":"b"}', "body"),
        (b'{"\\ud800":"a"}', "body"),
    ],
)
def test_a_body_holds_documented_members_alone(body: bytes, field: str) -> None:
    """Whatever else it holds is refused: on a shared account it may reach another agent's thing."""
    with pytest.raises(Problem) as caught:
        read_object(body, MEMBERS)
    assert (caught.value.code, caught.value.field) == ("input_refused", field)
    json.dumps(caught.value.document()).encode()


def test_a_documented_body_is_read() -> None:
    """Its members may be absent; which are needed is the caller's."""
    assert read_object(b' {"label": "a"} ', MEMBERS) == {"label": "a"}
    assert read_object(b'{"label":"\\u00e9"}', MEMBERS) == {"label": "é"}


def test_a_route_without_a_body_takes_what_clients_send_for_none() -> None:
    """Nothing, or an empty object."""
    refuse_body(b"")
    refuse_body(b" {}\n")
    with pytest.raises(Problem, match="no body"):
        refuse_body(b'{"force":true}')


def test_members_are_checked_by_name() -> None:
    """A text by its grammar, a choice by the list, a number by its bounds; the refusal names the member."""
    grammar = re.compile("[a-z]+", re.ASCII)
    assert text_in({"a": "abc"}, "a", grammar, "letters") == "abc"
    assert choice_in({"a": "x"}, "a", ("x", "y")) == "x"
    assert integer_in({"a": 3}, "a", 1, 3) == 3
    for value in (None, 1, "A", "abc\n", ["abc"]):
        with pytest.raises(Problem, match="a must be letters"):
            text_in({"a": value}, "a", grammar, "letters")
        with pytest.raises(Problem, match="a must be one of x, y"):
            choice_in({"a": value}, "a", ("x", "y"))
    for number in (0, 4, True, "2", Fraction("1.0"), None):
        with pytest.raises(Problem, match="a must be an integer from 1 to 3"):
            integer_in({"a": number}, "a", 1, 3)


@given(st.text("abcXYZ019._-", min_size=1, max_size=64), st.integers(18, 64))
def test_a_mark_fits_and_is_found_again(name: str, room: int) -> None:
    """At the end of the name, which is cut to make room and keeps its beginning."""
    marked = mark(name, TOKEN, room)
    assert len(marked) <= room
    found = unmark(marked)
    assert found is not None
    assert found[1] == TOKEN
    assert name.startswith(found[0])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bot", ("bot", TOKEN)),
        ("g2222222222222222", ("g2222222222222222", TOKEN)),
        ("bot-g2222222222222222", ("bot-g2222222222222222", TOKEN)),
        ("-._", ("", TOKEN)),
    ],
)
def test_an_agents_own_mark_is_no_mark(name: str, expected: tuple[str, str]) -> None:
    """Only what we put at the end counts."""
    assert unmark(mark(name, TOKEN, 64)) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0.0137", "0.0137"),
        ("0", "0"),
        (4, "4"),
        (Fraction("0.0420"), "0.042"),
        (Fraction("4.2e-3"), "0.0042"),
        (Fraction("0.004200000000000000001"), "0.004200000000000001"),
        (Fraction("1E+2"), "100"),
        ("-0.1", None),
        ("100000.01", None),
        ("1e999", None),
        ("0,5", None),
        ("", None),
        (" 1", None),
        ("1\n", None),
        ("٣", None),
        (True, None),
        (None, None),
        (["1"], None),
    ],
)
def test_prices_are_exact_decimals(value: object, expected: str | None) -> None:
    """As written, in the one grammar that tariffs take; what is past the eighteenth decimal is rounded up."""
    told = decimal_text(value)
    assert told == expected
    if told is not None:
        assert rate_of(told) >= 0


@given(st.floats(min_value=0, max_value=1000, allow_nan=False))
def test_any_float_of_a_vendor_is_a_price(noise: float) -> None:
    """Never below what it says, and above by less than anybody can be charged."""
    told = decimal_text(Fraction(repr(noise)))
    assert told is not None
    assert 0 <= rate_of(told) - Exact(repr(noise)) < Exact(1, 10**18)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("9.96", 9_960_000),
        (Fraction("0.04209999999"), 42_099),
        ("-0.5", -500_000),
        ("-0.0000001", -1),
        (7, 7_000_000),
        ("1e15", None),
        ("ten", None),
        (None, None),
    ],
)
def test_balances_are_rounded_down(value: object, expected: int | None) -> None:
    """So nothing is thought to be there that is not; a debt stays a debt."""
    assert base_of(value) == expected


@pytest.mark.parametrize(
    ("amount_base", "places", "expected"),
    [
        (9_960_000, 2, "9.96"),
        (10_000_000, 2, "10.00"),
        (12_000, 0, "0.012"),
        (0, 0, "0"),
        (0, 2, "0.00"),
        (-1_500_000, 2, "-1.50"),
        (1, 2, "0.000001"),
    ],
)
def test_amounts_are_shown_as_vendors_show_them(amount_base: int, places: int, expected: str) -> None:
    """So many decimals at least, and no zeros past them."""
    assert usd_text(amount_base, places) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1970-01-01T00:00:01Z", 1000),
        ("1970-01-01T00:00:01.0019Z", 1001),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01 00:00:00.5Z", 500),
        ("1970-01-01T00:00:00", None),
        ("1970-02-30T00:00:00Z", None),
        ("0001-01-01T00:00:00+23:00", -62135679600000),
        ("yesterday", None),
        (1_790_000_000, None),
        (None, None),
    ],
)
def test_times_need_their_zone(value: object, expected: int | None) -> None:
    """A time without one is none, for nobody knows whose it is."""
    assert time_ms(value) == expected


def jwt(claims: object) -> str:
    """A token with these claims."""
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{payload}.sig"


def test_a_token_says_how_long_it_lives() -> None:
    """By its own two times; any other token says nothing."""
    assert jwt_lives_s(jwt({"iat": 1000, "exp": 1900})) == 900
    for token in (
        jwt({"exp": 1900}),
        jwt({"iat": 5, "exp": 5}),
        jwt([1]),
        jwt({"iat": "1", "exp": 2}),
        "a.%%.c",
        "opaque",
    ):
        assert jwt_lives_s(token) is None


@pytest.mark.parametrize(
    ("status", "delivery", "fault"),
    [
        (200, Delivery.DELIVERED, Fault.NONE),
        (207, Delivery.DELIVERED, Fault.NONE),
        (302, Delivery.UNKNOWN, Fault.NONE),
        (400, Delivery.REFUSED, Fault.AGENT),
        (404, Delivery.REFUSED, Fault.AGENT),
        (422, Delivery.REFUSED, Fault.AGENT),
        (401, Delivery.REFUSED, Fault.NONE),
        (402, Delivery.REFUSED, Fault.NONE),
        (403, Delivery.REFUSED, Fault.NONE),
        (429, Delivery.REFUSED, Fault.NONE),
        (408, Delivery.UNKNOWN, Fault.NONE),
        (425, Delivery.UNKNOWN, Fault.NONE),
        (500, Delivery.UNKNOWN, Fault.NONE),
        (503, Delivery.UNKNOWN, Fault.NONE),
    ],
)
def test_a_refusal_is_certain(status: int, delivery: Delivery, fault: Fault) -> None:
    """What may have been acted on is unknown; what is wrong with our account is no agent's fault."""
    verdict = judge_account(answer(status))
    assert (verdict.delivery, verdict.fault) == (delivery, fault)


def test_what_is_not_whole_proves_nothing() -> None:
    """An answer whose end was not seen, or that is encoded though nobody asked, has no document."""
    assert document_of(answer(body=b'{"a":1}')) == {"a": 1}
    assert document_of(answer(body=b'{"a":1}', coding="identity")) == {"a": 1}
    assert document_of(answer(body=b'{"a":1}', coding="gzip")) is None
    assert document_of(answer(body=b'{"a":1}', delimited=False)) is None
    assert document_of(answer(body=b'{"a":"\\udfff"}')) is None
    assert document_of(answer(body=b"<html>")) is None
    assert judge_account(answer(delimited=False)).delivery is Delivery.UNKNOWN


def test_an_id_is_one_segment() -> None:
    """Whatever would change a path is no id."""
    assert is_ref("0a1b-2c_3d.4:5")
    assert not any(is_ref(value) for value in ("", ".", "..", "a/b", "a b", "a%2fb", "é", "a" * 129, 7, None))
    assert segment("a/b?") == "a%2Fb%3F"


def test_our_own_requests_say_what_they_carry() -> None:
    """JSON with its media type; only a question may be sent twice."""
    asked, told = request_to("GET", "/a"), request_to("POST", "/b", {"c": Fraction("0.10")})
    assert (asked.body, asked.may_resend, asked.headers) == (b"", True, ())
    assert (told.body, told.may_resend) == (b'{"c":0.10}', False)
    assert told.headers == (("Content-Type", "application/json"),)


def test_ceilings_are_for_metered_routes() -> None:
    """Any other route, and what only a challenge has, stops the start."""
    routes = (Route("make", ("POST",), ("a",), Pricing.METERED), Route("look", ("GET",), ("a",)))
    assert with_ceilings(routes, {"make": RouteOverride(5)})[0].ceiling_base == 5
    for overrides in ({"look": RouteOverride(5)}, {"x": RouteOverride(5)}, {"make": RouteOverride(0)}):
        with pytest.raises(ValueError, match=next(iter(overrides))):
            with_ceilings(routes, overrides)
    with pytest.raises(ValueError, match="ceiling alone"):
        with_ceilings(routes, {"make": RouteOverride(represent=Represent.YES)})


def test_every_question_is_answered() -> None:
    """None missing, none empty, none of one's own; in the list's order."""
    full = dict.fromkeys(reversed(CAPABILITY_NAMES), "unknown")
    assert tuple(capabilities(full)) == CAPABILITY_NAMES
    for wrong in ({**full, "exec": ""}, {**full, "wings": "yes"}, {k: v for k, v in full.items() if k != "bulk"}):
        with pytest.raises(ValueError, match="capabilities: no answer to"):
            capabilities(wrong)

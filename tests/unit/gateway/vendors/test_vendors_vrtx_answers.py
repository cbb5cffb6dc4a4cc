"""What VRTX's answers mean, above all the ones that fall short of what its document promises, and pages cut anew."""

import json
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.core.payment import Delivery, Fault
from gateway.core.routes import Match, match_route
from gateway.http.port import UpstreamResponse
from gateway.vendors.vrtx.answers import created_answer, read, read_list, read_prices, refuses_us
from gateway.vendors.vrtx.local import Pages, refusal
from gateway.vendors.vrtx.routes import ROUTES

UUID = "a1b2c3d4-e5f6-7890-abcd-ef1234567890"
OTHER = "ffffffff-e5f6-7890-abcd-ef1234567890"
TWIN = "a1b2c3d4-0000-4000-8000-000000000000"
SERVER: dict[str, Any] = {
    "uuid": UUID,
    "uuid_short": "a1b2c3d4",
    "name": "app-01.example.com",
    "status": "installing",
    "cpu": 1,
    "memory": 3221225472,
    "disk": 21474836480,
    "password_status": "generating",
    "operating_system": "Ubuntu 24.04 LTS",
    "ip_addresses": [{"address": "203.0.113.50", "type": "ipv4", "gateway": "203.0.113.1", "cidr": 24}],
    "created_at": "2026-05-14T10:30:00+00:00",
}
BRIEF = {name: SERVER[name] for name in ("uuid", "uuid_short", "name", "status", "cpu", "memory")}
PLAN = {
    "id": 1,
    "name": "1 vCPU",
    "cpu": 1,
    "memory": 3221225472,
    "disk": 21474836480,
    "monthly_price": 3.92,
    "hourly_price": 0.0053,
}
META = {"current_page": 1, "last_page": 2, "per_page": 25, "total": 34}
NOT_FOUND = {"error": {"code": "NOT_FOUND", "message": "Server not found."}}
PATHS = {
    "plans": ("GET", "/plans"),
    "locations": ("GET", "/locations"),
    "templates": ("GET", "/locations/1/templates"),
    "create": ("POST", "/servers"),
    "servers": ("GET", "/servers"),
    "server": ("GET", f"/servers/{UUID}"),
    "status": ("GET", f"/servers/{UUID}/status"),
    "credentials": ("GET", f"/servers/{UUID}/credentials"),
    "power": ("POST", f"/servers/{UUID}/power"),
    "delete": ("DELETE", f"/servers/{UUID}"),
    "backups": ("GET", f"/servers/{UUID}/backups"),
}


def at(name: str) -> Match:
    """A request of this route."""
    method, path = PATHS[name]
    match = match_route(ROUTES, method, f"/api/v2{path}")
    assert match is not None
    assert match.route.name == name
    return match


def said(document: Any, status: int = 200, headers: dict[str, str] | None = None, **framing: Any) -> UpstreamResponse:
    """An answer with this document, or with these very bytes."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return UpstreamResponse(status, CIMultiDictProxy(CIMultiDict(headers or {})), body, **framing)


def test_a_create_tells_what_it_made() -> None:
    """Ref, name, state, time; charged from now on; its document for the broker to rename in."""
    told = read(at("create"), said({"data": SERVER}, 201))
    assert (told.delivery, told.fault, told.created) == (Delivery.DELIVERED, Fault.NONE, (UUID,))
    (thing,) = told.things
    assert (thing.ref, thing.kind, thing.state, thing.name) == (UUID, "server", "provisioning", "app-01.example.com")
    assert (thing.charged, thing.gone, thing.hourly, thing.created_at_ms) == (True, False, None, 1_778_754_600_000)
    assert told.document == {"data": SERVER}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"data":{"uuid":"' + UUID.encode(),
        b'{"data":{"uuid":"x","uuid":"y"}}',
        {"data": {**SERVER, "uuid": "a1b2c3d4"}},
        {"data": {**SERVER, "uuid": None}},
        {"data": {**SERVER, "uuid": f"{UUID}\n"}},
        {"data": [SERVER]},
        {"data": None},
        SERVER,
        [],
        {"error": {"code": "X", "message": "y"}},
    ],
)
def test_a_create_that_names_no_server_is_unknown(body: Any) -> None:
    """A 201 that cannot be read may have made one: never refused, never delivered."""
    told = read(at("create"), said(body, 201))
    assert (told.delivery, told.fault, told.created) == (Delivery.UNKNOWN, Fault.NONE, ())


@pytest.mark.parametrize(
    "answer",
    [
        said({"data": SERVER}, 201, delimited=False),
        said({"data": SERVER}, 201, {"Content-Encoding": "gzip"}),
        *[said({"data": SERVER}, status) for status in (301, 307, 408, 409, 425, 499, 500, 502, 503, 504)],
    ],
)
def test_a_create_without_a_clear_answer_is_unknown(answer: UpstreamResponse) -> None:
    """Cut, coded, elsewhere, or failed at the server; a 409 may be a first request under the key, still at work."""
    told = read(at("create"), answer)
    assert (told.delivery, told.created) == (Delivery.UNKNOWN, ())


@pytest.mark.parametrize(
    ("status", "code", "fault"),
    [
        (401, "UNAUTHENTICATED", Fault.NONE),
        (401, "INVALID_TOKEN", Fault.NONE),
        (402, "OVERDUE_INVOICE", Fault.NONE),
        (403, "IP_NOT_ALLOWED", Fault.NONE),
        (429, "RATE_LIMIT_EXCEEDED", Fault.NONE),
        (422, "VALIDATION_ERROR", Fault.AGENT),
        (400, "BAD", Fault.AGENT),
    ],
)
def test_documented_errors_made_nothing(status: int, code: str, fault: Fault) -> None:
    """The token, the bill, the address and the limit are ours to mend; the input is the agent's."""
    answer = said({"error": {"code": code, "message": "m"}}, status)
    told = read(at("create"), answer)
    assert (told.delivery, told.fault, told.things, told.created) == (Delivery.REFUSED, fault, (), ())
    assert refuses_us(answer) is (status == 403)


def test_a_403_is_about_us_unless_the_vendor_says_otherwise() -> None:
    """IP_NOT_ALLOWED, or a page of something in between; another code of the vendor's is about the request."""
    assert refuses_us(said(b"<html>blocked</html>", 403))
    assert refuses_us(said({"error": "nope"}, 403))
    assert not refuses_us(said({"error": {"code": "PLAN_FORBIDDEN", "message": "m"}}, 403))
    assert not refuses_us(said({"error": {"code": "IP_NOT_ALLOWED", "message": "m"}}, 422))


def test_a_server_is_shown_only_if_it_is_the_one_asked_for() -> None:
    """The full id or its first eight characters; another's server behind the same eight is told as what it is."""
    shown = read(at("server"), said({"data": SERVER}))
    assert (shown.delivery, shown.things[0].ref, shown.created) == (Delivery.DELIVERED, UUID, ())
    for wrong in (OTHER, TWIN):
        told = read(at("server"), said({"data": {**SERVER, "uuid": wrong}}))
        assert (told.delivery, told.things[0].ref) == (Delivery.UNKNOWN, wrong)
        assert told.document["data"]["uuid"] == wrong
    short = match_route(ROUTES, "GET", "/api/v2/servers/a1b2c3d4")
    assert short is not None
    assert read(short, said({"data": SERVER})).delivery is Delivery.DELIVERED
    assert read(short, said({"data": {**SERVER, "uuid": OTHER}})).delivery is Delivery.UNKNOWN


@pytest.mark.parametrize(
    ("data", "state"),
    [
        ({"state": "running", "status": None, "uptime_seconds": 86400}, "running"),
        ({"state": "stopped", "status": None, "uptime_seconds": 0}, "stopped"),
        ({"state": "running", "status": "installing", "uptime_seconds": 1}, "provisioning"),
        ({"state": "stopped", "status": "suspended", "uptime_seconds": 0}, "suspended"),
        ({"state": "paused", "status": None}, "unknown"),
        ({"state": "stopped", "status": "install_failed"}, "unknown"),
    ],
)
def test_a_status_is_about_the_server_of_the_path(data: dict[str, Any], state: str) -> None:
    """Charged in every state: the document ties the bill to none."""
    told = read(at("status"), said({"data": data}))
    (thing,) = told.things
    assert (told.delivery, thing.ref, thing.state, thing.charged) == (Delivery.DELIVERED, UUID, state, True)


def test_a_status_under_a_short_id_tells_of_no_server() -> None:
    """It may be another agent's."""
    match = match_route(ROUTES, "GET", "/api/v2/servers/a1b2c3d4/status")
    assert match is not None
    assert read(match, said({"data": {"state": "running", "status": None}})).things == ()


@pytest.mark.parametrize(
    "name", ["plans", "locations", "templates", "servers", "server", "status", "credentials", "backups"]
)
@pytest.mark.parametrize("body", [b"", b"{", {"data": 7}, {"data": {}}, [], {"servers": []}, {"data": [7]}])
def test_what_falls_short_of_the_document_is_unknown(name: str, body: Any) -> None:
    """Nothing of it is believed; only a list of rows that are nobody's passes whatever its rows are."""
    passes = body == {"data": [7]} and name in {"plans", "locations", "templates", "backups"}
    told = read(at(name), said(body))
    assert told.delivery is (Delivery.DELIVERED if passes else Delivery.UNKNOWN)
    assert told.things == ()


def test_a_list_with_one_strange_row_still_shows_whose_the_others_are() -> None:
    """The answer is not believed, but what stands in it is the broker's to take out."""
    told = read(at("servers"), said({"data": [BRIEF, {"id": 1}], "meta": META}))
    assert (told.delivery, [thing.ref for thing in told.things]) == (Delivery.UNKNOWN, [UUID])


def test_a_password_that_is_not_there_yet_is_an_answer() -> None:
    """The document has it as null while the server is installed."""
    for data in (
        {"password_status": "generating", "root_password": None},
        {"password_status": "ready", "root_password": "p"},
    ):
        told = read(at("credentials"), said({"data": data}))
        assert (told.delivery, told.document["data"]) == (Delivery.DELIVERED, data)


@pytest.mark.parametrize("answer", [said(b"", 204), said({"data": {"status": "queued"}}, 202), said(b"", 200)])
def test_any_success_accepts_an_action_or_a_deletion(answer: UpstreamResponse) -> None:
    """Their answers are not documented; a deletion that is accepted is not yet one that is done."""
    assert read(at("power"), answer).delivery is Delivery.DELIVERED
    told = read(at("delete"), answer)
    (thing,) = told.things
    assert (told.delivery, thing.ref, thing.state) == (Delivery.DELIVERED, UUID, "destroying")
    assert (thing.charged, thing.gone) == (True, False)


@pytest.mark.parametrize("name", ["delete", "server"])
def test_only_the_vendors_own_404_about_a_server_says_gone(name: str) -> None:
    """By the document a repeated deletion is answered 404; a proxy's page, or a 404 of a part of it, proves nothing."""
    told = read(at(name), said(NOT_FOUND, 404))
    (thing,) = told.things
    assert (thing.ref, thing.state, thing.charged, thing.gone) == (UUID, "destroyed", False, True)
    assert told.delivery is Delivery.REFUSED
    for answer in (said(b"<html>", 404), said({"error": "no"}, 404), said({}, 404), said(NOT_FOUND, 410)):
        assert read(at(name), answer).things == ()
    for part in ("status", "credentials", "power", "backups"):
        assert read(at(part), said(NOT_FOUND, 404)).things == ()


def test_a_404_under_a_short_id_tells_of_no_server() -> None:
    """Nobody knows which one does not exist."""
    match = match_route(ROUTES, "DELETE", "/api/v2/servers/a1b2c3d4")
    assert match is not None
    assert read(match, said(NOT_FOUND, 404)).things == ()


def test_a_page_says_whether_another_follows() -> None:
    """By current_page and last_page; a page past the last has nothing, and nothing after it."""
    listed = read_list(said({"data": [BRIEF, {**BRIEF, "uuid": OTHER, "status": None}], "meta": META}))
    assert listed is not None
    things, more = listed
    assert [(thing.ref, thing.state, thing.charged) for thing in things] == [
        (UUID, "provisioning", True),
        (OTHER, "unknown", True),
    ]
    assert (things[0].name, more) == ("app-01.example.com", True)
    assert read_list(said({"data": [BRIEF], "meta": {**META, "current_page": 2}})) == (things[:1], False)
    assert read_list(said({"data": [], "meta": {**META, "current_page": 9}})) == ((), False)
    assert read_list(said({"data": [], "meta": {**META, "last_page": 1, "total": 0}})) == ((), False)


@pytest.mark.parametrize(
    "answer",
    [
        said({"data": [], "meta": META}, 201),
        said({"data": [], "meta": META}, 500),
        said(NOT_FOUND, 404),
        said({"data": []}),
        said({"data": [], "meta": None}),
        said({"data": [], "meta": {"current_page": 1}}),
        said({"data": [], "meta": {**META, "last_page": "1"}}),
        said({"data": [], "meta": {**META, "last_page": 0}}),
        said({"data": [], "meta": {**META, "current_page": True}}),
        said({"data": None, "meta": META}),
        said({"data": {}, "meta": META}),
        said({"data": [BRIEF, {"uuid": "a1b2c3d4"}], "meta": META}),
        said({"data": [BRIEF, None], "meta": META}),
        said({"meta": META}),
        said([]),
        said(b""),
        said({"data": [], "meta": META}, delimited=False),
    ],
)
def test_a_page_that_cannot_be_read_proves_nothing(answer: UpstreamResponse) -> None:
    """A thing that is looked for may stand in the row that cannot be read, or on the page that is not told of."""
    assert read_list(answer) is None


@pytest.mark.parametrize(
    ("digits", "hourly"),
    [
        ("0.0053", "0.0053"),
        ("5.3E-3", "0.0053"),
        ("5.3e-3", "0.0053"),
        ("0.005300000000002", "0.005300000000002"),
        ("1", "1"),
        ('"0.0053"', "0.0053"),
    ],
)
def test_prices_keep_their_digits(digits: str, hourly: str) -> None:
    """Whatever a careless vendor's floats look like, no float of ours touches them; sizes are in our units."""
    raw = json.dumps({"data": [{**PLAN, "hourly_price": "@"}], "meta": META}).replace('"@"', digits).encode()
    (price,) = read_prices(said(raw))
    assert (price.kind, price.hourly, price.monthly) == ("1", hourly, "3.92")
    assert price.traits == {"vcpu": 1, "memory_mib": 3072, "disk_gib": 20}


@pytest.mark.parametrize(
    "rows",
    [
        [PLAN, {**PLAN, "hourly_price": 1}],
        *[[{**PLAN, "hourly_price": value}] for value in (-0.0053, None, "free", True, [], "0.0053 USD")],
        *[[{**PLAN, "id": value}] for value in ("1", True, 1.0, None)],
        [7],
        {},
        None,
    ],
)
def test_a_price_with_no_meaning_is_no_price(rows: Any) -> None:
    """Named twice, below zero, of no type: a create of that plan is refused rather than guessed."""
    assert read_prices(said({"data": rows, "meta": META})) == ()


def test_prices_come_from_a_whole_200_only() -> None:
    """NaN makes the whole answer unreadable; a plan without a month's price keeps its hour's."""
    assert read_prices(said({"data": [PLAN]}, 500)) == ()
    assert read_prices(said({"data": [PLAN]}, delimited=False)) == ()
    assert read_prices(said(b'{"data":[{"id":1,"hourly_price":NaN}]}')) == ()
    (price,) = read_prices(said({"data": [{"id": 2, "hourly_price": 0.0073, "memory": 1048575}]}))
    assert (price.monthly, price.traits) == (None, {"memory_mib": 0})


def test_a_lost_create_is_answered_as_it_would_have_been() -> None:
    """201 with the server as it is now, every digit as the vendor wrote it."""
    answered = created_answer(said({"data": {**SERVER, "status": None}}))
    assert answered is not None
    assert (answered[0], json.loads(answered[1])) == (201, {"data": {**SERVER, "status": None}})
    for answer in (said(NOT_FOUND, 404), said({"data": {"uuid": "a1b2c3d4"}}), said(b""), said({"data": [SERVER]})):
        assert created_answer(answer) is None


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, "INVALID_TOKEN"),
        (404, "NOT_FOUND"),
        (422, "VALIDATION_ERROR"),
        (429, "RATE_LIMIT_EXCEEDED"),
        (503, "SERVICE_UNAVAILABLE"),
        (502, "SERVER_ERROR"),
        (418, "ERROR"),
    ],
)
def test_refusals_wear_the_vendors_envelope(status: int, code: str) -> None:
    """A script that reads error.code finds one."""
    answer = refusal(status, "why")
    assert (answer.status, answer.document) == (status, {"error": {"code": code, "message": "why"}})


ITEMS = [{"uuid": str(number), "status": "installing" if number % 2 else None} for number in range(34)]


@pytest.mark.parametrize(
    ("query", "shown", "meta"),
    [
        ("", range(25), (1, 2, 25, 34)),
        ("page=2", range(25, 34), (2, 2, 25, 34)),
        ("page=3", (), (3, 2, 25, 34)),
        ("per_page=500", range(34), (1, 1, 100, 34)),
        ("page=2&per_page=10", range(10, 20), (2, 4, 10, 34)),
        ("status=installing", range(1, 34, 2), (1, 1, 25, 17)),
        ("status=installing&per_page=10&page=2", range(21, 34, 2), (2, 2, 10, 17)),
        ("status=suspended", (), (1, 1, 25, 0)),
        ("status=", (), (1, 1, 25, 0)),
        ("sort=name&sort=id&page=2", range(25, 34), (2, 2, 25, 34)),
    ],
)
def test_pages_are_cut_from_what_is_the_agents_own(query: str, shown: Any, meta: tuple[int, ...]) -> None:
    """Page, page size and status filter as the document has them; totals count nothing of anyone else's."""
    answer = Pages().cut(at("servers"), query, ITEMS)
    assert [item["uuid"] for item in answer.document["data"]] == [str(number) for number in shown]
    assert tuple(answer.document["meta"].values()) == meta
    assert (answer.status, list(answer.document["meta"])) == (200, ["current_page", "last_page", "per_page", "total"])


@pytest.mark.parametrize(
    "query",
    [
        *["page=0", "page=-1", "page=x", "page=", "page=1.0", "page=01", "page=1000000", "per_page=0", "page=%D9%A1"],
        *["page=1&page=2", "status=a&status=b", "per_page=1&per%5Fpage=2"],
    ],
)
def test_a_page_with_no_meaning_is_422(query: str) -> None:
    """In the vendor's words, as the vendor would."""
    answer = Pages().cut(at("servers"), query, ITEMS)
    assert (answer.status, answer.document["error"]["code"]) == (422, "VALIDATION_ERROR")

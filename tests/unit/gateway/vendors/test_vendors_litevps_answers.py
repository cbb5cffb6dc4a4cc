"""What LiteVPS's answers mean, crafted ones: states nobody named, floats with noise, refusals, cut and hostile bodies."""

import json
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.account_ports import AccountTerms, PartAnswer, Price, Template, Thing
from gateway.core.payment import Delivery, Fault
from gateway.core.problems import Problem
from gateway.core.routes import Match
from gateway.core.tariff import Rule, rate_of
from gateway.http.port import UpstreamResponse
from gateway.vendors.litevps import LiteVps

TERMS = AccountTerms(86_400, 2_000_000, Rule.STARTED_UNITS, 2, suspend_first=True, grace_s=60)
VENDOR = LiteVps("litevps", "https://l.example", TERMS)
ONE = "/api/vps/v-1"
SERVER = {"id": "v-1", "name": "web-01-g234567abcdefghi2", "state": "running", "plan_id": "p-1", "price_hourly": 0.0042}


def matched(method: str, path: str) -> Match:
    """The match that must exist."""
    found = VENDOR.match(method, path)
    assert found is not None
    return found


class Rest:
    """A body that goes on."""

    def __aiter__(self) -> Any:
        raise AssertionError("a module judges what it has, and reads no further")

    async def close(self) -> None:
        """Nothing to give up."""


def response(status: int, body: Any = b"", headers: dict[str, str] | None = None, **options: Any) -> UpstreamResponse:
    """A vendor's answer."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return UpstreamResponse(status, CIMultiDictProxy(CIMultiDict(headers or {})), raw, **options)


def thing(entry: dict[str, Any]) -> Thing:
    """The server that an answer of GET /api/vps/:id shows."""
    told = VENDOR.read(matched("GET", ONE), response(200, entry))
    assert told.delivery is Delivery.DELIVERED
    return told.things[0]


@pytest.mark.parametrize(
    ("word", "state", "charged"),
    [
        ("creating", "provisioning", False),
        ("running", "running", True),
        ("stopped", "stopped", False),
        ("error", "error", False),
        ("RUNNING", "unknown", None),
        ("migrating", "unknown", None),
        ("", "unknown", None),
        (None, "unknown", None),
        (7, "unknown", None),
        (["running"], "unknown", None),
    ],
)
def test_states_are_total(word: object, state: str, *, charged: bool | None) -> None:
    """A word that the document does not name is unknown, never an exception, and says nothing of money."""
    found = thing({**SERVER, "state": word})
    assert (found.state, found.charged) == (state, charged)


@pytest.mark.parametrize(
    ("number", "hourly"),
    [
        ("0.0042", "0.0042"),
        ("0.004200000000000002", "0.004200000000000002"),
        ("4.2E-3", "0.0042"),
        ("1e-7", "0.0000001"),
        ("1", "1"),
        ("0", None),
        ("0.0000", None),
        ("-0.0042", None),
        ("null", None),
        ('"0.0042"', None),
        ("[0.0042]", None),
        ("true", None),
    ],
)
def test_prices_keep_their_digits(number: str, hourly: str | None) -> None:
    """No float comes between: an exponent is written out, noise stays noise; nothing, and no price, is not stated."""
    body = json.dumps({**SERVER, "price_hourly": 0}).replace('"price_hourly": 0', f'"price_hourly": {number}')
    told = VENDOR.read(matched("GET", ONE), response(200, body.encode()))
    assert told.things[0].hourly == hourly
    if hourly is not None:
        assert rate_of(hourly) > 0


@pytest.mark.parametrize(
    ("changes", "expires_at_ms"),
    [
        ({}, None),
        ({"ttl_minutes": None, "created_at": "2026-01-01T00:00:00Z"}, None),
        ({"ttl_minutes": 60, "created_at": "1970-01-01T00:00:10Z"}, 3_610_000),
        ({"ttl_minutes": 60}, None),
        ({"ttl_minutes": "60", "created_at": "1970-01-01T00:00:10Z"}, None),
        ({"ttl_minutes": 10**30, "created_at": "1970-01-01T00:00:10Z"}, None),
        ({"ttl_minutes": 60, "created_at": "1970-01-01T00:00:10Z", "expires_at": "1970-01-01T00:00:20Z"}, 20_000),
        ({"expires_at": 1_700_000_000}, None),
        ({"expires_at": "soon"}, None),
    ],
)
def test_a_life_that_ends_by_itself_is_known(changes: dict[str, Any], expires_at_ms: int | None) -> None:
    """As the answer says it, or from its creation and its minutes; a bare number is no time."""
    assert thing({**SERVER, **changes}).expires_at_ms == expires_at_ms


def test_a_create_counts_only_with_the_server_it_made() -> None:
    """201 with an id is delivered and created; 200 or 201 without one may have made something."""
    create = matched("POST", "/api/vps")
    told = VENDOR.read(create, response(201, {**SERVER, "state": "creating"}))
    assert (told.delivery, told.created) == (Delivery.DELIVERED, ("v-1",))
    assert told.things[0].name == SERVER["name"]
    for body in (b"", b"{}", b"[]", {"id": 7}, {"id": ""}, {"id": "a/b"}, {"vps": SERVER}, b'{"id":"a","id":"b"}'):
        told = VENDOR.read(create, response(201, body))
        assert (told.delivery, told.document, told.things, told.created) == (Delivery.UNKNOWN, {}, (), ())


@pytest.mark.parametrize(
    ("status", "delivery", "fault"),
    [
        (400, Delivery.REFUSED, Fault.AGENT),
        (404, Delivery.REFUSED, Fault.AGENT),
        (409, Delivery.REFUSED, Fault.AGENT),
        (422, Delivery.REFUSED, Fault.AGENT),
        (401, Delivery.REFUSED, Fault.NONE),
        (402, Delivery.REFUSED, Fault.NONE),
        (403, Delivery.REFUSED, Fault.NONE),
        (429, Delivery.REFUSED, Fault.NONE),
        (408, Delivery.UNKNOWN, Fault.NONE),
        (302, Delivery.UNKNOWN, Fault.NONE),
        (500, Delivery.UNKNOWN, Fault.NONE),
        (502, Delivery.UNKNOWN, Fault.NONE),
        (504, Delivery.UNKNOWN, Fault.NONE),
    ],
)
def test_refusals_of_a_create(status: int, delivery: Delivery, fault: Fault) -> None:
    """What a 4xx says before acting is certain; a 5xx leaves open whether a machine exists; our standing is no agent's fault."""
    told = VENDOR.read(matched("POST", "/api/vps"), response(status, {"error": "no", "id": "v-9"}))
    assert (told.delivery, told.fault, told.things, told.created) == (delivery, fault, (), ())
    assert told.document is None


def test_answers_that_are_cut_or_encoded_prove_nothing() -> None:
    """Not a create, not a list."""
    create = matched("POST", "/api/vps")
    for options in ({"rest": Rest()}, {"delimited": False}):
        told = VENDOR.read(create, response(201, SERVER, **options))
        assert (told.delivery, told.document) == (Delivery.UNKNOWN, {})
        assert VENDOR.read_list(response(200, [SERVER], **options)) is None
    zipped = {"Content-Encoding": "gzip"}
    assert VENDOR.read(create, response(201, SERVER, zipped)).delivery is Delivery.UNKNOWN
    assert VENDOR.read_list(response(200, [SERVER], zipped)) is None


@pytest.mark.parametrize(
    "answer",
    [
        response(500, []),
        response(404, []),
        response(206, []),
        response(200, b""),
        response(200, b"[]]"),
        response(200, {"vps": []}),
        response(200, [SERVER, {"id": None}]),
        response(200, [SERVER, "v-2"]),
    ],
)
def test_a_list_that_cannot_be_read_whole_proves_no_absence(answer: UpstreamResponse) -> None:
    """The one entry that cannot be read may be the one that is looked for."""
    assert VENDOR.read_list(answer) is None


def test_a_whole_list() -> None:
    """All of the account's servers on one page; an empty list is a list."""
    assert VENDOR.read_list(response(200, [])) == ((), False)
    found = VENDOR.read_list(response(200, [SERVER, {"id": "v-2", "state": "new word"}]))
    assert found is not None
    assert ([each.ref for each in found[0]], found[1]) == (["v-1", "v-2"], False)
    assert found[0][1].state == "unknown"


def test_an_answer_about_another_server_is_not_believed() -> None:
    """Nor shown: the document is gone, and what was done is unknown."""
    for method, path in (("GET", ONE), ("PUT", ONE), ("POST", f"{ONE}/stop")):
        told = VENDOR.read(matched(method, path), response(200, {**SERVER, "id": "v-2"}))
        assert (told.delivery, told.document, told.things) == (Delivery.UNKNOWN, {}, ())
    told = VENDOR.read(matched("GET", f"{ONE}/jobs/j-1"), response(200, {"job_id": "j-2", "status": "done"}))
    assert (told.delivery, told.document, told.things) == (Delivery.UNKNOWN, {}, ())
    told = VENDOR.read(matched("GET", ONE), response(200, {"state": "running"}))
    assert (told.delivery, told.document, told.things) == (Delivery.UNKNOWN, {}, ())


def test_a_list_that_cannot_be_read_is_not_passed_on() -> None:
    """It holds every agent's things: cut, encoded, or in another shape, its agent is shown nothing of it."""
    for path in ("/api/vps", "/api/keys"):
        for answer in (
            response(200, [SERVER], {"Content-Encoding": "gzip"}),
            response(200, [SERVER], delimited=False),
            response(206, b'[{"id": "v-2"'),
            response(200, {"vps": [SERVER]}),
        ):
            told = VENDOR.read(matched("GET", path), answer)
            assert (told.delivery, told.document, told.things) == (Delivery.UNKNOWN, {}, ())
        assert VENDOR.read(matched("GET", path), response(500, {"error": "x"})).document is None


def test_what_sets_a_machine_running_does_not_say_that_it_is_not_charged() -> None:
    """After a start it is still `stopped` for a moment; after a stop it runs, and costs, until it has stopped."""
    stopped = {**SERVER, "state": "stopped"}
    for action in ("start", "restart", "snapshots/s/restore"):
        told = VENDOR.read(matched("POST", f"{ONE}/{action}"), response(200, stopped))
        assert (told.things[0].state, told.things[0].charged) == ("stopped", None)
    assert VENDOR.read(matched("POST", f"{ONE}/stop"), response(200, SERVER)).things[0].charged is True
    assert VENDOR.read(matched("POST", f"{ONE}/stop"), response(200, stopped)).things[0].charged is False
    told = VENDOR.read(matched("POST", f"{ONE}/start"), response(202, {"status": "ok"}))
    assert (told.delivery, told.things, told.document) == (Delivery.DELIVERED, (), None)


def test_a_destruction_is_accepted_not_confirmed() -> None:
    """It is not charged from then on; only a list proves that it is gone. A 404 proves nothing: a new one may lag."""
    delete = matched("DELETE", ONE)
    for answer in (response(204), response(200, {"status": "deleted"})):
        told = VENDOR.read(delete, answer)
        assert told.things == (Thing("v-1", "server", "destroying", charged=False),)
        assert told.delivery is Delivery.DELIVERED
    missing = VENDOR.read(delete, response(404, {"error": "vps not found"}))
    assert (missing.delivery, missing.fault, missing.things) == (Delivery.REFUSED, Fault.AGENT, ())


@pytest.mark.parametrize(
    ("status", "text", "denied"),
    [
        (403, "command blocked: mkfs", True),
        (400, "Blocked command: rm -rf /", True),
        (422, "this command is not allowed", True),
        (403, "destructive commands are denied", True),
        (403, "forbidden", False),
        (403, "your IP is blocked", False),
        (400, "command is required", False),
        (409, "command blocked: vps must be running", False),
        (500, "command blocked", False),
        (200, "command blocked", False),
    ],
)
def test_the_denylist_is_told_from_other_refusals(status: int, text: str, *, denied: bool) -> None:
    """The vendor blocks some commands by their text: the agent's to mend, and nothing was run."""
    told = VENDOR.read(matched("POST", f"{ONE}/exec"), response(status, {"error": text}))
    assert told.problem == ("upstream_policy_denied" if denied else None)
    if denied:
        assert (told.delivery, told.fault) == (Delivery.REFUSED, Fault.AGENT)
        assert told.problem is not None
        assert Problem(told.problem, text).status == 403
    elsewhere = VENDOR.read(matched("POST", f"{ONE}/stop"), response(status, {"error": text}))
    assert elsewhere.problem is None


@pytest.mark.parametrize(
    ("status", "body", "about_us"),
    [
        (403, {"error": "account suspended"}, True),
        (403, {"error": "Your IP address is not allowed"}, True),
        (403, {"error": "command blocked: mkfs"}, False),
        (403, b"<html>account suspended</html>", False),
        (400, {"error": "account suspended"}, False),
        (200, {"error": "account suspended"}, False),
    ],
)
def test_refusals_of_the_shared_account(status: int, body: Any, *, about_us: bool) -> None:
    """Only a 403 that says so in plain words."""
    assert VENDOR.refuses_us(response(status, body)) is about_us


def test_files_pass_as_they_come() -> None:
    """A JSON file is nobody's list, and a long one is not waited for; what a file says is not the account's balance."""
    download = matched("GET", f"{ONE}/files")
    for answer in (response(200, [SERVER]), response(200, b"\xff", rest=Rest()), response(200, b"x", delimited=False)):
        told = VENDOR.read(download, answer)
        assert (told.delivery, told.document, told.things) == (Delivery.DELIVERED, None, ())
    assert VENDOR.read_balance(response(200, {"balance": 0.0001})) is None
    assert VENDOR.read(download, response(404, {"error": "file not found"})).delivery is Delivery.REFUSED


@pytest.mark.parametrize(
    ("text", "balance_base"),
    [
        ("10.5000", 10_500_000),
        ("10", 10_000_000),
        ("0.0420", 42_000),
        ("10.500000000000002", 10_500_000),
        ("1.05E+1", 10_500_000),
        ("-0.0001", -100),
        (" 3.1400 ", 3_140_000),
        ("", None),
        ("NaN", None),
        ("Infinity", None),
        ("10,5", None),
        ("1e99", None),
        ("9" * 30, None),
    ],
)
def test_the_balance_stands_in_the_header(text: str, balance_base: int | None) -> None:
    """Of every authenticated answer, refusals too; rounded down, and none where it cannot be read."""
    for status in (200, 402, 404):
        assert VENDOR.read_balance(response(status, {}, {"X-Balance-Remaining": text})) == balance_base
    assert VENDOR.read_balance(response(200, {})) is None


def test_commands_and_jobs() -> None:
    """Output makes nothing; a background command makes a job of its server; a list shows the server's jobs as its owner's."""
    execute = matched("POST", f"{ONE}/exec")
    done = VENDOR.read(
        execute, response(200, {"stdout": '{"id":"v-2"}', "stderr": "", "exit_code": 0, "duration_ms": 1})
    )
    assert (done.delivery, done.things, done.created) == (Delivery.DELIVERED, (), ())
    begun = VENDOR.read(execute, response(200, {"job_id": "j-1", "status": "pending", "timeout_seconds": 300}))
    assert begun.things == (Thing("j-1", "job", "pending", charged=False, parent="v-1"),)
    assert begun.created == ("j-1",)
    jobs = VENDOR.read(
        matched("GET", f"{ONE}/jobs"),
        response(200, [{"job_id": "j-1", "status": "timeout"}, {"id": "j-2", "status": "queued"}, {"no": 1}, 7]),
    )
    assert [(job.ref, job.state, job.parent) for job in jobs.things] == [
        ("j-1", "timeout", "v-1"),
        ("j-2", "unknown", "v-1"),
    ]
    assert jobs.created == ("j-1", "j-2")
    assert VENDOR.read(matched("GET", f"{ONE}/jobs"), response(200, b"{}")).delivery is Delivery.UNKNOWN


def test_keys() -> None:
    """Made with an id, listed, gone."""
    made = VENDOR.read(matched("POST", "/api/keys"), response(201, {"id": "k-1", "name": "my-key"}))
    assert (made.created, made.things[0].kind, made.things[0].name) == (("k-1",), "key", "my-key")
    assert VENDOR.read(matched("POST", "/api/keys"), response(201, {"name": "my-key"})).delivery is Delivery.UNKNOWN
    listed = VENDOR.read(matched("GET", "/api/keys"), response(200, [{"id": "k-1"}, {"id": "k-2"}]))
    assert [each.ref for each in listed.things] == ["k-1", "k-2"]
    assert VENDOR.read(matched("GET", "/api/keys"), response(200, {"keys": []})).delivery is Delivery.UNKNOWN
    gone = VENDOR.read(matched("DELETE", "/api/keys/k-1"), response(204))
    assert gone.things == (Thing("k-1", "key", "deleted", charged=False, gone=True),)


def test_a_create_whose_answer_was_lost_is_answered_from_the_server() -> None:
    """As the create would have: 201 and the server; nothing where it is not shown, or where nothing was created."""
    create = matched("POST", "/api/vps")
    shown = response(200, SERVER)
    assert VENDOR.created_answer(create, shown) == (201, shown.body)
    assert VENDOR.created_answer(create, response(404, {"error": "vps not found"})) is None
    assert VENDOR.created_answer(create, response(200, b"{}")) is None
    assert VENDOR.created_answer(matched("GET", ONE), shown) is None


def plan(**changes: Any) -> dict[str, Any]:
    """A plan of the document."""
    return {"id": "p-1", "name": "Nano", "vcpu": 1, "memory_mb": 512, "disk_gb": 10, "price_hourly": 0.0042, **changes}


def test_prices() -> None:
    """Each plan once, with its digits and its sizes; one without sizes holds no template; one without a price is none."""
    sizes = {"vcpu": 1, "memory_mib": 512, "disk_gib": 10}
    assert VENDOR.read_prices(response(200, [plan()])) == (Price("p-1", "0.0042", traits=sizes),)
    assert VENDOR.read_prices(response(200, [plan(vcpu="1")])) == (Price("p-1", "0.0042"),)
    for wrong in (
        {"price_hourly": 0},
        {"price_hourly": -1},
        {"price_hourly": "0.0042"},
        {"price_hourly": None},
        {"id": 7},
    ):
        assert VENDOR.read_prices(response(200, [plan(**wrong), plan(id="p-2")])) == (
            Price("p-2", "0.0042", traits=sizes),
        )
    assert VENDOR.read_prices(response(200, [plan(), plan(price_hourly=0.001), plan()])) == ()
    for answer in (
        response(500, [plan()]),
        response(200, {"plans": [plan()]}),
        response(200, b"<html>"),
        response(200, [7]),
    ):
        assert VENDOR.read_prices(answer) == ()


def test_templates() -> None:
    """Sizes and life; a template that cannot be read is none, so an order of it is refused instead of guessed."""

    def preset(**changes: Any) -> dict[str, Any]:
        return {"slug": "t", "vcpu": 1, "memory_mb": 1024, "disk_gb": 20, "ttl_minutes": None, **changes}

    sizes = {"vcpu": 1, "memory_mib": 1024, "disk_gib": 20}
    assert VENDOR.read_templates(response(200, [preset()])) == (Template("t", sizes),)
    assert VENDOR.read_templates(response(200, [preset(ttl_minutes=60)])) == (Template("t", sizes, 3600),)
    for wrong in (
        {"ttl_minutes": 0},
        {"ttl_minutes": "60"},
        {"vcpu": None},
        {"disk_gb": 0},
        {"slug": ""},
        {"slug": None},
    ):
        assert VENDOR.read_templates(response(200, [preset(**wrong)])) == ()
    assert VENDOR.read_templates(response(200, [preset(), preset()])) == ()
    assert VENDOR.read_templates(response(401, [preset()])) == ()


def test_batches_stay_mixed() -> None:
    """207 with the document's members, in the batch's order: what was done, and in words why the rest was not."""
    made = VENDOR.join(
        matched("POST", "/api/vps/batch"),
        (
            PartAnswer(1, 402, Problem("insufficient_balance", "the balance does not cover this").document()),
            PartAnswer(0, 201, SERVER),
            PartAnswer(2, 400, {"error": "name: has a wrong format"}),
            PartAnswer(3, 502, None),
        ),
    )
    assert made.status == 207
    assert made.document == {
        "results": [
            {"index": 0, "vps": SERVER},
            {"index": 1, "error": "the balance does not cover this"},
            {"index": 2, "error": "name: has a wrong format"},
            {"index": 3, "error": "no answer that can be read (status 502)"},
        ]
    }
    gone = VENDOR.join(
        matched("DELETE", "/api/vps/batch"),
        (PartAnswer(0, 204, None, "v-1"), PartAnswer(1, 404, {"error": "vps not found"}, "v-2")),
    )
    assert gone.document["results"] == [
        {"id": "v-1", "deleted": True},
        {"id": "v-2", "deleted": False, "error": "vps not found"},
    ]
    output = {"stdout": "up\n", "stderr": "", "exit_code": 0, "duration_ms": 3, "vps_id": "v-9"}
    ran = VENDOR.join(
        matched("POST", "/api/vps/batch/exec"),
        (PartAnswer(0, 200, output, "v-1"), PartAnswer(1, 200, None, "v-2"), PartAnswer(2, 409, {"error": "x"}, "v-3")),
    )
    assert ran.document["results"] == [
        {**output, "vps_id": "v-1"},
        {"vps_id": "v-2", "error": "no answer that can be read (status 200)"},
        {"vps_id": "v-3", "error": "x"},
    ]


@pytest.mark.parametrize(
    "body", [b"", b"null", b"7", b'"x"', b"[]", b"{}", b"[null]", b"\xff", b'{"id":{}}', b"[" * 99]
)
@pytest.mark.parametrize("status", [200, 204, 402, 403, 500])
def test_reading_never_raises(status: int, body: bytes) -> None:
    """Whatever the vendor says on whichever route, nothing is made up from it."""
    answer = response(status, body, {"X-Balance-Remaining": "?"})
    for route in VENDOR.routes:
        match = Match(route, {"id": "v-1", "job_id": "j-1", "name": "s", "slug": "t"})
        told = VENDOR.read(match, answer)
        assert told.created == ()
        assert VENDOR.created_answer(match, answer) is None
    assert VENDOR.read_balance(answer) is None
    assert VENDOR.read_prices(answer) == VENDOR.read_templates(answer) == ()
    assert VENDOR.refuses_us(answer) is False

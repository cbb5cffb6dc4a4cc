"""What CryptoVPS's answers mean, above all the ones that fall short, and the statuses that mean two things."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.account_ports import PartAnswer, Thing
from gateway.core.payment import Delivery, Fault
from gateway.core.routes import Match, match_route
from gateway.http.port import UpstreamResponse
from gateway.vendors.cryptovps.answers import created_answer, join, read, read_balance, read_list, refuses_us
from gateway.vendors.cryptovps.routes import ROUTES

SERVER: dict[str, Any] = {
    "id": "s-1",
    "label": "my-bot-gabcdefghij234567",
    "status": "ACTIVE",
    "region": "ams",
    "plan": "vc2-1c-1gb",
    "ipv4": "203.0.113.10",
    "hourlyPrice": "0.0137",
    "createdAt": "2026-01-01T00:00:00.000Z",
}
BACKUP: dict[str, Any] = {
    "id": "b-1",
    "label": "my-bot-gabcdefghij234567",
    "status": "AVAILABLE",
    "region": "ams",
    "plan": "vc2-1c-1gb",
    "createdAt": "2026-01-01T00:00:00.000Z",
    "expiresAt": "2026-01-08T00:00:00.000Z",
}
CREATED_MS = 1_767_225_600_000
WEEK_MS = 7 * 86_400_000


def matched(method: str, path: str) -> Match:
    """The match that must exist."""
    found = match_route(ROUTES, method, path)
    assert found is not None
    return found


LIST, CREATE, BULK = matched("GET", "/servers"), matched("POST", "/servers"), matched("POST", "/servers/bulk")
SHOW, DESTROY = matched("GET", "/servers/s-1"), matched("DELETE", "/servers/s-1")
BACKUPS, TAKE = matched("GET", "/backups"), matched("POST", "/backups")
RESTORE, DELETE_BACKUP = matched("POST", "/backups/b-1/restore"), matched("DELETE", "/backups/b-1")
GUIDE = matched("GET", "/llms.txt")
ALL = (LIST, CREATE, BULK, SHOW, DESTROY, BACKUPS, TAKE, RESTORE, DELETE_BACKUP, GUIDE)


def answer(document: object, status: int = 200, coding: str = "", *, delimited: bool = True) -> UpstreamResponse:
    """An answer of the vendor's."""
    headers = CIMultiDict({"Content-Encoding": coding} if coding else {})
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return UpstreamResponse(status, CIMultiDictProxy(headers), raw, delimited=delimited)


def test_a_create_names_what_it_made() -> None:
    """With the price that is fixed from now on, the plan, and the vendor's time of creation."""
    told = read(CREATE, answer({"server": {**SERVER, "status": "PROVISIONING", "ipv4": None}}, 202))
    assert (told.delivery, told.created) == (Delivery.DELIVERED, ("s-1",))
    assert told.things == (
        Thing(
            "s-1",
            "server",
            "provisioning",
            "my-bot-gabcdefghij234567",
            "vc2-1c-1gb",
            charged=True,
            hourly="0.0137",
            created_at_ms=CREATED_MS,
        ),
    )


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"server": None},
        {"server": [SERVER]},
        {"server": {**SERVER, "id": None}},
        {"server": {**SERVER, "id": "a/b"}},
        {"server": {**SERVER, "id": 7}},
        {"servers": [SERVER]},
        [],
        b"",
        b"<html>",
        b'{"server":{"id":"s-1","id":"s-2"}}',
    ],
)
def test_a_create_that_names_nothing_is_unknown(document: object) -> None:
    """The server may exist; and nothing of such an answer may be shown."""
    for match in (CREATE, RESTORE, SHOW):
        told = read(match, answer(document, 202))
        assert (told.delivery, told.fault, told.created, told.things) == (Delivery.UNKNOWN, Fault.NONE, (), ())


def test_an_answer_that_cannot_be_read_shows_nothing() -> None:
    """Encoded or cut off, a list may hold others' things; the vendor's public pages are no documents and pass."""
    for unread in (answer({"servers": [SERVER]}, coding="gzip"), answer({"servers": [SERVER]}, delimited=False)):
        told = read(LIST, unread)
        assert (told.delivery, told.document) == (Delivery.UNKNOWN, {})
    told = read(GUIDE, answer(b"# CryptoVPS"))
    assert (told.delivery, told.document) == (Delivery.DELIVERED, None)


def test_an_answer_about_another_thing_is_withheld() -> None:
    """A question for one server is answered by that server or by nothing."""
    told = read(SHOW, answer({"server": {**SERVER, "id": "s-2"}}))
    assert (told.delivery, told.document, told.things) == (Delivery.UNKNOWN, {}, ())


@pytest.mark.parametrize(
    ("status", "state", "charged", "gone"),
    [
        ("PROVISIONING", "provisioning", True, False),
        ("ACTIVE", "running", True, False),
        ("SUSPENDED", "suspended", False, False),
        ("ERROR", "error", False, False),
        ("DESTROYING", "destroying", False, False),
        ("DESTROYED", "destroyed", False, True),
        ("active", "unknown", None, False),
        ("REBOOTING", "unknown", None, False),
        ("", "unknown", None, False),
        (None, "unknown", None, False),
        (7, "unknown", None, False),
    ],
)
def test_every_status_has_a_state(status: object, state: str, *, charged: bool | None, gone: bool) -> None:
    """Total: what the document does not name is unknown, and nobody says whether it is charged."""
    (thing,) = read(SHOW, answer({"server": {**SERVER, "status": status}})).things
    assert (thing.state, thing.charged, thing.gone) == (state, charged, gone)


@pytest.mark.parametrize(
    ("status", "state", "gone"),
    [
        ("PENDING", "pending", False),
        ("AVAILABLE", "available", False),
        ("ERROR", "error", False),
        ("EXPIRED", "expired", True),
        ("LOST", "unknown", False),
    ],
)
def test_every_backup_has_a_state_and_an_end(status: str, state: str, *, gone: bool) -> None:
    """Seven days after it was taken; its plan prices a restore."""
    (thing,) = read(BACKUPS, answer({"backups": [{**BACKUP, "status": status}]})).things
    assert (thing.kind, thing.state, thing.gone, thing.charged) == ("backup", state, gone, False)
    assert (thing.plan, thing.created_at_ms, thing.expires_at_ms) == ("vc2-1c-1gb", CREATED_MS, CREATED_MS + WEEK_MS)


def test_a_backup_is_its_takers() -> None:
    """It is made by the answer that shows it, and so is what is restored from it."""
    assert read(TAKE, answer({"backup": {**BACKUP, "status": "PENDING"}}, 202)).created == ("b-1",)
    assert read(RESTORE, answer({"server": SERVER}, 202)).created == ("s-1",)
    assert read(SHOW, answer({"server": SERVER})).created == ()


@pytest.mark.parametrize(
    ("plan", "read_as"),
    [
        ("vc2-1c-2gb", "vc2-1c-2gb"),
        ({"id": "vc2-1c-2gb", "name": "Starter"}, "vc2-1c-2gb"),
        ("Starter", ""),
        (None, ""),
    ],
)
def test_a_plan_is_one_that_has_a_price(plan: object, read_as: str) -> None:
    """The document does not say whether the member is an id or an object; anything else is no plan."""
    assert read(SHOW, answer({"server": {**SERVER, "plan": plan}})).things[0].plan == read_as


@pytest.mark.parametrize("price", [None, "", "free", "-0.01", "0.01\n", "1e9", True])
def test_a_price_that_cannot_be_read_is_none(price: object) -> None:
    """Then the quoted bound stands."""
    assert read(SHOW, answer({"server": {**SERVER, "hourlyPrice": price}})).things[0].hourly is None


def test_a_list_shows_what_can_be_read() -> None:
    """An entry without an id is nobody's; but only a list without such proves that something is not there."""
    mixed = answer({"servers": [SERVER, {"id": None}, "x"]})
    assert [thing.ref for thing in read(LIST, mixed).things] == ["s-1"]
    assert read_list(mixed) is None
    found = read_list(answer({"servers": [SERVER]}))
    assert found is not None
    assert ([thing.ref for thing in found[0]], found[1]) == (["s-1"], False)
    assert read_list(answer({"servers": []})) == ((), False)


@pytest.mark.parametrize(
    "proves_nothing",
    [
        answer({"servers": []}, 500),
        answer({"servers": []}, 202),
        answer({"error": "x"}, 401),
        answer({"servers": None}),
        answer({}),
        answer([]),
        answer(b"<html>"),
        answer({"servers": []}, coding="br"),
        answer({"servers": []}, delimited=False),
    ],
)
def test_only_a_whole_list_proves_an_absence(proves_nothing: UpstreamResponse) -> None:
    """Everything else says nothing about what exists."""
    assert read_list(proves_nothing) is None


@pytest.mark.parametrize("status", [202, 200, 409])
def test_a_destruction_that_was_begun_is_a_success(status: int) -> None:
    """409 says that it is being destroyed already: the bill has stopped."""
    told = read(DESTROY, answer({"ok": True} if status != 409 else {"error": "already being destroyed"}, status))
    assert (told.delivery, told.fault) == (Delivery.DELIVERED, Fault.NONE)
    assert told.things == (Thing("s-1", "server", "destroying", charged=False),)
    told = read(DELETE_BACKUP, answer({"ok": True}, status))
    assert told.things == (Thing("b-1", "backup", "deleted", charged=False, gone=True),)


def test_a_conflict_elsewhere_is_the_agents() -> None:
    """Backing up what is not active, restoring what is not available: nothing was made."""
    for match in (TAKE, RESTORE, CREATE):
        told = read(match, answer({"error": "backup is PENDING, not AVAILABLE"}, 409))
        assert (told.delivery, told.fault) == (Delivery.REFUSED, Fault.AGENT)


def test_a_404_of_a_destruction_proves_nothing() -> None:
    """A server may not be seen yet: only the list ends its bill."""
    told = read(DESTROY, answer({"error": "server not found"}, 404))
    assert (told.delivery, told.things) == (Delivery.REFUSED, ())


@pytest.mark.parametrize(
    ("message", "us", "problem"),
    [
        ("server limit reached (10 active)", False, "vendor_account_full"),
        ("Server Limit: destroy something first", False, "vendor_account_full"),
        ("account suspended", True, None),
        ("suspended: over the limit of abuse reports", True, None),
        ("forbidden", True, None),
        ("", True, None),
    ],
)
def test_a_403_means_two_things(message: str, *, us: bool, problem: str | None) -> None:
    """Suspended, or ten servers: told apart by the message, and never an agent's fault. Unexplained is a refusal of us."""
    forbidden = answer({"error": message}, 403)
    told = read(CREATE, forbidden)
    assert refuses_us(forbidden) is us
    assert (told.delivery, told.fault, told.problem) == (Delivery.REFUSED, Fault.NONE, problem)


def test_only_a_403_refuses_us() -> None:
    """Also where it is no JSON; a message about suspension in another answer is about something else."""
    assert refuses_us(answer(b"<html>Forbidden</html>", 403))
    for status in (200, 400, 401, 402, 404, 409, 429, 500):
        assert not refuses_us(answer({"error": "suspended"}, status))


@pytest.mark.parametrize("status", [401, 402, 429])
def test_what_is_wrong_with_our_account_is_nobodys_fault(status: int) -> None:
    """A 402 here is an empty balance of the operator's, and nothing was made."""
    told = read(CREATE, answer({"error": "insufficient balance"}, status))
    assert (told.delivery, told.fault, told.problem) == (Delivery.REFUSED, Fault.NONE, None)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 302])
def test_a_create_that_may_have_been_made_is_unknown(status: int) -> None:
    """Whatever the body says."""
    told = read(CREATE, answer({"error": "nothing was made, honestly"}, status))
    assert (told.delivery, told.created) == (Delivery.UNKNOWN, ())


def test_a_lost_creates_answer_is_made_again() -> None:
    """202 with the server as it is now; from nothing but an answer that shows it."""
    made = created_answer(CREATE, answer({"server": SERVER, "requestId": "r"}))
    assert made is not None
    assert (made[0], json.loads(made[1])) == (202, {"server": SERVER})
    for shown in (answer({"server": SERVER}, 404), answer({"server": {}}), answer({}), answer(b"")):
        assert created_answer(CREATE, shown) is None
    assert created_answer(DESTROY, answer({"server": SERVER})) is None


@pytest.mark.parametrize(
    ("document", "status", "balance_base"),
    [
        ({"balance": "9.96", "hourlySpend": "0.012"}, 200, 9_960_000),
        ({"user": {"id": "u", "email": "e", "balance": "9.9600009"}}, 200, 9_960_000),
        ({"balance": "-0.5"}, 200, -500_000),
        ({"balance": 9.96}, 200, None),
        ({"balance": "9.96"}, 500, None),
        ({"servers": [{"label": "balance"}]}, 200, None),
        ({"user": {}}, 200, None),
        ({"user": "balance"}, 200, None),
        (["balance"], 200, None),
        (b"balance", 200, None),
    ],
)
def test_the_balance_is_a_text(document: object, status: int, balance_base: int | None) -> None:
    """Where an answer tells it; rounded down."""
    assert read_balance(answer(document, status)) == balance_base


def server(index: int) -> PartAnswer:
    """A part that was made."""
    return PartAnswer(index, 202, {"server": {**SERVER, "id": f"s-{index}"}})


def test_a_bulk_of_successes_is_the_documents_answer() -> None:
    """In the order of the suffixes, whichever was answered first."""
    said = join((server(1), server(0)))
    assert said.status == 202
    assert [each["id"] for each in said.document.pop("servers")] == ["s-0", "s-1"]
    assert said.document == {}


def test_a_bulk_of_mixed_results_stays_mixed() -> None:
    """207 with what was made, and for the rest the status and words of each."""
    problem = {"type": "urn:gateway:problem:outcome_unknown", "title": "Unknown", "detail": "no answer came"}
    full = PartAnswer(1, 503, {"error": "server limit reached"})
    said = join((PartAnswer(2, 504, problem), server(0), full, PartAnswer(3, 202, {"server": None})))
    assert said.status == 207
    assert [each["id"] for each in said.document["servers"]] == ["s-0"]
    assert said.document["errors"] == [
        {"index": 1, "status": 503, "error": "server limit reached"},
        {"index": 2, "status": 504, "error": "no answer came"},
        {"index": 3, "status": 502, "error": "no server was shown in the answer"},
    ]


def test_a_bulk_that_met_one_refusal_is_that_refusal() -> None:
    """So that a script sees the status that it knows; different ones stay 207 without servers."""
    said = join(tuple(PartAnswer(n, 402, {"error": "insufficient balance"}) for n in range(2)))
    assert (said.status, said.document["error"], said.document["servers"]) == (402, "insufficient balance", [])
    assert [each["index"] for each in said.document["errors"]] == [0, 1]
    said = join((PartAnswer(0, 402, {}), PartAnswer(1, 429, {})))
    assert (said.status, said.document["servers"]) == (207, [])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["s-1", "ACTIVE", "0.01"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["server", "servers", "backup", "backups", "id", "status", "error", "user", "balance"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.sampled_from(ALL), JSON, st.sampled_from([200, 202, 204, 301, 400, 402, 403, 404, 409, 429, 500, 599, 799]))
def test_no_answer_makes_it_stumble(match: Match, document: Any, status: int) -> None:
    """Whatever the vendor writes is read as something, and nothing is made without a success."""
    said = answer(document, status)
    told = read(match, said)
    assert not told.created or told.delivery is Delivery.DELIVERED
    read_list(said)
    read_balance(said)
    refuses_us(said)
    created_answer(match, said)
    join((PartAnswer(0, status, document),))

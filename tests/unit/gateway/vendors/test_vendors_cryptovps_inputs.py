"""What agents may send to CryptoVPS: the document's bodies and nothing else, bulk orders taken apart, labels marked."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.account_ports import Order
from gateway.core.problems import Problem
from gateway.core.routes import Match, match_route
from gateway.vendors.cryptovps.inputs import check_input, marked, order, password_in, split
from gateway.vendors.cryptovps.routes import ROUTES
from tests.factories import unmark

TOKEN = "gabcdefghij234567"
ORDER: dict[str, Any] = {"label": "my-bot", "planId": "vc2-1c-1gb", "regionId": "ams"}
BULK: dict[str, Any] = {"label": "fleet", "count": 3, "planId": "vc2-2c-4gb", "regionId": "tlv"}


def matched(method: str, path: str) -> Match:
    """The match that must exist."""
    found = match_route(ROUTES, method, path)
    assert found is not None
    return found


CREATE, BULK_CREATE = matched("POST", "/servers"), matched("POST", "/servers/bulk")
BACKUP, RESTORE = matched("POST", "/backups"), matched("POST", "/backups/b-1/restore")
LOGIN, REGISTER = matched("POST", "/auth/login"), matched("POST", "/auth/register")


def body(document: object) -> bytes:
    """A document as bytes."""
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"label": ""}, "label"),
        ({"label": "a b"}, "label"),
        ({"label": "a" * 65}, "label"),
        ({"label": "bot\n"}, "label"),
        ({"label": "böt"}, "label"),
        ({"label": 7}, "label"),
        ({"label": None}, "label"),
        ({"planId": "vc2-1c-1GB"}, "planId"),
        ({"planId": "vc3"}, "planId"),
        ({"planId": ["vc2-1c-1gb"]}, "planId"),
        ({"regionId": "AMS"}, "regionId"),
        ({"regionId": "xyz"}, "regionId"),
        ({"planID": "vc2-6c-16gb"}, "planId"),
        ({"backupId": "b-1"}, "body"),
        ({"count": 2}, "body"),
    ],
)
def test_a_create_that_the_vendor_would_refuse_is_refused(changes: dict[str, Any], field: str) -> None:
    """Naming the field, before anything is held; the same in each function that reads it."""
    wrong = body({**ORDER, **changes})
    for call in (
        lambda: check_input(CREATE, wrong),
        lambda: order(CREATE, wrong),
        lambda: marked(CREATE, wrong, TOKEN),
    ):
        with pytest.raises(Problem) as caught:
            call()
        assert (caught.value.code, caught.value.field) == ("input_refused", field)


@pytest.mark.parametrize("missing", ["label", "planId", "regionId"])
def test_a_create_needs_all_three_members(missing: str) -> None:
    """As the document shows it."""
    with pytest.raises(Problem, match=missing):
        check_input(CREATE, body({name: value for name, value in ORDER.items() if name != missing}))


@pytest.mark.parametrize("count", [0, 11, -1, True, "3", None, 2.0])
def test_a_bulk_is_of_one_to_ten(count: object) -> None:
    """An integer."""
    with pytest.raises(Problem, match="count"):
        check_input(BULK_CREATE, body({**BULK, "count": count}))


def test_a_bulk_label_leaves_room_for_its_suffix() -> None:
    """64 characters with it."""
    check_input(BULK_CREATE, body({**BULK, "label": "a" * 61, "count": 10}))
    with pytest.raises(Problem, match="suffix -10"):
        check_input(BULK_CREATE, body({**BULK, "label": "a" * 62, "count": 10}))


@pytest.mark.parametrize("server_id", [None, "", 7, "é", ["a"], "a" * 129])
def test_a_backup_is_of_one_server(server_id: object) -> None:
    """Named by a text."""
    check_input(BACKUP, body({"serverId": "s-1"}))
    with pytest.raises(Problem, match="serverId"):
        check_input(BACKUP, body({"serverId": server_id}))


@pytest.mark.parametrize("raw", [b'{"serverId":"a","serverId":"b"}', b'{"serverId":"a","serverid":"b"}', b"", b"[]"])
def test_a_backup_with_two_readings_is_refused(raw: bytes) -> None:
    """Ownership is checked on the one that the vendor reads."""
    with pytest.raises(Problem):
        check_input(BACKUP, raw)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/servers"),
        ("GET", "/servers/s"),
        ("DELETE", "/servers/s"),
        ("DELETE", "/backups/b"),
        ("POST", "/backups/b/restore"),
    ],
)
def test_routes_without_a_body_take_none(method: str, path: str) -> None:
    """An undocumented member might name another agent's thing."""
    match = matched(method, path)
    check_input(match, b"")
    check_input(match, b"{}")
    with pytest.raises(Problem, match="no body"):
        check_input(match, b'{"regionId":"ams"}')


def test_what_is_ordered() -> None:
    """A plan and a name; for a restore, what it is made from."""
    assert order(CREATE, body(ORDER)) == Order("vc2-1c-1gb", "my-bot")
    assert order(BULK_CREATE, body(BULK)) == Order("vc2-2c-4gb", "fleet")
    assert order(RESTORE, b"") == Order(None, "", from_ref="b-1")


@given(st.from_regex(r"[a-zA-Z0-9._-]{1,64}", fullmatch=True))
def test_every_label_can_be_marked(label: str) -> None:
    """The result is a label by the vendor's grammar, and the rest of the body is as it was."""
    sent = marked(CREATE, body({**ORDER, "label": label}), TOKEN)
    check_input(CREATE, sent)
    document = json.loads(sent)
    found = unmark(document["label"])
    assert found is not None
    assert label.startswith(found[0])
    assert found[1] == TOKEN
    assert {**document, "label": label} == {**ORDER, "label": label}


def test_a_restore_carries_no_mark() -> None:
    """It has no label to put one in."""
    assert marked(RESTORE, b"", TOKEN) == b""


def test_a_bulk_is_single_creates() -> None:
    """Labelled as the vendor labels them, each a create by itself."""
    parts = split(BULK_CREATE, body(BULK))
    assert [(part.index, part.method, part.target) for part in parts] == [(n, "POST", "/servers") for n in range(3)]
    assert [json.loads(part.body)["label"] for part in parts] == ["fleet-1", "fleet-2", "fleet-3"]
    for part in parts:
        check_input(CREATE, part.body)
        assert order(CREATE, part.body).kind == "vc2-2c-4gb"
    with pytest.raises(ValueError, match="create"):
        split(CREATE, body(ORDER))


@pytest.mark.parametrize("match", [LOGIN, REGISTER])
def test_the_password_is_taken_from_a_login(match: Match) -> None:
    """It is the agent's key; the body of a login is checked by nobody else."""
    raw = body({"email": "agent@example.com", "password": "min-8-chars"})
    check_input(match, raw)
    assert password_in(match, raw) == ("agent@example.com", "min-8-chars")
    assert password_in(CREATE, raw) is None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b'{"email":"a@b"}',
        b'{"email":"a@b","password":""}',
        b'{"email":1,"password":"x"}',
        b'{"email":"a@b","password":"x","password":"y"}',
        b"\xff",
    ],
)
def test_a_body_without_both_has_no_password(raw: bytes) -> None:
    """Nor one that names it twice."""
    assert password_in(LOGIN, raw) is None

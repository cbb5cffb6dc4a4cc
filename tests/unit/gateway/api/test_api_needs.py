"""What an agent says that it needs of a server: one reading or none."""

import json
from typing import Any

import pytest

from gateway.api.needs import MAX_USER_DATA_BYTES, parse_name, parse_need, parse_object, parse_spec
from gateway.core.plan import Need
from gateway.core.problems import Problem

KEY = "sshk_" + "0" * 26
SNAPSHOT = "snp_" + "0" * 26


def refusal(document: Any, *known: str) -> Problem:
    """Return why a body is not taken."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(Problem) as caught:
        parse_spec(parse_object(body), known)
    assert caught.value.code == "bad_request"
    return caught.value


def test_a_whole_need_is_read() -> None:
    """Every member has its place."""
    said = {
        "min_vcpu": 2,
        "min_memory_mib": 2048,
        "min_disk_gib": 20,
        "region": "ams",
        "image": "Ubuntu 24.04 (LTS)",
        "max_hourly": "0.0053",
        "for_s": 3600,
        "vendors": ["litevps"],
        "not_vendors": ["vrtx"],
        "features": ["exec", "files"],
        "sandbox": True,
    }
    need = parse_need(said)
    for name, value in said.items():
        assert getattr(need, name) == (tuple(value) if isinstance(value, list) else value)
    assert parse_need({}) == Need()


def test_a_plan_stands_for_a_need() -> None:
    """Who names a plan gets it, also one made for trying."""
    spec = parse_spec({"plan": "vpsagent/sandbox_1h", "region": "eu", "ssh_keys": [KEY], "minutes": 60})
    assert spec.need == Need(plan="vpsagent/sandbox_1h", region="eu", sandbox=True)
    assert (spec.ssh_keys, spec.minutes, spec.user_data) == ((KEY,), 60, "")


def test_a_snapshot_stands_for_both_where_the_caller_knows_it() -> None:
    """Only a route that restores takes one."""
    assert parse_spec({"snapshot": SNAPSHOT}, {"snapshot"}).snapshot == SNAPSHOT
    assert refusal({"snapshot": SNAPSHOT, "plan": "a/b"}).field == "snapshot"


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (b"", None),
        (b"[]", None),
        (b'{"plan":"a/b","plan":"a/c"}', None),
        (b'{"plan":NaN}', None),
        ({}, "plan"),
        ({"plan": "a/b", "need": {}}, "plan"),
        ({"plan": "a"}, "plan"),
        ({"plan": "A/b"}, "plan"),
        ({"plan": "a/../b"}, "plan"),
        ({"plan": "a/b\n"}, "plan"),
        ({"plan": 1}, "plan"),
        ({"plan": "a/b", "colour": "red"}, "colour"),
        ({"need": []}, "need"),
        ({"need": {"plan": "a/b"}}, "need/plan"),
        ({"need": {"min_vcpu": 0}}, "need/min_vcpu"),
        ({"need": {"min_vcpu": True}}, "need/min_vcpu"),
        ({"need": {"min_vcpu": "2"}}, "need/min_vcpu"),
        ({"need": {"min_vcpu": None}}, "need/min_vcpu"),
        ({"need": {"min_memory_mib": 1.5}}, "need/min_memory_mib"),
        ({"need": {"min_disk_gib": 10**9}}, "need/min_disk_gib"),
        ({"need": {"for_s": 59}}, "need/for_s"),
        ({"need": {"max_hourly": 0.01}}, "need/max_hourly"),
        ({"need": {"max_hourly": None}}, "need/max_hourly"),
        ({"need": {"max_hourly": "0.00"}}, "need/max_hourly"),
        ({"need": {"max_hourly": "1e-3"}}, "need/max_hourly"),
        ({"need": {"max_hourly": "٣"}}, "need/max_hourly"),
        ({"need": {"region": ""}}, "need/region"),
        ({"need": {"region": "am\u0000s"}}, "need/region"),
        ({"need": {"arch": "x86_64"}}, "need/arch"),
        ({"need": {"image": ["ubuntu"]}}, "need/image"),
        ({"need": {"vendors": "litevps"}}, "need/vendors"),
        ({"need": {"vendors": ["LiteVPS"]}}, "need/vendors/0"),
        ({"need": {"vendors": ["a", "a"]}}, "need/vendors"),
        ({"need": {"features": ["fly"]}}, "need/features/0"),
        ({"need": {"sandbox": 1}}, "need/sandbox"),
        ({"need": {"region": "ams"}, "region": "ams"}, "region"),
        ({"need": {"image": "u"}, "image": "u"}, "image"),
        ({"plan": "a/b", "ssh_keys": ["key_1"]}, "ssh_keys/0"),
        ({"plan": "a/b", "ssh_keys": [KEY] * 17}, "ssh_keys"),
        ({"plan": "a/b", "minutes": 0}, "minutes"),
        ({"plan": "a/b", "minutes": 366 * 24 * 60 + 1}, "minutes"),
        ({"plan": "a/b", "user_data": 1}, "user_data"),
        ({"plan": "a/b", "user_data": "x" * (MAX_USER_DATA_BYTES + 1)}, "user_data"),
        ({"plan": "a/b", "user_data": "\u00e9" * (MAX_USER_DATA_BYTES // 2 + 1)}, "user_data"),
        ({"plan": "a/b", "user_data": "a\u0000"}, "user_data"),
        (b'{"plan":"a/b","user_data":"\\ud800"}', "user_data"),
    ],
)
def test_what_has_no_one_reading_is_refused(document: Any, field: str | None) -> None:
    """The problem names the member, and quotes nothing of its value."""
    assert refusal(document).field == field


def test_the_largest_user_data_is_taken() -> None:
    """64 KiB of UTF-8, whatever JSON makes of it."""
    text = "\u0001" * MAX_USER_DATA_BYTES
    body = json.dumps({"plan": "a/b", "user_data": text}).encode()
    assert parse_spec(parse_object(body)).user_data == text


@pytest.mark.parametrize("name", ["a", "web-1", "A1", "x" * 63])
def test_a_name_is_a_label(name: str) -> None:
    """What DNS takes, every vendor takes."""
    assert parse_name({"name": name}) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "a.b", "a b", "x" * 64, "é", 1, None])
def test_another_name_is_refused(name: Any) -> None:
    """Nothing is changed to fit."""
    with pytest.raises(Problem) as caught:
        parse_name({"name": name})
    assert caught.value.field == "name"
    assert parse_name({}) is None

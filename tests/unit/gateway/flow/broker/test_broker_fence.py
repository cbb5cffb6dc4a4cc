"""The fence's pure parts: what an answer keeps, and under which names."""

from typing import Any

import pytest

from gateway.core.records import Resource
from gateway.core.routes import Listing
from gateway.flow.broker.fence import fit, own_name

TOKEN = "g234567abcdefghi2"


def resource(ref: str, kind: str = "server", label: str = "") -> Resource:
    """Return a thing of the account."""
    return Resource("v", ref, "acc_1", "", kind, "running", None, None, None, 0, label=label, meter_id="met_1")


def test_list_keeps_own_things_alone() -> None:
    """Others' things, things of another kind, and what is no thing are left out; so is what counts them all."""
    own = {"a": resource("a"), "k": resource("k", "key")}
    document: Any = {
        "servers": [{"id": "a"}, {"id": "b"}, {"id": "k"}, {"id": None}, "a", {"ID": "a"}, {"id": ["a"]}],
        "total": 7,
        "next": "/servers?after=b",
    }
    assert fit(document, (Listing("servers", "server"),), own, "name") == {"servers": [{"id": "a"}]}


def test_single_thing_of_anothers_becomes_nothing() -> None:
    """A member that shows one thing shows it only to its owner; a bare document likewise."""
    assert fit({"server": {"id": "b"}}, (Listing("server", "server"),), {}, "name") == {"server": None}
    assert fit({"id": "b"}, (Listing("", "server"),), {}, "name") is None


def test_name_is_the_agents_own() -> None:
    """Our mark is taken out wherever the vendor's name holds it."""
    own, listings = {"a": resource("a", label="web")}, (Listing("", "server"),)
    tokens = {"met_1": TOKEN}
    assert fit([{"id": "a", "name": f"web-{TOKEN}"}], listings, own, "name", tokens) == [{"id": "a", "name": "web"}]
    assert fit([{"id": "a"}], listings, own, "name", tokens) == [{"id": "a"}]
    assert fit([{"id": "a", "name": None}], listings, own, "name", tokens) == [{"id": "a", "name": None}]


@pytest.mark.parametrize(
    ("shown", "label", "name"),
    [
        (f"web-{TOKEN}", "web", "web"),
        (f"other-{TOKEN}", "web", "other"),  # renamed since
        (f"we-{TOKEN}", "web", "we"),  # to something shorter
        (f"{'n' * 45}-{TOKEN}", "n" * 63, "n" * 63),  # cut for the mark
        (f"{'h' * 45}-{TOKEN}.example.com", "h" * 60 + ".example.com", "h" * 60 + ".example.com"),
        (f"app-{TOKEN}.example.com", "app.example.com", "app.example.com"),
        (TOKEN, "web", "web"),
        ("plain", "web", "web"),  # the vendor does not show our name
    ],
)
def test_own_name_of_what_the_vendor_shows(shown: str, label: str, name: str) -> None:
    """The vendor's word goes first, less our mark; a name that was cut is shown in full."""
    assert own_name(shown, label, TOKEN) == name


def test_name_without_a_mark_is_the_kept_one() -> None:
    """What has no meter any more is known by the name that was kept."""
    assert own_name(f"web-{TOKEN}", "web", "") == "web"

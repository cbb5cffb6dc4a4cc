"""What dropmpp's answers mean, above all those that fall short of what its document promises or show what is not asked for."""

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy
from test_vendors_dropmpp import DOCUMENT, MODULE, PUBLIC_KEY, body, create, matched

from gateway.core.payment import Delivery, Fault
from gateway.http.port import UpstreamResponse
from gateway.ports import Created, Found, Lost, Reading, Seen

# Of PUBLIC_KEY, as ssh-keygen prints them.
PRINTS = (
    "b5:0a:6b:b0:f8:10:4f:35:b4:9c:7a:0c:2c:ca:ec:64",
    "MD5:b5:0a:6b:b0:f8:10:4f:35:b4:9c:7a:0c:2c:ca:ec:64",
    "SHA256:TGIk2D1DFZBKmjWssB2+Qdiona/OUK1TSuWAAHMK+n0",
)
PAID_UNTIL = "2027-01-15T08:01:00.000Z"
PAID_UNTIL_MS = 1_800_000_060_000
CREATED_AT = "2027-01-15T08:00:00.000Z"
CREATED_AT_MS = 1_800_000_000_000
SERVER: dict[str, Any] = {
    "id": "srv_1",
    "status": "active",
    "size": "small",
    "region": "nyc1",
    "ip": "198.18.0.1",
    "paid_until": PAID_UNTIL,
    "root_password": "p4ss",
}
SNAPSHOT: dict[str, Any] = {
    "id": "snap_1",
    "status": "available",
    "source_server": "srv_1",
    "size_gb": 1.87,
    "expires_at": PAID_UNTIL,
}


def respond(status: int = 200, document: Any = None, raw: bytes | None = None, **more: Any) -> UpstreamResponse:
    """Return an answer with a JSON document, or with raw bytes."""
    content = json.dumps(document).encode() if raw is None else raw
    headers = CIMultiDict(more.pop("headers", {}))
    return UpstreamResponse(status, CIMultiDictProxy(headers), content, **more)


def read(name: str, document: Any = None, status: int = 200, **more: Any) -> Reading:
    """Return the module's reading of an answer."""
    return MODULE.read(matched(name), respond(status, document, **more), lambda _: "never")


def undone(reading: Reading) -> bool:
    """Whether an answer delivers nothing that is known."""
    return (reading.delivery, reading.created, reading.seen) == (Delivery.UNKNOWN, None, ())


# what calls make


def test_a_created_server_is_known_with_its_end() -> None:
    """Its size is not in the answer: whoever sent the request knows it."""
    answer = {"id": "srv_9", "status": "provisioning", "paid_until": PAID_UNTIL, "minutes_purchased": 1}
    reading = read("server_create", answer, 201)
    assert reading.delivery is Delivery.DELIVERED
    assert reading.created == Created("srv_9", "server", "provisioning", None, PAID_UNTIL_MS)
    assert MODULE.shared is not None
    assert MODULE.shared.plan_of(matched("server_create"), create(size="large")) == "large"


@pytest.mark.parametrize(
    "answer", [{}, {"id": 7}, {"id": ""}, {"id": "a/b"}, [], "srv", None, {"error": "later"}, {"id": None}]
)
@pytest.mark.parametrize("name", ["server_create", "server_snapshot", "key_create"])
def test_a_success_that_names_nothing_is_unknown(name: str, answer: Any) -> None:
    """P5: it was charged for and something may exist."""
    assert undone(read(name, answer))


def test_a_snapshot_lasts_as_long_as_the_answer_says() -> None:
    """72 hours where it says nothing that can be meant."""
    made = read("server_snapshot", {"id": "snap_1", "status": "pending", "expires_in_hours": 48}, 202).created
    assert made == Created("snap_1", "snapshot", "pending", None, None, "", 48 * 3600)
    for hours in (None, -1, "72", 10**9, True):
        told = read("server_snapshot", {"id": "snap_1", "expires_in_hours": hours}, 202).created
        assert told is not None
        assert told.lasts_s == 72 * 3600


def test_a_key_is_known_by_its_id() -> None:
    """It has no end."""
    made = read("key_create", {"id": "key_1", "name": "me", "fingerprint": "aa"}, 201).created
    assert made == Created("key_1", "key", "active", None, None)


# what calls change and end


def test_an_extension_moves_the_end_and_nothing_else() -> None:
    """Only an answer about this very thing, with its new end, delivers."""
    told = {"id": "srv_1", "paid_until": PAID_UNTIL, "minutes_added": 1}
    assert read("server_extend", told).seen == (Seen("srv_1", "server", expires_at_ms=PAID_UNTIL_MS),)
    kept = {"id": "snap_1", "expires_at": PAID_UNTIL, "days_added": 1}
    assert read("snapshot_extend", kept).seen == (Seen("snap_1", "snapshot", expires_at_ms=PAID_UNTIL_MS),)
    for wrong in ({**told, "id": "srv_2"}, {"id": "srv_1"}, {**told, "paid_until": 1_800_000_060}, {"paid_until": "x"}):
        assert undone(read("server_extend", wrong))


def test_a_delete_ends_the_thing_and_tells_of_its_snapshot() -> None:
    """The automatic snapshot is somebody's from the first moment."""
    reading = read("server_delete", {"deleted": True, "snapshot": {"id": "snap_9", "expires_in_hours": 72}})
    assert reading.created == Created("snap_9", "snapshot", "pending", None, None, "", 72 * 3600)
    assert reading.seen == (Seen("srv_1", "server", "destroyed"),)
    assert read("server_delete", {"deleted": True}).created is None
    assert undone(read("server_delete", {"deleted": False}))
    assert read("snapshot_delete", {"deleted": True}).seen == (Seen("snap_1", "snapshot", "deleted"),)
    assert read("key_delete", {"deleted": True, "id": "key_1"}).seen == (Seen("key_1", "key", "deleted"),)


def test_switching_delivers_unless_it_speaks_of_another() -> None:
    """The document says nothing of these answers."""
    assert read("server_reboot", {"id": "srv_1", "status": "rebooting"}).seen == (Seen("srv_1", "server", "rebooting"),)
    assert read("server_power", {"ok": True}).delivery is Delivery.DELIVERED
    assert undone(read("server_power", {"id": "srv_2", "status": "off"}))


# what is shown


def test_a_list_shows_its_things_and_nothing_beside_them() -> None:
    """P9: a total would be of every agent's."""
    reading = read("server_list", {"servers": [SERVER], "total": 41, "wallet_spent": "12.3"})
    assert json.loads(reading.body) == {"servers": [SERVER]}
    assert reading.seen == (Seen("srv_1", "server", "active", PAID_UNTIL_MS, "small"),)
    bare = read("snapshot_list", [SNAPSHOT])
    assert json.loads(bare.body) == [SNAPSHOT]
    assert bare.seen == (Seen("snap_1", "snapshot", "available", PAID_UNTIL_MS, "1.87", "srv_1"),)


@pytest.mark.parametrize("name", ["server_list", "snapshot_list", "key_list", "server_show", "snapshot_show"])
@pytest.mark.parametrize("document", [None, {}, {"data": [SERVER]}, "x", {"servers": {"srv_1": SERVER}}, [1]])
def test_what_cannot_be_told_apart_has_no_body(name: str, document: Any) -> None:
    """P9: another shape may show everybody's things, so nothing of it is shown."""
    reading = read(name, document)
    assert undone(reading)
    assert reading.body == b""


def test_a_coded_answer_is_not_shown() -> None:
    """Nobody asked for a coding, and what it hides was not read."""
    packed = gzip.compress(json.dumps({"servers": [SERVER]}).encode())
    reading = read("server_list", raw=packed, headers={"Content-Encoding": "gzip"})
    assert (reading.delivery, reading.body) == (Delivery.UNKNOWN, b"")


def test_a_server_shows_its_password_to_its_owner() -> None:
    """The body is the vendor's own, byte for byte; another server's is not shown."""
    assert json.loads(read("server_show", SERVER).body) == SERVER
    assert read("server_show", {**SERVER, "id": "srv_2"}).body == b""


@pytest.mark.parametrize(
    ("status", "state"),
    [("active", "active"), ("off", "off"), ("ACTIVE", "unknown"), ("hibernating", "unknown"), (7, "unknown")],
)
def test_states_are_total(status: Any, state: str) -> None:
    """A word that nobody knows is unknown, never an error."""
    assert read("server_show", {**SERVER, "status": status}).seen[0].state == state


def test_what_an_answer_does_not_say_is_not_told() -> None:
    """None, not unknown: what was known stays."""
    assert read("server_show", {"id": "srv_1"}).seen == (Seen("srv_1", "server"),)
    assert read("snapshot_show", {"id": "snap_1", "size_gb": None}).seen == (Seen("snap_1", "snapshot"),)


def test_a_thing_that_the_vendor_denies_is_missing() -> None:
    """Only where it was asked to show it: a refused extension says nothing of the server."""
    assert read("server_show", {"error": "server not found"}, 404).seen == (Seen("srv_1", "server", "missing"),)
    assert read("snapshot_show", {"error": "gone"}, 410).seen == (Seen("snap_1", "snapshot", "missing"),)
    assert read("server_show", {"error": "later"}, 500).seen == ()
    assert read("server_extend", {"error": "server not found"}, 404).seen == ()


@pytest.mark.parametrize(("status", "fault"), [(400, Fault.AGENT), (404, Fault.AGENT), (409, Fault.AGENT)])
def test_refusals_pass_with_the_vendors_words(status: int, fault: Fault) -> None:
    """An agent reads why."""
    reading = read("server_create", {"error": "snapshot_id: needs 25 GB"}, status)
    assert (reading.delivery, reading.fault) == (Delivery.REFUSED, fault)
    assert json.loads(reading.body) == {"error": "snapshot_id: needs 25 GB"}


@pytest.mark.parametrize("status", [302, 500, 502, 503])
def test_what_is_no_answer_is_unknown(status: int) -> None:
    """P5: the vendor charges first, so a failure may have cost money."""
    assert read("server_create", {"error": "x"}, status).delivery is Delivery.UNKNOWN


# the catalogue


def test_the_catalogue_states_rates_in_base_units() -> None:
    """Texts or numbers, never rounded; a size that is listed twice has no price."""
    sizes = [
        {"slug": "small", "hourly": "0.0134", "create_fee": 0.01},
        {"slug": "medium", "hourly": 0.0536, "create_fee": "0.0200"},
        {"slug": "large", "hourly": "0.1", "create_fee": "0.04"},
        {"slug": "large", "hourly": "0.2", "create_fee": "0.04"},
        {"slug": "huge", "hourly": "0.2", "create_fee": "0.04"},
    ]
    expected = {"small/create": 10_000, "small/hour": 13_400, "medium/create": 20_000, "medium/hour": 53_600}
    assert dict(read("sizes", {"sizes": sizes}).prices) == expected
    assert dict(read("snapshot_pricing", {"rate_per_gb_day": "0.00267"}).prices) == {"snapshot/gb-day": 2_670}


@pytest.mark.parametrize("rate", [None, "", "0.00000001", "-1", "1e-3x", [], {}, "0", 10**20, "NaN"])
def test_a_rate_that_cannot_be_meant_is_no_price(rate: Any) -> None:
    """What is finer than a base unit is not rounded before it is multiplied: nobody states such a price."""
    assert read("snapshot_pricing", {"rate_per_gb_day": rate}).prices == ()
    assert read("sizes", {"sizes": [{"slug": "small", "hourly": rate, "create_fee": rate}]}).prices == ()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.sampled_from(["srv_1", PAID_UNTIL, "small"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "status", "servers", "snapshots", "snapshot", "deleted", "sizes", "slug", "hourly"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(st.sampled_from(sorted(DOCUMENT)), JSON, st.integers(100, 599))
def test_nothing_that_a_vendor_sends_makes_it_raise(name: str, document: Any, status: int) -> None:
    """Whatever the body, a reading comes of it, and only a success delivers."""
    reading = read(name, document, status)
    assert reading.delivery is not Delivery.DELIVERED or 200 <= status < 300


# finding what was lost


def lost(name: str, sent: bytes) -> Lost:
    """Return a call of CREATED_AT, give or take a minute."""
    return Lost(matched(name), sent, CREATED_AT_MS - 60_000, CREATED_AT_MS + 60_000, 10_224)


def found(call: Lost, document: Any, status: int = 200) -> tuple[Found, ...] | None:
    """Return what the module finds in a list."""
    assert MODULE.shared is not None
    return MODULE.shared.found(call, respond(status, document))


def test_a_server_is_found_by_size_region_and_time() -> None:
    """The answer is what the create would have said."""
    entry = {**SERVER, "created_at": CREATED_AT}
    others = [
        {**entry, "id": "srv_2", "size": "large"},
        {**entry, "id": "srv_3", "region": "ams3"},
        {**entry, "id": "srv_4", "created_at": "2027-01-15T07:00:00Z"},
        {**entry, "id": "srv_5", "created_at": "2027-01-15T09:00:00Z"},
    ]
    (one,) = found(lost("server_create", create()), {"servers": [*others, entry]}) or ()
    assert one.created == Created("srv_1", "server", "active", None, PAID_UNTIL_MS, "small")
    assert (one.status, json.loads(one.body)) == (
        201,
        {
            "id": "srv_1",
            "status": "active",
            "paid_until": PAID_UNTIL,
            "minutes_purchased": 1,
            "total_charged": "0.010224",
        },
    )


def test_a_servers_beginning_follows_from_its_end() -> None:
    """Where a list does not say when it was made: its minutes are known."""
    assert len(found(lost("server_create", create(minutes=1)), {"servers": [SERVER]}) or ()) == 1
    assert found(lost("server_create", create(minutes=600)), {"servers": [SERVER]}) == ()


def test_every_server_that_fits_is_told() -> None:
    """Which of two it is, nobody knows here."""
    twins = [SERVER, {**SERVER, "id": "srv_2"}]
    assert len(found(lost("server_create", create()), {"servers": twins}) or ()) == 2


@pytest.mark.parametrize(
    "document",
    [None, {}, {"servers": [7]}, {"servers": [{"size": "small"}]}, {"servers": [SERVER, {"id": "srv_2"}]}],
)
def test_a_list_that_proves_nothing_says_so(document: Any) -> None:
    """An entry that cannot be read may be the one that is looked for."""
    assert found(lost("server_create", create()), document) is None
    assert found(lost("server_create", create()), {"servers": [SERVER]}, 500) is None


def test_a_snapshot_is_found_by_its_source_and_time() -> None:
    """And by its name, where it was given one."""
    entry = {**SNAPSHOT, "created_at": CREATED_AT, "name": "mine"}
    others = [{**entry, "id": "snap_2", "source_server": "srv_7"}, {**entry, "id": "snap_3", "name": "auto"}]
    call = lost("server_snapshot", body(name="mine"))
    (one,) = found(call, {"snapshots": [*others, entry]}) or ()
    assert one.created == Created("snap_1", "snapshot", "available", None, PAID_UNTIL_MS, "1.87")
    assert (one.status, json.loads(one.body)["expires_in_hours"]) == (202, 72)
    assert len(found(lost("server_snapshot", b""), {"snapshots": [*others, entry]}) or ()) == 2


def test_a_key_is_found_by_its_name_and_fingerprint() -> None:
    """However the vendor writes fingerprints: MD5 with colons, or SHA-256."""
    call = lost("key_create", body(name="me", public_key=PUBLIC_KEY))
    for fingerprint in PRINTS:
        keys = [{"id": "key_1", "name": "me", "fingerprint": fingerprint}, {"id": "key_2", "name": "me"}]
        (one,) = found(call, {"keys": keys}) or ()
        assert (one.created.ref, one.status, json.loads(one.body)) == ("key_1", 201, keys[0])
    assert found(call, {"keys": [{"id": "key_1", "name": "you", "fingerprint": PRINTS[0]}]}) == ()


def test_other_calls_are_not_looked_for() -> None:
    """Nothing shows what became of an extension or a reboot."""
    assert MODULE.shared is not None
    searched = {name for name in DOCUMENT if MODULE.shared.search_target(matched(name)) is not None}
    assert searched == {"server_create", "server_snapshot", "key_create"}

"""What VpsAgent's answers mean, above all the ones that fall short of what its document promises."""

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.core.payment import Delivery, Fault
from gateway.core.routes import Match, match_route
from gateway.http.port import UpstreamResponse
from gateway.ports import Reading
from gateway.vendors.surrogate import make_surrogate
from gateway.vendors.vpsagent.answers import read
from gateway.vendors.vpsagent.routes import ROUTES
from wallets.secret import Secret

KEY = Secret(b"k" * 32)
RENTAL_ID = "0a1b2c3d-0000-4000-8000-00000000000f"
OTHER_ID = "ffffffff-0000-4000-8000-00000000000f"
TOKEN = "fGk2_0aZ-pQ9vXr7LmN4sT1uWyB8cDeH3iJ5kOo6"
EXPIRES_AT = 1_790_000_000_000
CREATED: dict[str, Any] = {
    "rental_id": RENTAL_ID,
    "sku": "server_small_1mo",
    "ipv4": None,
    "expires_at": EXPIRES_AT,
    "root_token": TOKEN,
    "root_user": "root",
    "root_password": "p4ss w\u00f6rd",
    "status": "pending_settlement",
    "note": f"Poll GET /instance/{RENTAL_ID}?token={TOKEN} until running.",
}
RENEWING = {
    "rental_id": RENTAL_ID,
    "status": "renewing",
    "current_expires_at": EXPIRES_AT,
    "predicted_expires_at": EXPIRES_AT + 1,
    "manual_step": "none",
}
INSTANCE = {
    "rental_id": RENTAL_ID,
    "ipv4": "192.0.2.7",
    "running": True,
    "expires_at": EXPIRES_AT,
    "status": "active",
    "root_user": "root",
    "root_password": "p4ss",
    "note": "",
}
PATHS = {
    "catalog": ("GET", "/catalog"),
    "rent": ("POST", "/rent"),
    "rental": ("GET", f"/rentals/{RENTAL_ID}"),
    "renew": ("POST", f"/rentals/{RENTAL_ID}/renew"),
    "instance": ("GET", f"/instance/{RENTAL_ID}"),
    "healthz": ("GET", "/healthz"),
}


class More:
    """A body that goes on."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the rest."""
        yield b"more"

    async def close(self) -> None:
        """Give it up."""


def surrogate(real: str) -> str:
    """What the flow hands in."""
    return make_surrogate(KEY, "vpsagent", real)


def matched(name: str) -> Match:
    """The match of a route."""
    found = match_route(ROUTES, *PATHS[name])
    assert found is not None
    return found


def reading(
    name: str, body: object, status: int = 200, *, headers: dict[str, str] | None = None, **framing: Any
) -> Reading:
    """The reading of an answer; a body that is not bytes is sent as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = UpstreamResponse(status, CIMultiDictProxy(CIMultiDict(headers or {})), raw, **framing)
    return read(matched(name), answer, surrogate)


def without(document: dict[str, Any], *names: str) -> dict[str, Any]:
    """The document lacking these members."""
    return {name: value for name, value in document.items() if name not in names}


# --- rent


def test_a_rental_is_delivered_with_its_credential_apart() -> None:
    """The resource, its secret in clear on its way to a seal, and a body that holds the surrogate instead."""
    result = reading("rent", CREATED)
    assert (result.delivery, result.fault) == (Delivery.DELIVERED, Fault.NONE)
    created = result.created
    assert created is not None
    assert (created.ref, created.kind, created.state) == (RENTAL_ID, "server_small_1mo", "pending_settlement")
    assert created.expires_at_ms == EXPIRES_AT
    assert created.secret is not None
    assert created.secret.reveal() == TOKEN
    shown = surrogate(TOKEN)
    assert json.loads(result.body) == {**CREATED, "root_token": shown, "note": CREATED["note"].replace(TOKEN, shown)}
    assert TOKEN not in repr(result)


def test_the_same_answer_again_reads_the_same() -> None:
    """A credential that is presented again gets the same surrogate and the same body."""
    assert reading("rent", CREATED).body == reading("rent", CREATED).body


def test_an_escaped_token_does_not_slip_through() -> None:
    """The body is searched as it means, not as it is written."""
    escaped = "".join(f"\\u{ord(char):04x}" for char in TOKEN)
    raw = json.dumps(CREATED).replace(TOKEN, escaped).encode()
    result = reading("rent", raw)
    assert result.delivery is Delivery.DELIVERED
    assert TOKEN not in json.dumps(json.loads(result.body))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"null",
        b"[]",
        b'"ok"',
        b"<html>200 OK</html>",
        b"\xff\xfe",
        json.dumps(CREATED).encode()[:-1],
        json.dumps(CREATED).encode() + b"x",
        json.dumps(CREATED).encode()[:-1] + b',"rental_id":"%s"}' % OTHER_ID.encode(),
        json.dumps(CREATED).encode()[:-1] + b',"x":NaN}',
        json.dumps([CREATED]).encode(),
        without(CREATED, "rental_id"),
        without(CREATED, "root_token"),
        {**CREATED, "rental_id": "../../admin"},
        {**CREATED, "rental_id": RENTAL_ID + "\n"},
        {**CREATED, "rental_id": RENTAL_ID.replace("-", "")},
        {**CREATED, "rental_id": 7},
        {**CREATED, "rental_id": None},
        {**CREATED, "root_token": None},
        {**CREATED, "root_token": 12345678901234567890},
        {**CREATED, "root_token": ""},
        {**CREATED, "root_token": "short"},
        {**CREATED, "root_token": "has a space in it"},
        {**CREATED, "root_token": "line\nbreak-in-the-token"},
        {**CREATED, "root_token": "t" * 1025},
        {**CREATED, "root_token": [TOKEN]},
    ],
)
def test_a_success_without_a_usable_rental_is_unknown(body: object) -> None:
    """Never refused and never delivered: a box may exist, and the credential is presented again until it is found."""
    result = reading("rent", body)
    assert (result.delivery, result.fault, result.created) == (Delivery.UNKNOWN, Fault.NONE, None)


@pytest.mark.parametrize("status", [201, 202, 203, 204, 206])
def test_another_success_than_the_documents_is_unknown(status: int) -> None:
    """The document knows 200 alone."""
    assert reading("rent", CREATED, status).delivery is Delivery.UNKNOWN
    assert reading("rent", CREATED, status).created is None


@pytest.mark.parametrize("framing", [{"rest": More()}, {"delimited": False}])
def test_a_rental_whose_end_was_not_seen_is_unknown(framing: dict[str, Any]) -> None:
    """Though it reads as whole; and its token is not shown."""
    result = reading("rent", CREATED, **framing)
    assert (result.delivery, result.created) == (Delivery.UNKNOWN, None)
    assert TOKEN.encode() not in result.body


@given(st.integers(0, len(json.dumps(CREATED)) - 1))
def test_no_cut_of_the_answer_shows_the_token(length: int) -> None:
    """Wherever the body breaks off, nothing of the token's value is in what is left."""
    result = reading("rent", json.dumps(CREATED).encode()[:length])
    assert result.delivery is Delivery.UNKNOWN
    assert all(TOKEN[:size].encode() not in result.body for size in range(4, len(TOKEN)))


def test_an_encoded_body_is_not_passed_on_unread() -> None:
    """Nobody asked for gzip; what is inside cannot be searched."""
    packed = gzip.compress(json.dumps(CREATED).encode())
    result = reading("rent", packed, headers={"content-encoding": "GZIP"})
    assert (result.delivery, result.created, result.body) == (Delivery.UNKNOWN, None, b"")
    assert reading("rent", CREATED, headers={"Content-Encoding": "identity"}).delivery is Delivery.DELIVERED
    assert reading("healthz", packed, headers={"Content-Encoding": "gzip"}).body == packed


@pytest.mark.parametrize("sku", [None, "server_huge", 7, ["server_small_1mo"]])
def test_an_unknown_sku_is_a_kind_without_a_price(sku: object) -> None:
    """The rental is delivered; a renewal of it finds no price, and is not paid."""
    created = reading("rent", {**CREATED, "sku": sku}).created
    assert created is not None
    assert created.kind == "unknown"


@pytest.mark.parametrize(
    "moment", [None, "1790000000000", 1_790_000_000, 0, -1, 10**14, 10**40 - 1, 1790000000000.5, True, [EXPIRES_AT]]
)
def test_a_moment_that_is_no_unix_ms_is_not_known(moment: object) -> None:
    """Seconds are not taken for milliseconds, nor any number for a moment that the store could not hold."""
    created = reading("rent", {**CREATED, "expires_at": moment}).created
    assert created is not None
    assert created.expires_at_ms is None


@pytest.mark.parametrize("status", ["rebooting", None, 7])
def test_a_strange_state_is_unknown(status: object) -> None:
    """Never an exception, and never one of the document's."""
    created = reading("rent", {**CREATED, "status": status}).created
    assert created is not None
    assert created.state == "unknown"


@pytest.mark.parametrize(
    ("status", "delivery", "fault"),
    [
        (400, Delivery.REFUSED, Fault.AGENT),
        (402, Delivery.REFUSED, Fault.VENDOR),
        (429, Delivery.REFUSED, Fault.VENDOR),
        (302, Delivery.UNKNOWN, Fault.NONE),
        (500, Delivery.UNKNOWN, Fault.NONE),
        (503, Delivery.UNKNOWN, Fault.NONE),
    ],
)
def test_refusals_follow_the_shared_table(status: int, delivery: Delivery, fault: Fault) -> None:
    """Even where the body looks like a rental: no resource comes from a refusal, and no token passes."""
    result = reading("rent", CREATED, status)
    assert (result.delivery, result.fault, result.created) == (delivery, fault, None)
    assert TOKEN.encode() not in result.body
    assert reading("rent", {"detail": "sku"}, status).body == b'{"detail": "sku"}'


# --- renew


def test_a_renewal_is_delivered_when_the_vendor_says_so() -> None:
    """State and the expiry in force; the predicted one is no promise."""
    result = reading("renew", RENEWING)
    assert (result.delivery, result.state, result.expires_at_ms) == (Delivery.DELIVERED, "renewing", EXPIRES_AT)
    assert result.created is None


def test_the_rental_is_compared_whatever_its_case() -> None:
    """A UUID is hex."""
    assert reading("renew", {**RENEWING, "rental_id": RENTAL_ID.upper()}).delivery is Delivery.DELIVERED


@pytest.mark.parametrize(
    "body",
    [
        {**RENEWING, "rental_id": OTHER_ID},
        {**RENEWING, "rental_id": None},
        without(RENEWING, "rental_id"),
        {**RENEWING, "status": "active"},
        {**RENEWING, "status": ["renewing"]},
        without(RENEWING, "status"),
        [RENEWING],
        b"",
        b"ok",
    ],
)
def test_a_renewal_of_something_else_is_unknown(body: object) -> None:
    """Another rental, another state, no document: nothing is delivered and nothing is updated."""
    result = reading("renew", body)
    assert (result.delivery, result.state, result.expires_at_ms) == (Delivery.UNKNOWN, None, None)


# --- rental, instance, healthz


@pytest.mark.parametrize("name", ["rental", "instance"])
def test_a_snapshot_updates_state_and_expiry(name: str) -> None:
    """And passes as it is: the password is the owner's."""
    result = reading(name, INSTANCE)
    assert (result.delivery, result.state, result.expires_at_ms) == (Delivery.DELIVERED, "active", EXPIRES_AT)
    assert json.loads(result.body) == INSTANCE
    assert reading(name, {**INSTANCE, "status": "melted"}).state == "unknown"
    assert reading(name, without(INSTANCE, "status", "expires_at")).state is None


def test_last_known_fields_pass_without_updating() -> None:
    """A 502 of /instance is stale: shown, not believed."""
    result = reading("instance", INSTANCE, 502)
    assert (result.delivery, result.state, result.expires_at_ms) == (Delivery.UNKNOWN, None, None)
    assert json.loads(result.body) == INSTANCE


@pytest.mark.parametrize("body", [{**INSTANCE, "rental_id": OTHER_ID}, without(INSTANCE, "rental_id"), [], b"<html>"])
def test_a_snapshot_of_something_else_updates_nothing(body: object) -> None:
    """Whatever it says of states and terms."""
    result = reading("instance", body)
    assert (result.delivery, result.state, result.expires_at_ms) == (Delivery.UNKNOWN, None, None)


@pytest.mark.parametrize("status", [200, 401, 404, 502])
@pytest.mark.parametrize("name", ["rental", "instance", "renew"])
def test_a_token_is_never_shown_where_none_belongs(name: str, status: int) -> None:
    """As a member, in a note, in a URL that an error page quotes, in JSON or not."""
    documents: tuple[object, ...] = (
        {**INSTANCE, "root_token": TOKEN, "note": f"t={TOKEN}"},
        {"detail": f"bad request: /instance/x?token={TOKEN}"},
        f"<html>/instance/x?token={TOKEN}</html>".encode(),
        b'{"root_token": "' + TOKEN.encode(),
    )
    for document in documents:
        assert TOKEN.encode() not in reading(name, document, status).body


def test_an_answer_of_many_tokens_shows_nothing() -> None:
    """No answer has so many; searching for all of them would stop the gateway."""
    crowd = [{"root_token": f"{TOKEN}{number}"} for number in range(17)]
    result = reading("rent", {**CREATED, "crowd": crowd})
    assert (result.delivery, result.created, result.body) == (Delivery.UNKNOWN, None, b"")
    assert reading("rent", {**CREATED, "crowd": crowd[:15]}).delivery is Delivery.DELIVERED


def test_healthz_is_whatever_it_says() -> None:
    """A free route without a schema: the status decides."""
    result = reading("healthz", b"fine")
    assert (result.delivery, result.body) == (Delivery.DELIVERED, b"fine")
    assert reading("healthz", b"", 503).delivery is Delivery.UNKNOWN


# --- catalog


def entry(sku: object, price: str, available: str = "true") -> str:
    """One entry of the catalogue, its price as it is written."""
    return f'{{"sku":{json.dumps(sku)},"price_usdc":{price},"available":{available}}}'


def prices(*entries: str) -> tuple[tuple[str, int], ...]:
    """The prices read from a catalogue, which must be delivered."""
    result = reading("catalog", f"[{','.join(entries)}]".encode())
    assert result.delivery is Delivery.DELIVERED
    return result.prices


def test_prices_are_exact() -> None:
    """Digits to base units without a float between."""
    assert prices(
        entry("sandbox_1h", "0.5"),
        entry("sandbox_6h", "5"),
        entry("server_small_1mo", "9.99"),
        entry("server_large_12mo", "359.990000"),
        entry("server_small_12mo", "4.02"),
        entry("sandbox_24h", "0.000001"),
    ) == (
        ("sandbox_1h", 500_000),
        ("sandbox_6h", 5_000_000),
        ("server_small_1mo", 9_990_000),
        ("server_large_12mo", 359_990_000),
        ("server_small_12mo", 4_020_000),
        ("sandbox_24h", 1),
    )


@pytest.mark.parametrize(
    "price",
    [
        "9.9900001",
        "9.990000000000001",
        "1e1",
        "1E-7",
        "9.99e0",
        "-1",
        "-0.5",
        "0",
        "0.0",
        "-0",
        '"9.99"',
        "null",
        "true",
        "[9.99]",
        '{"a":9.99}',
        "1000000001",
        "9" * 40,
        "0." + "0" * 37 + "1",
    ],
)
def test_a_price_that_is_no_amount_is_skipped(price: str) -> None:
    """More than six decimals, exponents, signs, zero, text, too much: that SKU has no price, the others keep theirs."""
    assert prices(entry("sandbox_1h", price), entry("sandbox_6h", "2")) == (("sandbox_6h", 2_000_000),)


@pytest.mark.parametrize("available", ["false", "null", '"true"', "1", "0"])
def test_only_what_is_available_has_a_price(available: str) -> None:
    """Anything but true is not available."""
    assert prices(entry("sandbox_1h", "1", available)) == ()


def test_what_is_no_known_sku_or_there_twice_has_no_price() -> None:
    """Two prices for one SKU are none; strangers' names and broken entries are left out."""
    assert (
        prices(
            entry("sandbox_1h", "1"),
            entry("sandbox_1h", "2"),
            entry("sandbox_9h", "1"),
            entry(["sandbox_6h"], "1"),
            entry(None, "1"),
            '{"price_usdc":1,"available":true}',
            "[]",
            "null",
            '"sandbox_6h"',
        )
        == ()
    )
    assert prices(entry("sandbox_1h", "1"), entry("sandbox_1h", "1"), entry("sandbox_1h", "1")) == ()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"null",
        b"[",
        b"[NaN]",
        b'[{"price_usdc":NaN}]',
        b'[{"sku":"a","sku":"b"}]',
        b"[" + b"1" * 78 + b"]",
        b'[{"sku":"sandbox_1h","price_usdc":1,"available":true}',
        b"[" * 10_000,
    ],
)
def test_a_catalogue_that_cannot_be_read_is_unknown(body: bytes) -> None:
    """Paid for and not understood: neither delivered nor refused, and no price comes from it."""
    result = reading("catalog", body)
    assert (result.delivery, result.fault, result.prices) == (Delivery.UNKNOWN, Fault.NONE, ())


def test_an_empty_catalogue_is_delivered() -> None:
    """A shop with nothing to sell has answered."""
    assert prices() == ()

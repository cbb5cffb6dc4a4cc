"""What is signed, sealed and sent: the paid request, and what makes two requests the same purchase."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contracts.eip3009 import purchase_nonce
from contracts.tokens import BASE_USDC
from gateway.flow.pack import unpack
from gateway.flow.promise import seal_context
from gateway.http.port import UpstreamRequest
from gateway.ports import Block
from tests.unit.gateway.flow.spend_bed import NOW_MS, PRICE_BASE, WALLET, Bed, opened

CONDITIONS = (
    ("If-Match", '"1"'),
    ("if-none-match", "*"),
    ("If-Modified-Since", "Sat, 01 Jan 2000 00:00:00 GMT"),
    ("IF-UNMODIFIED-SINCE", "Sat, 01 Jan 2000 00:00:00 GMT"),
    ("If-Range", '"1"'),
    ("Range", "bytes=0-9"),
)
PLAIN = (("Accept", "text/x"), ("Content-Type", "text/y"), ("Ranges-Wanted", "all"), ("If-Ever", "yes"))


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    """A funded account, and a shop that sells."""
    async with opened(tmp_path) as running:
        yield running


def names(request: UpstreamRequest) -> list[str]:
    """Return a request's header names."""
    return [name for name, _ in request.headers]


async def test_conditions_do_not_travel_with_money(bed: Bed) -> None:
    """A vendor could collect for "not modified": the paid request asks for the whole thing, the unpaid one as it came."""
    await bed.run("/priced/x", headers=(*CONDITIONS, *PLAIN))
    asked, paid = bed.line.seen
    assert asked.headers == (*CONDITIONS, *PLAIN)
    assert paid.headers[:-1] == PLAIN
    assert names(paid)[-1].lower() == "x-payment"


async def test_what_is_sealed_for_later_is_what_was_sent(bed: Bed) -> None:
    """P4: the attempt holds the paid request byte for byte, so that a retry asks for no other thing."""
    await bed.run("/priced/x?q=%41", "POST", b"body", headers=(*CONDITIONS, *PLAIN))
    (payment,) = bed.open
    attempt = await bed.store.attempt(payment.id)
    assert attempt is not None
    method, target, headers, body = unpack(bed.sealer.open(attempt.sealed_request, seal_context("attempt", payment.id)))
    (sent,) = bed.line.presented
    assert (method, target, body) == ("POST", "/priced/x?q=%41", b"body")
    assert tuple(headers) == sent.headers


async def test_free_requests_keep_their_conditions(bed: Bed) -> None:
    """Where no money goes along, a condition is the agent's own business."""
    await bed.run("/free/x", "GET", headers=CONDITIONS)
    assert bed.line.seen[0].headers == CONDITIONS


async def test_the_credential_is_the_purchases_own(bed: Bed) -> None:
    """Its nonce follows from the payment's id, its window from the later of clock and chain, its value from the offer."""
    head_s = NOW_MS // 1000 + 40
    bed.heads.saw(BASE_USDC.chain_id, Block(111, b"\x05" * 32, head_s), Block(101, b"\x06" * 32, head_s))
    await bed.run("/priced/x")
    (payment,) = bed.open
    assert payment.terms.nonce == purchase_nonce(BASE_USDC.chain_id, BASE_USDC.address, WALLET, payment.id)
    assert (payment.terms.valid_before_s, payment.terms.signed_at_block) == (head_s + 90, 111)
    header = next(value for name, value in bed.line.presented[0].headers if name.lower() == "x-payment")
    fields = json.loads(base64.b64decode(header))["payload"]["authorization"]
    assert fields["value"] == str(PRICE_BASE)
    assert fields["nonce"] == "0x" + payment.terms.nonce.hex()
    assert bed.watermark.read().max_valid_before == head_s + 90


async def test_the_signers_mark_has_the_holds_row_before_the_vendor_sees_it(bed: Bed) -> None:
    """P12: what leaves is known outside of the database."""
    await bed.run("/priced/x")
    held = await bed.store.query("SELECT seq FROM journal WHERE kind = 'payment.held'")
    assert bed.watermark.read().height >= held[0]["seq"]


# fingerprints


@pytest.mark.parametrize(
    "headers",
    [
        (("Accept", "application/json"),),
        (("accept", "text/html"),),
        (("Accept-Language", "de"),),
        (("Accept", "text/html"), ("Accept-Language", "de")),
    ],
)
async def test_what_chooses_the_answers_form_makes_another_purchase(
    bed: Bed, headers: tuple[tuple[str, str], ...]
) -> None:
    """An agent that asks for JSON must not be given the HTML that was bought before."""
    plain = bed.call("/priced/x")
    assert bed.call("/priced/x", headers=headers).fingerprint != plain.fingerprint
    await bed.run("/priced/x")
    assert not (await bed.run("/priced/x", headers=headers)).replayed


def test_the_fingerprint_is_of_what_is_asked_for(bed: Bed) -> None:
    """Spelling and order of names do not matter, nor what says nothing; values, target, method, vendor and body do."""
    base = (("Accept", "text/html"), ("Accept-Language", "de"))
    same = [
        (("accept", "text/html"), ("ACCEPT-LANGUAGE", "de")),
        (("Accept-Language", "de"), ("Accept", "text/html")),
        (*base, ("User-Agent", "x"), ("Range", "bytes=0-9"), ("Content-Type", "text/plain")),
    ]
    expected = bed.call("/priced/x", "POST", b"{}", headers=base).fingerprint
    for headers in same:
        assert bed.call("/priced/x", "POST", b"{}", headers=headers).fingerprint == expected
    others = [
        bed.call("/priced/x", "POST", b"{}", headers=(("Accept", "text/HTML"), base[1])),
        bed.call("/priced/x", "POST", b"{}", headers=(("Accept", "de"), ("Accept-Language", "text/html"))),
        bed.call("/priced/x", "POST", b"{}", headers=(*base, ("Accept", "text/html"))),
        bed.call("/priced/x", "POST", b"{ }", headers=base),
        bed.call("/priced/x?", "POST", b"{}", headers=base),
        bed.call("/priced/x", "GET", b"{}", headers=base),
        bed.call("/priced/x", "POST", b"{}", headers=base, vendor="other"),
    ]
    assert len({expected, *(call.fingerprint for call in others)}) == len(others) + 1


def test_an_accept_of_anything_says_nothing(bed: Bed) -> None:
    """A client that repeats its call without it, or with it, means the same thing."""
    anything = bed.call("/priced/x", headers=(("Accept", "*/*"),))
    assert anything.fingerprint == bed.call("/priced/x").fingerprint


def test_a_header_cannot_pretend_to_be_two(bed: Bed) -> None:
    """Values that no HTTP message could hold still do not collide with two headers, nor stop the call."""
    one = bed.call("/priced/x", headers=(("Accept", "a"), ("Accept-Language", "b")))
    odd = bed.call("/priced/x", headers=(("Accept", "a€"),))
    assert len({one.fingerprint, odd.fingerprint, bed.call("/priced/x").fingerprint}) == 3

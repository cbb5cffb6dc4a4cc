"""Another's facilitator by URL: over our real client, against a server that answers, lies, breaks off and hangs."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from contracts.codec import checksum, parse_address
from gateway.facilitator.remote import MAX_ANSWER_BYTES, RemoteFacilitator
from gateway.http.client import HttpUpstream
from gateway.http.egress import EgressRule, Origin, Timeouts
from gateway.paid_ports import FacilitatorUnknown, Rejected
from tests.unit.gateway.facilitator.payments_bed import OTHER, Draft
from wallets.secret import Secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

KEY = "0x" + "5b" * 32
HASH = "0x" + "ab" * 32
TOKEN = "a-token-of-theirs"
PAYER = Draft(KEY).sign(2).authorization["from"]


@dataclass
class Theirs:
    """A facilitator as a test wants it: `answer` is a document, or bytes as they are."""

    answer: object = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    hang: bool = False
    seen: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        asked = json.loads(body) if body else None
        self.seen.append((request.method, request.path, dict(request.headers), asked))
        if self.hang:
            await asyncio.sleep(5)
        raw = self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()
        if self.cut:
            response = web.StreamResponse(headers={"Content-Length": str(len(raw) + 1)})
            await response.prepare(request)
            await response.write(raw)
            assert request.transport is not None
            request.transport.close()
            return response
        return web.Response(body=raw, status=self.status, headers={"Content-Type": "application/json", **self.headers})


@dataclass
class Bed:
    """Both sides."""

    theirs: Theirs
    ours: RemoteFacilitator

    async def verify(self, version: int = 2) -> object:
        sent = Draft(KEY).sign(version)
        return await self.ours.verify(version, sent.payload, sent.requirements)

    async def settle(self, version: int = 2) -> Any:
        sent = Draft(KEY).sign(version)
        return await self.ours.settle(version, sent.payload, sent.requirements, "acc_1")


@pytest.fixture
async def bed() -> AsyncIterator[Bed]:
    """A facilitator of somebody else, below a path, with a token."""
    theirs = Theirs()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", theirs.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
    rule = EgressRule(Origin.parse(origin), True, True, 8, Timeouts(0.3, 0.6, 0.6, 0.8))
    upstream = HttpUpstream([rule])
    yield Bed(theirs, RemoteFacilitator(upstream, origin, "/x402", Secret(TOKEN)))
    await upstream.close()
    await runner.cleanup()


@pytest.mark.parametrize("version", [1, 2])
async def test_it_is_asked_as_the_protocol_says(bed: Bed, version: int) -> None:
    """Path, token and the three members; the payer is the one that the payment names."""
    bed.theirs.answer = {"isValid": True, "payer": PAYER.lower()}
    assert await bed.verify(version) == parse_address(PAYER)
    ((method, path, headers, asked),) = bed.theirs.seen
    assert (method, path, headers["Authorization"]) == ("POST", "/x402/verify", f"Bearer {TOKEN}")
    assert asked["x402Version"] == version == asked["paymentPayload"]["x402Version"]
    assert asked["paymentRequirements"]["payTo"] == asked["paymentPayload"]["payload"]["authorization"]["to"]


async def test_a_refusal_is_told_in_its_words_made_safe(bed: Bed) -> None:
    """A reason goes on as it is, without what would move a cursor, and not without end."""
    bed.theirs.answer = {"isValid": False, "invalidReason": "insufficient_funds\x1b[2J", "invalidMessage": "x" * 9_000}
    found = await bed.verify()
    assert isinstance(found, Rejected)
    assert found.reason == "insufficient_funds [2J"
    assert len(found.message) <= 300
    assert found.payer == parse_address(PAYER)


async def test_a_settlement_is_read(bed: Bed) -> None:
    """Transaction, network in our spelling, amount."""
    bed.theirs.answer = {
        "success": True,
        "transaction": HASH,
        "network": "base",
        "payer": PAYER,
        "amount": "10000",
        "extra": {"x": 1},
    }
    found = await bed.settle()
    assert (found.success, found.tx_hash, found.network) == (True, b"\xab" * 32, "eip155:8453")
    assert found.amount_base == 10_000
    assert bed.theirs.seen[0][1] == "/x402/settle"


@pytest.mark.parametrize(
    ("answer", "reason", "sent"),
    [
        (
            {"errorReason": "settlement_pending", "transaction": HASH, "network": "eip155:8453"},
            "settlement_pending",
            HASH,
        ),
        ({"errorReason": "insufficient_funds", "transaction": "", "network": ""}, "insufficient_funds", None),
        ({"transaction": "", "network": "eip155:8453"}, "unexpected_settle_error", None),
    ],
)
async def test_a_failed_settlement_keeps_the_hash_that_it_names(
    bed: Bed, answer: dict[str, Any], reason: str, sent: str | None
) -> None:
    """Pending has a hash to look for; a failure without a reason gets one."""
    bed.theirs.answer = {"success": False, **answer}
    found = await bed.settle()
    assert (found.success, found.reason) == (False, reason)
    assert found.tx_hash == (None if sent is None else bytes.fromhex(sent[2:]))


GOOD = {"success": True, "transaction": HASH, "network": "eip155:8453"}


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>502</html>",
        b"",
        b"null",
        b"[]",
        b'{"success":true,"success":false,"transaction":"","network":""}',
        {},
        {**GOOD, "success": "true"},
        {**GOOD, "success": 1},
        {**GOOD, "transaction": ""},
        {**GOOD, "transaction": "0xabc"},
        {**GOOD, "transaction": 5},
        {**GOOD, "network": "eip155:1"},
        {**GOOD, "network": "nowhere"},
        {**GOOD, "network": None},
        {**GOOD, "payer": OTHER},
        {**GOOD, "payer": "me"},
        {**GOOD, "amount": "9999"},
        {**GOOD, "amount": 10_000},
        {"success": False, "errorReason": {"a": 1}, "transaction": "", "network": ""},
        {"success": False, "errorReason": "x", "transaction": "lost", "network": ""},
        b'{"success":true,' + b" " * 300_000 + b'"transaction":""}',
    ],
)
async def test_an_answer_that_is_none_leaves_a_settlement_unknown(bed: Bed, answer: object) -> None:
    """It may have collected: nothing of this is a yes or a no."""
    bed.theirs.answer = answer
    with pytest.raises(FacilitatorUnknown):
        await bed.settle()


@pytest.mark.parametrize(
    "answer",
    [
        {"isValid": "yes"},
        {"isValid": True, "payer": OTHER},
        {"isValid": None},
        {"isValid": False, "invalidReason": 5},
        b"ok",
    ],
)
async def test_an_answer_that_is_none_leaves_a_payment_unjudged(bed: Bed, answer: object) -> None:
    """Likewise for verify."""
    bed.theirs.answer = answer
    with pytest.raises(FacilitatorUnknown):
        await bed.verify()


@pytest.mark.parametrize("status", [201, 202, 204, 301, 307, 400, 402, 412, 429, 500, 502])
async def test_another_status_is_unknown_whatever_the_body_says(bed: Bed, status: int) -> None:
    """Also a 5xx that says success, which is what a facilitator that settled and fell over answers."""
    bed.theirs.answer, bed.theirs.status = GOOD, status
    with pytest.raises(FacilitatorUnknown):
        await bed.settle()


async def test_a_redirect_elsewhere_is_not_followed(bed: Bed) -> None:
    """The signed payment goes to the origin that the operator named, and nowhere else."""
    bed.theirs.status, bed.theirs.headers = 307, {"Location": "http://127.0.0.2:1/settle"}
    bed.theirs.answer = GOOD
    with pytest.raises(FacilitatorUnknown):
        await bed.settle()
    assert len(bed.theirs.seen) == 1


@pytest.mark.parametrize("trouble", ["hang", "cut"])
async def test_a_broken_answer_is_unknown_and_asked_for_once(bed: Bed, trouble: str) -> None:
    """A request that moves money leaves once, however its answer ends."""
    bed.theirs.answer = GOOD
    setattr(bed.theirs, trouble, True)
    with pytest.raises(FacilitatorUnknown):
        await bed.settle()
    assert len(bed.theirs.seen) == 1


async def test_a_facilitator_that_is_not_there_is_unknown() -> None:
    """Nobody listens."""
    origin = "http://127.0.0.1:9"
    upstream = HttpUpstream([EgressRule(Origin.parse(origin), True, True, 8, Timeouts(0.3, 0.6, 0.6, 0.8))])
    ours = RemoteFacilitator(upstream, origin, "")
    sent = Draft(KEY).sign(1)
    with pytest.raises(FacilitatorUnknown):
        await ours.settle(1, sent.payload, sent.requirements, "acc_1")
    await upstream.close()


@pytest.mark.parametrize("verb", ["verify", "settle"])
async def test_an_answer_is_read_to_its_limit_and_not_far_beyond(bed: Bed, verb: str) -> None:
    """A stranger's answer may not fill our memory: one that is much longer is given up, though vendors may say more."""
    ask: Callable[[], Awaitable[object]] = bed.verify if verb == "verify" else bed.settle
    answer = GOOD if verb == "settle" else {"isValid": True, "payer": PAYER}
    spare = MAX_ANSWER_BYTES - len(json.dumps(answer | {"pad": ""}))
    bed.theirs.answer = answer | {"pad": "x" * spare}
    await ask()
    # Beyond the limit by more than one read of the socket may bring at once.
    bed.theirs.answer = answer | {"pad": "x" * (3 * MAX_ANSWER_BYTES)}
    with pytest.raises(FacilitatorUnknown, match="too long"):
        await ask()


async def test_the_token_is_in_no_repr(bed: Bed) -> None:
    """Nor in what is raised."""
    bed.theirs.status = 500
    with pytest.raises(FacilitatorUnknown) as caught:
        await bed.verify()
    assert TOKEN not in f"{bed.ours!r}{vars(bed.ours)}{caught.value!r}{caught.value.__cause__!r}"


def test_the_payer_is_who_signed() -> None:
    """The bed itself: the address is the key's."""
    assert checksum(parse_address(PAYER)) == PAYER

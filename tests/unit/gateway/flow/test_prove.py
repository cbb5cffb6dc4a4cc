"""Saying who we are: to whom, on whose behalf, how often, and what is on record before it leaves."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mpp_shop import CHAIN, asks, credential, header, line, proof_line, sells

from contracts.codec import checksum, to_hex
from contracts.mpp_proof import IdentityProof
from contracts.signature import recover_address
from gateway.core.commands import RecordResource
from gateway.core.records import Resource
from gateway.core.routes import Pricing
from gateway.http.port import NotSent, RedirectRefused, SentUnknown, UpstreamRequest, UpstreamResponse
from tests.unit.gateway.flow.spend_bed import NOW_MS, REALM, WALLET, Bed, Chunks, always, opened, respond


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    """A shop that wants to know who asks."""
    async with opened(tmp_path) as running:
        sells(running, proof_line())
        yield running


async def signed(bed: Bed) -> list[Any]:
    """Return the journal's rows about proofs."""
    rows = await bed.store.query("SELECT body FROM journal WHERE kind = 'proof.signed' ORDER BY seq")
    return [json.loads(row["body"]) for row in rows]


def proves(request: UpstreamRequest, challenge_id: str, version: Any = 3) -> bool:
    """Say whether a request proves that our wallet answers a challenge."""
    shown = credential(request)
    proof = IdentityProof(WALLET, CHAIN, challenge_id, REALM, version)
    signature = bytes.fromhex(shown["payload"]["signature"][2:])
    ours = shown["source"] == f"did:pkh:eip155:{CHAIN}:{checksum(WALLET)}"
    return ours and recover_address(proof.digest, signature) == WALLET


async def test_a_free_route_is_asked_again_with_a_proof(bed: Bed) -> None:
    """The answer passes like any free one: no payment, no charge, the vendor's own words."""
    reply = await bed.run("/mine", "GET", headers=(("Accept", "text/x"),))
    assert (reply.status, reply.body, reply.payment_id, reply.charge_base) == (200, b"thing", None, None)
    asked, proven = bed.line.seen
    assert asked.headers == (("Accept", "text/x"),) == proven.headers[:-1]
    assert proves(proven, "proof-1")
    assert (asked.target, proven.target, proven.may_resend) == ("/mine", "/mine", False)
    assert bed.open == []


async def test_a_proof_is_on_record_before_it_leaves(bed: Bed) -> None:
    """P3, P8: with the agent's request and key, the challenge and the realm; the signer's mark knows the row as well."""

    async def answer(_: UpstreamRequest) -> UpstreamResponse:
        (row,) = await signed(bed)
        assert (row["account_id"], row["key_id"]) == ("acc_1", bed.keys["acc_1"].id)
        assert (row["vendor"], row["route"], row["request_id"]) == ("shop", "mine", "req_0")
        assert (row["challenge_id"], row["realm"], row["chain_id"]) == ("proof-1", REALM, CHAIN)
        assert row["wallet"] == "0x" + WALLET.hex()
        assert bed.watermark.read().height >= bed.store.view.journal_seq
        return respond(200, b"mine")

    bed.line.answering = answer
    assert (await bed.run("/mine", "GET")).body == b"mine"


async def test_a_body_and_a_key_of_ours_go_along_twice(bed: Bed) -> None:
    """What changes something says the same both times, under one key that is not the agent's."""
    await bed.run("/mine", "DELETE", b"{}", idempotency_key="the agent's")
    assert [request.body for request in bed.line.seen] == [b"{}", b"{}"]
    first, second = (header(request, "Idempotency-Key") for request in bed.line.seen)
    assert first == second != "the agent's"
    assert first is not None


async def test_p13_a_challenge_is_answered_once(bed: Bed) -> None:
    """P13: sent again it gets nothing, though it costs nothing."""
    await bed.run("/mine", "GET")
    assert (await bed.refused("/mine", "GET")).code == "challenge_repeated"
    assert len(bed.line.presented) == len(await signed(bed)) == 1


async def test_asked_again_is_the_end(bed: Bed) -> None:
    """No loop: the vendor does not know us, and a second proof would say nothing new."""
    rest = Chunks([b"more"])
    bed.line.answering = always(asks(proof_line("proof-2"), body=b"who?"))
    problem = await bed.refused("/mine", "GET")
    assert (problem.code, problem.status) == ("proof_refused", 502)
    assert len(bed.line.presented) == 1
    sells(bed, proof_line("proof-3"))
    bed.line.answering = always(respond(402, b"", rest=rest))
    assert (await bed.refused("/mine", "GET")).code == "proof_refused"
    assert rest.closed


async def test_older_versions_only_where_the_operator_allows_them(bed: Bed) -> None:
    """Each on the challenge that came with the refusal; after the oldest it is over."""
    sells(bed, proof_line(), legacy_proofs=True)
    policy = bed.guard._policy
    wallet = policy.wallets[WALLET]
    bed.guard.replace_policy(_with(policy, wallet, legacy_realms=frozenset({(CHAIN, REALM)})))
    bed.line.answering = always(asks(proof_line("proof-2")), asks(proof_line("proof-3")), asks(proof_line("proof-4")))
    assert (await bed.refused("/mine", "GET")).code == "proof_refused"
    versions = zip(bed.line.presented, (("proof-1", 3), ("proof-2", 2), ("proof-3", 1)), strict=True)
    assert all(proves(request, *of) for request, of in versions)
    sells(bed, proof_line("proof-5"), legacy_proofs=True)
    bed.line.answering = always(asks(proof_line("proof-6")), respond(200, b"mine"))
    assert (await bed.run("/mine", "GET")).body == b"mine"


def _with(policy: Any, wallet: Any, **changes: Any) -> Any:
    return replace(policy, wallets={WALLET: replace(wallet, **changes)})


async def test_the_guard_must_allow_an_older_version_too(bed: Bed) -> None:
    """The vendor's terms alone do not make the wallet sign what another site could relay."""
    sells(bed, proof_line(), legacy_proofs=True)
    bed.line.answering = always(asks(proof_line("proof-2")))
    assert (await bed.refused("/mine", "GET")).code == "signing_refused"
    assert len(bed.line.presented) == 1


@pytest.mark.parametrize(
    ("challenge_line", "code"),
    [
        (proof_line(realm="elsewhere.test"), "realm_not_allowed"),
        (line("p", details={"chainId": 4217}, amount="0"), "network_not_allowed"),
        (proof_line(expires="2027-01-15T08:00:04Z"), "challenge_expired"),
    ],
)
async def test_p8_a_proof_goes_to_nobody_else(bed: Bed, challenge_line: str, code: str) -> None:
    """P8: a relayed challenge would make us answer for a stranger."""
    sells(bed, challenge_line)
    assert (await bed.refused("/mine", "GET")).code == code
    assert (bed.line.presented, await signed(bed)) == ([], [])


async def test_a_vendor_that_is_not_paid_by_mpp_gets_no_proof(bed: Bed) -> None:
    """The rail is the operator's choice."""
    sells(bed, proof_line(), rails=("x402",))
    assert (await bed.refused("/mine", "GET")).code == "rail_not_allowed"


async def test_the_guard_knows_the_realms_too(bed: Bed) -> None:
    """A realm that the configuration of the vendor names and the wallet's policy does not is not signed for."""
    policy = bed.guard._policy
    bed.guard.replace_policy(_with(policy, policy.wallets[WALLET], realms=frozenset()))
    assert (await bed.refused("/mine", "GET")).code == "signing_refused"
    assert (bed.line.presented, await bed.tasks()) == ([], [("signing_refused", to_hex(WALLET))])


@pytest.mark.parametrize("scope", ["vendor:shop", "account:acc_1", "wallet:0x" + WALLET.hex()])
async def test_a_freeze_stops_proofs_as_it_stops_money(bed: Bed, scope: str) -> None:
    """A proof is control over servers."""
    await bed.freeze(scope)
    assert (await bed.refused("/mine", "GET")).code == "frozen"
    assert bed.line.presented == []


async def test_only_declared_routes_prove(bed: Bed) -> None:
    """Elsewhere a question for who we are is refused like one for money, and nothing is said."""
    assert (await bed.refused("/free/x", "GET")).code == "unexpected_challenge"
    assert (await bed.refused("/priced/x")).code == "no_offer"
    assert bed.line.presented == []


async def test_a_free_route_that_takes_either_gets_the_proof(bed: Bed) -> None:
    """Where nothing needs to be paid, nothing is."""
    sells(bed, line(), proof_line())
    assert (await bed.run("/mine", "GET")).payment_id is None
    assert credential(bed.line.presented[0])["payload"]["type"] == "proof"


async def test_a_stranger_that_may_ask_for_either_is_paid_where_it_offers_that(bed: Bed) -> None:
    """On a route that may cost money a proof is given only where nothing else is asked."""
    sells(bed, line(), proof_line())
    vendor = bed.vendors["shop"]
    vendor.routes = tuple(_proving(route) for route in vendor.routes)
    reply = await bed.run("/maybe/x", "POST")
    assert reply.payment_id is not None
    bed.line.first = always(asks(proof_line("proof-9")))
    assert (await bed.run("/maybe/y", "POST")).payment_id is None


def _proving(route: Any) -> Any:
    return replace(route, proof=True) if route.pricing is Pricing.MAYBE else route


async def test_p9_a_proof_is_given_only_for_what_the_agent_owns(bed: Bed) -> None:
    """P9: one wallet stands for all agents, so what another one bought is not touched in its name."""
    await bed.post(_owned("box-1", "acc_2", bed))
    assert (await bed.refused("/its/box-1", "DELETE")).code == "not_found"
    assert bed.line.seen == []
    assert (await bed.run("/its/box-1", "DELETE", account="acc_2")).status == 200


def _owned(ref: str, account_id: str, bed: Bed) -> Any:
    resource = Resource("shop", ref, account_id, "", "box", "active", None, None, None, NOW_MS)
    return RecordResource(resource, bed.clock.ms)


async def test_a_wait_is_kept_before_a_proof_too(bed: Bed) -> None:
    """The vendor asked for it."""
    bed.line.first = always(asks(proof_line(), Retry_After="5"))
    assert (await bed.refused("/mine", "GET")).code == "payment_deferred"
    assert bed.line.presented == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotSent("connect_failed", "scripted"), "vendor_unreachable"),
        (SentUnknown("connection_lost", "scripted"), "vendor_timeout"),
        (SentUnknown("malformed_answer", "scripted"), "vendor_answer_malformed"),
        (RedirectRefused(302), "redirect_refused"),
    ],
)
async def test_no_answer_to_a_proof_costs_nothing(bed: Bed, error: Exception, code: str) -> None:
    """It is told, and not repeated: the challenge is spent."""
    bed.line.answering = always(error)
    assert (await bed.refused("/mine", "GET")).code == code
    assert len(bed.line.presented) == 1

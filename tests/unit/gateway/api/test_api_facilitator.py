"""The facilitator's routes: who may come in, how often, and answers that stock sellers can read, over real HTTP."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from gateway.api import facilitator as routes
from gateway.api.keyless import Keyless
from gateway.api.server import build_api
from gateway.core.commands import Done
from gateway.core.paid import SellerTerms
from gateway.core.paid_commands import PutSeller
from gateway.facilitator.discovery import Sellable
from gateway.facilitator.door import FacilitatorDoor
from gateway.facilitator.limits import PerMinute
from gateway.paid_ports import Settled
from gateway.ports import ChainUnavailable
from gateway.system import SystemClock
from tests.unit.gateway.api.bed import Bed, Got, _Watched, opened
from tests.unit.gateway.api.shape import check
from tests.unit.gateway.facilitator.facilitator_bed import TX_HASH, bed_on, relay_chain
from tests.unit.gateway.facilitator.facilitator_bed import Bed as Facilitating
from tests.unit.gateway.facilitator.payments_bed import OTHER, PAY_TO, Draft
from tests.unit.gateway.facilitator.refusals import CASES, Kind, broken, name_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sandbox.chain import LocalBase

PACK = Sellable(
    "https://gateway.test/v1/topups/packs/one",
    [{"scheme": "exact", "network": "eip155:8453", "amount": "1000000", "payTo": PAY_TO}],
    1_800_000_000,
)


@dataclass
class Desk:
    """The HTTP side with a facilitator. `key` settles for `acc_1`, which is a seller."""

    bed: Bed
    facilitating: Facilitating
    url: str
    payer: Draft
    key: str = ""

    async def post(self, verb: str, body: object, key: str | None = None) -> Got:
        """Post a body, with the seller's key."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        return await self.bed.ask(
            "POST", f"/facilitator/{verb}", key or self.key, url=self.url, data=raw, headers=headers
        )

    async def get(self, path: str) -> Got:
        """Ask without a key."""
        return await self.bed.bare("GET", f"/facilitator/{path}", url=self.url)

    async def sell(self, **changes: Any) -> None:
        """Let acc_1 settle, on these terms."""
        kept = await self.bed.store.seller("acc_1")
        terms = SellerTerms("acc_1", 10**15, 3_600, 0.0, (), 1, version=1 if kept is None else kept.version + 1)
        command = PutSeller(dataclasses.replace(terms, **changes), "test", SystemClock().now_ms())
        assert isinstance(await self.bed.store.post(command), Done)


@contextlib.asynccontextmanager
async def desk_on(
    directory: Path,
    base: LocalBase,
    *,
    public: bool = False,
    per_payer: int = 1_000,
    per_payee: int = 1_000,
    keyless: Keyless | None = None,
) -> AsyncIterator[Desk]:
    """Start it."""
    chain, endpoint = relay_chain(base)
    who, secret = base.dev_account(3)
    base.mint(who, 1_000_000)

    def now_s() -> int:
        return SystemClock().now_ms() // 1000

    async with opened(directory) as bed:
        facilitating = bed_on(chain, window_max_s=3_600)
        door = FacilitatorDoor(
            facilitating.facilitator,
            PerMinute(per_payer, now_s),
            PerMinute(per_payee, now_s),
            public,
            lambda: (PACK,),
        )
        api = build_api(dataclasses.replace(bed.server.api.deps, facilitator=door, keyless=keyless or Keyless()))
        async with _Watched.of(api) as url:
            desk = Desk(bed, facilitating, url, Draft(secret))
            desk.key = await bed.new_key("settle")
            await desk.sell()
            yield desk
    await endpoint.close()


@pytest.fixture
async def desk(tmp_path: Path, shared_automine_base: LocalBase) -> AsyncIterator[Desk]:
    """A facilitator for sellers with keys."""
    async with desk_on(tmp_path, shared_automine_base) as made:
        yield made


def judged(got: Got) -> Any:
    """Return a verdict that has the documented shape."""
    assert got.status == 200, got.body
    check(got.json, routes.VERDICT)
    return got.json


def settled(got: Got) -> Any:
    """Return a settlement that has the documented shape."""
    assert got.status == 200, got.body
    check(got.json, routes.SETTLEMENT)
    return got.json


# what is decided is 200


@pytest.mark.parametrize("version", [1, 2])
async def test_a_good_payment_is_verified_and_settled(desk: Desk, version: int) -> None:
    """In the protocol's members and nothing else, for the account whose key it is."""
    sent = desk.payer.sign(version)
    payer = sent.authorization["from"]
    assert judged(await desk.post("verify", sent.body)) == {"isValid": True, "payer": payer}
    assert settled(await desk.post("settle", sent.body)) == {
        "success": True,
        "transaction": "0x" + TX_HASH.hex(),
        "network": sent.requirements["network"],
        "payer": payer,
        "amount": "10000",
    }
    ((_, account_id, _),) = desk.facilitating.engine.asked
    assert account_id == "acc_1"


@pytest.mark.parametrize(("kind", "version"), CASES[::5], ids=name_of)
async def test_a_wrong_payment_is_200_with_its_reason(desk: Desk, kind: Kind, version: int) -> None:
    """Stock sellers read a reason from a 200 alone."""
    sent = broken(kind, version, desk.payer.key)
    found = judged(await desk.post("verify", sent.body))
    assert (found["isValid"], found["invalidReason"]) == (False, kind.reason)
    told = settled(await desk.post("settle", sent.body))
    assert (told["success"], told["errorReason"], told["transaction"]) == (False, kind.reason, "")
    assert desk.facilitating.engine.asked == []


@pytest.mark.parametrize("body", [{}, {"x402Version": 2}, {"x402Version": [], "paymentPayload": 5, "a": {}}])
async def test_an_object_that_is_no_request_is_an_invalid_payment(desk: Desk, body: object) -> None:
    """Nothing of it is a server's error."""
    assert judged(await desk.post("verify", body))["isValid"] is False
    assert settled(await desk.post("settle", body))["success"] is False


@pytest.mark.parametrize("verb", ["verify", "settle"])
@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'"x"', b"\xff", b'{"a":1,"a":2}', b'{"a":NaN}'])
async def test_a_body_that_is_no_object_is_400(desk: Desk, verb: str, body: bytes) -> None:
    """Nothing else is."""
    got = await desk.post(verb, body)
    assert (got.status, got.code) == (400, "bad_request")


async def test_a_body_without_end_is_413(desk: Desk) -> None:
    """It is not read to its end."""
    got = await desk.post("verify", b'{"a":"' + b"x" * 300_000 + b'"}')
    assert (got.status, got.code) == (413, "body_oversized")


async def test_a_pending_settlement_keeps_its_hash_and_a_lost_one_is_no_failure(desk: Desk) -> None:
    """What may have been collected is never told as refused: a payer would sign anew."""
    sent = desk.payer.sign(2)
    desk.facilitating.engine.answer = Settled(False, "settlement_pending", "wait", None, TX_HASH, "eip155:8453", 10_000)
    told = settled(await desk.post("settle", sent.body))
    assert (told["success"], told["errorReason"]) == (False, "settlement_pending")
    assert (told["transaction"], "amount" in told) == ("0x" + TX_HASH.hex(), False)
    desk.facilitating.engine.error = ChainUnavailable("gone")
    got = await desk.post("settle", sent.body)
    assert (got.status, got.code) == (504, "settlement_pending")


async def test_a_chain_that_is_away_is_an_unexpected_error_of_verify(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In 200, as the protocol has a word for it; and never a bad signature."""

    async def away(*_: object) -> bool:
        raise ChainUnavailable("gone")

    chain = desk.facilitating.verifier.reaches[8453].chain
    monkeypatch.setattr(chain, "has_code", away)
    assert judged(await desk.post("verify", desk.payer.sign(1).body))["invalidReason"] == "unexpected_verify_error"
    assert settled(await desk.post("settle", desk.payer.sign(1).body))["errorReason"] == "unexpected_settle_error"


# who may come in


@pytest.mark.parametrize("verb", ["verify", "settle"])
async def test_only_the_scope_opens_the_door(desk: Desk, verb: str) -> None:
    """A key that spends is no seller's key, and none is none."""
    body = desk.payer.sign(2).body
    assert (await desk.bed.bare("POST", f"/facilitator/{verb}", url=desk.url, json=body)).code == "key_missing"
    assert (await desk.post(verb, body, desk.bed.key)).code == "scope_missing"


async def test_settling_takes_a_seller_and_verifying_does_not(desk: Desk) -> None:
    """The scope lets a key ask; the operator's terms let an account spend gas."""
    key = await desk.bed.new_key("settle", account_id="acc_2")
    body = desk.payer.sign(2).body
    assert judged(await desk.post("verify", body, key))["isValid"] is True
    got = await desk.post("settle", body, key)
    assert (got.status, got.code) == (403, "seller_required")
    await desk.sell(ended_at_ms=5)
    assert (await desk.post("settle", body)).code == "seller_required"
    assert desk.facilitating.engine.asked == []


async def test_whoever_may_verify_without_a_key_may_not_settle(tmp_path: Path, shared_automine_base: LocalBase) -> None:
    """`public` opens one of the two."""
    async with desk_on(tmp_path, shared_automine_base, public=True) as desk:
        body = desk.payer.sign(1).body
        got = await desk.bed.bare("POST", "/facilitator/verify", url=desk.url, json=body)
        assert judged(got)["isValid"] is True
        got = await desk.bed.bare("POST", "/facilitator/settle", url=desk.url, json=body)
        assert got.code == "key_missing"


# how often


@pytest.mark.parametrize("limit", ["per_payer", "per_payee"])
async def test_too_many_are_told_when_to_come_again(
    tmp_path: Path, shared_automine_base: LocalBase, limit: str
) -> None:
    """One payer, or one payee, whichever is named; another one is not held up, and what is no payment counts for nobody."""
    async with desk_on(tmp_path, shared_automine_base, **{limit: 2}) as desk:  # type: ignore[arg-type]
        body = desk.payer.sign(2).body
        assert [(await desk.post("verify", each)).status for each in (body, {}, body)] == [200] * 3
        got = await desk.post("settle", body)
        assert got.status == 429
        assert 1 <= int(got.headers["Retry-After"]) <= 30
        other = Draft("0x" + "77" * 32)
        status = (await desk.post("verify", other.sign(2).body)).status
        assert status == (200 if limit == "per_payer" else 429)


async def test_whoever_names_another_s_address_uses_up_only_its_own_share(
    tmp_path: Path, shared_automine_base: LocalBase
) -> None:
    """A stranger without a key cannot keep a payer's payments from a seller, nor one seller another's."""
    async with desk_on(tmp_path, shared_automine_base, public=True, per_payer=1) as desk:
        body = desk.payer.sign(2).body
        bare = [await desk.bed.bare("POST", "/facilitator/verify", url=desk.url, json=body) for _ in range(2)]
        assert [got.status for got in bare] == [200, 429]
        other = await desk.bed.new_key("settle", account_id="acc_2")
        assert [(await desk.post("verify", body, other)).status for _ in range(2)] == [200, 429]
        assert settled(await desk.post("settle", body))["success"] is True


async def test_strangers_share_what_may_be_verified_without_a_key(
    tmp_path: Path, shared_automine_base: LocalBase
) -> None:
    """Whoever names another payer each time is bounded all the same; keys are not, nor what asks no chain."""
    async with desk_on(tmp_path, shared_automine_base, public=True, keyless=Keyless(per_site=2)) as desk:

        async def bare(body: object) -> Got:
            return await desk.bed.bare("POST", "/facilitator/verify", url=desk.url, json=body)

        payers = [Draft("0x" + f"{n:02x}" * 32) for n in range(1, 5)]
        found = [await bare(body) for body in (payers[0].sign(2).body, {}, payers[1].sign(2).body, {})]
        assert [got.status for got in found] == [200] * 4
        refused = await bare(payers[2].sign(2).body)
        assert (refused.status, refused.code) == (429, "too_many_calls")
        assert 1 <= int(refused.headers["Retry-After"]) <= 30
        assert (await desk.post("verify", payers[3].sign(2).body)).status == 200


# what is told of itself


async def test_it_says_what_it_supports_and_that_it_is_there(desk: Desk) -> None:
    """Without a key: sellers ask when they start."""
    supported = await desk.get("supported")
    check(supported.json, routes.SUPPORTED)
    assert {(kind["x402Version"], kind["network"]) for kind in supported.json["kinds"]} == {
        (1, "base"),
        (2, "eip155:8453"),
    }
    assert (await desk.get("health")).json == {"status": "ok"}


async def test_what_is_sold_here_is_found(desk: Desk) -> None:
    """With filters and pages; what cannot be read is refused."""
    found = (await desk.get("discovery/resources?type=http&limit=1&network=eip155:8453")).json
    check(found, routes.RESOURCES)
    assert [item["resource"] for item in found["items"]] == [PACK.url]
    assert (await desk.get("discovery/resources?payTo=" + OTHER)).json["items"] == []
    assert (await desk.get("discovery/resources?extensions=bazaar,x")).json["pagination"]["total"] == 0
    for query in ("limit=0", "limit=101", "limit=1x", "offset=-1", "limit=1&limit=2", "network=", "page=2"):
        assert (await desk.get(f"discovery/resources?{query}")).code == "bad_request", query


async def test_without_a_facilitator_there_are_no_routes(desk: Desk) -> None:
    """Its paths do not exist then, not even as refusals."""
    for method, path in (("POST", "verify"), ("POST", "settle"), ("GET", "supported"), ("GET", "discovery/resources")):
        assert (await desk.bed.ask(method, f"/facilitator/{path}")).code == "not_found"

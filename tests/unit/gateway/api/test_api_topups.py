"""`/v1/topups` over real HTTP: what a 402 holds, what a payment is answered with, and who sees a top-up."""

import asyncio
import base64
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from contracts.codec import Address, checksum
from contracts.eip3009 import Authorization
from contracts.signature import address_of, load_key, sign_digest
from contracts.tokens import BASE_USDC, MODERATO_PATHUSD
from gateway.api import topups as routes
from gateway.api.keyless import Keyless
from gateway.api.schemas import PAYMENT_REQUIRED
from gateway.api.server import build_api
from gateway.flow.paid.offers import Offers, TillPrice, TopUpRules, mac_of
from gateway.flow.paid.taking import Taking
from gateway.flow.paid.topups import TopUps
from gateway.paid_ports import FacilitatorUnknown, Json, Rejected, Settled
from gateway.rails.x402.order_ref import OrderMarks
from gateway.system import SystemClock, SystemEntropy
from tests.unit.gateway.api.bed import Bed, Got, _Watched, opened
from tests.unit.gateway.api.shape import check
from wallets.secret import Secret

TILL = Address(b"\x5e" * 20)
PAYER = load_key(b"\x31" * 32)
URL = "https://pay.example"
TX = b"\xab" * 32
RULES = TopUpRules(10_000, 1_000_000_000, {"one": 1_000_000})


@dataclass
class Says:
    """A facilitator that says what it is told to."""

    unknown: bool = False
    settled: list[Json] = field(default_factory=list)

    async def verify(self, version: int, payload: Json, requirements: Json) -> Rejected | Address:
        return address_of(PAYER)

    async def settle(self, version: int, payload: Json, requirements: Json, account_id: str) -> Settled:
        self.settled.append(payload)
        if self.unknown:
            raise FacilitatorUnknown("it hangs")
        return Settled(True, "", "", address_of(PAYER), TX, str(requirements["network"]))


@dataclass
class Shop:
    """The routes, running. `url` is theirs."""

    bed: Bed
    url: str
    says: Says
    topups: TopUps

    async def post(self, key: str | None = "", body: bytes = b'{"amount":"5"}', **headers: str) -> Got:
        """POST /v1/topups; `key` "" is acc_1's, None is none."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent = {"X-Api-Key": key or self.bed.key, **sent}
        return await self.bed.bare("POST", "/v1/topups", url=self.url, data=body, headers=sent)

    async def get(self, path: str, **headers: str) -> Got:
        """GET below /v1/topups."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.bed.bare("GET", "/v1/topups" + path, url=self.url, headers=sent)


@contextlib.asynccontextmanager
async def shop_in(directory: Path, rules: TopUpRules = RULES, keyless: Keyless | None = None) -> AsyncIterator[Shop]:
    """Start it."""
    clock, says = SystemClock(), Says()
    marks = OrderMarks(mac_of(Secret(b"\x07" * 32)))
    offers = Offers([TillPrice(BASE_USDC, TILL)], rules, marks, URL, "pay.example", clock, SystemEntropy())
    async with opened(directory) as bed:
        parts: dict[str, Any] = {"store": bed.store, "facilitator": says, "own": True, "clock": clock}
        taking = Taking(**parts, chains={}, tokens=offers.tokens, patience_s=5)
        topups = TopUps(**parts, chains={}, offers=offers, taking=taking)
        async with _Watched.of(
            build_api(dataclasses.replace(bed.server.api.deps, topups=topups, keyless=keyless or Keyless()))
        ) as url:
            yield Shop(bed, url, says, topups)
        await taking.close(1)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """The usual one."""
    async with shop_in(tmp_path) as made:
        yield made


def required(got: Got) -> Any:
    """Decode PAYMENT-REQUIRED of a 402."""
    assert got.status == 402, got.body
    return json.loads(base64.b64decode(got.headers["PAYMENT-REQUIRED"]))


def pay(got: Got, n: int = 1) -> dict[str, str]:
    """Return the header of a version 2 payment of a 402."""
    document = required(got)
    accepted = document["accepts"][0]
    payload = signed(accepted["amount"], n)
    paid = {"x402Version": 2, "accepted": accepted, "payload": payload, "resource": document["resource"]}
    return {"PAYMENT_SIGNATURE": base64.b64encode(json.dumps(paid).encode()).decode()}


def signed(value: str, n: int) -> dict[str, Any]:
    """Return a signed authorization to the till."""
    payer, nonce = address_of(PAYER), sha256(b"%d" % n).digest()
    ends_s = SystemClock().now_ms() // 1000 + 300
    auth = Authorization(BASE_USDC, payer, TILL, int(value), 0, ends_s, nonce)
    terms = {
        "from": checksum(payer),
        "to": checksum(TILL),
        "value": value,
        "validAfter": "0",
        "validBefore": str(ends_s),
        "nonce": "0x" + nonce.hex(),
    }
    return {"signature": "0x" + sign_digest(PAYER, auth.digest).hex(), "authorization": terms}


async def test_one_402_says_both_versions_and_the_problem(shop: Shop) -> None:
    """Version 1 in the body among the problem's members, version 2 in the header; never stored, readable by a browser."""
    got = await shop.post()
    document = got.json
    assert got.code == "payment_required"
    assert document["type"] == "https://paymentauth.org/problems/payment-required"
    assert (document["status"], document["amount"], document["x402Version"]) == (402, "5.000000", 1)
    (entry,) = document["accepts"]
    assert entry == {
        "scheme": "exact",
        "network": "base",
        "maxAmountRequired": "5000000",
        "resource": f"{URL}/v1/topups",
        "description": "5.000000 USD of credit",
        "mimeType": "application/json",
        "payTo": checksum(TILL),
        "maxTimeoutSeconds": 300,
        "asset": checksum(BASE_USDC.address),
        "extra": {"name": "USD Coin", "version": "2"},
    }
    v2 = required(got)
    assert v2["accepts"][0]["network"] == "eip155:8453"
    assert v2["accepts"][0]["extra"]["order"].startswith(document["order"])
    assert got.headers["Cache-Control"] == "no-store"
    assert "PAYMENT-REQUIRED" in got.headers["Access-Control-Expose-Headers"]
    assert len(got.headers["PAYMENT-REQUIRED"]) < 2_500


async def test_a_payment_is_answered_with_the_top_up_and_its_receipt(shop: Shop) -> None:
    """200, the documented shape, `credit: pending`, and the receipt header of the version that was paid with."""
    got = await shop.post(**pay(await shop.post()))
    assert got.status == 200, got.body
    check(got.json, routes.TOPUP)
    assert (got.json["state"], got.json["credit"], got.json["transaction"]) == ("seen", "pending", "0x" + TX.hex())
    receipt = json.loads(base64.b64decode(got.headers["PAYMENT-RESPONSE"]))
    assert (receipt["success"], receipt["transaction"]) == (True, "0x" + TX.hex())
    assert "X-Balance-Available" in got.headers


async def test_a_version_1_client_pays_with_its_own_header(shop: Shop) -> None:
    """X-PAYMENT is answered with X-PAYMENT-RESPONSE and the network's legacy name."""
    paid = {"x402Version": 1, "scheme": "exact", "network": "base", "payload": signed("5000000", 1)}
    got = await shop.post(X_PAYMENT=base64.b64encode(json.dumps(paid).encode()).decode())
    assert got.status == 200, got.body
    assert json.loads(base64.b64decode(got.headers["X-PAYMENT-RESPONSE"]))["network"] == "base"
    assert "PAYMENT-RESPONSE" not in got.headers


async def test_what_is_not_known_is_202_with_a_place_to_ask(shop: Shop) -> None:
    """Location and Retry-After; the status says the same until something is known."""
    shop.says.unknown = True
    got = await shop.post(**pay(await shop.post()))
    assert got.status == 202
    assert int(got.headers["Retry-After"]) > 0
    assert got.headers["Location"] == got.json["status_url"]
    status = await shop.bed.bare("GET", got.headers["Location"], url=shop.url, headers={"X-Api-Key": shop.bed.key})
    assert (status.status, status.json["state"], status.json["credit"]) == (200, "paying", "pending")
    assert "Retry-After" in status.headers


async def test_an_accounts_top_up_is_its_own(shop: Shop) -> None:
    """Its keys see it; another account's key, and nobody's, do not (P9)."""
    got = await shop.post(**pay(await shop.post()))
    other = await shop.bed.new_key("read", account_id="acc_2")
    path = f"/{got.json['id']}"
    assert (await shop.get(path, X_Api_Key=shop.bed.key)).json == got.json
    assert (await shop.get(path, X_Api_Key=other)).code == "not_found"
    assert (await shop.get(path)).code == "not_found"
    listed = await shop.get("", X_Api_Key=shop.bed.key)
    assert [each["id"] for each in listed.json["entries"]] == [got.json["id"]]
    check(listed.json["entries"][0], routes.TOPUP)
    assert (await shop.get("", X_Api_Key=other)).json == {"entries": [], "next": None}
    assert (await shop.get("")).code == "key_missing"


async def test_a_wallets_top_up_is_seen_by_whoever_knows_its_id(shop: Shop) -> None:
    """Without a key the id is all that its payer has."""
    got = await shop.post(None, **pay(await shop.post(None)))
    assert got.status == 200, got.body
    assert (await shop.get(f"/{got.json['id']}")).json == got.json


async def test_lists_page_from_the_newest(shop: Shop) -> None:
    """Each page goes on where the one before ended."""
    made = [(await shop.post(**pay(await shop.post(), n))).json["id"] for n in range(3)]
    first = (await shop.get("?limit=2", X_Api_Key=shop.bed.key)).json
    rest = (await shop.get(f"?limit=2&after={first['next']}", X_Api_Key=shop.bed.key)).json
    assert [each["id"] for each in [*first["entries"], *rest["entries"]]] == made[::-1]
    assert rest["next"] is None


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_pack_answers_a_plain_request(shop: Shop, method: str) -> None:
    """GET and POST without a body; an unknown one does not exist."""
    path = "/v1/topups/packs/one"
    offered = await shop.bed.bare(method, path, url=shop.url)
    assert required(offered)["resource"]["url"] == URL + path
    headers = {name.replace("_", "-"): value for name, value in pay(offered).items()}
    got = await shop.bed.bare(method, path, url=shop.url, headers=headers)
    assert (got.status, got.json["pack"], got.json["amount"]) == (200, "one", "1.000000")
    assert (await shop.bed.bare(method, "/v1/topups/packs/ten", url=shop.url)).code == "not_found"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"amount":5}',
        b'{"amount":"5","amount":"6"}',
        b'{"amount":"5","pack":"one"}',
        b'{"amount":"-5"}',
        b'{"amount":"5.0000001"}',
        b'{"amount":"0"}',
        b'{"amount":"0.001"}',
        b'{"amount":"1000.000001"}',
    ],
)
async def test_bodies_are_strict(shop: Shop, body: bytes) -> None:
    """One member, one decimal text, within the limits; nothing else is an order."""
    got = await shop.post(body=body)
    assert (got.status, got.code) == (400, "bad_request")


async def test_limits_are_told(shop: Shop) -> None:
    """An amount outside says which are inside."""
    got = await shop.post(body=b'{"amount":"5000"}')
    assert (got.json["field"], got.json["min"], got.json["max"]) == ("amount", "0.010000", "1000.000000")


async def test_two_payments_in_one_request_are_none(shop: Shop) -> None:
    """Both x402 headers, or one of them twice: refused before anything settles."""
    header = pay(await shop.post())["PAYMENT_SIGNATURE"]
    both = await shop.post(PAYMENT_SIGNATURE=header, X_PAYMENT=header)
    assert (both.status, both.code) == (400, "bad_request")
    twice = [("X-Api-Key", shop.bed.key), ("X-PAYMENT", header), ("X-PAYMENT", header)]
    again = await shop.bed.bare("POST", "/v1/topups", url=shop.url, data=b'{"amount":"5"}', headers=twice)
    assert (again.status, again.code) == (400, "bad_request")
    assert shop.says.settled == []


async def test_a_bad_key_is_refused_before_anything_is_paid(shop: Shop) -> None:
    """Whoever shows a key believes that its account is credited: a wrong one must not become a wallet's top-up."""
    header = pay(await shop.post())
    assert (await shop.post("gk_key_x_" + "a" * 43, **header)).status == 401
    assert (await shop.post(None, Authorization="Token abc", **header)).status == 401
    assert shop.says.settled == []


async def test_a_page_may_pay_from_another_origin(shop: Shop) -> None:
    """The preflight allows what stock clients send, the header that they send by mistake included."""
    for path, methods in (("/v1/topups", "POST"), ("/v1/topups/packs/one", "GET, POST"), ("/v1/topups/top_1", "GET")):
        got = await shop.bed.bare("OPTIONS", path, url=shop.url)
        allowed = got.headers["Access-Control-Allow-Headers"]
        assert got.status == 204
        assert got.headers["Access-Control-Allow-Methods"] == methods
        assert {"PAYMENT-SIGNATURE", "X-PAYMENT", "Access-Control-Expose-Headers"} <= set(allowed.split(", "))
    assert (await shop.post()).headers["Access-Control-Allow-Origin"] == "*"


async def test_a_page_may_read_what_went_wrong(shop: Shop) -> None:
    """Problems of the routes that a page pays and asks at have the same headers; those of other routes do not."""
    for got in (
        await shop.post(body=b'{"amount":"0"}'),
        await shop.post("gk_key_x_" + "a" * 43),
        await shop.get("/packs/ten"),
        await shop.get("/top_1"),
        await shop.bed.bare("DELETE", "/v1/topups", url=shop.url),
        await shop.bed.bare("POST", "/v1/topups/top_1", url=shop.url),
        await shop.bed.bare("PUT", "/v1/topups/packs/one", url=shop.url),
    ):
        assert got.status in {400, 401, 404, 405}
        assert got.headers.getall("Access-Control-Allow-Origin") == ["*"]
        (exposed,) = got.headers.getall("Access-Control-Expose-Headers")
        names = exposed.split(", ")
        assert {"PAYMENT-REQUIRED", "Retry-After", "X-Request-Id", "Idempotent-Replayed", "X-Balance-Low"} <= set(names)
        assert len(names) == len(set(names))
    paid = await shop.post(**pay(await shop.post()))
    assert len(paid.headers.getall("Access-Control-Expose-Headers")) == 1
    assert "Access-Control-Allow-Origin" not in (await shop.get("")).headers


async def test_a_page_may_read_that_nobody_has_time(shop: Shop) -> None:
    """What is refused before it is looked at is refused readably too; a route that is not for pages stays so."""
    deps = dataclasses.replace(shop.bed.server.api.deps, topups=shop.topups)
    server = build_api(dataclasses.replace(deps, settings=dataclasses.replace(deps.settings, max_in_flight=0)))
    async with _Watched.of(server) as url:
        for code in ("overloaded", "shutting_down"):
            got = await shop.bed.bare("POST", "/v1/topups", url=url, data=b'{"amount":"5"}')
            assert (got.status, got.code) == (503, code)
            assert got.headers.getall("Access-Control-Allow-Origin") == ["*"]
            assert "Retry-After" in got.headers["Access-Control-Expose-Headers"]
            for path in ("/v1/balance", "/v1/nothing", "/proxy/shop/free/x"):
                other = await shop.bed.bare("GET", path, url=url)
                assert (other.code, other.headers.get("Access-Control-Allow-Origin")) == (code, None)
            server.refuse_new()


async def test_discovery_says_what_is_paid_with(shop: Shop) -> None:
    """Packs by name, a 402 with its headers and an example that fits, and the offers of MPP where it is served."""
    document = (await shop.bed.bare("GET", "/openapi.json", url=shop.url)).json
    pack = document["paths"]["/v1/topups/packs/{name}"]["get"]
    (name,) = (each for each in pack["parameters"] if each["in"] == "path")
    assert name["schema"]["enum"] == ["one"]
    demanded = pack["responses"]["402"]
    assert {"WWW-Authenticate", "PAYMENT-REQUIRED"} <= demanded["headers"].keys()
    example = demanded["content"]["application/problem+json"]["examples"]["one"]["value"]
    asked = await shop.post()
    assert example.keys() <= asked.json.keys()
    assert example["accepts"][0].keys() <= asked.json["accepts"][0].keys()
    check(asked.json, PAYMENT_REQUIRED)
    assert "x-payment-info" not in pack  # nobody here is asked by MPP


def test_a_token_is_offered_by_its_method() -> None:
    """USDC on Base by `evm`, a TIP-20 by `tempo`, the amount being the challenge's own."""
    offers = [routes._charge(token) for token in (BASE_USDC, MODERATO_PATHUSD)]
    assert [(each["intent"], each["method"], each["amount"]) for each in offers] == [
        ("charge", "evm", None),
        ("charge", "tempo", None),
    ]
    assert [each["currency"] for each in offers] == [checksum(BASE_USDC.address), checksum(MODERATO_PATHUSD.address)]


async def test_a_repeated_key_is_answered_by_the_first_payment(shop: Shop) -> None:
    """An unpaid repeat under a paid Idempotency-Key is 200; another amount under it is 409."""
    offered = await shop.post(Idempotency_Key="k-1")
    paid = await shop.post(Idempotency_Key="k-1", **pay(offered))
    again = await shop.post(Idempotency_Key="k-1")
    assert (again.status, again.json) == (200, paid.json)
    assert "Idempotent-Replayed" not in paid.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    other = await shop.post(body=b'{"amount":"6"}', Idempotency_Key="k-1")
    assert (other.status, other.code) == (409, "idempotency_conflict")


async def test_a_repeated_payment_is_told_as_one(shop: Shop) -> None:
    """The same payment again, and a fresh one under a paid name, are answered by the first top-up, and say so."""
    header = pay(await shop.post())
    first, again = [await shop.post(Idempotency_Key="k-1", **header) for _ in range(2)]
    fresh = await shop.post(Idempotency_Key="k-1", **pay(await shop.post(), 2))
    assert [got.headers.get("Idempotent-Replayed") for got in (first, again, fresh)] == [None, "true", "true"]
    assert first.json == again.json == fresh.json
    assert len(shop.says.settled) == 1


async def test_of_payments_that_come_at_once_one_is_the_first(shop: Shop) -> None:
    """All but one of the same answers are told as given again."""
    header = pay(await shop.post())
    answers = await asyncio.gather(*(shop.post(**header) for _ in range(10)))
    assert {got.status for got in answers} == {200}
    assert [got.headers.get("Idempotent-Replayed") for got in answers].count(None) == 1


@pytest.mark.parametrize("name", ["PAYMENT-SIGNATURE", "X-PAYMENT"])
@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("", 400),
        ("garbage", 400),
        (base64.b64encode(b"[]").decode(), 400),
        (base64.b64encode(b'{"x402Version":3}').decode(), 400),
        ("A" * 60_000, 400),
        (base64.b64encode(b'{"x402Version":1}').decode(), 402),
        (base64.b64encode(b'{"x402Version":2,"accepted":{},"payload":[]}').decode(), 402),
    ],
)
async def test_a_payment_that_is_none_is_told_by_its_header(shop: Shop, name: str, value: str, status: int) -> None:
    """`field` names the header, whatever is wrong with what is in it; nothing is taken."""
    got = await shop.post(**{name: value})
    assert (got.status, got.json["field"]) == (status, name)
    assert "field" not in (await shop.post()).json
    assert shop.says.settled == []


async def test_without_top_ups_there_is_no_route(bed: Bed) -> None:
    """Where nobody can buy credit, the routes do not exist."""
    assert (await bed.bare("POST", "/v1/topups")).code == "not_found"
    assert (await bed.bare("GET", "/v1/topups/top_1")).code == "not_found"


@pytest.mark.parametrize("rail", ["x402", "mpp"])
async def test_payments_without_a_key_are_bounded(tmp_path: Path, rail: str) -> None:
    """Each may cost a chain's answer; asking what to pay costs nothing, and a key is not held up by those without."""
    async with shop_in(tmp_path, keyless=Keyless(per_site=2)) as shop:
        offered = await shop.post(None)
        for n in (1, 2):
            header = pay(offered, n) if rail == "x402" else {"Authorization": "Payment e30"}
            assert (await shop.post(None, **header)).status != 429
        header = pay(offered, 3) if rail == "x402" else {"Payment_Authorization": "Payment e30"}
        refused = await shop.post(None, **header)
        assert (refused.status, refused.code) == (429, "too_many_calls")
        assert 1 <= int(refused.headers["Retry-After"]) <= 30
        assert (await shop.post(None)).status == 402
        assert (await shop.post(**pay(await shop.post(), 4))).status == 200
        assert len(shop.says.settled) == (2 if rail == "x402" else 1)

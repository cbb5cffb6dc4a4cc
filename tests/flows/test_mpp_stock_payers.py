"""Stock MPP clients pay our challenges on real chains: mppx and pympp on Tempo, mppx on EVM, and mppx's proof.

The server is a few lines over the seller's parts, with a real book; the clients are their makers'. What the gateway's own
routes make of the same parts is tested with them.
"""

import asyncio
import contextlib
import json
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from contracts.codec import Address, checksum, parse_address, to_hex
from contracts.signature import address_of, load_key
from contracts.tokens import BASE_USDC, MODERATO_PATHUSD
from gateway.chains.broadcast import RpcBroadcaster
from gateway.chains.finality import Finality
from gateway.chains.quorum import QuorumChain
from gateway.chains.rpc import RpcEndpoint
from gateway.core.commands import Refused
from gateway.core.paid import TopUpState
from gateway.flow.paid.mpp import TempoTopUps
from gateway.flow.paid.mpp_seller import EvmTaken, MppRefused, MppSeller, Proven
from gateway.flow.paid.offers import TillPrice
from gateway.flow.paid.orders import OrderTerms
from gateway.rails.mpp.issuing import Seal
from gateway.rails.mpp.refusing import problem_document
from gateway.store.sqlite import SqliteStore
from gateway.system import SystemClock, SystemEntropy
from sandbox.chain import LocalBase
from sandbox.devtoken import Authorization as DevAuthorization
from sandbox.dropmpp.payer import MppxPayer
from sandbox.process import ROOT
from sandbox.tempo.chain import LocalTempo

REALM = "127.0.0.1"
TILL = Address(bytes.fromhex("7111" * 10))
PRICE_BASE = 250_000
FUNDS_BASE = 3_000_000
TTL_S = 25  # pympp signs for as long as a challenge lives, and anvil's hard fork takes no more than 30 s
HEADER_LIMIT = 65_536


@pytest.fixture(scope="module")
def tempo() -> Iterator[LocalTempo]:
    """One chain for this file; the till holds the token, so that a payment costs little gas."""
    with LocalTempo.start() as chain:
        chain.fund({to_hex(TILL): 1})
        yield chain


@pytest.fixture(scope="module")
def payer(tempo: LocalTempo) -> Iterator[MppxPayer]:
    """Npm mppx's client."""
    with MppxPayer(tempo.rpc_url, tempo.chain_id) as running:
        yield running


@dataclass
class Shop:
    """A seller of credit that answers as the gateway's routes do."""

    seller: MppSeller
    rail: TempoTopUps
    store: SqliteStore
    base: LocalBase | None
    url: str = ""
    answers: list[int] = field(default_factory=list)
    signed_in: list[bytes] = field(default_factory=list)
    losing: int = 0

    async def pay(self, request: web.Request) -> web.Response:
        """Take a payment, or ask for one."""
        body, values = await request.read(), _credentials(request)
        presented = self.seller.read(values)
        if presented is None or isinstance(presented, MppRefused):
            return self._ask(request, body, presented)
        known = await self.rail.known(presented)
        if known is not None:
            topup = await self.rail.follow(known)
            return self._told(self.seller.receipt(presented, topup.tx_hash), done=topup.state is not TopUpState.PAYING)
        taken = self.seller.take(presented, body, "")
        if isinstance(taken, MppRefused):
            return self._ask(request, body, taken)
        if isinstance(taken, EvmTaken):
            tx_hash = await asyncio.to_thread(self._collect, taken)
            return self._told(self.seller.receipt(presented, tx_hash), done=True)
        result = await self.rail.take(taken.order.opened("", b"\x01" * 32, SystemClock().now_ms()), taken)
        if isinstance(result, Refused):
            return web.json_response({"code": result.code}, status=409)
        if self.losing:
            self.losing -= 1
            raise web.HTTPServiceUnavailable
        topup = result.topup
        return self._told(self.seller.receipt(presented, topup.tx_hash), done=topup.state is TopUpState.SEEN)

    async def sign_in(self, request: web.Request) -> web.Response:
        """Take a proof, or ask for one."""
        body, presented = await request.read(), self.seller.read(_credentials(request))
        if presented is None or isinstance(presented, MppRefused):
            return self._wanting(self.seller.sign_in_challenge(body, own_header=False), presented)
        proven = self.seller.verify_proof(presented, body)
        if not isinstance(proven, Proven):
            return self._wanting(self.seller.sign_in_challenge(body, own_header=False), proven)
        self.signed_in.append(proven.address)
        headers = {"Payment-Receipt": self.seller.receipt(presented), "Cache-Control": "private"}
        return web.json_response({"address": checksum(proven.address)}, headers=headers)

    def _ask(self, request: web.Request, body: bytes, refused: MppRefused | None) -> web.Response:
        now_ms = SystemClock().now_ms()
        order = OrderTerms(f"top_{secrets.token_hex(8)}", None, PRICE_BASE, now_ms + 300_000, "", REALM)
        own_header = request.headers.get("Authorization", "").startswith("Bearer")
        return self._wanting(self.seller.challenges(order, body, own_header=own_header), refused)

    def _wanting(self, challenges: Any, refused: MppRefused | None) -> web.Response:
        lines = (challenges,) if isinstance(challenges, str) else challenges
        kind, why = ("payment-required", "") if refused is None else (refused.problem.value, refused.detail)
        self.answers.append(402)
        document = problem_document(refused.problem, why) if refused else {"type": kind, "status": 402}
        response = web.json_response(document, status=402, content_type="application/problem+json")
        for line in lines:
            response.headers.add("WWW-Authenticate", line)
        response.headers["Cache-Control"] = "no-store"
        return response

    def _told(self, receipt: str, *, done: bool) -> web.Response:
        self.answers.append(200 if done else 202)
        headers = {"Payment-Receipt": receipt, "Cache-Control": "private"} if done else {}
        return web.json_response({"credit": "pending"}, status=200 if done else 202, headers=headers)

    def _collect(self, taken: EvmTaken) -> bytes:
        auth = taken.exact.authorization
        assert self.base is not None
        as_words = DevAuthorization(
            sender=to_hex(auth.authorizer),
            to=to_hex(auth.pay_to),
            value=auth.value_base,
            valid_after=auth.valid_after,
            valid_before=auth.valid_before,
            nonce=to_hex(auth.nonce),
        )
        receipt = self.base.transfer_with_authorization(as_words, taken.exact.signature)
        return bytes.fromhex(receipt["transactionHash"][2:])


def _credentials(request: web.Request) -> list[str]:
    return [*request.headers.getall("Authorization", ()), *request.headers.getall("Payment-Authorization", ())]


@contextlib.asynccontextmanager
async def open_shop(tempo: LocalTempo, home: Path, base: LocalBase | None = None) -> AsyncIterator[Shop]:
    """Open a shop on a free port; with `base` it also takes EVM authorizations, and only those."""
    clock, entropy = SystemClock(), SystemEntropy()
    token = MODERATO_PATHUSD if base is None else BASE_USDC
    seller = MppSeller(
        seal=Seal([secrets.token_bytes(32)]),
        realm=REALM,
        tills=[TillPrice(token, TILL)],
        clock=clock,
        entropy=entropy,
        ttl_s={MODERATO_PATHUSD.chain_id: TTL_S},
    )
    async with contextlib.AsyncExitStack() as stack:
        endpoints = [RpcEndpoint(tempo.another_endpoint().url) for _ in range(2)]
        chain = QuorumChain(endpoints, chain_id=tempo.chain_id, finality=Finality.parse("finalized"))
        await stack.enter_async_context(chain)
        store = await SqliteStore.open(home / "gateway.db")
        stack.push_async_callback(store.close)
        rail = TempoTopUps(
            store=store,
            chains={tempo.chain_id: chain},
            broadcasters={tempo.chain_id: RpcBroadcaster(endpoints, tempo.chain_id)},
            clock=clock,
        )
        shop = Shop(seller, rail, store, base)
        app = web.Application()
        app.router.add_route("*", "/pay", shop.pay)
        app.router.add_route("*", "/sign-in", shop.sign_in)
        runner = web.AppRunner(app, max_line_size=HEADER_LIMIT, max_field_size=HEADER_LIMIT)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        shop.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield shop


@pytest.fixture
async def shop(tempo: LocalTempo, tmp_path: Path) -> AsyncIterator[Shop]:
    """A shop on Tempo."""
    async with open_shop(tempo, tmp_path) as opened:
        yield opened


@pytest.fixture
def wallet(tempo: LocalTempo) -> tuple[str, bytes]:
    """A funded wallet: its key and its address."""
    private = secrets.token_bytes(32)
    address = address_of(load_key(private))
    tempo.fund({to_hex(address): FUNDS_BASE})
    return to_hex(private), address


async def run(program: str, *arguments: str, config: dict[str, Any]) -> dict[str, Any]:
    """Run a stock payer once; return what it says."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        "--config",
        json.dumps(config),
        cwd=ROOT,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(90):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    told: dict[str, Any] = json.loads(out)
    return told


async def pympp(tempo: LocalTempo, key: str, url: str, **config: Any) -> dict[str, Any]:
    """Pay with PyPI pympp."""
    python = os.environ.get("SANDBOX_PYMPP", str(ROOT / ".venv-pympp/bin/python"))
    given = {"private_key": key, "rpc_url": tempo.rpc_url, "url": url, "method": "GET"} | config
    return await run(python, "-m", "sandbox.payers.pympp", config=given)


def debits(tempo: LocalTempo, wallet: bytes) -> list[Any]:
    """The wallet's payments, by the chain."""
    return tempo.memo_transfers(sender=to_hex(wallet), recipient=to_hex(TILL))


# Tempo


@pytest.mark.parametrize("json_body", [None, {"amount": "0.25"}])
async def test_mppx_pays(
    shop: Shop, tempo: LocalTempo, payer: MppxPayer, wallet: tuple[str, bytes], json_body: Any
) -> None:
    """With and without a body: one credential, one debit, a receipt that names it, the order seen."""
    key, address = wallet
    method = "GET" if json_body is None else "POST"
    answer = await asyncio.to_thread(payer.fetch, key, method, shop.url + "/pay", json_body)
    assert (answer.status, answer.credentials, shop.answers) == (200, 1, [402, 200])
    (debit,) = debits(tempo, address)
    assert debit.amount_base == PRICE_BASE
    (topup,) = shop.store.view.topups.values()
    assert (topup.state, topup.payer, to_hex(topup.tx_hash or b"")) == (TopUpState.SEEN, address, debit.tx_hash)
    assert "payment-receipt" in answer.headers


async def test_mppx_pays_beside_a_key(
    shop: Shop, tempo: LocalTempo, payer: MppxPayer, wallet: tuple[str, bytes]
) -> None:
    """A caller with a Bearer is asked for Payment-Authorization, and keeps its key."""
    headers = {"Authorization": "Bearer agp_1"}
    answer = await asyncio.to_thread(payer.fetch, wallet[0], "GET", shop.url + "/pay", headers=headers)
    assert (answer.status, len(debits(tempo, wallet[1]))) == (200, 1)


@pytest.mark.parametrize("json_body", [None, {"amount": "0.25"}])
async def test_pympp_pays(shop: Shop, tempo: LocalTempo, wallet: tuple[str, bytes], json_body: Any) -> None:
    """As it comes: it signs for a minute, or for as long as the challenge lives."""
    key, address = wallet
    method = "GET" if json_body is None else "POST"
    told = await pympp(tempo, key, shop.url + "/pay", method=method, json=json_body)
    assert (told["status"], shop.answers) == (200, [402, 200]), told
    (debit,) = debits(tempo, address)
    assert (debit.amount_base, told["receipt"]["reference"]) == (PRICE_BASE, debit.tx_hash)


async def test_pympp_pays_beside_a_key(shop: Shop, tempo: LocalTempo, wallet: tuple[str, bytes]) -> None:
    """Likewise."""
    told = await pympp(tempo, wallet[0], shop.url + "/pay", headers={"Authorization": "Bearer agp_1"})
    assert (told["status"], len(debits(tempo, wallet[1]))) == (200, 1)
    assert list(told["sent"][0]) == ["payment-authorization"]


async def test_a_credential_shown_again_pays_nothing(
    shop: Shop, tempo: LocalTempo, payer: MppxPayer, wallet: tuple[str, bytes]
) -> None:
    """One debit, whether it comes twice at once, later, or after an answer that was lost; and never a 402 again."""
    key, address = wallet
    get = asyncio.to_thread(payer.fetch, key, "GET", shop.url + "/pay", retries=0)
    assert (await get).status == 402
    order = OrderTerms("top_again", None, PRICE_BASE, SystemClock().now_ms() + 300_000, "", REALM)
    challenges = list(shop.seller.challenges(order, b"", own_header=False))
    value, tx_hash = await asyncio.to_thread(payer.credential, key, challenges)
    shop.answers.clear()
    shop.losing = 1
    asking = {"Authorization": value}
    statuses = []
    for count in (1, 5, 1):
        calls = (
            asyncio.to_thread(payer.fetch, key, "GET", shop.url + "/pay", headers=asking, retries=0)
            for _ in range(count)
        )
        statuses += [answer.status for answer in await asyncio.gather(*calls)]
    assert statuses == [503] + [200] * 6
    assert [debit.tx_hash for debit in debits(tempo, address)] == [tx_hash]


async def test_a_wallet_without_money_is_told_and_leaves_nothing(
    shop: Shop, tempo: LocalTempo, payer: MppxPayer
) -> None:
    """Its transaction is not claimed and not sent: nothing was paid, and no row is kept of it."""
    private = secrets.token_bytes(32)
    tempo.fund({to_hex(address_of(load_key(private))): 100_000})
    order = OrderTerms("top_poor", None, PRICE_BASE, SystemClock().now_ms() + 300_000, "", REALM)
    challenges = list(shop.seller.challenges(order, b"", own_header=False))
    poor = to_hex(private)
    with contextlib.suppress(RuntimeError):  # mppx may refuse to sign by itself
        value, _ = await asyncio.to_thread(payer.credential, poor, challenges)
        asking = {"Authorization": value}
        answer = await asyncio.to_thread(payer.fetch, poor, "GET", shop.url + "/pay", headers=asking, retries=0)
        assert answer.status == 409
    assert await shop.store.topup("top_poor") is None
    assert debits(tempo, address_of(load_key(private))) == []


# EVM


async def test_mppx_pays_on_base(tempo: LocalTempo, local_base: LocalBase, tmp_path: Path) -> None:
    """The authorization under the nonce that the challenge prescribes, collected by whoever pays the gas."""
    private = secrets.token_bytes(32)
    address = address_of(load_key(private))
    local_base.fund({to_hex(address): FUNDS_BASE})
    async with open_shop(tempo, tmp_path, local_base) as shop:
        config = {"private_key": to_hex(private), "url": shop.url + "/pay", "methods": ["evm"]}
        told = await run("node", "sandbox/payers/mppx.mjs", config=config)
    assert (told["status"], shop.answers) == (200, [402, 200]), told
    assert local_base.balance_of(to_hex(TILL)) == PRICE_BASE
    assert told["receipt"]["method"] == "evm"
    assert told["receipt"]["reference"].startswith("0x")


# proofs


async def test_mppx_proves_its_key(shop: Shop, payer: MppxPayer, wallet: tuple[str, bytes], tempo: LocalTempo) -> None:
    """Version 3, and nothing is sent; it signs in as itself."""
    answer = await asyncio.to_thread(payer.fetch, wallet[0], "POST", shop.url + "/sign-in", {"name": "me"})
    assert answer.status == 200
    assert parse_address(answer.json()["address"]) == wallet[1]
    assert (shop.signed_in, debits(tempo, wallet[1])) == ([wallet[1]], [])

"""`/v1/receipts`, `/v1/refunds`, `/v1/deposits` and `/v1/wallet-keys` over real HTTP: who sees what, and who gets a key."""

import asyncio
import base64
import contextlib
import dataclasses
import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from contracts.codec import checksum
from contracts.mpp_proof import IdentityProof
from contracts.signature import address_of, load_key, sign_digest
from contracts.tokens import BASE_USDC, MODERATO_PATHUSD
from gateway.api import deposits, incoming, refunds, wallet_keys
from gateway.api.keyless import Keyless
from gateway.api.server import build_api
from gateway.core.apikeys import new_key
from gateway.core.commands import AddKey, Done, SetFreeze
from gateway.core.paid import Incoming, ReceiptState
from gateway.core.paid_commands import BookIncoming
from gateway.core.records import Budget, Evidence
from gateway.flow.heads import Heads
from gateway.flow.paid.deposits import Deposits, memo_of
from gateway.flow.paid.mpp_seller import MppSeller
from gateway.flow.paid.offers import TillPrice
from gateway.flow.paid.refunds import RefundParts, Refunds
from gateway.flow.paid.tills import Till
from gateway.flow.paid.wallets import WalletDoor, Wallets
from gateway.paid_ports import Exact, Settled
from gateway.ports import Block
from gateway.rails.mpp.issuing import Seal
from gateway.rails.x402.siwx import SignInDesk
from gateway.system import SystemClock, SystemEntropy
from tests.factories import never_frozen
from tests.unit.gateway.api.bed import Bed, Got, _Watched, opened
from tests.unit.gateway.api.shape import check
from wallets.guard import Guard, Policy, WalletPolicy
from wallets.secret import Secret
from wallets.signer import LocalSigner
from wallets.watermark import Watermark

ROOT = Path(__file__).parents[4]
TILL_KEY = b"\x5e" * 32
TILL, PAYER_KEY = address_of(load_key(TILL_KEY)), load_key(b"\x11" * 32)
PAYER = address_of(PAYER_KEY)
BUDGET = Budget("bud_refund", 1_000_000, 3_600)
CLIENT = """
import { createRequire } from 'node:module'
const require = createRequire(process.argv[2])
const { wrapFetchWithSIWx } = require('@x402/extensions/sign-in-with-x')
const { privateKeyToAccount } = require('viem/accounts')
const signedIn = wrapFetchWithSIWx(fetch, privateKeyToAccount('0x' + '11'.repeat(32)))
const answer = await signedIn(process.argv[3], { method: 'POST' })
console.log(JSON.stringify({ status: answer.status, body: await answer.json() }))
"""


class Submits:
    """An engine that is never asked here: the sweep does not run."""

    async def settle(self, exact: Exact, account_id: str, wait_s: float) -> Settled:
        raise AssertionError((exact, account_id, wait_s))

    def find(self, identity: tuple[int, bytes, bytes, bytes]) -> None:
        """Nothing was settled."""


@dataclass
class Counter:
    """The routes, running."""

    bed: Bed
    url: str

    async def ask(self, method: str, path: str, key: str | None = "", **more: Any) -> Got:
        """Send one request; `key` "" is acc_1's, None is none."""
        headers = dict(more.pop("headers", {}))
        if key is not None:
            headers["X-Api-Key"] = key or self.bed.key
        return await self.bed.bare(method, path, url=self.url, headers=headers, **more)

    async def refund(self, body: object, token: str | None = "one", **more: Any) -> Got:
        """POST /v1/refunds."""
        headers = {} if token is None else {"Idempotency-Key": token}
        return await self.ask("POST", "/v1/refunds", headers=headers, data=json.dumps(body), **more)

    async def new_key(self, scopes: tuple[str, ...], *budgets: Budget) -> str:
        """Add a key of acc_1; return its text."""
        made = new_key("acc_1", "one more", scopes, budgets, SystemClock().now_ms(), SystemEntropy().bytes)
        assert isinstance(await self.bed.store.post(AddKey(made.key)), Done)
        return made.text.reveal()

    async def receive(self, n: int = 1, *, signed: bool = True, account_id: str | None = "acc_1") -> str:
        """Book five dollars of the payer's."""
        found = Incoming(
            id=f"rcv_{n}",
            chain_id=8453,
            token=BASE_USDC.address,
            asset=BASE_USDC.asset_id,
            till=TILL,
            sender=PAYER,
            value_base=5_000_000,
            tx_hash=bytes((n,)) * 32,
            log_index=n,
            block_number=100,
            block_time_s=1_800_000_000,
            nonce=None,
            at_ms=1_800_000_000_000,
            state=ReceiptState.UNCLAIMED if account_id is None else ReceiptState.CREDITED,
            account_id=account_id,
            amount_base=5_000_000,
            refundable=signed,
        )
        evidence = Evidence("received", 8453, 100, bytes(32), 1_800_000_000, ("a", "b"))
        evidence = replace(evidence, tx_hash=found.tx_hash, log_index=n, value_base=5_000_000)
        command = BookIncoming(found, evidence, None, None, "", f"task_{n}", found.at_ms)
        assert isinstance(await self.bed.store.post(command), Done)
        return found.id


@contextlib.asynccontextmanager
async def counter_in(directory: Path, keyless: Keyless | None = None) -> AsyncIterator[Counter]:
    """Start it, with a till on Base and one on Tempo."""
    clock, entropy = SystemClock(), SystemEntropy()
    async with opened(directory) as bed:
        heads = Heads()
        heads.saw(8453, Block(1, bytes(32), 1), Block(1, bytes(32), 1))
        parts: dict[str, Any] = {"store": bed.store, "clock": clock, "entropy": entropy}
        policy = WalletPolicy(frozenset({8453}), {BASE_USDC.key: 10**9}, frozenset(), 4_000, refunds=True)
        guard = Guard(
            Policy({TILL: policy}, frozenset({TILL})), never_frozen, lambda _, to: to in bed.store.view.funders
        )
        (directory / "till").mkdir()
        mark = Watermark.create(directory / "till" / "watermark")
        signer = LocalSigner(TILL, Secret(TILL_KEY), guard, mark, lambda: clock.now_ms() // 1000)
        tills = [Till(TILL, (BASE_USDC, MODERATO_PATHUSD))]
        back = Refunds(
            **parts,
            heads=heads,
            mark=mark,
            parts=RefundParts({BASE_USDC.key: BASE_USDC}, {TILL: signer}, Submits(), {}, {}, 3_600),
        )
        desk = SignInDesk(
            secret=Secret(b"\x07" * 32), domain="", uri="", chain_ids=(8453, 42431), till=(BASE_USDC, TILL)
        )
        seller = MppSeller(
            seal=Seal([b"\x08" * 32]),
            realm="127.0.0.1",
            tills=[TillPrice(token, TILL) for token in (BASE_USDC, MODERATO_PATHUSD)],
            clock=clock,
            entropy=entropy,
        )
        door = WalletDoor(Wallets(**parts, contracts=None, rules=None), desk, seller)
        deps = dataclasses.replace(
            bed.server.api.deps,
            refunds=back,
            wallets=door,
            deposits=Deposits(store=bed.store, tills=tills),
            keyless=keyless or Keyless(),
        )
        async with _Watched.of(build_api(deps)) as url:
            desk._domain, desk._uri = url.removeprefix("http://"), f"{url}/v1/wallet-keys"
            yield Counter(bed, url)
        mark.close()


@pytest.fixture
async def counter(tmp_path: Path) -> AsyncIterator[Counter]:
    """The usual one."""
    async with counter_in(tmp_path) as made:
        yield made


async def test_receipts_are_the_accounts_own(counter: Counter) -> None:
    """P9: in order, page by page; one that is nobody's or another's is not there."""
    for n in (1, 2, 3):
        await counter.receive(n)
    await counter.receive(4, account_id=None)
    first = await counter.ask("GET", "/v1/receipts?limit=2")
    assert [entry["id"] for entry in first.json["entries"]] == ["rcv_1", "rcv_2"]
    rest = await counter.ask("GET", f"/v1/receipts?limit=2&after={first.json['next']}")
    assert ([entry["id"] for entry in rest.json["entries"]], rest.json["next"]) == (["rcv_3"], None)
    one = await counter.ask("GET", "/v1/receipts/rcv_1")
    check(one.json, incoming.RECEIPT)
    assert (one.json["from"], one.json["amount"], one.json["refundable"]) == (checksum(PAYER), "5.000000", True)
    for missing in ("rcv_4", "rcv_9"):
        assert (await counter.ask("GET", f"/v1/receipts/{missing}")).code == "not_found"
    assert (await counter.ask("GET", "/v1/receipts", None)).status == 401


async def test_a_refund_is_made_once_and_seen_by_its_owner(counter: Counter) -> None:
    """201 with what was signed for whom; repeated the same; too much, twice, or nobody's is refused."""
    receipt_id = await counter.receive()
    made = await counter.refund({"receipt": receipt_id, "amount": "2"})
    assert made.status == 201
    check(made.json, refunds.REFUND)
    assert (made.json["to"], made.json["amount"], made.json["state"]) == (checksum(PAYER), "2.000000", "held")
    assert made.headers["X-Balance-Available"] == "13.000000"
    again = await counter.refund({"receipt": receipt_id, "amount": "2"})
    assert (again.status, again.json) == (201, made.json)
    assert (made.headers.get("Idempotent-Replayed"), again.headers["Idempotent-Replayed"]) == (None, "true")
    assert (await counter.refund({"receipt": receipt_id, "amount": "1"})).code == "idempotency_conflict"
    assert (await counter.refund({"receipt": receipt_id, "amount": "3.01"}, "two")).code == "refund_exceeds_funding"
    listed = await counter.ask("GET", "/v1/refunds")
    assert listed.json == {"entries": [made.json], "next": None}
    assert (await counter.ask("GET", f"/v1/refunds/{made.json['id']}")).json == made.json
    assert (await counter.ask("GET", "/v1/refunds/ref_9")).code == "not_found"
    assert b"signature" not in made.body
    shown = await counter.ask("GET", f"/v1/receipts/{receipt_id}")
    assert shown.json["refunded"] == "2.000000"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "bad_request"),
        ({"receipt": "rcv_1", "topup": "top_1"}, "bad_request"),
        ({"receipt": 1}, "bad_request"),
        ({"receipt": "rcv_1", "amount": "0"}, "bad_request"),
        ({"receipt": "rcv_1", "amount": "-1"}, "bad_request"),
        ({"receipt": "rcv_1", "amount": 1}, "bad_request"),
        ({"receipt": "rcv_1", "to": "0x" + "00" * 20}, "bad_request"),
        ([], "bad_request"),
        ({"receipt": "rcv_9"}, "not_found"),
        ({"topup": "top_9"}, "not_found"),
        ({"receipt": "rcv_2"}, "not_refundable"),
    ],
)
async def test_what_cannot_go_back_is_refused(counter: Counter, body: object, code: str) -> None:
    """Nothing names an address, and nothing is held."""
    await counter.receive(1)
    await counter.receive(2, signed=False)
    assert (await counter.refund(body)).code == code
    assert counter.bed.store.view.refunds == {}


async def test_a_refund_needs_a_token_a_right_and_no_freeze(counter: Counter) -> None:
    """No Idempotency-Key, a key that only reads, a frozen till's account: nothing is signed."""
    receipt_id = await counter.receive()
    assert (await counter.refund({"receipt": receipt_id}, None)).code == "bad_request"
    for key in (
        await counter.new_key(("read",)),
        await counter.new_key(("proxy",), BUDGET),
        await counter.new_key(("proxy:shop", "read")),  # L2: it may buy at one vendor, and not empty the account
    ):
        assert (await counter.refund({"receipt": receipt_id}, key=key)).code == "scope_missing"
    freeze = SetFreeze("account:acc_1", frozen=True, reason="drill", by="operator", at_ms=1)
    await counter.bed.store.post(freeze)
    assert (await counter.refund({"receipt": receipt_id})).code == "frozen"
    assert counter.bed.store.view.refunds == {}


async def test_deposits_tell_address_memo_and_wallets(counter: Counter) -> None:
    """On Tempo the account's memo. Without a wallet that has proven itself no other way: it would be the sender's account."""
    told = await counter.ask("GET", "/v1/deposits")
    check(told.json, deposits.DEPOSITS)
    assert {way["network"]: way["memo"] for way in told.json["ways"]} == {"eip155:42431": "0x" + memo_of("acc_1").hex()}
    assert {way["to"] for way in told.json["ways"]} == {checksum(TILL)}
    assert told.json["wallets"] == []


async def test_a_wallet_key_opens_the_account_that_shows_its_wallet(counter: Counter) -> None:
    """402 with both challenges, an MPP proof of the one, a key for it once, and the wallet in its deposits."""
    asked = await counter.ask("POST", "/v1/wallet-keys", None)
    assert asked.status == 402
    required = json.loads(base64.b64decode(asked.headers["PAYMENT-REQUIRED"]))
    assert required["extensions"] == asked.json["extensions"]
    credential = proof(asked.headers["WWW-Authenticate"])
    made = await counter.ask("POST", "/v1/wallet-keys", None, headers={"Authorization": credential})
    assert made.status == 201, made.body
    check(made.json, wallet_keys.WALLET_KEY)
    assert made.headers["Payment-Receipt"]
    told = await counter.ask("GET", "/v1/deposits", made.json["key"])
    assert told.json["wallets"] == [checksum(PAYER)]
    again = await counter.ask("POST", "/v1/wallet-keys", None, headers={"Authorization": credential})
    assert (again.status, again.code) == (401, "challenge_used")


async def test_a_stock_client_signs_in(counter: Counter) -> None:
    """@x402/extensions, unmodified: asks, signs, and has a key of its wallet's account."""
    node = shutil.which("node")
    assert node is not None
    running = await asyncio.create_subprocess_exec(
        node,
        "--input-type=module",
        "-",
        str(ROOT / "sandbox" / "package.json"),
        f"{counter.url}/v1/wallet-keys",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await running.communicate(CLIENT.encode())
    assert running.returncode == 0, err.decode()
    answer = json.loads(out)
    assert answer["status"] == 201, answer
    assert answer["body"]["account"] == counter.bed.store.view.wallet_accounts[PAYER]


@pytest.mark.parametrize("header", ["", "e30=", "!!", base64.b64encode(b'{"domain":"x"}').decode()])
async def test_a_bad_proof_gets_a_fresh_challenge(counter: Counter, header: str) -> None:
    """402, and why; no account is opened."""
    asked = await counter.ask("POST", "/v1/wallet-keys", None, headers={"SIGN-IN-WITH-X": header})
    assert asked.status == 402
    assert asked.json["type"].endswith("verification-failed")
    assert asked.json["field"] == "SIGN-IN-WITH-X"
    assert "PAYMENT-REQUIRED" in asked.headers
    assert counter.bed.store.view.wallet_accounts == {}


@pytest.mark.parametrize("name", ["Authorization", "Payment-Authorization"])
@pytest.mark.parametrize("credential", ["Payment e30", "Payment !!", "Payment", "Payment " + "A" * 60_000])
async def test_a_bad_credential_is_told_by_its_header(counter: Counter, name: str, credential: str) -> None:
    """402 with a fresh challenge; `field` is the header that MPP's credential came in, and absent where none came."""
    asked = await counter.ask("POST", "/v1/wallet-keys", None, headers={name: credential})
    assert (asked.status, asked.json["field"]) == (402, name)
    assert "field" not in (await counter.ask("POST", "/v1/wallet-keys", None)).json


async def test_a_page_may_sign_in_from_another_origin(counter: Counter) -> None:
    """The preflight allows what wallets sign with, and every answer may be read, refusals of the method included."""
    asked = await counter.ask("OPTIONS", "/v1/wallet-keys", None)
    allowed = asked.headers["Access-Control-Allow-Headers"].split(", ")
    assert asked.status == 204
    assert {"SIGN-IN-WITH-X", "Payment-Authorization", "Authorization", "Access-Control-Expose-Headers"} <= set(allowed)
    assert asked.headers["Access-Control-Allow-Methods"] == "POST"
    challenged = await counter.ask("POST", "/v1/wallet-keys", None)
    made = await counter.ask(
        "POST", "/v1/wallet-keys", None, headers={"Authorization": proof(challenged.headers["WWW-Authenticate"])}
    )
    wrong = await counter.ask("POST", "/v1/wallet-keys?x=1", None)
    elsewhere = await counter.ask("GET", "/v1/wallet-keys", None)
    assert [got.status for got in (challenged, made, wrong, elsewhere)] == [402, 201, 400, 405]
    for got in (asked, challenged, made, wrong, elsewhere):
        assert got.headers.getall("Access-Control-Allow-Origin") == ["*"]
    for got in (challenged, made, wrong, elsewhere):
        (exposed,) = got.headers.getall("Access-Control-Expose-Headers")
        assert {"PAYMENT-REQUIRED", "WWW-Authenticate", "Payment-Receipt", "X-Request-Id"} <= set(exposed.split(", "))
    for path in ("/v1/refunds", "/v1/deposits"):
        assert "Access-Control-Allow-Origin" not in (await counter.ask("DELETE", path, None)).headers


async def test_sign_ins_of_what_may_be_a_contract_are_bounded(tmp_path: Path) -> None:
    """Only a chain can tell; one that answers no challenge of ours asks none, and counts for nothing."""
    async with counter_in(tmp_path, Keyless(per_site=1)) as counter:
        asked = await counter.ask("POST", "/v1/wallet-keys", None)
        extension = asked.json["extensions"]["sign-in-with-x"]
        document = {**extension["info"], **extension["supportedChains"][0], "address": checksum(PAYER)}
        signed = base64.b64encode(json.dumps({**document, "signature": "0x" + "ab" * 130}).encode()).decode()
        found = [
            await counter.ask("POST", "/v1/wallet-keys", None, headers={"SIGN-IN-WITH-X": header})
            for header in ("e30=", "e30=", signed, signed)
        ]
        assert [got.status for got in found[:3]] == [402, 402, 402]
        assert [got.code for got in found[2:]] == ["payment_required", "too_many_calls"]
        assert "PAYMENT-REQUIRED" in found[2].headers  # a fresh challenge: nothing was used up


async def test_two_proofs_at_once_are_refused(counter: Counter) -> None:
    """Nobody knows which was meant."""
    asked = await counter.ask("POST", "/v1/wallet-keys", None)
    headers = {"Authorization": proof(asked.headers["WWW-Authenticate"]), "SIGN-IN-WITH-X": "e30="}
    assert (await counter.ask("POST", "/v1/wallet-keys", None, headers=headers)).code == "bad_request"


async def test_a_service_without_tills_has_none_of_these_routes(counter: Counter) -> None:
    """What is not configured is not there."""
    for path in ("/v1/receipts", "/v1/refunds", "/v1/deposits", "/v1/wallet-keys"):
        assert (await counter.bed.bare("GET", path, headers={"X-Api-Key": counter.bed.key})).code == "not_found"


def proof(challenge: str) -> str:
    """Answer an MPP challenge of nothing with PAYER's proof."""
    fields = dict(part.split("=", 1) for part in challenge.removeprefix("Payment ").split(", "))
    texts = {name: value.strip('"') for name, value in fields.items()}
    request = json.loads(base64.urlsafe_b64decode(texts["request"] + "=="))
    chain_id = request["methodDetails"]["chainId"]
    signed = IdentityProof(PAYER, chain_id, texts["id"], texts["realm"])
    payload = {"type": "proof", "signature": "0x" + sign_digest(PAYER_KEY, signed.digest).hex()}
    source = f"did:pkh:eip155:{chain_id}:{checksum(PAYER)}"
    document = {"challenge": texts, "payload": payload, "source": source}
    token = base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")
    return f"Payment {token}"

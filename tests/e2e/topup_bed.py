"""A gateway's directory with a till and a relayer, payers who sign by hand, and what book and chains say of them afterwards."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import sqlite3
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import requests
from e2e_config import PASSPHRASE, PASSPHRASE_VARIABLE
from e2e_gateway import GatewayHome
from multidict import CIMultiDict
from world import TRANSFER

from contracts.attribution import attribution_memo
from contracts.codec import checksum, parse_address, to_hex
from contracts.eip3009 import Authorization
from contracts.signature import address_of, load_key, sign_digest
from contracts.tempo import TempoCharge, TempoTransfer
from contracts.tokens import BASE_USDC, MODERATO_PATHUSD
from gateway.rails.mpp.challenge import parse_mpp
from gateway.rails.mpp.credential import charge_payload, did_source, encode_credential
from gateway.store.load import verify_book
from sandbox.chain import LocalBase
from sandbox.tempo.chain import LocalTempo
from tests.ports import free_port
from wallets.keystore import Keystore
from wallets.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from coincurve import PrivateKey

    from contracts.codec import Address

PACK_BASE = 500_000
POCKET_BASE = 3_000_000  # in a payer's wallet: on Tempo it also pays the network
WINDOW_S = 240
TEMPO_WINDOW_S = 25  # expiring nonces allow half a minute
TIMEOUT_S = 60
ETHER = 10**18
BASE, TEMPO = "base", "tempo"

CONFIG = """
data_dir = "{directory}"
[server]
port = {port}
public_url = "http://127.0.0.1:{port}"
shutdown_timeout_s = 5
[keystore]
passphrase = "env:{passphrase}"
[chains.{chain}]
chain_id = {chain_id}
rpc = ["{rpc}"]
evidence_quorum = 1
poll_s = 0.25
allow_plain_http = true
[tokens.{token}]
[wallets.main]
address = "{wallet}"
tokens = ["{token}"]
max_value = "1"
[tills.main]
address = "{till}"
tokens = ["{token}"]
[topups]
packs = {{ one = "0.5" }}
"""
RELAYING = """
[relayers.one]
address = "{relayer}"
chains = ["base"]
[facilitator]
tokens = ["base-usdc"]
batch_age_s = {batch_age_s}
"""
TOKENS = {BASE: BASE_USDC, TEMPO: MODERATO_PATHUSD}
LABELS = {BASE: "base-usdc", TEMPO: "moderato-pathusd"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client was told: a JSON body with its status."""

    status: int
    body: Any


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, to be made as often as it takes, always the same."""

    method: str
    path: str
    headers: Mapping[str, str]
    json: Any = None

    def send(self, base_url: str) -> Answer | None:
        """Make it; None where there was no answer."""
        try:
            answer = requests.request(
                self.method, base_url + self.path, headers=dict(self.headers), json=self.json, timeout=TIMEOUT_S
            )
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            return None
        return Answer(answer.status_code, answer.json())


@dataclass(frozen=True, slots=True)
class Purse:
    """A payer's wallet, whose key signs here."""

    key: PrivateKey = field(default_factory=lambda: load_key(secrets.token_bytes(32)), repr=False)

    @property
    def address(self) -> Address:
        """Its address."""
        return address_of(self.key)

    def authorize(self, pay_to: Address, value_base: int) -> dict[str, Any]:
        """Return what x402 calls a payload: an authorization of USDC, and its signature."""
        terms = Authorization(
            token=BASE_USDC,
            authorizer=self.address,
            pay_to=pay_to,
            value_base=value_base,
            valid_after=0,
            valid_before=int(time.time()) + WINDOW_S,
            nonce=secrets.token_bytes(32),
        )
        return {
            "signature": to_hex(sign_digest(self.key, terms.digest)),
            "authorization": {
                "from": checksum(terms.authorizer),
                "to": checksum(terms.pay_to),
                "value": str(terms.value_base),
                "validAfter": "0",
                "validBefore": str(terms.valid_before),
                "nonce": to_hex(terms.nonce),
            },
        }

    def pay_x402(self, base_url: str, path: str, headers: Mapping[str, str], version: int) -> Ask:
        """Ask what credit costs, and return the request that pays it as a client of that version of x402 would."""
        asked = requests.get(base_url + path, headers=dict(headers), timeout=TIMEOUT_S)
        assert asked.status_code == 402, asked.text
        if version == 1:
            (entry,) = asked.json()["accepts"]
            signed = self.authorize(parse_address(entry["payTo"]), int(entry["maxAmountRequired"]))
            document = {"x402Version": 1, "scheme": "exact", "network": entry["network"], "payload": signed}
            return Ask("GET", path, {**headers, "X-PAYMENT": _base64(document)})
        required = json.loads(base64.b64decode(asked.headers["PAYMENT-REQUIRED"]))
        accepted = next(entry for entry in required["accepts"] if entry["network"] == BASE_USDC.network.caip2)
        signed = self.authorize(parse_address(accepted["payTo"]), int(accepted["amount"]))
        document = {"x402Version": 2, "resource": required["resource"], "accepted": accepted, "payload": signed}
        return Ask("GET", path, {**headers, "PAYMENT-SIGNATURE": _base64(document)})

    def pay_tempo(self, base_url: str, path: str, headers: Mapping[str, str]) -> Ask:
        """Ask what credit costs, and return the request that pays it by MPP, with a transaction that the gateway sends."""
        asked = requests.get(base_url + path, headers=dict(headers), timeout=TIMEOUT_S)
        lines = CIMultiDict(("WWW-Authenticate", line) for line in asked.raw.headers.getlist("WWW-Authenticate"))
        challenge = parse_mpp(asked.status_code, lines)
        assert challenge is not None, asked.text
        offer = next(each for each in challenge.offers if each.method == TEMPO)
        memo = attribution_memo(offer.realm, offer.challenge_id)
        charge = TempoCharge(
            token=MODERATO_PATHUSD,
            wallet=self.address,
            transfers=(TempoTransfer(offer.pay_to, offer.amount_base, memo),),
            valid_before=int(time.time()) + TEMPO_WINDOW_S,
            gas=1_000_000,
            max_fee_per_gas=40 * 10**9,
            max_priority_fee_per_gas=10**9,
            sponsored=False,
        )
        raw = charge.encode(sign_digest(self.key, charge.signing_hash))
        source = did_source(MODERATO_PATHUSD.chain_id, self.address)
        name, value = encode_credential(offer, charge_payload(raw), source)
        return Ask("GET", path, {**headers, name: value})

    def pay_seller(self, key: str, payee: Address, value_base: int) -> Ask:
        """Return what a seller asks its facilitator after this wallet paid it."""
        entry = {
            "scheme": "exact",
            "network": BASE_USDC.network.caip2,
            "amount": str(value_base),
            "asset": checksum(BASE_USDC.address),
            "payTo": checksum(payee),
            "maxTimeoutSeconds": WINDOW_S,
            "extra": {"name": BASE_USDC.name, "version": BASE_USDC.version},
        }
        payload = {"x402Version": 2, "accepted": entry, "payload": self.authorize(payee, value_base)}
        body = {"x402Version": 2, "paymentPayload": payload, "paymentRequirements": entry}
        return Ask("POST", "/facilitator/settle", {"Authorization": f"Bearer {key}"}, body)


def _base64(document: object) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


@dataclass(frozen=True, slots=True)
class Chains:
    """The two chains that every gateway of these tests shares."""

    base: LocalBase
    tempo: LocalTempo

    def of(self, chain: str) -> LocalBase | LocalTempo:
        """Return one of them."""
        return self.tempo if chain == TEMPO else self.base

    def purse(self, chain: str) -> Purse:
        """Return a new wallet with POCKET_BASE of the chain's token, and no ether."""
        purse = Purse()
        self.of(chain).fund({checksum(purse.address): POCKET_BASE})
        return purse

    def transfers(self, chain: str, sender: Address, payee: Address) -> list[tuple[str, int]]:
        """Return (transaction, value in base units) of every transfer between two addresses, as the chain has it."""
        ask = self.of(chain)
        topics = [TRANSFER, *("0x" + party.hex().rjust(64, "0") for party in (sender, payee))]
        wanted = {"address": ask.token_address, "fromBlock": "0x0", "toBlock": "latest", "topics": topics}
        return [(log["transactionHash"], int(log["data"], 16)) for log in ask.rpc("eth_getLogs", wanted)]


@dataclass(frozen=True, slots=True)
class TillHome:
    """A gateway's directory: what processes on it write, and what must be true of it."""

    chains: Chains
    home: GatewayHome
    chain: str
    till: Address
    relayer: Address

    def rows(self, statement: str, *values: object) -> list[dict[str, Any]]:
        """Return rows of the book as it is on disk."""
        with contextlib.closing(self._book()) as db:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute(statement, values)]

    def verify(self) -> None:
        """Prove the book as it is on disk (P1, the journal included)."""
        with contextlib.closing(self._book()) as db:
            verify_book(db)

    def open_things(self) -> dict[str, int]:
        """Return how much of everything has no end yet."""
        (row,) = self.rows(
            "SELECT (SELECT count(*) FROM settlements WHERE ended_at_ms IS NULL) AS settlements,"
            " (SELECT count(*) FROM relays WHERE ended_at_ms IS NULL) AS relays,"
            " (SELECT count(*) FROM topups WHERE ended_at_ms IS NULL) AS topups,"
            " (SELECT count(*) FROM refunds WHERE ended_at_ms IS NULL) AS refunds"
        )
        return {name: count for name, count in row.items() if count}

    def posted_base(self, code: str, asset: str) -> int:
        """Return what has been posted to a ledger account, debits less credits; nothing may be pending there."""
        found = self.rows("SELECT * FROM ledger_accounts WHERE code = ? AND asset = ?", code, asset)
        assert all(row["debits_pending"] == row["credits_pending"] == 0 for row in found), found
        return sum(row["debits_posted"] - row["credits_posted"] for row in found)

    def check(self) -> None:
        """Prove that it is whole, and that book and chains agree; the gateway must have stopped."""
        self.verify()  # P1
        assert self.open_things() == {}
        assert self.rows("SELECT * FROM tasks") == []  # nobody had to be asked
        assert self.rows("SELECT * FROM freezes") == []
        on_chain = self.chains.of(self.chain).balance_of(checksum(self.till))
        assert self.posted_base(f"wallet:{to_hex(self.till)}", TOKENS[self.chain].asset_id) == on_chain
        if self.chain == BASE:
            self._check_relayer()

    def _check_relayer(self) -> None:
        # P4, P13: every account nonce was used by the one transaction that is written down for it, and none was wasted.
        relays = self.rows("SELECT * FROM relays ORDER BY account_nonce")
        ask, relayer = self.chains.base.rpc, checksum(self.relayer)
        assert [relay["account_nonce"] for relay in relays] == list(range(len(relays)))
        assert int(ask("eth_getTransactionCount", relayer, "latest"), 16) == len(relays)
        assert all((relay["state"], relay["status"]) == ("final", 1) for relay in relays)
        assert ETHER - int(ask("eth_getBalance", relayer, "latest"), 16) == sum(int(r["fee_wei"]) for r in relays)

    def _book(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.home.database}?mode=ro", uri=True)


def make_home(directory: Path, chains: Chains, chain: str, *, batch_age_s: float = 0.0) -> TillHome:
    """Make a directory with a wallet, a till, and for Base a relayer that has ether; no process runs on it yet."""
    home = GatewayHome(directory)
    keys = Keystore(home.directory / "keystore")
    till, relayer = (keys.new_wallet(Secret(PASSPHRASE)) for _ in range(2))
    chains.base.rpc("anvil_setBalance", checksum(relayer), hex(ETHER))
    text = CONFIG.format(
        directory=home.directory,
        passphrase=PASSPHRASE_VARIABLE,
        port=free_port(),  # what is sold must have one address over all restarts
        chain=chain,
        chain_id=chains.of(chain).chain_id,
        rpc=chains.of(chain).rpc_url,
        token=LABELS[chain],
        wallet=home.wallet,
        till=checksum(till),
    )
    relaying = RELAYING.format(relayer=checksum(relayer), batch_age_s=batch_age_s) if chain == BASE else ""
    home.config.write_text(text + relaying)
    return TillHome(chains, home, chain, till, relayer)


@contextlib.contextmanager
def open_chains() -> Iterator[Chains]:
    """Start both chains."""
    with LocalBase.start(block_time_s=1) as base, LocalTempo.start() as tempo:
        yield Chains(base, tempo)

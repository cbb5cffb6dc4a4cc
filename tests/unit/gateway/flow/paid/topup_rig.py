"""Top-ups over a till on the scripted chain: stock-shaped payments, and a facilitator that does whatever a test says."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from till_rig import PAYER_KEY, TILL, USD, TillRig

from contracts.codec import Address, checksum
from contracts.eip3009 import Authorization
from contracts.signature import address_of, load_key, sign_digest
from gateway.core.paid import TopUp
from gateway.flow.paid.offers import Offered, Offers, TillPrice, TopUpRules, Wanted, mac_of
from gateway.flow.paid.taking import Taking
from gateway.flow.paid.topups import Answered, TopUps
from gateway.paid_ports import FacilitatorUnknown, Json, Rejected, Settled
from gateway.rails.x402.order_ref import OrderMarks
from gateway.rails.x402.payment import read_payment
from wallets.secret import Secret

URL = "https://pay.example"
SECRET = Secret(b"\x07" * 32)
Behaviour = Callable[["Collector", Authorization, int], Awaitable[Settled]]


def settled(auth: Authorization, tx_hash: bytes | None, reason: str = "", *, success: bool | None = None) -> Settled:
    """Return what a facilitator says."""
    good = not reason if success is None else success
    return Settled(good, reason, "", auth.authorizer, tx_hash, auth.token.network.caip2, auth.value_base)


async def hangs(_collector: "Collector", _auth: Authorization, _asked: int) -> Settled:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError("nobody ends this wait")


@dataclass
class Collector:
    """A facilitator: it puts what it is shown on the scripted chain, once, and mines it, unless a test says otherwise.

    `behaviour` stands for what `settle` does after it has read the payment; `asked` counts its questions.
    """

    rig: "TopUpRig"
    behaviour: Behaviour | None = None
    verdict: Rejected | None = None
    unknown: bool = False
    asked: int = 0
    verified: int = 0
    collected: dict[bytes, bytes] = field(default_factory=dict)

    def read(self, version: int, payload: Json, requirements: Json) -> Authorization:
        """Read a payment as a strict facilitator would."""
        exact = read_payment(version, payload, requirements, {self.rig.token.key: self.rig.token})
        assert not isinstance(exact, Rejected), exact
        return exact.authorization

    def collect(self, auth: Authorization) -> bytes:
        """Collect an authorization, once however often it is asked for."""
        if auth.nonce not in self.collected:
            self.collected[auth.nonce] = self.rig.chain.settle(auth)
            self.rig.chain.mine()
        return self.collected[auth.nonce]

    async def verify(self, version: int, payload: Json, requirements: Json) -> Rejected | Address:
        self.verified += 1
        if self.unknown:
            raise FacilitatorUnknown("no chain")
        return self.verdict or self.read(version, payload, requirements).authorizer

    async def settle(self, version: int, payload: Json, requirements: Json, account_id: str) -> Settled:
        assert account_id == "house"
        self.asked += 1
        auth = self.read(version, payload, requirements)
        if self.behaviour is not None:
            return await self.behaviour(self, auth, self.asked)
        return settled(auth, self.collect(auth))


@dataclass
class TopUpRig(TillRig):
    """A till, and the door through which credit is bought. `own`: the facilitator counts as ours."""

    own: bool = True
    patience_s: float = 5.0
    rules: TopUpRules = field(default_factory=lambda: TopUpRules(10_000, 1_000 * USD, {"five": 5 * USD}))

    def __post_init__(self) -> None:
        self.collector = Collector(self)
        super().__post_init__()

    def restart(self) -> None:
        """Forget what only the process knew."""
        super().restart()
        offers = Offers(
            [TillPrice(self.token, TILL)],
            self.rules,
            OrderMarks(mac_of(SECRET)),
            URL,
            "pay.example",
            self.clock,
            self.entropy,
            takes=self.inventory.takes,
        )
        self.taking = Taking(
            store=self.store,
            facilitator=self.collector,
            own=self.own,
            chains={self.token.chain_id: self.chain},
            tokens=offers.tokens,
            clock=self.clock,
            patience_s=self.patience_s,
        )
        self.topups = TopUps(
            store=self.store,
            offers=offers,
            taking=self.taking,
            facilitator=self.collector,
            own=self.own,
            chains={self.token.chain_id: self.chain},
            clock=self.clock,
        )

    def wanted(self, amount: str = "5", account_id: str | None = "acc_1", **changes: Any) -> Wanted:
        """Return a request for credit as the API reads it."""
        body = json.dumps({"amount": amount}).encode()
        base: dict[str, Any] = {
            "method": "POST",
            "path": "/v1/topups",
            "body": body,
            "amount_base": round(float(amount) * USD),
            "pack": "",
            "account_id": account_id,
            "claim": None,
        }
        return Wanted(**(base | changes))

    async def offer(self, wanted: Wanted | None = None) -> Offered:
        """Ask, unpaid."""
        offered = await self.topups.serve(wanted or self.wanted(), None, ())
        assert isinstance(offered, Offered), offered
        return offered

    def signed(self, pay_to: str, value: str, n: int, key: bytes, valid_s: int = 300) -> tuple[dict[str, Any], str]:
        """Return an authorization of a stock client and its signature."""
        payer = address_of(load_key(key))
        auth = Authorization(
            token=self.token,
            authorizer=payer,
            pay_to=Address(bytes.fromhex(pay_to[2:])),
            value_base=int(value),
            valid_after=0,
            valid_before=self.clock.ms // 1000 + valid_s,
            nonce=sha256(b"client nonce %d" % n).digest(),
        )
        terms = {
            "from": checksum(payer),
            "to": pay_to,
            "value": value,
            "validAfter": "0",
            "validBefore": str(auth.valid_before),
            "nonce": "0x" + auth.nonce.hex(),
        }
        return terms, "0x" + sign_digest(load_key(key), auth.digest).hex()

    def pay_v2(self, offered: Offered, n: int = 1, key: bytes = PAYER_KEY, **also: Any) -> str:
        """Return the PAYMENT-SIGNATURE of a version 2 client. `also` are members of the payment."""
        required = required_of(offered)
        accepted = required["accepts"][0]
        terms, signature = self.signed(accepted["payTo"], accepted["amount"], n, key)
        document = {
            "x402Version": 2,
            "resource": required["resource"],
            "accepted": accepted,
            "payload": {"signature": signature, "authorization": terms},
            "extensions": required["extensions"],
            **also,
        }
        return encoded(document)

    def pay_v1(self, offered: Offered, n: int = 1, key: bytes = PAYER_KEY) -> str:
        """Return the X-PAYMENT of a version 1 client."""
        accepted = offered.document["accepts"][0]
        terms, signature = self.signed(accepted["payTo"], accepted["maxAmountRequired"], n, key)
        payload = {"signature": signature, "authorization": terms}
        return encoded({"x402Version": 1, "scheme": "exact", "network": accepted["network"], "payload": payload})

    async def buy(self, n: int = 1, wanted: Wanted | None = None, **also: Any) -> Answered:
        """Ask and pay, as a version 2 client does."""
        asked = wanted or self.wanted()
        outcome = await self.topups.serve(asked, self.pay_v2(await self.offer(asked), n, **also), ())
        assert isinstance(outcome, Answered), outcome
        return outcome

    async def settle_down(self) -> None:
        """Sweep until nothing is under way in this process."""
        await self.topups.sweep()
        while flights := [task for task in asyncio.all_tasks() if task.get_name().startswith("topup ")]:
            await asyncio.wait(flights)

    def orders(self) -> list[dict[str, Any]]:
        """Return the rows of all orders."""
        return self.rows("SELECT id, account_id, state, version, credited_base FROM topups ORDER BY id")

    def open_orders(self) -> list[TopUp]:
        """Return the orders that are open."""
        return list(self.view.topups.values())


def required_of(offered: Offered) -> dict[str, Any]:
    """Decode PAYMENT-REQUIRED."""
    (value,) = [value for name, value in offered.headers if name == "PAYMENT-REQUIRED"]
    document: dict[str, Any] = json.loads(base64.b64decode(value))
    return document


def receipt_of(answered: Answered) -> dict[str, Any]:
    """Decode the x402 receipt of an answer."""
    (value,) = [value for name, value in answered.headers if name in {"PAYMENT-RESPONSE", "X-PAYMENT-RESPONSE"}]
    document: dict[str, Any] = json.loads(base64.b64decode(value))
    return document


def encoded(document: dict[str, Any]) -> str:
    """Write a payment header as clients do."""
    return base64.b64encode(json.dumps(document).encode()).decode()

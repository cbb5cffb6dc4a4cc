"""Buying vendors' paid catalogues with the house's own money: seldom, within a day's budget, and never one twice.

Must not know what a catalogue says.  Theory: it is bought as an agent would buy it, by an account of the house under a
claim that names the time it is good for; whoever comes after a crash finds the purchase by its claim, answer and all.
"""

import json
from dataclasses import dataclass
from hashlib import sha256

from gateway.core.apikeys import PROXY
from gateway.core.commands import AddKey, CreditAccount, Done, OpenAccount, Refused
from gateway.core.money import format_amount, parse_amount
from gateway.core.payment import Delivery
from gateway.core.problems import Problem
from gateway.core.records import AgentAccount, ApiKey, Budget, Payment
from gateway.flow.call import Reply
from gateway.flow.servers.keeping import Keeping
from gateway.flow.servers.runner import Runner, Who
from gateway.server_ports import Ask

HOUSE_ACCOUNT = "acc_house_catalogue"
DAY_S = 86_400
CREDITS_A_DAY = 1_000  # references tried before something is taken to be wrong
OK = 200


@dataclass(frozen=True, slots=True)
class Bought:
    """A catalogue as it was bought, and when."""

    body: bytes
    at_ms: int


class Purse:
    """The house's purchases. `budget_base` (USD) is the most for one vendor in a day, `ttl_s` how long one is good for."""

    def __init__(self, runner: Runner, keeping: Keeping, budget_base: int, ttl_s: int) -> None:
        self._runner, self._keeping, self._budget_base, self._ttl_s = runner, keeping, budget_base, ttl_s

    async def who(self, vendor: str) -> Who:
        """Return the house as an agent that may spend its budget at one vendor; opened at the first call."""
        view, now_ms, key_id = self._keeping.view, self._keeping.clock.now_ms(), self._key_id(vendor)
        if HOUSE_ACCOUNT not in view.agent_accounts:
            await self._post(OpenAccount(AgentAccount(HOUSE_ACCOUNT, "the house: vendors' catalogues", now_ms)))
        if key_id not in view.keys_by_id:
            # The digest of what is no key's text: nobody can come with this key.
            digest, name = sha256(f"house {key_id}".encode()).digest(), f"catalogue of {vendor}"
            budget = Budget(self._budget_id(vendor), self._budget_base, DAY_S, vendor)
            scopes = (f"{PROXY}:{vendor}",)
            await self._post(AddKey(ApiKey(key_id, HOUSE_ACCOUNT, digest, name, scopes, (budget,), now_ms)))
        return Who(view.keys_by_id[key_id], self._keeping.new_id("req"))

    async def kept(self, vendor: str, ask: Ask, days: int) -> Bought | None:
        """Return the newest catalogue that was bought in the last days and delivered; nothing is asked or bought."""
        newest_s = self._from_s()
        for from_s in range(newest_s, newest_s - max(2 * self._ttl_s, days * DAY_S), -self._ttl_s):
            payment = await self._payment(vendor, from_s)
            if payment is not None and payment.axes.delivery is Delivery.DELIVERED:
                return _bought(await self._run(vendor, ask, from_s), payment)
        return None

    async def buy(self, vendor: str, ask: Ask) -> Bought:
        """Return a catalogue that was bought less than `ttl_s` ago: an earlier one, or a new one. Raises Problem."""
        from_s, now_ms = self._from_s(), self._keeping.clock.now_ms()
        for each in (from_s, from_s - self._ttl_s):
            earlier = await self._payment(vendor, each)
            young = earlier is not None and earlier.created_at_ms > now_ms - self._ttl_s * 1000
            if earlier is not None and young and not earlier.reclaimable:
                return _bought(await self._run(vendor, ask, each), earlier)
        most_base = await self._provide(vendor, ask)
        reply = await self._run(vendor, ask, from_s, most_base)
        payment = None if reply.payment_id is None else await self._keeping.store.payment(reply.payment_id)
        return _bought(reply, payment, now_ms)

    async def _provide(self, vendor: str, ask: Ask) -> int:
        """See that the house's account holds what the catalogue costs now; return that price. Raises Problem."""
        if not self._left_base(vendor):  # then its price is no question: a vendor is not asked for nothing
            raise Problem("budget_exhausted", f"nothing is left of today's budget for the catalogue of {vendor}")
        who = await self.who(vendor)
        price_base = _price(vendor, await self._runner.ask(who, vendor, ask, quote_only=True))
        left_base = self._left_base(vendor)
        if price_base > left_base:
            detail = f"today's budget for the catalogue of {vendor} has {format_amount(left_base)} left"
            raise Problem("budget_exhausted", detail)
        balance = self._keeping.view.balances.get(HOUSE_ACCOUNT)
        missing_base = price_base - (0 if balance is None else balance.available_base)
        if missing_base > 0:
            await self._credit(vendor, missing_base)
        return price_base

    async def _credit(self, vendor: str, amount_base: int) -> None:
        now_ms = self._keeping.clock.now_ms()
        for n in range(1, CREDITS_A_DAY + 1):
            reference = f"catalogue {vendor} {now_ms // (DAY_S * 1000)} {n}"
            note = f"the catalogue of {vendor}"
            result = await self._keeping.store.post(
                CreditAccount(HOUSE_ACCOUNT, amount_base, reference, note, "the gateway", now_ms)
            )
            if isinstance(result, Done) and result.changed:
                return
            if isinstance(result, Refused) and result.code != "reference_conflict":
                raise Problem(result.code, result.detail)
        raise Problem("budget_exhausted", f"the catalogue of {vendor} was paid for {CREDITS_A_DAY} times today")

    async def _run(self, vendor: str, ask: Ask, from_s: int, most_base: int | None = None) -> Reply:
        who, claim = await self.who(vendor), _claim(vendor, from_s)
        reply = await self._runner.ask_whole(who, vendor, ask, claim=claim, max_charge_base=most_base)
        if reply.status != OK:
            raise Problem("vendor_unreachable", f"{vendor} answered {reply.status} where its catalogue was asked for")
        if reply.delivered is not None:  # it is kept with the payment, whatever becomes of this process
            await reply.delivered()
        return reply

    async def _payment(self, vendor: str, from_s: int) -> Payment | None:
        claimed = await self._keeping.store.claimed(HOUSE_ACCOUNT, _claim(vendor, from_s))
        if claimed is None or claimed.payment_id is None:
            return None
        return await self._keeping.store.payment(claimed.payment_id)

    def _left_base(self, vendor: str) -> int:
        use = self._keeping.view.budget_uses.get(self._budget_id(vendor))
        if use is None or use.window_started_at_ms + DAY_S * 1000 <= self._keeping.clock.now_ms():
            return self._budget_base
        return max(0, self._budget_base - use.used_base)

    async def _post(self, command: OpenAccount | AddKey) -> None:
        result = await self._keeping.store.post(command)
        if isinstance(result, Refused) and result.code not in {"account_exists", "key_exists"}:
            raise Problem(result.code, result.detail)

    def _from_s(self) -> int:
        """Return when the present stretch of `ttl_s` began: it names the purchase that is good for it."""
        now_s = self._keeping.clock.now_ms() // 1000
        return now_s - now_s % self._ttl_s

    def _key_id(self, vendor: str) -> str:
        return f"key_house_{vendor}_{self._budget_base}"  # another budget is another key

    def _budget_id(self, vendor: str) -> str:
        return f"bud_house_{vendor}_{self._budget_base}"


def _claim(vendor: str, from_s: int) -> str:
    return f"catalogue {vendor} {from_s}"


def _bought(reply: Reply, payment: Payment | None, now_ms: int = 0) -> Bought:
    return Bought(reply.body, now_ms if payment is None else payment.created_at_ms)


def _price(vendor: str, reply: Reply) -> int:
    """Return the price in the gateway's own answer to `quote_only`. Raises Problem where the vendor told none."""
    if reply.status != OK:
        raise Problem("vendor_unreachable", f"{vendor} answered {reply.status} where its catalogue was asked for")
    return parse_amount(json.loads(reply.body)["price"], allow_zero=True)

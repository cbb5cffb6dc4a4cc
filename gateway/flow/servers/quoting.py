"""Choosing where a server is made, and binding quotes: the cheapest that fits, at a price that its vendor has just named.

Must not know HTTP or any vendor.  Theory: a list of plans only says whom to ask first; what an agent is promised is the
price of the very request that would buy, and whoever refuses it has lost to the next one, with its reason.
"""

import json
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.core.apikeys import PROXY, allows
from gateway.core.money import format_amount, parse_amount
from gateway.core.plan import Need, Plan
from gateway.core.problems import Problem
from gateway.core.ranking import Lost, first_charge_base, rank
from gateway.core.server import Candidate, Quote
from gateway.core.spec import ServerSpec
from gateway.flow.servers.catalogue import Catalogue
from gateway.flow.servers.keeping import Keeping
from gateway.flow.servers.keys import KeyPrices, key_of
from gateway.flow.servers.orders import OrderSettings, order_for
from gateway.flow.servers.quote_text import Priced, lost_document, quote_document
from gateway.flow.servers.runner import Runner, Who
from gateway.server_ports import Feature, ServerVendor

OK = 200
PLACEHOLDER = "quote"  # the name in a request that is only priced
KIND = "quote"
_OF_THE_VENDOR = frozenset(
    {
        "vendor_unreachable",
        "vendor_timeout",
        "vendor_answer_malformed",
        "vendor_busy",
        "vendor_login_failed",
        "vendor_refuses_us",
        "vendor_account_empty",
        "vendor_account_full",
        "frozen",
    }
)
"""Refusals that its other plans would meet as well."""
_REASONS = {
    "insufficient_balance": "balance",
    "price_unknown": "price_unknown",
    "price_untold": "price_unknown",
    "price_above_quote": "price_unknown",
}
"""Refusals that have a reason of their own; the rest are `unavailable`."""

KeyCosts = tuple[tuple[str, int], ...]  # key, price


@dataclass(frozen=True, slots=True)
class QuoteSettings:
    """How long a quote binds, and of how many candidates a binding price is asked before nobody is left to ask."""

    ttl_s: int = 600
    asked_most: int = 5
    order: OrderSettings = field(default_factory=OrderSettings)


@dataclass(frozen=True, slots=True)
class Choice:
    """Candidates in the order in which to try them, with their plans; why each other plan lost.

    The first one's charge is the vendor's word; the others' are bounds of ours, a little above what is expected. Each
    includes what it costs that the vendor learns of SSH keys; `keys` is what the first one's are of that.
    """

    candidates: tuple[Candidate, ...]
    plans: tuple[Plan, ...]
    losers: tuple[Lost, ...]
    keys: KeyCosts = ()


@dataclass(frozen=True, slots=True)
class Bound:
    """What a vendor takes or holds at first (USD base units): for the server, and for SSH keys that it does not know."""

    server_base: int
    keys: KeyCosts = ()

    @property
    def first_base(self) -> int:
        """All of it."""
        return self.server_base + keys_base(self.keys)


class Quoting:
    """The use case. One object serves every request."""

    def __init__(
        self, catalogue: Catalogue, runner: Runner, keeping: Keeping, settings: QuoteSettings | None = None
    ) -> None:
        self._catalogue, self._runner, self._keeping = catalogue, runner, keeping
        self._settings, self._key_prices = settings or QuoteSettings(), KeyPrices(keeping, runner)

    async def choose(self, who: Who, asked: ServerSpec) -> Choice:
        """Return where a server can be made, the cheapest first. Nothing is spent.

        Raises Problem: no_plan_fits, insufficient_balance (it fits, and is too dear now); for a plan that was named
        whatever its vendor says, and not_found where there is none; bad_request for a vendor that is unknown; not_found for
        an SSH key that is not the account's.
        """
        for key_id in asked.ssh_keys:
            await key_of(self._keeping, who.account_id, key_id)
        fits, losers = await self._fits(who, asked)
        asked_of, silent, keys = 0, dict[str, Problem](), _Keys(self._key_prices, who, asked.ssh_keys)
        for n, plan in enumerate(fits):
            if plan.vendor in silent:
                losers.append(_lost(plan, silent[plan.vendor]))
                continue
            if asked_of == self._settings.asked_most:
                losers += [Lost(each.key, "not_asked", "too many before it were refused") for each in fits[n:]]
                break
            asked_of += 1
            try:
                bound = await self.bind(who, plan, asked, await keys.at(self._catalogue.servers[plan.vendor]))
                self._require_funds(who, asked, bound.first_base)
            except Problem as problem:
                if asked.need.plan is not None:
                    raise
                losers.append(_lost(plan, problem))
                if problem.code in _OF_THE_VENDOR or keys.refused(plan.vendor):
                    silent[plan.vendor] = problem
                continue
            return await self._choice(who, asked, (plan, *fits[n + 1 :]), bound, losers, keys)
        raise self._nobody(losers)

    async def bind(self, who: Who, plan: Plan, asked: ServerSpec, keys: KeyCosts) -> Bound:
        """Return what the plan's vendor takes or holds at first for this order now. Nothing is bought.

        Raises Problem where it would not be sold. The order that is priced names no SSH keys, for a vendor may have to be
        told them first; what that costs is known already.
        """
        servers = self._catalogue.servers[plan.vendor]
        ask = servers.create(order_for(servers, plan, asked, PLACEHOLDER, self._settings.order))
        reply = await self._runner.ask(who, plan.vendor, ask, quote_only=True)
        if reply.rest is not None:
            await reply.rest.close()
        if reply.status != OK:
            raise Problem("no_plan_fits", f"{plan.vendor} answered {reply.status} where this was ordered")
        return Bound(parse_amount(json.loads(reply.body)["price"], allow_zero=True), keys)

    async def quote(self, who: Who, asked: ServerSpec) -> tuple[Quote, dict[str, Any]]:
        """Keep a binding quote; return it with the document that its agent reads. Raises Problem as `choose` does."""
        choice = await self.choose(who, asked)
        candidate, plan = choice.candidates[0], choice.plans[0]
        dearer = (Lost(each.key, "dearer", f"{plan.key} fits, and costs less") for each in choice.plans[1:])
        now_ms, quote_id = self._keeping.clock.now_ms(), self._keeping.new_id("quo")
        servers = self._catalogue.servers[plan.vendor]
        order = order_for(servers, plan, asked, PLACEHOLDER, self._settings.order)
        need = Need(plan=plan.key, region=order.region or None, image=order.image or None, sandbox=True)
        spec = replace(asked, need=replace(need, for_s=asked.need.for_s), minutes=order.minutes)
        priced = Priced(plan, order, candidate.first_charge_max_base, servers.features, choice.keys)
        expires_at_ms = now_ms + self._settings.ttl_s * 1000
        document = quote_document(quote_id, priced, expires_at_ms, (*choice.losers, *dearer))
        quote = Quote(
            id=quote_id,
            account_id=who.account_id,
            candidate=candidate,
            document=json.dumps(document, separators=(",", ":")),
            sealed_spec=self._keeping.seal(KIND, quote_id, spec.to_document()),
            created_at_ms=now_ms,
            expires_at_ms=expires_at_ms,
        )
        if not await self._keeping.put(quote, "made"):
            raise AssertionError(f"quote {quote_id} is new, and was kept before")
        return quote, document

    async def shown(self, account_id: str, quote_id: str) -> dict[str, Any]:
        """Return an account's quote as it was shown, expired or not. Raises Problem("not_found")."""
        document: dict[str, Any] = json.loads((await self._kept(account_id, quote_id)).document)
        return document

    async def take(self, account_id: str, quote_id: str) -> tuple[Quote, dict[str, Any]]:
        """Return a quote that binds, and the document of the ServerSpec that it covers: its plan, region and image named.

        Raises Problem: not_found, quote_expired.
        """
        quote = await self._kept(account_id, quote_id)
        if quote.expires_at_ms <= self._keeping.clock.now_ms():
            raise Problem("quote_expired", f"quote {quote_id} is over", extra={"quote": quote_id})
        return quote, self._keeping.open(KIND, quote_id, quote.sealed_spec)

    async def _kept(self, account_id: str, quote_id: str) -> Quote:
        found = await self._keeping.store.record(KIND, quote_id)
        if not isinstance(found, Quote) or found.account_id != account_id:
            raise Problem("not_found", "there is no such quote of yours")
        return found

    # who fits

    async def _fits(self, who: Who, asked: ServerSpec) -> tuple[list[Plan], list[Lost]]:
        """Return the plans that fit and can be paid for as far as is known without asking, the cheapest first."""
        plans = await self._candidates(asked.need)
        facts = self._catalogue.standing.facts(lambda vendor: allows(who.key.scopes, f"{PROXY}:{vendor}"))
        ranking = rank(_with_features(asked), plans, facts)
        fits, losers = list[Plan](), list(ranking.losers)
        for plan in ranking.fits:
            try:
                first_base = first_charge_base(plan, self._minutes(plan, asked), facts)
                self._require_funds(who, asked, first_base)
            except Problem as problem:
                losers.append(_lost(plan, problem))
            except ValueError as error:
                losers.append(Lost(plan.key, "price_unknown", str(error)))
            else:
                fits.append(plan)
        old = [plan for plan in fits if self._catalogue.too_old(plan)]
        losers += [Lost(plan.key, "stale_price", f"{plan.vendor} has not stated it for too long") for plan in old]
        return [plan for plan in fits if plan not in old], losers

    async def _candidates(self, need: Need) -> tuple[Plan, ...]:
        names = {*need.vendors, *need.not_vendors, *([] if need.plan is None else [need.plan.partition("/")[0]])}
        unknown = sorted(names - self._catalogue.servers.keys())
        if unknown:
            field = "plan" if need.plan is not None else "need/vendors"
            raise Problem("bad_request", f"no vendor of the neutral API has the name {', '.join(unknown)}", field)
        plans = await self._catalogue.plans()
        if need.plan is None:
            return plans
        named = tuple(plan for plan in plans if plan.key == need.plan)
        if not named:
            raise Problem("not_found", f"there is no plan {need.plan} now; see GET /v1/plans", "plan")
        return named

    def _minutes(self, plan: Plan, asked: ServerSpec) -> int:
        order = order_for(self._catalogue.servers[plan.vendor], plan, asked, PLACEHOLDER, self._settings.order)
        return order.minutes or 0

    def _require_funds(self, who: Who, asked: ServerSpec, first_base: int) -> None:
        """A need goes to whoever the balance can pay; for a plan that was named the price is told whatever the balance."""
        balance = self._keeping.view.balances.get(who.account_id)
        available_base = 0 if balance is None else balance.available_base
        if asked.need.plan is None and first_base > available_base:
            detail = f"the first charge is {format_amount(first_base)}, available are {format_amount(available_base)}"
            raise Problem("insufficient_balance", detail)

    async def _choice(
        self, who: Who, asked: ServerSpec, fits: tuple[Plan, ...], bound: Bound, losers: list[Lost], keys: "_Keys"
    ) -> Choice:
        """Return the choice of the first that fits; whoever would not be told the SSH keys has lost."""
        facts = self._catalogue.standing.facts(lambda vendor: allows(who.key.scopes, f"{PROXY}:{vendor}"))
        plans, found = [fits[0]], [self._candidate(fits[0], asked, bound.first_base)]
        for plan in fits[1:]:
            try:
                added_base = keys_base(await keys.at(self._catalogue.servers[plan.vendor]))
            except Problem as problem:
                losers.append(_lost(plan, problem))
                continue
            expected_base = first_charge_base(plan, self._minutes(plan, asked), facts)
            plans.append(plan)
            found.append(self._candidate(plan, asked, self._settings.order.bound(expected_base) + added_base))
        return Choice(tuple(found), tuple(plans), tuple(losers), bound.keys)

    def _candidate(self, plan: Plan, asked: ServerSpec, price_base: int) -> Candidate:
        servers = self._catalogue.servers[plan.vendor]
        region = order_for(servers, plan, asked, PLACEHOLDER, self._settings.order).region
        return Candidate(plan.vendor, plan.id, region, price_base)

    def _nobody(self, losers: list[Lost]) -> Problem:
        stale = [{"vendor": each.vendor, "reason": each.reason} for each in self._catalogue.stale()]
        extra = {"candidates_lost": [lost_document(each) for each in losers], "stale": stale}
        if any(each.reason == "balance" for each in losers):
            return Problem("insufficient_balance", "what fits costs more at first than the balance has", extra=extra)
        return Problem("no_plan_fits", f"none of {len(losers)} plans fits and can be had now", extra=extra)


class _Keys:
    """What SSH keys cost at each vendor, asked once of each for one choice."""

    def __init__(self, prices: KeyPrices, who: Who, key_ids: tuple[str, ...]) -> None:
        self._prices, self._who, self._key_ids = prices, who, key_ids
        self._found: dict[str, KeyCosts | Problem] = {}

    async def at(self, servers: ServerVendor) -> KeyCosts:
        """Return them. Raises Problem where the vendor would not be told them."""
        found = self._found.get(servers.name)
        if found is None:
            found = self._found[servers.name] = await self._ask(servers)
        if isinstance(found, Problem):
            raise found
        return found

    def refused(self, vendor_name: str) -> bool:
        """Say whether a vendor would not be told them."""
        return isinstance(self._found.get(vendor_name), Problem)

    async def _ask(self, servers: ServerVendor) -> KeyCosts | Problem:
        try:
            return await self._prices.of(self._who, servers, self._key_ids)
        except Problem as problem:
            return problem


def _with_features(asked: ServerSpec) -> Need:
    """Return the need with what the order itself needs of a vendor."""
    wanted = {
        Feature.SSH_KEYS: bool(asked.ssh_keys),
        Feature.USER_DATA: bool(asked.user_data),
        Feature.RESTORE_TO_NEW: bool(asked.snapshot),
    }
    more = tuple(f.value for f, given in wanted.items() if given and f.value not in asked.need.features)
    return replace(asked.need, features=(*asked.need.features, *more))


def keys_base(keys: KeyCosts) -> int:
    """Return what SSH keys cost together."""
    return sum(price_base for _, price_base in keys)


def _lost(plan: Plan, problem: Problem) -> Lost:
    return Lost(plan.key, _REASONS.get(problem.code, "unavailable"), problem.detail)

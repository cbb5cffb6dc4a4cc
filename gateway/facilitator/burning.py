"""What failed transactions may burn of the relayers' gas: on each seller's behalf, and for whoever pays the house itself.

Must not know how anything is sent. Theory: a simulation can be lied to, by a contract wallet that behaves otherwise in a
block or by a payer who spends the money meanwhile; so what it costs is bounded instead: by a budget for each seller, by one
for all that is paid to the house, and by how often one payer may do it. Whoever has not burnt anything and signs with a key
is served whatever the budget says, for a stranger must not be able to close the till for everybody.
"""

import asyncio

from gateway.core.paid import SellerTerms, Settlement, SettlementState
from gateway.core.pause import has_passed
from gateway.core.records import HOUSE
from gateway.facilitator.desk import Desk, Rules
from gateway.facilitator.lanes import fees_now
from gateway.ports import Clock, Store
from gateway.rails.x402.reasons import Reason

__all__ = ["Burning"]

KEPT_MS = 1_000
WINDOW_MS = 86_400_000
TIMES_PER_PAYER = 3
_UNDER_WAY = frozenset({SettlementState.CLAIMED, SettlementState.SENT})


class Burning:
    """Counts what failures have burnt, and says who must be refused before anything is sent for it."""

    def __init__(self, store: Store, rules: Rules, clock: Clock) -> None:
        self._store, self._rules, self._clock = store, rules, clock
        self._sellers: dict[str, tuple[int, asyncio.Future[int]]] = {}  # when it was asked, and wei
        self._burners: tuple[int, asyncio.Future[tuple[int, dict[bytes, int]]]] | None = None
        self.one_by_one = asyncio.Lock()
        """Held from `refusal` to the claim of a contract wallet's payment: else many at once would each find room."""

    async def seller_wei(self, terms: SellerTerms) -> int:
        """Return what failures burnt lately on a seller's behalf, as it was known a second ago at most."""
        now_ms = self._clock.now_ms()
        kept = self._sellers.get(terms.account_id)
        if kept is None or has_passed(KEPT_MS, kept[0], now_ms):
            # All who come meanwhile wait for the one answer: a burst would else ask the store once for each.
            asked = asyncio.ensure_future(self._store.gas_burnt_wei(terms.account_id, now_ms - terms.window_s * 1000))
            kept = self._sellers[terms.account_id] = (now_ms, asked)
        return await asyncio.shield(kept[1])

    async def refusal(self, desk: Desk, claim: Settlement) -> tuple[Reason, str] | None:
        """Say why a settlement is not sent, if it is not. Raises ChainUnavailable.

        SETTLE_UNKNOWN: not now, because of what is under way. Any other reason: not within a day of what was burnt.
        """
        if claim.account_id != HOUSE:
            return await self._seller_refusal(desk, claim)
        if not claim.contract_wallet:
            return await self._key_refusal(desk, claim)
        under_way = self._under_way(HOUSE)
        own = sum(s.authorizer == claim.authorizer for s in under_way)
        burnt_wei, times = await self._burnt()
        if times.get(claim.authorizer, 0) >= TIMES_PER_PAYER:
            return _BURNER
        each_wei = await self._each_wei(desk)
        if burnt_wei + each_wei > self._rules.house_gas_budget_wei:
            await self._ask(desk, burnt_wei)
            return Reason.SIMULATION_FAILED, "the gas that contract wallets may cost is used up for today"
        if (
            times.get(claim.authorizer, 0) + own >= TIMES_PER_PAYER
            or burnt_wei + each_wei * (len(under_way) + 1) > self._rules.house_gas_budget_wei
        ):
            return _BUSY
        return None

    async def _key_refusal(self, desk: Desk, claim: Settlement) -> tuple[Reason, str] | None:
        """A key's payment is refused for what this payer burnt itself, and for nothing that others did."""
        now_ms = self._clock.now_ms()
        if self._burners is None or has_passed(KEPT_MS, self._burners[0], now_ms):
            self._burners = (now_ms, asyncio.ensure_future(self._burnt()))
        burnt_wei, times = await asyncio.shield(self._burners[1])
        if times.get(claim.authorizer, 0) >= TIMES_PER_PAYER:
            return _BURNER
        if times.get(claim.authorizer, 0) and burnt_wei > self._rules.house_gas_budget_wei:
            await self._ask(desk, burnt_wei)
            return _BURNER
        return None

    async def _seller_refusal(self, desk: Desk, claim: Settlement) -> tuple[Reason, str] | None:
        """Contract wallets' payments under way count to the seller's budget as if they burnt; one alone always goes."""
        terms = self._store.view.sellers.get(claim.account_id)
        under_way = self._under_way(claim.account_id) if claim.contract_wallet else []
        if terms is None or not under_way:
            return None
        now_ms = self._clock.now_ms()
        burnt_wei = await self._store.gas_burnt_wei(terms.account_id, now_ms - terms.window_s * 1000)
        if burnt_wei + await self._each_wei(desk) * (len(under_way) + 1) > terms.gas_budget_wei:
            return _BUSY
        return None

    def _under_way(self, account_id: str) -> list[Settlement]:
        found = self._store.view.settlements.values()
        return [s for s in found if s.account_id == account_id and s.contract_wallet and s.state in _UNDER_WAY]

    async def _each_wei(self, desk: Desk) -> int:
        fees = await fees_now(desk)
        return self._rules.max_gas_single * (self._rules.fee_cap_wei if fees is None else fees.max_wei)

    async def _burnt(self) -> tuple[int, dict[bytes, int]]:
        since_ms = self._clock.now_ms() - WINDOW_MS
        times = await self._store.burners(HOUSE, since_ms)
        return await self._store.gas_burnt_wei(HOUSE, since_ms), dict(times)

    async def _ask(self, desk: Desk, burnt_wei: int) -> None:
        budget_wei = self._rules.house_gas_budget_wei
        detail = f"failed payments to the house burnt {burnt_wei} wei of gas in a day; its budget is {budget_wei}"
        await desk.ask("gas_burnt", "house", detail)


_BURNER = (Reason.SIMULATION_FAILED, "payments of this payer failed in blocks today; no more of them are sent")
_BUSY = (Reason.SETTLE_UNKNOWN, "others of contract wallets are under way; ask again")

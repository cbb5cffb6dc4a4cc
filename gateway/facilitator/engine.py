"""The engine of settlements: each authorization is claimed once, submitted alone or with others, and followed to its end.

Must not know HTTP, x402's wire or who is credited. Theory: the claim of (chain, token, authorizer, nonce) is
durable before anything leaves, so however often and from wherever the same payment comes, there is one worker for it and
one answer; everything that was decided is in the store, so a process that starts goes on where another one was killed.
"""

import asyncio
from collections.abc import Mapping, Sequence

from contracts.batch import deployment
from contracts.calls import SIGNATURE_MAX_BYTES
from contracts.codec import checksum, to_hex
from gateway.core.commands import Attached, Refused
from gateway.core.money import MAX_AMOUNT_BASE
from gateway.core.paid import Identity, RelayState, Settlement, SettlementState
from gateway.core.paid_commands import ClaimSettlement
from gateway.core.records import HOUSE
from gateway.core.replacing import replace
from gateway.facilitator.answers import Told, answer_of
from gateway.facilitator.burning import Burning
from gateway.facilitator.desk import Desk, DeskParts, Rules
from gateway.facilitator.inclusion import Follower
from gateway.facilitator.lanes import Call, Lanes, fees_now, too_dear
from gateway.facilitator.submit import Submitter
from gateway.facilitator.upkeep import Upkeep
from gateway.facilitator.verify import may_claim_again
from gateway.paid_ports import Exact, Settled
from gateway.ports import Clock, Entropy, Store
from gateway.rails.x402.reasons import Reason

__all__ = ["NotDeployed", "SettlementEngine"]

TIME_BITS = 48
_DEPLOY_MARGIN_NUMERATOR, _DEPLOY_MARGIN_DENOMINATOR = 5, 4
_DEPLOY_POLL_S = 0.2


class NotDeployed(Exception):  # noqa: N818 - named for what is known
    """The batch contract is not at its address: says why. `remedy` is what an operator does about it."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(why)
        self.remedy = remedy


class _Works:
    """One chain's parts and their tasks."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.lanes = desk, Lanes(desk)
        self.follower = Follower(desk, self._moved)
        self.submitter = Submitter(desk, self.lanes, self.follower.wake)
        self.upkeep = Upkeep(desk, self.lanes, self.submitter, self.follower)
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._resumed = False

    def start(self) -> None:
        """Start what is not running. Raises what ended a task that was: it is a bug, and somebody must hear of it."""
        ended = [task for task in self.tasks.values() if task.done() and not task.cancelled()]
        for name, run in (("submit", self.submitter.run), ("follow", self.follower.run)):
            if name not in self.tasks or self.tasks[name].done():
                self.tasks[name] = asyncio.create_task(run(), name=f"settlements {name} {self.desk.chain_id}")
        for task in ended:
            task.result()

    async def resume(self) -> None:
        """Open the lanes, and send again what may never have left before the last end; once. Raises ChainUnavailable."""
        if self._resumed:
            return
        for lane in self.lanes.lanes:
            await self.lanes.look_at_balance(lane)
            await self.lanes.count(lane)
        for relay in self.desk.relays():
            if relay.state is RelayState.SENT:
                await self.submitter.hand_over(self.lanes.of(relay), relay)
        self._resumed = True
        self.submitter.wake()

    async def sweep(self) -> None:
        """Do one background turn. Raises ChainUnavailable, ChainDisagreement."""
        await self.resume()
        await self.upkeep.sweep()

    async def stop(self, timeout_s: float) -> None:
        """End the tasks."""
        await self.submitter.close(timeout_s)
        self.follower.close()
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)

    def _moved(self) -> None:
        self.submitter.wake()


class SettlementEngine:
    """Implements `gateway.paid_ports.Engine`. `start` it in the loop that uses it, `sweep` it about once a second."""

    def __init__(
        self, *, store: Store, desks: Sequence[DeskParts], rules: Rules, clock: Clock, entropy: Entropy
    ) -> None:
        self._store, self._clock, self._told = store, clock, Told()
        self._works: Mapping[int, _Works] = {
            parts.relay.chain_id: _Works(Desk(parts, rules, store, clock, entropy, self._told)) for parts in desks
        }
        self._burning, self._rules = Burning(store, rules, clock), rules
        self._closing = False

    # life

    def start(self) -> None:
        """Take up everything that is open, as the store knows it; the first `sweep` goes on with it."""
        for works in self._works.values():
            works.desk.load()
            works.start()
            for settlement in works.desk.settlements(SettlementState.CLAIMED):
                works.submitter.put(settlement)

    async def sweep(self) -> None:
        """Do one background turn on every chain. Raises what went wrong, after all had their turn.

        Several errors are raised as one group: a chain that does not answer hides no store that broke.
        """
        problems: list[BaseException] = []
        for works in self._works.values():
            (outcome,) = await asyncio.gather(self._turn(works), return_exceptions=True)
            problems += [outcome] if outcome is not None else []
        if len(problems) > 1:
            raise BaseExceptionGroup("several went wrong", problems)
        if problems:
            raise problems[0]

    async def _turn(self, works: _Works) -> None:
        if not self._closing:
            works.start()
        await works.sweep()

    async def drain(self, timeout_s: float) -> None:
        """Claim nothing new, let submissions under way end, at most that long, and tell those who wait how it stands."""
        self._closing = True
        await asyncio.gather(*(works.stop(timeout_s) for works in self._works.values()))
        self._told.release()

    # asking

    def find(self, identity: Identity) -> Settlement | None:
        """Return the settlement of an authorization that is open or that ended lately."""
        return self._told.of(identity)

    async def settle(self, exact: Exact, account_id: str, wait_s: float) -> Settled:
        """Claim, submit, and wait until it is in a block or `wait_s` are over; a repeat gets the first one's answer.

        Raises ChainUnavailable where the chain must be asked before anything is claimed, and does not answer.
        """
        deadline_s = asyncio.get_running_loop().time() + wait_s
        found = await self._claim(exact, account_id)
        if isinstance(found, Settled):
            return found
        left_s = deadline_s - asyncio.get_running_loop().time()
        outcome = await self._told.wait(found, left_s)
        return answer_of(outcome, exact.network, self._carrier)

    async def _claim(self, exact: Exact, account_id: str) -> Settlement | Settled:
        terms = exact.authorization
        works = self._works.get(terms.token.chain_id)
        if works is None or terms.token.address not in works.desk.tokens:
            return _refused(exact, Reason.INVALID_NETWORK, "nobody collects this token here")
        known = self._told.of(terms.key)
        if known is None:
            wrong = _unfit(exact) or await self._denied(exact, account_id)
            # A repeat gets the first answer, also where nothing new would be taken any more.
            known = None if wrong is None else await self._store.settlement_of(terms.key)
            if known is None and wrong is not None:
                return wrong
        if known is None:
            wallet = await works.desk.relay.has_code(terms.authorizer)
            return await self._within(works, exact, _new(works.desk, exact, account_id, contract_wallet=wallet))
        if known.terms != _terms(exact):
            return _refused(exact, Reason.DUPLICATE, "another payload with this authorization's nonce was taken before")
        if not may_claim_again(known):
            return known
        return await self._denied(exact, account_id) or await self._within(works, exact, _again(known, account_id))

    async def _within(self, works: _Works, exact: Exact, claim: Settlement) -> Settlement | Settled:
        """Claim within what may be burnt. What our own tills signed, refunds, fools nobody and has no such bound."""
        if works.desk.gives_back(claim):
            return await self._take(works, exact, claim)
        if not claim.contract_wallet:
            return await self._bounded(works, exact, claim)
        async with self._burning.one_by_one:
            return await self._bounded(works, exact, claim)

    async def _bounded(self, works: _Works, exact: Exact, claim: Settlement) -> Settlement | Settled:
        refusal = await self._burning.refusal(works.desk, claim)
        if refusal is None:
            return await self._take(works, exact, claim)
        kept = await self._store.settlement_of(claim.identity)
        if kept is None or kept.terms != claim.terms or may_claim_again(kept):
            return _refused(exact, *refusal)
        return kept

    async def _take(self, works: _Works, exact: Exact, claim: Settlement) -> Settlement | Settled:
        """Claim, or find who did; one that failed before and is claimed for the first time in this process is tried again."""
        result = await self._store.post(ClaimSettlement(claim, self._clock.now_ms()))
        if isinstance(result, Refused):
            return _refused(exact, Reason.DUPLICATE, result.detail)
        if isinstance(result, Attached):
            other = await self._store.settlement(result.record_id)
            if other is None:
                return claim
            if claim.version == 1 and may_claim_again(other) and self._told.of(other.identity) is None:
                return await self._take(works, exact, _again(other, claim.account_id))
            return other
        works.desk.note(claim)
        works.submitter.put(claim)
        return claim

    async def _denied(self, exact: Exact, account_id: str) -> Settled | None:
        """A seller's payees and its budget for gas that failures burn; what is paid to the house has its own bounds."""
        if self._closing:
            return _refused(exact, Reason.SETTLE_UNKNOWN, "the gateway is ending; ask again")
        if account_id == HOUSE:
            return None
        terms = self._store.view.sellers.get(account_id)
        if terms is None or terms.ended_at_ms is not None:
            return _refused(exact, Reason.INVALID_REQUIREMENTS, "this account may not settle")
        if terms.payees and exact.authorization.pay_to not in terms.payees:
            return _refused(exact, Reason.INVALID_REQUIREMENTS, "this account may not settle for that payTo")
        if exact.authorization.value_base < self._rules.seller_min_base:
            return _refused(exact, Reason.INVALID_REQUIREMENTS, "so little is not settled here")
        if await self._burning.seller_wei(terms) > terms.gas_budget_wei:
            return _refused(exact, Reason.SETTLE_UNKNOWN, "failed settlements have burnt this account's gas budget")
        return None

    def _carrier(self, settlement: Settlement) -> bytes | None:
        relay = self._store.view.relays.get(settlement.relay_id or "")
        return settlement.tx_hash if relay is None else relay.attempts[-1].tx_hash

    # the batch contract

    async def deploy(self, chain_id: int, wait_s: float = 60.0) -> bytes | None:
        """Put the batch contract at its address; return the transaction's hash, None where it stands already.

        Raises NotDeployed, ChainUnavailable, Reverted, SigningRefused, KeyError for a chain that is not served.
        """
        works = self._works[chain_id]
        if await works.desk.relay.has_code(works.desk.parts.batch):
            return None
        to, data = deployment()
        if not await works.desk.relay.has_code(to):  # what is sent to nobody succeeds, and does nothing
            remedy = "deploy the deterministic deployment proxy there first; without batches each payment goes alone"
            raise NotDeployed(f"chain {chain_id} has no contract at {checksum(to)}, which would deploy it", remedy)
        await works.resume()
        fees, lane = await fees_now(works.desk), works.lanes.pick()
        if lane is None:
            raise NotDeployed(*works.lanes.shut())
        if fees is None:
            raise NotDeployed(*await too_dear(works.desk))
        estimated = await works.desk.relay.estimate(lane.address, to, data)
        gas = estimated * _DEPLOY_MARGIN_NUMERATOR // _DEPLOY_MARGIN_DENOMINATOR
        relay = await works.submitter.send_call(lane, Call(to, data, gas), fees, "deploy")
        if relay is None:
            raise NotDeployed(f"{lane.label}: its next account nonce was used meanwhile; nothing was sent", "ask again")
        deadline_s = asyncio.get_running_loop().time() + wait_s
        while asyncio.get_running_loop().time() < deadline_s:
            newest = await self._store.relay(relay.id)
            if newest is not None and newest.mined_hash is not None:
                if newest.status == 1:
                    return newest.mined_hash
                why = f"transaction {to_hex(newest.mined_hash)} failed in block {newest.block_number}"
                raise NotDeployed(why, "look at it with a block explorer; ask again if the contract is not there")
            await works.follower.look()
            await asyncio.sleep(_DEPLOY_POLL_S)
        why = f"{to_hex(relay.attempts[-1].tx_hash)} of {lane.label} was sent, and is in no block after {wait_s:.0f} s"
        raise NotDeployed(why, "nothing needs to be sent again: ask again later whether it stands")


def _terms(exact: Exact) -> tuple[object, ...]:
    terms = exact.authorization
    times = (terms.valid_after, terms.valid_before)
    return (*terms.key, terms.pay_to, terms.value_base, *times, exact.signature)


def _new(desk: Desk, exact: Exact, account_id: str, *, contract_wallet: bool) -> Settlement:
    terms = exact.authorization
    return Settlement(
        id=desk.new_id("stl"),
        account_id=account_id,
        chain_id=terms.token.chain_id,
        token=terms.token.address,
        authorizer=terms.authorizer,
        nonce=terms.nonce,
        pay_to=terms.pay_to,
        value_base=terms.value_base,
        valid_after_s=terms.valid_after,
        valid_before_s=terms.valid_before,
        signature=exact.signature,
        contract_wallet=contract_wallet,
        created_at_ms=desk.clock.now_ms(),
    )


def _again(known: Settlement, account_id: str) -> Settlement:
    return replace(
        known,
        account_id=account_id,  # who asks now answers for the gas
        state=SettlementState.CLAIMED,
        relay_id=None,
        tx_hash=None,
        block_number=None,
        reason="",
        fence=known.fence + 1,
        version=known.version + 1,
    )


def _unfit(exact: Exact) -> Settled | None:
    """Refuse what no payment of anybody's is, before it becomes a row."""
    terms = exact.authorization
    if not 0 < terms.value_base <= MAX_AMOUNT_BASE:
        return _refused(exact, Reason.INVALID_PAYLOAD, "the value is nothing, or more than is ever paid")
    if terms.valid_before >> TIME_BITS or terms.valid_after >> TIME_BITS:
        return _refused(exact, Reason.VALID_BEFORE, "a time in millions of years")
    if not 0 < len(exact.signature) <= SIGNATURE_MAX_BYTES:
        return _refused(exact, Reason.SIGNATURE, "the signature is empty or too long")
    return None


def _refused(exact: Exact, reason: Reason, message: str) -> Settled:
    return Settled(
        success=False,
        reason=str(reason),
        message=message,
        payer=bytes(exact.authorization.authorizer),
        tx_hash=None,
        network=exact.network,
    )

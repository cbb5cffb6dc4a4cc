"""What the parts of the engine share on one chain: its rules, its relayers, its seams, and the one way to write things down.

Must not know how a transaction is made or followed. Theory: whatever is moved is committed first and then told, in this
order and in this one place, so memory never says what a restart would not know.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from contracts.batch import TRANSACTION_GAS_MAX, batch_address, most_items
from contracts.codec import Address
from contracts.eip3009 import Authorization
from contracts.tokens import Token
from gateway.core.commands import Done, OpenTask, Refused
from gateway.core.decide_refund import is_stopped
from gateway.core.ids import RANDOM_BYTES, make_id
from gateway.core.money import WEI_PER_GWEI
from gateway.core.paid import Refund, Relay, Settlement, SettlementState
from gateway.core.paid_commands import MoveSettlements
from gateway.core.records import Task
from gateway.core.task_kinds import DETAIL_MAX, TaskKind
from gateway.facilitator.answers import Told
from gateway.paid_ports import RelayChain
from gateway.ports import Chain, Clock, Entropy, Store
from wallets.signer import Signer

__all__ = ["Desk", "DeskParts", "Relayer", "Rules", "authorization_of"]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Rules:
    """How the operator wants settlements submitted. Fees in wei, times in seconds, gas in gas.

    `seller_min_base` is the least that is collected for sellers, in a token. `house_gas_budget_wei` is what payments to the
    house may burn in a day before contract wallets, and payers who burnt some of it, are refused. `in_flight_max` bounds a
    relayer's transactions in no block yet: nodes drop more than some of one sender.
    `linger_s` is how long a first arrival waits for those that come with it.
    """

    batch_size: int = 100
    batch_age_s: float = 0.0
    linger_s: float = 0.005
    item_gas: int = 120_000
    max_gas_single: int = 200_000
    fee_cap_wei: int = 50 * WEI_PER_GWEI
    priority_cap_wei: int = 2 * WEI_PER_GWEI
    seller_min_base: int = 0
    house_gas_budget_wei: int = 10**16
    replace_after_s: float = 15.0
    in_flight_max: int = 16
    expiry_margin_s: int = 6
    flush_margin_s: int = 20
    retry_s: float = 1.0
    poll_s: float = 0.1
    balance_every_s: float = 30.0

    def __post_init__(self) -> None:
        fitting = most_items(TRANSACTION_GAS_MAX, self.item_gas)
        if not 0 < self.batch_size <= fitting:
            raise ValueError(f"batch_size: from 1 to {fitting} of {self.item_gas} gas fit into a transaction")


@dataclass(frozen=True, slots=True)
class Relayer:
    """A wallet that pays gas. Below `low_wei` a human is asked, below `floor_wei` it sends nothing."""

    signer: Signer
    low_wei: int
    floor_wei: int

    @property
    def address(self) -> Address:
        """Its address."""
        return self.signer.address


@dataclass(frozen=True, slots=True)
class DeskParts:
    """One chain that settlements are collected on. `proof` is its quorum, `batch` where our batch contract would be."""

    relay: RelayChain
    proof: Chain
    tokens: Sequence[Token]
    relayers: Sequence[Relayer]
    batch: Address = field(default_factory=batch_address)


class Desk:
    """One chain's shared state. `promised` is what is on its way from each payer: (token, authorizer) -> id -> value."""

    def __init__(
        self, parts: DeskParts, rules: Rules, store: Store, clock: Clock, entropy: Entropy, told: Told
    ) -> None:
        if not parts.relayers:
            raise ValueError(f"no relayer on chain {parts.relay.chain_id}")
        self.parts, self.rules, self.store, self.clock, self.told = parts, rules, store, clock, told
        self.relay, self.proof = parts.relay, parts.proof
        self.chain_id = parts.relay.chain_id
        self.tokens: Mapping[Address, Token] = {token.address: token for token in parts.tokens}
        self.promised: dict[tuple[bytes, bytes], dict[str, int]] = {}
        self.on_relay: list[Callable[[Relay], None]] = []  # called with each committed version of a transaction
        self._entropy = entropy

    def load(self) -> None:
        """Take what is open from the store's view."""
        for settlement in self.settlements():
            self.note(settlement)

    def now_s(self) -> float:
        """Return Unix seconds, fractions included."""
        return self.clock.now_ms() / 1000

    def new_id(self, prefix: str) -> str:
        """Return a new id."""
        return make_id(prefix, self.clock.now_ms(), self._entropy.bytes(RANDOM_BYTES))

    def settlements(self, state: SettlementState | None = None) -> list[Settlement]:
        """Return this chain's open settlements, all or those in a state."""
        found = self.store.view.settlements.values()
        return [s for s in found if s.chain_id == self.chain_id and (state is None or s.state is state)]

    def gives_back(self, settlement: Settlement) -> bool:
        """Say whether it is one of our own refunds: then one of our tills has signed it."""
        return self._refund_of(settlement) is not None

    def is_stopped(self, settlement: Settlement) -> bool:
        """Say whether it is one of our own refunds that a freeze has stopped since it was claimed."""
        frozen = self.store.view.freezes
        refund = self._refund_of(settlement) if frozen else None
        return refund is not None and is_stopped(refund, frozen)

    def _refund_of(self, settlement: Settlement) -> Refund | None:
        for refund in self.store.view.refunds.values():
            if (refund.chain_id, refund.token, refund.till, refund.nonce) == settlement.identity:
                return refund
        return None

    def relays(self) -> list[Relay]:
        """Return this chain's transactions that are not final, by account nonce."""
        found = (relay for relay in self.store.view.relays.values() if relay.chain_id == self.chain_id)
        return sorted(found, key=lambda relay: (relay.relayer, relay.account_nonce))

    async def carried_by(self, relay: Relay) -> list[Settlement]:
        """Return the settlements that a transaction was made for, as they stand, open or not."""
        view = self.store.view.settlements
        found = [view.get(each) or await self.store.settlement(each) for each in relay.settlement_ids]
        return [settlement for settlement in found if settlement is not None]

    async def relay_of(self, settlement: Settlement) -> Relay | None:
        """Return the transaction that a settlement names, open or not."""
        if settlement.relay_id is None:
            return None
        return self.store.view.relays.get(settlement.relay_id) or await self.store.relay(settlement.relay_id)

    async def commit(self, settlements: Iterable[Settlement], relay: Relay | None, event: str) -> bool:
        """Write a move down and tell it; False where something else moved one of them first, and nothing was done."""
        moved = tuple(settlements)
        if not moved and relay is None:
            return True
        result = await self.store.post(MoveSettlements(moved, relay, event, self.clock.now_ms()))
        if isinstance(result, Refused):
            log.warning("settlement.move_refused", event_kind=event, code=result.code, detail=result.detail)
            return False
        for settlement in moved:
            self.note(settlement)
        if relay is not None:
            for listener in self.on_relay:
                listener(relay)
        return True

    def note(self, settlement: Settlement) -> None:
        """Take a committed version."""
        payer = (settlement.token, settlement.authorizer)
        if settlement.state is SettlementState.SENT:
            self.promised.setdefault(payer, {})[settlement.id] = settlement.value_base
        elif payer in self.promised:
            self.promised[payer].pop(settlement.id, None)
            if not self.promised[payer]:
                del self.promised[payer]
        self.told.tell(settlement)

    async def ask(self, kind: TaskKind, subject: str, detail: str) -> None:
        """Open a task for a human and log it; the same one again changes nothing."""
        task = Task(self.new_id("task"), kind, subject, detail[:DETAIL_MAX], self.clock.now_ms())
        result = await self.store.post(OpenTask(task))
        if isinstance(result, Done) and result.changed:
            log.error("task.opened", kind=kind, subject=subject, detail=task.detail)


def authorization_of(settlement: Settlement, tokens: Mapping[Address, Token]) -> Authorization | None:
    """Return what was signed, None for a token that is configured no more."""
    token = tokens.get(Address(settlement.token))
    if token is None:
        return None
    return Authorization(
        token=token,
        authorizer=Address(settlement.authorizer),
        pay_to=Address(settlement.pay_to),
        value_base=settlement.value_base,
        valid_after=settlement.valid_after_s,
        valid_before=settlement.valid_before_s,
        nonce=settlement.nonce,
    )

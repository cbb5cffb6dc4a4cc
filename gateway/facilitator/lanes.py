"""Relayers as lanes of account nonces: who sends the next transaction, under which nonce, at which price.

Must not know what is sent. Theory: a chain takes a sender's transactions in the order of their nonces and without gaps, so
a nonce is given out once, in order, and by the book; a nonce whose transaction never came to be is a hole, and is the next
one given out. Lanes know nothing of each other, so one that is stuck or poor stops no other.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from contracts.codec import Address, checksum
from contracts.keccak import keccak256
from gateway.core.paid import Relay, RelayAttempt, RelayState
from gateway.core.pause import has_passed, is_over
from gateway.facilitator.desk import Desk, Relayer, Rules

__all__ = ["PAUSE_MS", "Call", "Fees", "Lane", "Lanes", "Shut", "fees_now", "raised", "sign", "too_dear"]

PAUSE_MS = 30_000  # of a lane whose signer refused
GAS_PLAIN = 21_000
"""What a transaction costs that does nothing."""

_RAISE_NUMERATOR, _RAISE_DENOMINATOR = 9, 8
"""Nodes take a replacement that pays at least a tenth more in both fees, some want an eighth."""


@dataclass(frozen=True, slots=True)
class Fees:
    """What one unit of gas may cost, in wei."""

    max_wei: int
    priority_wei: int


@dataclass(frozen=True, slots=True)
class Call:
    """What a transaction does, whatever its nonce and price."""

    to: Address
    data: bytes
    gas: int


class Shut(NamedTuple):
    """Why nothing can be sent now, with figures, and what an operator does about it."""

    why: str
    remedy: str


@dataclass(slots=True)
class Lane:
    """One relayer on one chain. `sent` are the nonces of what is in no block yet, with the ids of their relays."""

    relayer: Relayer
    chain_id: int
    next_nonce: int | None = None  # None: the chain has not been asked yet
    holes: set[int] = field(default_factory=set)
    sent: dict[int, str] = field(default_factory=dict)
    given: set[int] = field(default_factory=set)  # to transactions that are not written down yet
    reserved: int = 0
    balance_wei: int | None = None
    paused_until_ms: int = 0
    balance_at_ms: int = 0

    @property
    def address(self) -> Address:
        """The relayer's address."""
        return self.relayer.address

    @property
    def label(self) -> str:
        """How it is named to people."""
        return f"{self.chain_id} {checksum(self.address)}"

    def free(self, rules: Rules, now_ms: int) -> int:
        """Return how many more transactions it may have on their way; 0 while it cannot send at all."""
        if self.next_nonce is None or not is_over(self.paused_until_ms, now_ms, PAUSE_MS):
            return 0
        if self.balance_wei is None or self.balance_wei < self.relayer.floor_wei:
            return 0
        return max(0, rules.in_flight_max - len(self.sent) - self.reserved)

    def shut(self, rules: Rules, now_ms: int) -> Shut | None:
        """Say why `free` is 0, None where it is not."""
        if self.free(rules, now_ms):
            return None
        floor_wei = self.relayer.floor_wei
        if self.next_nonce is None or self.balance_wei is None:
            return Shut(f"{self.label}: the chain was not asked about it yet", "ask again in a moment")
        if self.balance_wei < floor_wei:
            why = f"{self.label} has {self.balance_wei} wei; below {floor_wei} (floor_ether) it is not used"
            return Shut(why, "send it ether: it is noticed within a minute")
        if not is_over(self.paused_until_ms, now_ms, PAUSE_MS):
            left_s = (self.paused_until_ms - now_ms) // 1000
            why = f"{self.label}: its signer refused, and is asked again in {left_s} s"
            return Shut(why, "see the task relayer_refused")
        many = f"{len(self.sent) + self.reserved} of at most {rules.in_flight_max} transactions (in_flight_max)"
        return Shut(f"{self.label} has {many} in no block yet", "wait until one of them is mined")

    def allocate(self) -> int:
        """Give out the next nonce: the lowest hole, else the one after all."""
        if self.next_nonce is None:
            raise ValueError("the lane is not open")
        if self.holes:
            nonce = min(self.holes)
            self.holes.discard(nonce)
        else:
            nonce, self.next_nonce = self.next_nonce, self.next_nonce + 1
        self.given.add(nonce)
        return nonce

    def give_back(self, nonce: int) -> None:
        """Take back a nonce under which nothing was written down."""
        self.given.discard(nonce)
        if self.next_nonce == nonce + 1:
            self.next_nonce = nonce
        else:
            self.holes.add(nonce)

    def counted(self, count: int, used: Collection[int]) -> None:
        """Take in how many of its transactions are in blocks, and under which nonces the book has something open.

        What another process used is not given out again; what nobody will use is a hole, unless nothing comes after it.
        """
        known = {*used, *self.sent, *self.given}
        self.next_nonce = max([self.next_nonce or 0, count, *(nonce + 1 for nonce in known)])
        self.holes = set(range(count, self.next_nonce)) - known
        while self.next_nonce - 1 in self.holes:
            self.next_nonce -= 1
            self.holes.discard(self.next_nonce)

    def note(self, relay: Relay) -> None:
        """Take a committed version of one of its transactions."""
        self.given.discard(relay.account_nonce)
        if relay.state is RelayState.SENT:
            self.sent[relay.account_nonce] = relay.id
        else:
            self.sent.pop(relay.account_nonce, None)


class Lanes:
    """The lanes of one chain."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.lanes = tuple(Lane(relayer, desk.chain_id) for relayer in desk.parts.relayers)
        self._by_address = {bytes(lane.address): lane for lane in self.lanes}
        desk.on_relay.append(self.note)

    def of(self, relay: Relay) -> Lane | None:
        """Return the lane of a transaction, None where its relayer is configured no more."""
        return self._by_address.get(relay.relayer)

    def note(self, relay: Relay) -> None:
        """Take a committed version of a transaction."""
        lane = self.of(relay)
        if lane is not None:
            lane.note(relay)

    def pick(self) -> Lane | None:
        """Return the lane with the most room, None where none has any."""
        now_ms = self._desk.clock.now_ms()
        best = max(self.lanes, key=lambda lane: lane.free(self._desk.rules, now_ms))
        return best if best.free(self._desk.rules, now_ms) else None

    def shut(self) -> Shut:
        """Say of each lane why it sends nothing now; where `pick` has found none."""
        now_ms = self._desk.clock.now_ms()
        found = [shut for lane in self.lanes if (shut := lane.shut(self._desk.rules, now_ms)) is not None]
        remedies = dict.fromkeys(shut.remedy for shut in found)
        return Shut("; ".join(shut.why for shut in found), "; ".join(remedies))

    async def count(self, lane: Lane) -> int:
        """Ask the chain how many of a lane's transactions are in blocks, and take that in. Raises ChainUnavailable."""
        count = await self._desk.relay.account_nonce(lane.address)
        own = [relay for relay in self._desk.relays() if relay.relayer == lane.address]
        for relay in own:
            if relay.state is RelayState.SENT:
                lane.sent[relay.account_nonce] = relay.id
        lane.counted(count, [relay.account_nonce for relay in own])
        return count

    async def look_at_balance(self, lane: Lane) -> None:
        """Read what a relayer has, and ask a human where that is little. Raises ChainUnavailable."""
        now_ms, every_ms = self._desk.clock.now_ms(), int(self._desk.rules.balance_every_s * 1000)
        if lane.balance_wei is not None and not has_passed(every_ms, lane.balance_at_ms, now_ms):
            return
        lane.balance_wei, lane.balance_at_ms = await self._desk.relay.ether_wei(lane.address), now_ms
        if lane.balance_wei < lane.relayer.low_wei:
            used = "; it is not used" if lane.balance_wei < lane.relayer.floor_wei else ""
            await self._desk.ask("relayer_low", lane.label, f"it has {lane.balance_wei} wei left for gas{used}")


async def too_dear(desk: Desk) -> Shut:
    """Say what gas costs where `fees_now` has no offer. Raises ChainUnavailable."""
    base_wei, tip_wei = await desk.relay.fees()
    asked_wei = base_wei + min(max(1, tip_wei), desk.rules.priority_cap_wei)
    why = f"chain {desk.chain_id} asks {asked_wei} wei for a gas; the most that is paid is {desk.rules.fee_cap_wei}"
    return Shut(f"{why} (fee_cap_gwei)", "wait for cheaper gas, or raise fee_cap_gwei in [facilitator]")


async def fees_now(desk: Desk) -> Fees | None:
    """Return what to offer now, None while the chain asks for more than the operator pays. Raises ChainUnavailable."""
    base_wei, tip_wei = await desk.relay.fees()
    priority_wei = min(max(1, tip_wei), desk.rules.priority_cap_wei, desk.rules.fee_cap_wei)
    if base_wei + priority_wei > desk.rules.fee_cap_wei:
        return None
    # Twice the base fee outlives six full blocks in a row.
    return Fees(min(desk.rules.fee_cap_wei, 2 * base_wei + priority_wei), priority_wei)


def raised(old: RelayAttempt, wanted: Fees, cap_wei: int) -> Fees | None:
    """Return fees that replace an attempt: an eighth more in both, or what is wanted now. None beyond the cap."""
    max_wei = max(wanted.max_wei, _more(old.max_fee_wei))
    priority_wei = max(wanted.priority_wei, _more(old.priority_fee_wei))
    return None if max_wei > cap_wei else Fees(max_wei, min(priority_wei, max_wei))


def _more(wei: int) -> int:
    return -(-wei * _RAISE_NUMERATOR // _RAISE_DENOMINATOR)


def sign(lane: Lane, nonce: int, call: Call, fees: Fees, at_ms: int) -> RelayAttempt:
    """Sign a transaction. Raises SigningRefused."""
    raw = lane.relayer.signer.sign_transaction(
        {
            "type": 2,
            "chainId": lane.chain_id,
            "nonce": nonce,
            "to": call.to,
            "value": 0,
            "data": call.data,
            "gas": call.gas,
            "maxFeePerGas": fees.max_wei,
            "maxPriorityFeePerGas": fees.priority_wei,
        }
    )
    return RelayAttempt(keccak256(raw), raw, fees.max_wei, fees.priority_wei, at_ms)

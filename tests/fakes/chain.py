"""A chain in memory: the Chain port for seeded simulations and flow tests, with time, forks and trouble under control.

Deterministic: hashes come from a seed and from what happened; block times come from the clock that it is given. Its logs
and receipts are those that the token would emit, so proofs run on it unchanged. Transactions wait in a pool until the
next block, and succeed or revert there as on chain: strict time window, one use of a nonce, balance. Tempo's are not even
mined outside their window or a second time, and pay their fee when they fail.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from contracts.codec import ZERO_ADDRESS, Address
from contracts.eip3009 import Authorization
from contracts.keccak import keccak256
from contracts.logs import (
    AUTHORIZATION_CANCELED,
    AUTHORIZATION_USED,
    TRANSFER,
    TRANSFER_WITH_MEMO,
    Log,
    topic_address,
)
from contracts.tempo import TEMPO_FEE_MANAGER, TempoCharge
from contracts.tokens import Token
from gateway.chains.finality import FinalMark
from gateway.ports import Block, ChainDisagreement, ChainUnavailable, Receipt

__all__ = ["ScriptedChain"]

Holder = tuple[Address, Address]
"""(token, owner)"""
NonceKey = tuple[Address, Address, bytes]
"""(token, authorizer, nonce)"""
Trouble = Literal["unavailable", "disagreement"]


class Ticking(Protocol):
    """What the chain needs of a clock."""

    def now_ms(self) -> int:
        """Return milliseconds since the epoch."""
        ...


@dataclass(frozen=True)
class Settle:
    """Collect these authorizations in one transaction: all of them, or none."""

    authorizations: tuple[Authorization, ...]


@dataclass(frozen=True)
class Cancel:
    """Make a nonce unusable."""

    token: Address
    authorizer: Address
    nonce: bytes


@dataclass(frozen=True)
class Mint:
    """Create tokens."""

    token: Address
    owner: Address
    amount_base: int


@dataclass(frozen=True)
class Charge:
    """Take a Tempo charge, its fee from the wallet or its sponsor."""

    charge: TempoCharge
    fee_base: int
    fee_payer: Address

    @property
    def token(self) -> Address:
        """The token of payment and fee."""
        return self.charge.token.address


@dataclass(frozen=True)
class Note:
    """Move nothing out of somebody's account, with a memo: transferFromWithMemo needs no allowance for that."""

    token: Address
    sender: Address
    recipient: Address
    memo: bytes


@dataclass(frozen=True)
class Move:
    """Send tokens, as their owner does who needs no permission."""

    token: Address
    sender: Address
    recipient: Address
    amount_base: int
    memo: bytes | None = None


Action = Settle | Cancel | Mint | Charge | Note | Move
Event = tuple[Address, tuple[bytes, ...], bytes]


class TokenRevertError(Exception):
    """Inside a block: the transaction fails and leaves nothing behind, but for a fee that its wallet pays in the token."""


class NotTakenError(Exception):
    """The transaction is none that a block may hold."""


@dataclass
class State:
    """Balances, used nonces and taken Tempo charges after a block."""

    balances: dict[Holder, int] = field(default_factory=dict)
    used: set[NonceKey] = field(default_factory=set)
    taken: set[bytes] = field(default_factory=set)

    def copy(self) -> "State":
        """Return a state that changes on its own."""
        return State(dict(self.balances), set(self.used), set(self.taken))

    def apply(self, action: Action, block_time_s: int) -> list[Event]:
        """Change this state as the token would and return what it emits. Raises TokenRevertError, NotTakenError."""
        if isinstance(action, Charge):
            return self._charge(action, block_time_s)
        if isinstance(action, Note):
            return self._noted(action.token, action.sender, action.recipient, 0, action.memo)
        if isinstance(action, Move):
            if action.memo is not None:
                return self._noted(action.token, action.sender, action.recipient, action.amount_base, action.memo)
            return [self._move(action.token, action.sender, action.recipient, action.amount_base)]
        if isinstance(action, Cancel):
            self._use((action.token, action.authorizer, action.nonce))
            topics = (AUTHORIZATION_CANCELED, topic_address(action.authorizer), action.nonce)
            return [(action.token, topics, b"")]
        if isinstance(action, Mint):
            return [self._move(action.token, ZERO_ADDRESS, action.owner, action.amount_base)]
        events: list[Event] = []
        for auth in action.authorizations:
            if not auth.valid_after < block_time_s < auth.valid_before:
                raise TokenRevertError("outside the window")
            token = auth.token.address
            self._use((token, auth.authorizer, auth.nonce))
            events += [
                (token, (AUTHORIZATION_USED, topic_address(auth.authorizer), auth.nonce), b""),
                self._move(token, auth.authorizer, auth.pay_to, auth.value_base),
            ]
        return events

    def fail(self, action: Action) -> list[Event]:
        """Change this state by what a failed transaction costs its wallet, and return what that emits."""
        if not isinstance(action, Charge):
            return []
        self.taken.add(action.charge.signing_hash)
        return [self._move(action.token, action.fee_payer, TEMPO_FEE_MANAGER, action.fee_base)]

    def _charge(self, action: Charge, block_time_s: int) -> list[Event]:
        charge = action.charge
        if block_time_s >= charge.valid_before or charge.signing_hash in self.taken:
            raise NotTakenError("past its window, or a second time")
        if self.balances.get((action.token, action.fee_payer), 0) < action.fee_base:
            raise NotTakenError("cannot pay its fee")
        self.taken.add(charge.signing_hash)
        events: list[Event] = []
        for transfer in charge.transfers:
            if transfer.memo is None:
                events.append(self._move(action.token, charge.wallet, transfer.to, transfer.value_base))
            else:
                events += self._noted(action.token, charge.wallet, transfer.to, transfer.value_base, transfer.memo)
        return [*events, self._move(action.token, action.fee_payer, TEMPO_FEE_MANAGER, action.fee_base)]

    def _noted(self, token: Address, sender: Address, recipient: Address, amount_base: int, memo: bytes) -> list[Event]:
        moved = self._move(token, sender, recipient, amount_base)
        _, (_, *parties), data = moved
        return [moved, (token, (TRANSFER_WITH_MEMO, *parties, memo), data)]

    def _use(self, key: NonceKey) -> None:
        if key in self.used:
            raise TokenRevertError("authorization is used or canceled")
        self.used.add(key)

    def _move(self, token: Address, sender: Address, recipient: Address, amount_base: int) -> Event:
        if sender != ZERO_ADDRESS:
            left = self.balances.get((token, sender), 0) - amount_base
            if left < 0:
                raise TokenRevertError("transfer amount exceeds balance")
            self.balances[token, sender] = left
        self.balances[token, recipient] = self.balances.get((token, recipient), 0) + amount_base
        data = amount_base.to_bytes(32, "big")
        return token, (TRANSFER, topic_address(sender), topic_address(recipient)), data


@dataclass(frozen=True)
class Mined:
    """A block with everything in it; ``state`` is that after it."""

    block: Block
    transactions: tuple[tuple[bytes, Action], ...]
    receipts: tuple[Receipt, ...]
    state: State

    @property
    def logs(self) -> tuple[Log, ...]:
        """All logs of the block, in order."""
        return tuple(log for receipt in self.receipts for log in receipt.logs)


class ScriptedChain:
    """The Chain port in memory, plus what a script does to the chain.

    ``final_lag``: how many blocks the final one is behind the newest. ``block_time_s``: mine by the clock before each
    answer; None mines only when told. ``before_answer`` is awaited with the method's name before each answer, so that a
    scheduler can interleave, delay or crash there.
    """

    def __init__(
        self,
        clock: Ticking,
        *,
        chain_id: int = 8453,
        final_lag: int = 2,
        block_time_s: int | None = None,
        balances: Mapping[tuple[Token, Address], int] | None = None,
        seed: bytes = b"",
        before_answer: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self.chain_id = chain_id
        self._clock = clock
        self._final_lag = final_lag
        self._block_time_s = block_time_s
        self._before_answer = before_answer
        self._mark = FinalMark()
        self._fork = 0
        self._sent = 0
        self._pool: list[tuple[bytes, Action]] = []
        self._trouble: list[tuple[Trouble, frozenset[str], int | None]] = []
        genesis = Block(0, keccak256(b"scripted chain" + seed), clock.now_ms() // 1000)
        state = State({(token.address, owner): amount for (token, owner), amount in (balances or {}).items()})
        self._chain = [Mined(genesis, (), (), state)]

    # ---- the script --------------------------------------------------------------------------------------------------

    @property
    def newest(self) -> Block:
        """The newest block, without any trouble in the way."""
        return self._chain[-1].block

    def fund(self, token: Token, owner: Address, amount_base: int) -> bytes:
        """Put the creation of tokens into the pool; return the transaction's hash."""
        return self._send(Mint(token.address, owner, amount_base))

    def move(
        self,
        token: Token,
        sender: Address,
        recipient: Address,
        amount_base: int,
        memo: bytes | None = None,
        *,
        tx_hash: bytes | None = None,
    ) -> bytes:
        """Put a plain transfer of tokens into the pool, with a memo where one is given; return its hash."""
        return self._send(Move(token.address, sender, recipient, amount_base, memo), tx_hash)

    def settle(self, *authorizations: Authorization) -> bytes:
        """Put the collection of authorizations, in one transaction, into the pool; return its hash."""
        return self._send(Settle(authorizations))

    def cancel(self, token: Token, authorizer: Address, nonce: bytes) -> bytes:
        """Put the cancellation of a nonce into the pool; return the transaction's hash."""
        return self._send(Cancel(token.address, authorizer, nonce))

    def charge(
        self,
        charge: TempoCharge,
        *,
        fee_base: int = 1_000,
        tx_hash: bytes | None = None,
        sponsor: Address | None = None,
    ) -> bytes:
        """Put a Tempo charge into the pool, under its own hash if it has one; return that or the one that it got."""
        action = Charge(charge, fee_base, sponsor or charge.wallet)
        return self._send(action, tx_hash)

    def note(self, token: Token, sender: Address, recipient: Address, memo: bytes) -> bytes:
        """Put a stranger's transfer of nothing out of `sender`'s account, with this memo, into the pool."""
        return self._send(Note(token.address, sender, recipient, memo))

    def mine(self, blocks: int = 1) -> Block:
        """Mine blocks now, the pool in the first of them; return the newest."""
        for _ in range(blocks):
            self._mine(max(self.newest.time_s + 1, self._clock.now_ms() // 1000))
        return self.newest

    def reorg(self, depth: int, *, resend: bool = False, break_finality: bool = False) -> None:
        """Replace the newest ``depth`` blocks by empty ones at the same times.

        ``resend`` returns their transactions to the pool. Raises ValueError for a final block, unless told to break it.
        """
        if not break_finality and depth > self._final_lag:
            raise ValueError("a final block cannot be undone")
        if not 0 < depth < len(self._chain):
            raise ValueError("there are not that many blocks")
        undone = self._chain[-depth:]
        del self._chain[-depth:]
        waiting = self._pool
        self._pool = []
        self._fork += 1
        for mined in undone:
            self._mine(mined.block.time_s)
        lost = [transaction for mined in undone for transaction in mined.transactions]
        self._pool = [*lost, *waiting] if resend else waiting

    def fail(self, trouble: Trouble, *, methods: Collection[str] = (), calls: int | None = None) -> None:
        """Answer with trouble: in these methods (none named: in all), for so many calls (None: until `heal`)."""
        self._trouble.append((trouble, frozenset(methods), calls))

    def heal(self) -> None:
        """End all trouble."""
        self._trouble.clear()

    # ---- the port ----------------------------------------------------------------------------------------------------

    @property
    def witnesses(self) -> tuple[str, ...]:
        """Two names."""
        return ("scripted-a", "scripted-b")

    async def head(self) -> Block:
        """Return the newest block."""
        await self._answer("head")
        return self.newest

    async def final(self) -> Block:
        """Return the block ``final_lag`` behind the newest, or the first one on a shorter chain; never goes back."""
        await self._answer("final")
        return self._mark.advance(self._chain[max(0, len(self._chain) - 1 - self._final_lag)].block)

    async def block(self, number: int) -> Block:
        """Return the block at this height, which must have been mined."""
        await self._answer("block")
        block = self._mined(number).block
        self._mark.require(block)
        return block

    async def payment_logs(
        self, token: Token, wallets: Sequence[bytes], from_block: int, to_block: int, nonce: bytes | None = None
    ) -> tuple[Log, ...]:
        """Return the logs of payments of these wallets in a range that must have been mined."""
        await self._answer("payment_logs")
        if not wallets or from_block > to_block:
            return ()
        self._mined(to_block)
        found = self._logs(token, wallets, from_block, to_block)
        return found if nonce is None else tuple(log for log in found if log.topics[-1] == nonce)

    async def incoming_logs(
        self, token: Token, payees: Sequence[bytes], from_block: int, to_block: int
    ) -> tuple[Log, ...]:
        """Return the transfers to these payees in a range that must have been mined."""
        await self._answer("incoming_logs")
        return self._transfers(token, 2, payees, from_block, to_block)

    async def outgoing_logs(
        self, token: Token, payers: Sequence[bytes], from_block: int, to_block: int
    ) -> tuple[Log, ...]:
        """Return the transfers from these payers in a range that must have been mined."""
        await self._answer("outgoing_logs")
        return self._transfers(token, 1, payers, from_block, to_block)

    async def sightings(self, token: Token, wallets: Sequence[bytes], from_block: int) -> tuple[Log, ...]:
        """Return the same up to the newest block."""
        await self._answer("sightings")
        return self._logs(token, wallets, from_block, self.newest.number)

    async def receipt(self, tx_hash: bytes, at: Block | None = None) -> Receipt | None:
        """Return the receipt of a mined transaction, or None."""
        await self._answer("receipt")
        if at is not None:
            self._at(at)
        receipts = (receipt for mined in self._chain for receipt in mined.receipts)
        return next((receipt for receipt in receipts if receipt.tx_hash == tx_hash), None)

    async def authorization_used(self, token: Token, wallet: bytes, nonce: bytes, at: Block) -> bool:
        """Return whether the nonce was used or cancelled after exactly this block."""
        await self._answer("authorization_used")
        return (token.address, Address(wallet), nonce) in self._at(at).used

    async def token_balance(self, token: Token, owner: bytes, at: Block) -> int:
        """Return the balance after exactly this block."""
        await self._answer("token_balance")
        return self._at(at).balances.get((token.address, Address(owner)), 0)

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _send(self, action: Action, tx_hash: bytes | None = None) -> bytes:
        self._sent += 1
        tx_hash = tx_hash or keccak256(
            self._chain[0].block.hash + self._sent.to_bytes(8, "big") + repr(action).encode()
        )
        self._pool.append((tx_hash, action))
        return tx_hash

    def _mine(self, time_s: int) -> None:
        parent = self._chain[-1]
        transactions = tuple(self._pool)
        self._pool = []
        parts = [parent.block.hash, time_s.to_bytes(8, "big"), self._fork.to_bytes(8, "big")]
        block_hash = keccak256(b"".join([*parts, *(tx_hash for tx_hash, _ in transactions)]))
        block = Block(parent.block.number + 1, block_hash, time_s)
        state, receipts = _execute(parent.state, block, transactions)
        self._chain.append(Mined(block, transactions, receipts, state))

    def _catch_up(self) -> None:
        """Mine what the clock says is due. Over a long gap only the last blocks: a chain that stood still meanwhile."""
        if self._block_time_s is None:
            return
        due = (self._clock.now_ms() // 1000 - self.newest.time_s) // self._block_time_s
        end = self.newest.time_s + due * self._block_time_s
        for left in reversed(range(min(due, self._final_lag + 2))):
            self._mine(end - left * self._block_time_s)

    async def _answer(self, method: str) -> None:
        if self._before_answer is not None:
            await self._before_answer(method)
        self._catch_up()
        for index, (trouble, methods, calls) in enumerate(self._trouble):
            if methods and method not in methods:
                continue
            if calls is not None:
                self._trouble[index] = (trouble, methods, calls - 1)
                if calls == 1:
                    del self._trouble[index]
            if trouble == "unavailable":
                raise ChainUnavailable(f"{method}: scripted")
            raise ChainDisagreement(f"{method}: scripted", {"scripted-a": "one", "scripted-b": "another"})

    def _mined(self, number: int) -> Mined:
        if number >= len(self._chain):
            raise ChainUnavailable(f"has no block {number} yet")
        return self._chain[number]

    def _at(self, at: Block) -> State:
        mined = self._mined(at.number)
        if mined.block.hash != at.hash:
            raise ChainUnavailable(f"holds another block {at.number}")
        return mined.state

    def _logs(self, token: Token, wallets: Sequence[bytes], from_block: int, to_block: int) -> tuple[Log, ...]:
        events = {"eip3009": (AUTHORIZATION_USED, AUTHORIZATION_CANCELED), "tip20": (TRANSFER_WITH_MEMO,)}[
            token.standard
        ]
        authorizers = {topic_address(Address(wallet)) for wallet in wallets}
        return tuple(
            log
            for mined in self._chain[max(0, from_block) : to_block + 1]
            for log in mined.logs
            if log.address == token.address and log.topics[0] in events and log.topics[1] in authorizers
        )

    def _transfers(
        self, token: Token, place: int, addresses: Sequence[bytes], from_block: int, to_block: int
    ) -> tuple[Log, ...]:
        if not addresses or from_block > to_block:
            return ()
        self._mined(to_block)
        wanted = {topic_address(Address(address)) for address in addresses}
        return tuple(
            log
            for mined in self._chain[max(0, from_block) : to_block + 1]
            for log in mined.logs
            if log.address == token.address and log.topics[0] == TRANSFER and log.topics[place] in wanted
        )


def _execute(
    before: State, block: Block, transactions: Iterable[tuple[bytes, Action]]
) -> tuple[State, tuple[Receipt, ...]]:
    state, receipts, log_index = before, [], 0
    for tx_hash, action in transactions:
        attempt, status = state.copy(), 1
        try:
            events = attempt.apply(action, block.time_s)
        except NotTakenError:
            continue
        except TokenRevertError:
            attempt, status = state.copy(), 0
            events = attempt.fail(action)
        state = attempt
        logs = tuple(
            Log(address, topics, data, block.number, block.hash, tx_hash, index)
            for index, (address, topics, data) in enumerate(events, log_index)
        )
        log_index += len(logs)
        receipts.append(Receipt(tx_hash, status, block, logs))
    return state, tuple(receipts)

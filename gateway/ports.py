"""The seams: what the use cases ask of the world. Each has one suite that runs on every implementation.

Must not know any implementation.  Theory: flows speak only to these, so the running service, the tests and the seeded
simulation drive the same flows with different parts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import takewhile
from typing import Any, Literal, Protocol, Self

from contracts.logs import Log
from contracts.tokens import Token
from gateway.core.commands import AccountLimits, Command, Result
from gateway.core.journal import Record
from gateway.core.meaning import Meaning
from gateway.core.paid import Identity, Incoming, Refund, Relay, SellerTerms, Settlement, TopUp
from gateway.core.payment import Delivery, Fault
from gateway.core.records import Answer, Attempt, Meter, Payment, Resource
from gateway.core.routes import Match, Route
from gateway.core.server import Fleet, Kept, Server, Snapshot, SshKey
from gateway.core.view import View
from gateway.http.port import UpstreamResponse
from wallets.secret import Secret


class Clock(Protocol):
    """The wall clock and waiting."""

    def now_ms(self) -> int:
        """Return milliseconds since the epoch."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after about that long."""
        ...


class Entropy(Protocol):
    """Randomness for ids and secrets."""

    def bytes(self, count: int) -> bytes:
        """Return unpredictable bytes."""
        ...


class Store(Protocol):
    """Rows that last. `view` is the committed state; every change is a command."""

    view: View

    @property
    def broken(self) -> bool:
        """Whether nothing can be decided any more: the process must end."""
        ...

    async def post(self, command: Command) -> Result:
        """Decide and commit; returns only when durable. Raises StoreBroken if the process must end."""
        ...

    async def payment(self, payment_id: str) -> Payment | None:
        """Return a payment as committed."""
        ...

    async def payment_of(self, identity: tuple[int, bytes, bytes, bytes]) -> Payment | None:
        """Return the payment whose authorization this is: (chain id, token, authorizer, nonce)."""
        ...

    async def journal_digest(self, seq: int) -> bytes | None:
        """Return the digest of a journal row, or None if there is no such row."""
        ...

    async def attempt(self, payment_id: str) -> Attempt | None:
        """Return the payment's newest attempt."""
        ...

    async def answer(self, payment_id: str) -> Answer | None:
        """Return the stored answer of a payment."""
        ...

    async def claimed(self, account_id: str, idempotency_key: str) -> "ClaimedAnswer | None":
        """Return what an idempotency key stands for."""
        ...

    async def resource(self, vendor: str, ref: str) -> Resource | None:
        """Return a vendor's resource."""
        ...

    async def things(self, account_id: str, vendor: str) -> tuple[Resource, ...]:
        """Return everything that an account owns at a vendor, by ref."""
        ...

    async def charges(self, account_id: str, vendor: str, limit: int) -> tuple[Payment, ...]:
        """Return an account's newest captured payments at a vendor, newest first."""
        ...

    async def meter(self, meter_id: str) -> Meter | None:
        """Return a meter as committed, ended or not."""
        ...

    async def server(self, server_id: str) -> Server | None:
        """Return a server as committed, open or not."""
        ...

    async def record(self, kind: str, record_id: str) -> Kept | None:
        """Return a record of the neutral API as committed; `kind` is one of gateway.core.kept."""
        ...

    async def server_cost(self, server: Server) -> "ServerCost":
        """Return what is captured and held for a server: its orders, its renewals, its meter, and other calls for it."""
        ...

    async def renewals(self, server: Server, limit: int) -> tuple[Payment, ...]:
        """Return the newest payments that renewed a server, newest first."""
        ...

    async def servers_of_fleet(self, fleet: Fleet) -> tuple[Server, ...]:
        """Return every server that was ordered for a fleet, ended or not, by id."""
        ...

    async def snapshots_of_server(self, server_id: str) -> tuple[Snapshot, ...]:
        """Return every snapshot that was made of a server, by id."""
        ...

    async def snapshots_due(self, at_ms: int) -> tuple[Snapshot, ...]:
        """Return every snapshot that is pending or whose time is over by then without its record saying so. Reads them all."""
        ...

    async def ssh_keys(self, account_id: str) -> tuple[SshKey, ...]:
        """Return an account's SSH keys that were not deleted, by id."""
        ...

    async def settlement(self, settlement_id: str) -> Settlement | None:
        """Return a settlement as committed, open or not."""
        ...

    async def settlement_of(self, identity: Identity) -> Settlement | None:
        """Return the settlement of an authorization, open or not."""
        ...

    async def relay(self, relay_id: str) -> Relay | None:
        """Return a relayer's transaction as committed, open or not."""
        ...

    async def topup(self, topup_id: str) -> TopUp | None:
        """Return an order for credit as committed, open or not."""
        ...

    async def topup_of(self, identity: Identity) -> TopUp | None:
        """Return the order that ever claimed a payment with this identity; it may have another payment by now."""
        ...

    async def topup_of_hash(self, tx_hash: bytes) -> TopUp | None:
        """Return the newest order whose payment is in this transaction, as far as is known."""
        ...

    async def topup_by_token(self, account_id: str | None, client_token: str) -> TopUp | None:
        """Return what was ordered with a client token, by an account or (None) by nobody's wallet."""
        ...

    async def topups_of(self, account_id: str, before: str, limit: int) -> tuple[TopUp, ...]:
        """Return an account's orders with ids below one, the newest first."""
        ...

    async def incoming(self, receipt_id: str) -> Incoming | None:
        """Return what came in."""
        ...

    async def incoming_of_log(self, chain_id: int, tx_hash: bytes, log_index: int) -> Incoming | None:
        """Return what was booked of a log."""
        ...

    async def receipts_of(self, account_id: str, after: str, limit: int) -> tuple[Incoming, ...]:
        """Return what came in for an account, with ids above one, in order."""
        ...

    async def unclaimed(self, after: str, limit: int) -> tuple[Incoming, ...]:
        """Return what came in and is nobody's, with ids above one, in order."""
        ...

    async def refund_by_token(self, account_id: str, client_token: str) -> Refund | None:
        """Return the refund that an account opened with a client token."""
        ...

    async def refund(self, refund_id: str) -> Refund | None:
        """Return a refund as committed, open or not."""
        ...

    async def refunds_of(self, account_id: str, before: str = "~", limit: int = 1_000) -> tuple[Refund, ...]:
        """Return an account's refunds with ids below one, the newest first."""
        ...

    async def seller(self, account_id: str) -> SellerTerms | None:
        """Return the newest terms of a seller, ended or not."""
        ...

    async def gas_burnt_wei(self, account_id: str, since_ms: int) -> int:
        """Return what transactions burnt on a seller's settlements that failed since then: its share of each."""
        ...

    async def burners(self, account_id: str, since_ms: int) -> Mapping[bytes, int]:
        """Return how many of an account's settlements failed for good in transactions since then, by who signed them."""
        ...

    async def journal(self, after: int, limit: int) -> tuple[Record, ...]:
        """Return at most `limit` journal rows after a sequence number, in order."""
        ...

    async def query(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Sequence[Mapping[str, Any]]:
        """Run one of the named statements of gateway.store.queries on the reading connection."""
        ...

    async def contradiction(self) -> str | None:
        """Recompute every balance and hold every row against the journal; return the first contradiction, or None.

        Reads everything, but for the journal's digests.
        """
        ...

    async def close(self) -> None:
        """Commit what is queued and close."""
        ...


@dataclass(frozen=True, slots=True)
class ClaimedAnswer:
    """An idempotency key in use: the request it belongs to, and the payment or the kept answer behind it.

    Neither is behind the client token of a server or a fleet.
    """

    fingerprint: bytes
    payment_id: str | None
    answer: Answer | None


@dataclass(frozen=True, slots=True)
class ServerCost:
    """What a server cost its account so far, and what is on hold for it, in USD base units."""

    captured_base: int
    held_base: int


@dataclass(frozen=True, slots=True)
class Block:
    """A block as its header says."""

    number: int
    hash: bytes
    time_s: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """A mined transaction's outcome."""

    tx_hash: bytes
    status: int
    block: Block
    logs: tuple[Log, ...]


class ChainUnavailable(Exception):  # noqa: N818 - named for what is known
    """Too few endpoints answered to decide anything. Unknown, ask again later."""


class ChainDisagreement(Exception):  # noqa: N818 - named for what is known
    """Endpoints contradict each other (P14). Unknown, and an alert. `what` says on which question."""

    def __init__(self, what: str, answers: Mapping[str, str]) -> None:
        super().__init__(f"{what}: {dict(answers)}")
        self.what, self.answers = what, dict(answers)

    @property
    def question(self) -> str:
        """`what` up to its first number or hash: the same whichever block or nonce it was about."""
        return " ".join(takewhile(str.isalpha, self.what.split())) or self.what


class Chain(Protocol):
    """One chain as `evidence_quorum` independent endpoints see it. Every answer is the same answer from that many.

    All methods raise ChainUnavailable or ChainDisagreement. Block numbers are explicit: nothing asks for "latest"
    where money is decided.
    """

    chain_id: int

    async def head(self) -> Block:
        """Return a recent block; no quorum, for windows and sightings only, never evidence."""
        ...

    async def final(self) -> Block:
        """Return the newest block that the quorum holds final: the lowest of the endpoints' final blocks, same hash."""
        ...

    async def block(self, number: int) -> Block:
        """Return the block at this height; ask only for heights that are final."""
        ...

    async def payment_logs(
        self, token: Token, wallets: Sequence[bytes], from_block: int, to_block: int, nonce: bytes | None = None
    ) -> tuple[Log, ...]:
        """Return the logs that tell of payments by these wallets, of one nonce if named, in order, agreed by the quorum.

        Of an EIP-3009 token AuthorizationUsed and AuthorizationCanceled; of a TIP-20 TransferWithMemo, its memo the nonce.
        """
        ...

    async def incoming_logs(
        self, token: Token, payees: Sequence[bytes], from_block: int, to_block: int
    ) -> tuple[Log, ...]:
        """Return the Transfer logs of a token to these payees, in order, agreed by the quorum."""
        ...

    async def outgoing_logs(
        self, token: Token, payers: Sequence[bytes], from_block: int, to_block: int
    ) -> tuple[Log, ...]:
        """Return the Transfer logs of a token from these payers, in order, agreed by the quorum."""
        ...

    async def sightings(self, token: Token, wallets: Sequence[bytes], from_block: int) -> tuple[Log, ...]:
        """Return payments' logs up to the newest block from one endpoint: for display, never evidence."""
        ...

    async def receipt(self, tx_hash: bytes, at: Block | None = None) -> Receipt | None:
        """Return a transaction's receipt with its block, agreed by the quorum; None if the quorum knows none.

        With `at` only endpoints that hold this very block count: then None says that no block up to it holds the
        transaction. A receipt may be of a later block.
        """
        ...

    async def authorization_used(self, token: Token, wallet: bytes, nonce: bytes, at: Block) -> bool:
        """Return an EIP-3009 token's authorizationState at exactly this block (by hash): true if used or canceled."""
        ...

    async def token_balance(self, token: Token, owner: bytes, at: Block) -> int:
        """Return the token balance at exactly this block."""
        ...

    @property
    def witnesses(self) -> tuple[str, ...]:
        """Names of the endpoints whose agreement the last evidence rests on; no URL secrets."""
        ...


class Broadcaster(Protocol):
    """Sends to one chain the transactions that we sign ourselves. What it says is a sighting, never evidence (P14)."""

    async def send_raw(self, raw: bytes) -> None:
        """Hand a signed transaction to the endpoints; the same bytes again move nothing again.

        Raises ChainUnavailable if none of them said that it took it: it may be on its way all the same.
        """
        ...

    async def seen(self, tx_hash: bytes) -> int | None:
        """Return the status of a transaction that some endpoint has in a block (1 good, 0 failed), else None. Never raises."""
        ...


@dataclass(frozen=True, slots=True)
class VendorTerms:
    """What the operator allows for one vendor (P8): from configuration, parsed once.

    `rails` are the enabled ones, in the order that decides between equal prices. The rest is for MPP: `realms` are the
    vendor's host and its aliases in lower case; `allow_push` is whether we may send a transaction ourselves;
    `legacy_proofs` whether a proof of identity may be of a version that another site could relay.
    """

    wallet: bytes
    tokens: tuple[Token, ...]
    payees: frozenset[bytes]
    max_drift_ppm: int
    rate_ppm: Mapping[str, int]
    terms_ttl_s: int
    delivery_deadline_s: int
    limits: AccountLimits
    rails: tuple[Literal["x402", "mpp"], ...] = ("x402",)
    realms: frozenset[str] = frozenset()
    allow_push: bool = False
    legacy_proofs: bool = False


@dataclass(frozen=True, slots=True)
class PricedItem:
    """What a call buys: exact quantities of items of the price list, which states base units for one of each.

    Together they cost at least `floor_base`, and the sum is rounded up once. `slack_base` is how far the vendor's own
    rounding may lie from ours, where its document states none.
    """

    parts: tuple[tuple[str, Fraction], ...]
    floor_base: int = 0
    slack_base: int = 0

    @classmethod
    def of(cls, item: str, quantity: int = 1) -> Self:
        """Return a whole number of one item."""
        return cls(((item, Fraction(quantity)),))

    @property
    def name(self) -> str:
        """What it is called in a task or a log: its items."""
        return "+".join(item for item, _ in self.parts)


@dataclass(frozen=True, slots=True)
class Created:
    """A resource that an answer tells of. `secret` is the vendor's own credential for it, in clear, on its way to a seal.

    `lasts_s` stands for `expires_at_ms` where the answer says how long, and not until when.
    """

    ref: str
    kind: str
    state: str
    secret: Secret[str] | None
    expires_at_ms: int | None
    plan: str = ""
    lasts_s: int | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What an answer says of one thing; None and "" where it says nothing. `parent` is the thing that it was made of."""

    ref: str
    kind: str
    state: str | None = None
    expires_at_ms: int | None = None
    plan: str = ""
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What a vendor's module makes of an answer. `body` is what the agent gets (surrogates in place of secrets).

    `state` and `expires_at_ms` are of the thing that the path names; `seen` are things on a wallet that agents share.
    """

    delivery: Delivery
    fault: Fault
    body: bytes
    created: Created | None = None
    prices: tuple[tuple[str, int], ...] = ()
    state: str | None = None
    expires_at_ms: int | None = None
    seen: tuple[Seen, ...] = ()


@dataclass(frozen=True, slots=True)
class Lost:
    """A paid call whose answer nobody saw: what it asked for, between which times it was done, and what it cost."""

    match: Match
    body: bytes
    from_ms: int
    until_ms: int
    charged_base: int


@dataclass(frozen=True, slots=True)
class Found:
    """A thing in a list that a call may have made, and what the call would have answered: status and body."""

    created: Created
    status: int
    body: bytes


class Shared(Protocol):
    """What a vendor's module adds whose things all belong to the one wallet that pays: the gateway keeps agents apart."""

    catalogue: Mapping[str, str]  # item -> target of the free route (GET) that states its price

    def missing(self, kind: str) -> tuple[int, object]:
        """Return status and document of the vendor's answer for a thing that it does not know."""
        ...

    def plan_of(self, match: Match, body: bytes) -> str:
        """Return the plan of what a call makes, "" where its body does not say."""
        ...

    def show_target(self, kind: str, ref: str) -> str | None:
        """Return the target (GET) that tells a thing's plan, None where none does."""
        ...

    def search_target(self, match: Match) -> str | None:
        """Return the target (GET) of the list in which a call's lost answer can be found, None where it cannot."""
        ...

    def found(self, lost: Lost, answer: UpstreamResponse) -> tuple[Found, ...] | None:
        """Return the things of a list that a lost call may have made; None for a list that proves nothing."""
        ...


class Vendor(Protocol):
    """One vendor: its routes as data and pure readings of its messages. No I/O, no clock."""

    name: str
    origin: str
    terms: VendorTerms
    routes: tuple[Route, ...]
    shared: Shared | None  # None: things are not the wallet's, or the vendor has none

    @property
    def speaks(self) -> frozenset[Meaning]:
        """What its 402 can mean, by its document."""
        ...

    def match(self, method: str, raw_path: str) -> Match | None:
        """Return the declared route that a request matches."""
        ...

    def check_input(self, match: Match, body: bytes) -> None:
        """Raise Problem("input_refused") for input that the vendor would refuse after being paid."""
        ...

    def item(self, match: Match, body: bytes, resource: Resource | None) -> PricedItem | None:
        """Return what the call buys, or None where the vendor has no price list (then the ceiling is the check)."""
        ...

    def surrogate_in(self, match: Match, target: str) -> str | None:
        """Return the surrogate credential that the agent's target carries, if any."""
        ...

    def outgoing_target(self, target: str, surrogate: str | None, real: Secret[str] | None) -> str:
        """Return the target to send: the surrogate replaced by the vendor's own credential."""
        ...

    def scrub(self, target: str) -> str:
        """Return the target without secrets, for records and logs."""
        ...

    def read(self, match: Match, answer: UpstreamResponse, surrogate: Callable[[str], str]) -> Reading:
        """Judge an answer to a presented credential (or, on a free route, to any request). Never raises."""
        ...

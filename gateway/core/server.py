"""The records of the vendor-neutral API: servers, what is kept with them, fleets, quotes, and who is told of what happens.

Must not know vendors, rows or requests.  Theory: a server of ours outlives any one vendor's answer about it: what was
ordered, what is wanted and until when is fixed here first, and every payment and every vendor's thing hangs on it.
"""

from dataclasses import dataclass
from enum import StrEnum


class ServerState(StrEnum):
    """Where a server is. Never mixed with the state of its payments."""

    ORDERING = "ordering"  # wanted; no vendor has said yet that it exists
    ORDER_UNKNOWN = "order_unknown"  # a vendor may have made it: nothing else is bought before that is known
    PROVISIONING = "provisioning"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    STARTING = "starting"
    REBOOTING = "rebooting"
    SUSPENDED = "suspended"
    GRACE = "grace"  # its paid time is over, and the vendor still keeps it
    ERROR = "error"  # the vendor says that it is broken
    UNKNOWN = "unknown"  # the vendor calls it something that its document does not name
    DESTROYING = "destroying"
    DESTROYED = "destroyed"  # because that was wanted
    LAPSED = "lapsed"  # its paid time ran out
    FAILED = "failed"  # it never came to be
    LOST = "lost"  # the vendor does not know it any more, and nobody asked for that


FINAL = frozenset({ServerState.DESTROYED, ServerState.LAPSED, ServerState.FAILED, ServerState.LOST})
USABLE = frozenset({ServerState.RUNNING, ServerState.STARTING, ServerState.REBOOTING})
ORDERED = frozenset({ServerState.ORDERING, ServerState.ORDER_UNKNOWN})


class Wanted(StrEnum):
    """What the agent wants of a server."""

    KEPT = "kept"
    DESTROYED = "destroyed"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to fulfil an order: a vendor's plan in a region, and the most that its first charge may be (USD base units)."""

    vendor: str
    plan: str
    region: str
    first_charge_max_base: int


@dataclass(frozen=True, slots=True)
class Server:
    """One server that an account ordered, whichever vendor makes it.

    `client_token` is the Idempotency-Key of its order, unique in the account. `sealed_spec` holds what was ordered as the
    agent wrote it (image, SSH keys, user data), `candidates` the ways to fulfil it in order; `tried` is the number of the
    one that `vendor`, `plan` and `region` are of. `payment_id` is the newest payment of its create. `expires_at_ms`
    (business time) is until when it is paid for, None while it runs on the balance; `until_reason` says why it ends then,
    where nothing can extend it. `renewal` is the idempotency key of the renewal under way, "" for none; `renewals` counts
    those begun. `warned` names the warnings that were given since its paid time last moved. `version` counts its changes.
    """

    id: str
    account_id: str
    key_id: str
    name: str
    client_token: str
    fingerprint: bytes
    sealed_spec: bytes
    candidates: tuple[Candidate, ...]
    created_at_ms: int
    as_of_ms: int
    vendor: str
    plan: str
    region: str
    tried: int = 0
    state: ServerState = ServerState.ORDERING
    wanted: Wanted = Wanted.KEPT
    reason: str = ""
    quote_id: str | None = None
    fleet_id: str | None = None
    ref: str | None = None
    payment_id: str | None = None
    address: str = ""
    image: str = ""
    sealed_access: bytes | None = None
    expires_at_ms: int | None = None
    until_reason: str = ""
    keep_until_ms: int | None = None
    auto_renew: bool = False
    max_total_base: int | None = None
    renewal: str = ""
    renewals: int = 0
    warned: tuple[str, ...] = ()
    ready_at_ms: int | None = None
    ended_at_ms: int | None = None
    version: int = 1

    @property
    def open(self) -> bool:
        """Whether anything can still happen to it."""
        return self.state not in FINAL


@dataclass(frozen=True, slots=True)
class Quote:
    """A binding quote: until it expires, buying with its id costs at most `candidate.first_charge_max_base` at first.

    `document` is what the agent was shown, as JSON; `sealed_spec` what it covers.
    """

    id: str
    account_id: str
    candidate: Candidate
    document: str
    sealed_spec: bytes
    created_at_ms: int
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot or backup of a server. `ref` is the vendor's id or name of it."""

    id: str
    account_id: str
    server_id: str
    vendor: str
    ref: str
    name: str
    state: str  # pending | available | error | expired | deleted | unknown
    created_at_ms: int
    as_of_ms: int
    expires_at_ms: int | None = None
    size_gib: str = ""
    version: int = 1


@dataclass(frozen=True, slots=True)
class SshKey:
    """A public key of an account. `installed` names the vendors that know it, each with the id that it has there."""

    id: str
    account_id: str
    name: str
    public_key: str
    fingerprint: str
    created_at_ms: int
    installed: tuple[tuple[str, str], ...] = ()
    deleted_at_ms: int | None = None
    version: int = 1


class FleetState(StrEnum):
    """Whether a fleet is kept alive."""

    ACTIVE = "active"
    EXHAUSTED = "exhausted"  # its budget does not cover another server
    ENDING = "ending"  # its servers are being destroyed
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Fleet:
    """`count` servers of one need, kept alive until `until_ms` (business time) for at most `budget_base` altogether.

    `sealed_spec` is the need and what each server is ordered with. `made` counts the servers ordered so far.
    """

    id: str
    account_id: str
    key_id: str
    name: str
    client_token: str
    fingerprint: bytes
    sealed_spec: bytes
    count: int
    until_ms: int
    budget_base: int
    created_at_ms: int
    state: FleetState = FleetState.ACTIVE
    reason: str = ""
    made: int = 0
    ended_at_ms: int | None = None
    version: int = 1


@dataclass(frozen=True, slots=True)
class Hook:
    """Where an account wants to be told of events. `secret` is sealed; `events` are types or prefixes ending in "*"."""

    id: str
    account_id: str
    url: str
    sealed_secret: bytes
    events: tuple[str, ...]
    description: str
    created_at_ms: int
    disabled_reason: str = ""
    deleted_at_ms: int | None = None
    version: int = 1


class HookDeliveryState(StrEnum):
    """What became of telling one endpoint of one event."""

    PENDING = "pending"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


@dataclass(frozen=True, slots=True)
class HookDelivery:
    """One event on its way to one endpoint. (`hook_id`, `event_seq`) is its identity; replaying makes it pending again.

    `subject` is the record that the event is about: those about one are sent one after another.
    """

    hook_id: str
    event_seq: int  # of the journal row that the event is a reading of
    account_id: str
    state: HookDeliveryState
    attempts: int
    due_at_ms: int
    created_at_ms: int
    last_status: int | None = None
    last_error: str = ""
    done_at_ms: int | None = None
    subject: str = ""


Kept = Server | Quote | Snapshot | SshKey | Fleet | Hook
"""What the command `Put` takes: each new, or one version above what is kept (a quote never changes)."""

"""The seam to what the vendor-neutral API needs of a vendor: how its own API says what /v1/servers says.

Must not know any vendor, store or client.  Theory: a neutral call becomes one call of the vendor's own API and goes through
the same machines as an agent's proxied call (claims, holds, fences, retries), so a module here is data and pure
translations; where vendors differ, they differ in `Features` and nowhere else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal, Protocol

from gateway.core.plan import Billing, Plan
from gateway.core.server import ServerState
from wallets.secret import Secret


class Feature(StrEnum):
    """What a vendor may be able to do for one server; answered by YES, NO or UNKNOWN for each vendor."""

    LIST = "list"
    DESTROY = "destroy"
    START = "start"
    STOP = "stop"
    REBOOT = "reboot"
    RENEW = "renew"  # paid time can be bought
    CREDENTIALS = "credentials"  # a way in as root that the vendor states
    SSH_KEYS = "ssh_keys"
    USER_DATA = "user_data"
    IMAGES = "images"
    REGIONS = "regions"
    EXEC = "exec"
    JOBS = "jobs"
    FILES = "files"
    SNAPSHOTS = "snapshots"
    SNAPSHOT_DELETE = "snapshot_delete"
    RESTORE_IN_PLACE = "restore_in_place"
    RESTORE_TO_NEW = "restore_to_new"


Answer = Literal["yes", "no", "unknown"]


class Action(StrEnum):
    """What can be asked about or of one thing. Each is one call of the vendor's own API."""

    SHOW = "show"
    STATE = "state"  # the state alone, at vendors that do not tell it with the rest (`Features.state_apart`)
    DESTROY = "destroy"
    START = "start"
    STOP = "stop"
    REBOOT = "reboot"
    RENEW = "renew"  # parameters: units
    CREDENTIALS = "credentials"
    EXEC = "exec"  # command, timeout_s, background
    JOB_LIST = "job_list"
    JOB_SHOW = "job_show"  # job
    JOB_CANCEL = "job_cancel"  # job
    FILE_GET = "file_get"  # path
    FILE_PUT = "file_put"  # path, content
    SNAPSHOT_CREATE = "snapshot_create"  # name
    SNAPSHOT_LIST = "snapshot_list"
    SNAPSHOT_DELETE = "snapshot_delete"  # snapshot (the vendor's id or name)
    RESTORE = "restore"  # snapshot: in place
    KEY_ADD = "key_add"  # name, public_key; of no server (ref "")
    KEY_DELETE = "key_delete"  # key


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to a vendor's own API, as an agent would send it below /proxy/{vendor}."""

    method: str
    target: str = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class RenewRule:
    """How paid time is bought: whole units of `unit_s`, `min_units` to `max_units` at once, at least `least_base` (USD).

    `lead_s`: how long before the end the planner starts; `slow`: the vendor collects, and the end moves, only after work
    of its own, for which `window_s` is the longest; `retry_before_s`: so long before the end a renewal that is still not
    settled counts as stuck, and a replacement should be bought elsewhere. `grace_s`: for how long after its end the vendor
    keeps a server that can still be renewed; None: its document does not say, and the end is taken for the end.
    `unit_s` 0: a unit is the term of the server's plan, so the rule of one server is `of(plan.term_s)`.
    """

    unit_s: int
    min_units: int
    max_units: int
    lead_s: int
    least_base: int = 0
    slow: bool = False
    window_s: int = 0
    retry_before_s: int = 0
    grace_s: int | None = None

    def of(self, term_s: int | None) -> "RenewRule":
        """Return the rule for a server of a plan with this term: its own unit, and times that fit into a short term."""
        if self.unit_s or term_s is None:
            return self
        lead_s, retry_before_s = min(self.lead_s, term_s // 2), min(self.retry_before_s, term_s // 6)
        return replace(self, unit_s=term_s, lead_s=lead_s, retry_before_s=retry_before_s)


@dataclass(frozen=True, slots=True)
class SnapshotRule:
    """What a snapshot is at a vendor. `retention_s` None: the document does not say."""

    retention_s: int | None
    named_by_agent: bool
    requires_stopped: bool = False  # to restore


@dataclass(frozen=True, slots=True)
class Features:
    """Everything in which vendors differ for the neutral API.

    `unit_s` is the smallest stretch of time that is charged. `hold_max_s` is the longest time that the first charge may
    stay on hold, `refundable` says in words what of it comes back. `ready_pauses_s` are the pauses between looks until a
    server is ready. `followed`: the gateway's own watch keeps the state up to date, so nobody needs to ask. `name_pattern`
    is the vendor's grammar for names, "" where it takes none. `state_apart`: showing a server that is there does not say
    whether it runs, which is asked for by itself.
    """

    does: Mapping[Feature, Answer]
    billing: Billing
    unit_s: int
    hold_max_s: int
    refundable: str
    pays: Literal["on_success", "at_once", "by_time"]
    renew: RenewRule | None = None
    snapshots: SnapshotRule | None = None
    name_pattern: str = ""
    ready_pauses_s: tuple[float, ...] = (2.0, 4.0, 8.0, 16.0, 30.0)
    followed: bool = False
    default_image: str = ""
    state_apart: bool = False

    def can(self, feature: Feature) -> bool:
        """Say whether the vendor does this for certain."""
        return self.does[feature] == "yes"


@dataclass(frozen=True, slots=True)
class CatalogueAsk:
    """A free or paid GET that states plans. `paid`: it costs money each time, so the house pays and keeps the answer.

    `optional`: without it the plans can be stated all the same, with less in them; it may not exist any more.
    """

    target: str
    paid: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be made at one vendor.

    `minutes` is how much time to prepay (Billing.MINUTES); `ssh_keys` are the vendor's own ids.
    """

    plan: str
    name: str
    region: str = ""
    image: str = ""
    ssh_keys: tuple[str, ...] = ()
    user_data: str = field(default="", repr=False)
    minutes: int | None = None
    snapshot: str = ""  # the vendor's id of what it is made from


_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Sight:
    """What an answer says of one server; None and "" where it says nothing. Times are ms since the epoch.

    `access` are the ways in that the answer shows (`username`, `password`, `private_key`, `port`, `root_token`, …): secrets.
    """

    ref: str
    state: ServerState | None = None
    raw_state: str = ""  # the vendor's own word
    name: str = ""
    address: str = ""
    region: str = ""
    image: str = ""
    plan: str = ""
    expires_at_ms: int | None = None
    access: Mapping[str, Secret[str]] = field(default_factory=dict)
    payment: str = ""  # the vendor's own word on its payment, for display
    ends_by_itself: bool = False  # at `expires_at_ms` the vendor destroys it whatever is paid


@dataclass(frozen=True, slots=True)
class SnapshotSight:
    """What an answer says of one snapshot."""

    ref: str
    name: str = ""
    state: str = "unknown"
    created_at_ms: int | None = None
    expires_at_ms: int | None = None
    size_gib: str = ""
    gone: bool = False


@dataclass(frozen=True, slots=True)
class JobSight:
    """A command that ran or runs on a server. `state`: pending, running, done, timeout, cancelled, unknown."""

    id: str
    state: str
    exit_code: int | None = None
    stdout: str = field(default="", repr=False)
    stderr: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Heard:
    """What an answer to an action says. Only what the action is about is set; `ok` False: the vendor did not do it."""

    ok: bool
    server: Sight | None = None
    snapshots: tuple[SnapshotSight, ...] = ()
    jobs: tuple[JobSight, ...] = ()
    key_ref: str = ""
    access: Mapping[str, Secret[str]] = field(default_factory=dict)
    detail: str = ""


class ServerVendor(Protocol):
    """One vendor as the neutral API sees it. Pure: no I/O, no clock; never raises but where it says so."""

    name: str
    features: Features
    catalogue: tuple[CatalogueAsk, ...]

    def plans(self, answers: Mapping[str, bytes], now_ms: int) -> tuple[Plan, ...]:
        """Return the plans that the answers (body by target of `catalogue`) state. Raises ValueError for what cannot be read."""
        ...

    def create(self, order: Order) -> Ask:
        """Return the request that orders. Raises Problem("input_refused") naming the neutral field that cannot be ordered."""
        ...

    def made(self, status: int, body: bytes) -> Sight | None:
        """Return what a create's answer shows; None for one that shows nothing made."""
        ...

    def ask(
        self, action: Action, ref: str, access: Mapping[str, Secret[str]], parameters: Mapping[str, Any] = _NOTHING
    ) -> Ask:
        """Return the request for an action. Raises Problem("input_refused") for parameters that the vendor would refuse.

        `access` is what was kept of the server's own secrets. Only asked for what `features` say that it can do, and SHOW.
        """
        ...

    def hear(self, action: Action, ref: str, status: int, body: bytes) -> Heard:
        """Read the answer to an action."""
        ...

    def listed(self, body: bytes) -> tuple[Sight, ...] | None:
        """Return the servers in an answer of `list_ask`; None for one that proves nothing."""
        ...

    def list_ask(self) -> Ask | None:
        """Return the request that lists the account's own servers; None where there is none."""
        ...

"""The shapes that the API answers with, as types; `docs/api.md` and `/openapi.json` say what each member means.

Must not know requests.  Theory: they are what JSON decodes to, unchanged, so a newer gateway's extra members pass through.
"""

from typing import Any, Generic, TypedDict, TypeVar

T = TypeVar("T")


class Need(TypedDict, total=False):
    """What is needed of a server."""

    min_vcpu: int
    min_memory_mib: int
    min_disk_gib: int
    region: str
    image: str
    max_hourly: str
    for_s: int
    vendors: list[str]
    not_vendors: list[str]
    features: list[str]
    sandbox: bool


class Plan(TypedDict):
    """One plan of one vendor."""

    id: str
    vendor: str
    plan: str
    name: str
    vcpu: int | None
    memory_mib: int | None
    disk_gib: int | None
    regions: list[str]
    images: list[dict[str, Any]]
    billing: str
    price: dict[str, Any]
    sandbox: bool
    available: bool


class Quote(TypedDict):
    """A binding quote."""

    id: str
    vendor: str
    plan: Plan
    region: str
    image: str
    lines: list[dict[str, Any]]
    first_charge: str
    running_cost: dict[str, Any]
    refundable: str
    hold_max_s: int
    pays: str
    expires_at: str
    candidates_lost: list[dict[str, str]]


class Server(TypedDict):
    """One server, whichever vendor made it."""

    id: str
    name: str
    state: str
    reason: str
    wanted: str
    vendor: str
    plan: str
    region: str
    image: str
    address: str
    ref: str | None
    expires_at: str | None
    expires_because: str
    keep_until: str | None
    auto_renew: bool
    max_total: str | None
    spent: str
    held: str
    payment: dict[str, Any] | None
    renewal: dict[str, Any]
    fleet: str | None
    quote: str | None
    created_at: str
    ready_at: str | None
    ended_at: str | None
    as_of: str
    version: int


class Snapshot(TypedDict):
    """A snapshot or backup of a server."""

    id: str
    server: str
    vendor: str
    ref: str
    name: str
    state: str
    created_at: str
    expires_at: str | None
    size_gib: str
    as_of: str


class SshKey(TypedDict):
    """A public key of the account."""

    id: str
    name: str
    public_key: str
    fingerprint: str
    installed: list[str]
    created_at: str


class Fleet(TypedDict):
    """Servers of one need that are kept alive."""

    id: str
    name: str
    state: str
    reason: str
    count: int
    alive: int
    servers: list[str]
    until: str
    budget: str
    spent: str
    made: int
    created_at: str
    ended_at: str | None
    need: Need


class TopUpOffer(TypedDict, total=False):
    """What credit costs: the body of the 402. A stock x402 or MPP client pays the same URL by itself."""

    title: str
    detail: str
    order: str
    amount: str
    x402Version: int
    error: str
    accepts: list[dict[str, Any]]


class TopUp(TypedDict):
    """A purchase of credit; `credit` says whether it can be spent: none, pending or available."""

    id: str
    state: str
    amount: str
    credit: str
    pack: str | None
    rail: str | None
    network: str | None
    asset: str | None
    payer: str | None
    transaction: str | None
    reason: str | None
    created_at: str
    expires_at: str
    ended_at: str | None
    status_url: str


Receipt = TypedDict(
    "Receipt",
    {
        "id": str,
        "at": str,
        "state": str,
        "amount": str,
        "refunded": str,
        "refundable": bool,
        "topup": str | None,
        "asset": str,
        "value": str,
        "from": str,  # a word of the language: no class can have it
        "till": str,
        "transaction": str,
        "log_index": int,
        "block_number": int,
        "block_time": str,
    },
)
"""Money that came in, with the transfer that proves it."""


class Refund(TypedDict):
    """Balance on its way back to the wallet that paid it in."""

    id: str
    created_at: str
    ended_at: str | None
    state: str
    receipt: str
    amount: str
    asset: str
    value: str
    to: str
    till: str
    transaction: str | None
    valid_before: str
    reason: str | None


class Deposits(TypedDict):
    """How to pay in by a plain transfer; transfers of `wallets` need no memo."""

    ways: list[dict[str, Any]]
    wallets: list[str]


class Event(TypedDict):
    """Something that happened: what a webhook delivers and an event stream tells."""

    type: str
    timestamp: str
    data: dict[str, Any]


class Page(TypedDict, Generic[T]):
    """One page of a list: ask again with `after` = `next` until that is null."""

    entries: list[T]
    next: str | None

"""What a server is made of and what it costs, at any vendor, and what an agent may need of one.

Must not know vendors' wires.  Theory: plans of different vendors compare only after everything is in one unit and one
exact price an hour; what a vendor does not state stays None and never counts as a fit.
"""

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction


class Billing(StrEnum):
    """How time is paid for."""

    TERM = "term"  # a fixed term, renewed by whole periods
    MINUTES = "prepaid_minutes"  # bought in advance, extended before they run out
    HOURLY = "hourly"  # from the balance, for as long as it exists
    PER_MINUTE = "per_minute"  # from the balance, while it runs
    MONTHLY = "monthly"  # from the balance, by calendar month


class Source(StrEnum):
    """Where a price or a size is known from."""

    API = "api"  # the vendor answered it at `as_of_ms`
    DOCUMENT = "document"  # the vendor's document states it


@dataclass(frozen=True, slots=True)
class Image:
    """An operating system or a template that a plan can be made with."""

    id: str
    name: str
    ttl_s: int | None = None  # what is made with it destroys itself so long after


@dataclass(frozen=True, slots=True)
class Plan:
    """One plan of one vendor. Prices are exact decimal texts in USD.

    `term_s` is how long `term_price` lasts (Billing.TERM); `setup` is charged once; `hourly` is what an hour costs, or for a
    term its price by the hour. `monthly` is the vendor's own price of a month, where it states one.
    """

    vendor: str
    id: str
    name: str
    billing: Billing
    hourly: str
    source: Source
    as_of_ms: int | None  # None: of the document or the configuration
    vcpu: int | None = None
    memory_mib: int | None = None
    disk_gib: int | None = None
    regions: tuple[str, ...] = ()  # empty: the vendor lets nobody choose
    images: tuple[Image, ...] = ()
    monthly: str | None = None
    setup: str = "0"
    term_price: str | None = None
    term_s: int | None = None
    sandbox: bool = False  # made for trying, not for keeping
    available: bool = True

    @property
    def key(self) -> str:
        """How the neutral API names it."""
        return f"{self.vendor}/{self.id}"

    @property
    def rate(self) -> Fraction:
        """What an hour of it costs, exactly (USD)."""
        return Fraction(self.hourly)


@dataclass(frozen=True, slots=True)
class Need:
    """What an agent needs of a server; None and empty mean that it does not matter.

    `vendors` and `not_vendors` narrow by name. `max_hourly` is exact decimal USD. `for_s` is how long it is needed,
    which decides between a term and an hourly price. `features` are names of gateway.server_ports.Feature that must be "yes".
    """

    min_vcpu: int | None = None
    min_memory_mib: int | None = None
    min_disk_gib: int | None = None
    region: str | None = None
    image: str | None = None
    max_hourly: str | None = None
    for_s: int | None = None
    plan: str | None = None  # "vendor/plan": this one and no other
    vendors: tuple[str, ...] = ()
    not_vendors: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    sandbox: bool = False  # whether plans made for trying will do
    arch: str | None = None  # of a fleet that an older version took: no vendor states one, so no plan fulfils it

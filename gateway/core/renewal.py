"""Whether a server's paid time is to be bought now, how much of it, or why not: one planner for every billing model.

Must not know vendors, wires or clocks.  Theory: what an agent wants (`keep_until`, `auto_renew`, `max_total`) and what it
has bound every purchase before it is made, so a decision is a function of facts alone; whatever cannot be kept alive is
told of before it ends, and is reported with its reason when it has ended.  All times are business time.
"""

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from gateway.core.server import ORDERED, Server, ServerState
from gateway.core.tariff import HOUR_S

HORIZON_S = 6 * HOUR_S
"""Prepaid minutes are bought for so long at a time: they are not given back, so more would be lost with the server."""
WARN_BEFORE_S = (72 * HOUR_S, 24 * HOUR_S, HOUR_S)
STOP_MARGIN_S = 300
"""What `max_total` does not cover is destroyed so long before it would begin: a destruction takes its time."""
LOOK_AGAIN_S, SOON_S = 600, 60
"""When nothing is in sight, or something hinders: balances and prices move without a word."""
STUCK = "stuck"
OVERDUE_S = HOUR_S
"""A thing that is charged so long after its vendor should have ended it is a human's to look at."""

_NEVER_MS = 1 << 62


class Why(StrEnum):
    """Why a server's paid time is not extended, or will not be."""

    NOT_RENEWED = "not_renewed"  # nobody asked for it: no keep_until, no auto_renew
    KEEP_UNTIL = "keep_until"  # it is wanted no longer
    TEMPLATE = "template"  # its vendor destroys it then, whatever is paid
    BALANCE = "balance"
    MAX_TOTAL = "max_total"
    KEY = "key_revoked"  # the key that ordered it pays for nothing any more
    FAILED = "renewal_failed"  # it was tried, and never worked
    STUCK = "renewal_stuck"  # a renewal was not settled in time


NOT_APPLIED = f"{Why.FAILED}:not_applied"
"""The mark of a term that was paid for and whose end has not moved: whatever the reason, it is never paid twice unasked."""
OVERDUE = f"{Why.TEMPLATE}:overdue"


@dataclass(frozen=True, slots=True)
class Extension:
    """How paid time is bought: gateway.server_ports.RenewRule, and what a unit of this very server costs.

    `rate` is USD base units a unit, exactly; None while nobody states it.
    """

    unit_s: int
    min_units: int
    max_units: int
    lead_s: int
    least_base: int = 0
    slow: bool = False
    retry_before_s: int = 0
    grace_s: int = 0
    rate: Fraction | None = None

    def cost_base(self, units: int) -> int | None:
        """Return what so many units cost together, rounded up once; None while that is not known."""
        if self.rate is None:
            return None
        exact = self.rate * units
        return max(self.least_base, -(-exact.numerator // exact.denominator))


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a decision follows from. `committed_base` is captured and held, an open renewal's hold included.

    `extension` None: time is paid from the balance as it passes. Then `runs_out_ms` is when the balance ends it at the
    earliest and `covered_until_ms` until when `max_total` covers it, None for far away. `term_s` is how long a term lasts,
    None where there are none. `renewal_open`: money is on its way for it, whoever sent it. `failing`: the last renewal did
    not come about, and no other has since. `metered`: it is charged, whatever its end says.
    """

    now_ms: int
    state: ServerState
    expires_at_ms: int | None
    until_reason: str
    keep_until_ms: int | None
    auto_renew: bool
    max_total_base: int | None
    committed_base: int
    available_base: int
    warned: tuple[str, ...]
    extension: Extension | None
    can_destroy: bool
    key_valid: bool = True
    renewal_open: bool = False
    failing: bool = False
    term_s: int | None = None
    runs_out_ms: int | None = None
    covered_until_ms: int | None = None
    metered: bool = False
    warn_before_s: tuple[int, ...] = WARN_BEFORE_S


@dataclass(frozen=True, slots=True)
class Renew:
    """Buy so many units now."""

    units: int


@dataclass(frozen=True, slots=True)
class Destroy:
    """End it now."""

    reason: str


@dataclass(frozen=True, slots=True)
class Warn:
    """Tell its agent that it ends at `ends_at_ms`, and why. `kind` is given once in a term."""

    kind: str
    why: Why
    ends_at_ms: int


@dataclass(frozen=True, slots=True)
class Lapse:
    """Its paid time is over, and nothing is under way that could extend it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stuck:
    """A renewal is not settled, and so little time is left that another server should be bought."""

    detail: str


@dataclass(frozen=True, slots=True)
class Overdue:
    """Its vendor should have ended it, and it is charged all the same: a human asks why, once."""

    ends_at_ms: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is to be done before then, as far as is known now. `hindered`: what stands in the way may be gone any moment."""

    until_ms: int
    hindered: bool = False


Decision = Renew | Destroy | Warn | Lapse | Stuck | Overdue | Wait


def decide(facts: Facts) -> Decision:
    """Return the most urgent thing to be done for one server that is wanted. Ask again after it is done, until Wait."""
    keep_ms, now_ms = facts.keep_until_ms, facts.now_ms
    if keep_ms is not None and now_ms >= keep_ms and (facts.can_destroy or facts.state in ORDERED):
        return Destroy(Why.KEEP_UNTIL)
    if facts.state in ORDERED:
        return _soon(facts)
    if facts.extension is None:
        return _on_the_balance(facts)
    if facts.expires_at_ms is None:
        return _soon(facts)
    return _prepaid(facts, facts.extension, facts.expires_at_ms)


def lapse_reason(server: Server) -> str:
    """Return why a server's paid time was not extended, from what its agent was told; "" where nobody foresaw its end.

    For whoever sees at the vendor that it is gone: with a reason it has lapsed, without one it is lost.
    """
    if server.until_reason:
        return Why.TEMPLATE
    if STUCK in server.warned:
        return Why.STUCK
    told = [kind.partition(":")[0] for kind in server.warned]
    return told[-1] if told else ""


# what is paid from the balance as it passes


def _on_the_balance(facts: Facts) -> Decision:
    now_ms = facts.now_ms
    covered_ms = _NEVER_MS if facts.covered_until_ms is None else facts.covered_until_ms - STOP_MARGIN_S * 1000
    if now_ms >= covered_ms and facts.can_destroy:
        return Destroy(Why.MAX_TOTAL)
    over_ms = facts.expires_at_ms if facts.expires_at_ms is not None and now_ms >= facts.expires_at_ms else None
    if over_ms is not None and not facts.metered:
        return Lapse(Why.TEMPLATE)
    if over_ms is not None and now_ms >= over_ms + OVERDUE_S * 1000 and OVERDUE not in facts.warned:
        return Overdue(over_ms)
    ends = [(covered_ms, Why.MAX_TOTAL)]
    if facts.expires_at_ms is not None and over_ms is None:
        ends.append((facts.expires_at_ms, Why.TEMPLATE))
    if facts.runs_out_ms is not None:
        ends.append((facts.runs_out_ms, Why.BALANCE))
    ends_ms, why = min(ends)
    if over_ms is not None:  # the end of its meter is its end: as long as it is charged it is not forgotten
        return _warn(facts, why, ends_ms) or _soon(facts, over_ms + OVERDUE_S * 1000, ends_ms=ends_ms)
    if facts.keep_until_ms is not None and facts.keep_until_ms <= ends_ms:
        return _wait(facts)
    return _warn(facts, why, ends_ms) or _wait(facts, ends_ms=ends_ms)


# what is paid in advance


def _prepaid(facts: Facts, extension: Extension, ends_ms: int) -> Decision:
    why = _unwanted(facts, ends_ms)
    over = facts.now_ms >= ends_ms + extension.grace_s * 1000
    if facts.renewal_open:
        return _under_way(facts, extension, ends_ms)
    if over:
        stuck = Why.STUCK if STUCK in facts.warned else Why.FAILED
        return Lapse(why or _unpaid(facts, extension, ends_ms)[1] or stuck)
    if why is not None:
        told = None if why is Why.KEEP_UNTIL else _warn(facts, why, ends_ms)
        return told or _wait(facts, ends_ms=ends_ms)
    units, short = _unpaid(facts, extension, ends_ms)
    if short is not None:
        return _warn(facts, short, ends_ms) or _soon(facts, ends_ms=ends_ms)
    if extension.slow and facts.state in {ServerState.PROVISIONING, ServerState.GRACE}:
        return _soon(facts)  # what is not settled yet, or over, is not renewed there
    due_ms = ends_ms - extension.lead_s * 1000
    if facts.failing:
        told = _warn(facts, Why.FAILED, ends_ms)
        if told is not None:
            return told
    if facts.now_ms < due_ms:
        return _wait(facts, due_ms)
    return Renew(units)


def _unwanted(facts: Facts, ends_ms: int) -> Why | None:
    """Return why it would not be renewed for any money."""
    if facts.until_reason:
        return Why.TEMPLATE
    if not facts.auto_renew:
        return Why.NOT_RENEWED
    if facts.keep_until_ms is not None and ends_ms >= facts.keep_until_ms:
        return Why.KEEP_UNTIL
    if NOT_APPLIED in facts.warned:
        return Why.FAILED
    return None if facts.key_valid else Why.KEY


def _under_way(facts: Facts, extension: Extension, ends_ms: int) -> Decision:
    """Money that is on its way is waited for: a second renewal only when the first is dead."""
    risky_ms = ends_ms - extension.retry_before_s * 1000
    if extension.slow and facts.now_ms >= risky_ms and STUCK not in facts.warned:
        return Stuck("the renewal is not settled, and the paid time is nearly over")
    return _soon(facts, risky_ms, ends_ms)


def _unpaid(facts: Facts, extension: Extension, ends_ms: int) -> tuple[int, Why | None]:
    """Return how many units to buy; none, with the reason, if not even the fewest are covered."""
    units = _batch(facts, extension, ends_ms)
    left_base = facts.available_base
    short = Why.BALANCE
    if facts.max_total_base is not None and facts.max_total_base - facts.committed_base < left_base:
        left_base, short = facts.max_total_base - facts.committed_base, Why.MAX_TOTAL
    if extension.rate is None or not extension.rate:
        return (units, None) if left_base > 0 else (0, short)
    if left_base < extension.least_base:
        return 0, short
    units = min(units, left_base * extension.rate.denominator // extension.rate.numerator)
    return (units, None) if units >= extension.min_units else (0, short)


def _batch(facts: Facts, extension: Extension, ends_ms: int) -> int:
    """Return how many units are sensible at once, whatever they cost."""
    unit_ms = extension.unit_s * 1000
    least = 1
    if extension.rate:
        least = max(least, extension.least_base * extension.rate.denominator // extension.rate.numerator)
    behind_ms = facts.now_ms + extension.lead_s * 1000 - ends_ms  # it must not be due again at once
    units = max(least, -(-HORIZON_S // extension.unit_s), -(-behind_ms // unit_ms))
    if facts.keep_until_ms is not None:
        needed = -(-(facts.keep_until_ms - ends_ms) // unit_ms)
        # A rest that is shorter than what the least charge buys would cost that charge once more.
        units = needed if needed - units < least else units
    return max(extension.min_units, min(units, extension.max_units))


# telling, waiting


def leads_s(warn_before_s: tuple[int, ...], term_s: int | None) -> tuple[int, ...]:
    """Return how long before its end a server's agent is warned, the earliest first.

    In a short term at a half, a quarter, an eighth of it: notice of three days would come before the term began.
    """
    longest_first = sorted(warn_before_s, reverse=True)
    if term_s is None:
        return tuple(longest_first)
    return tuple(min(before_s, term_s >> number) for number, before_s in enumerate(longest_first, 1))


def _leads_s(facts: Facts) -> tuple[int, ...]:
    return leads_s(facts.warn_before_s, facts.term_s)


def _warn(facts: Facts, why: Why, ends_ms: int) -> Warn | None:
    """Return the warning that is due and was not given: the most urgent one, which makes those before it needless."""
    leads = _leads_s(facts)
    passed = [number for number, before_s in enumerate(leads) if facts.now_ms >= ends_ms - before_s * 1000]
    if not passed or any(f"{why}:{number}" in facts.warned for number in range(passed[-1], len(leads))):
        return None
    return Warn(f"{why}:{passed[-1]}", why, ends_ms)


def _soon(facts: Facts, *until_ms: int, ends_ms: int | None = None) -> Wait:
    """Wait for what may end without a word."""
    return Wait(_wait(facts, *until_ms, ends_ms=ends_ms).until_ms, hindered=True)


def _wait(facts: Facts, *until_ms: int, ends_ms: int | None = None) -> Wait:
    """Wait for the nearest of these, of `keep_until`, and of the warnings before an end; look again where there is none."""
    if facts.keep_until_ms is not None and facts.can_destroy:
        until_ms = (*until_ms, facts.keep_until_ms)
    if ends_ms is not None:
        until_ms = (*until_ms, ends_ms, *(ends_ms - before_s * 1000 for before_s in _leads_s(facts)))
    again_ms = facts.now_ms + LOOK_AGAIN_S * 1000
    return Wait(min([at_ms for at_ms in until_ms if at_ms > facts.now_ms], default=again_ms))

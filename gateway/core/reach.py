"""Until when a limit covers a thing that is charged as time passes.

Must not know balances or vendors.  Theory: what a thing has cost never falls, so the last moment at which it is still
within a limit is found by halving; a vendor's unit begins after that moment, and would be owed whole.
"""

from gateway.core.meter import owed_base
from gateway.core.records import Meter

STEP_MS = 1000


def covered_until_ms(meter: Meter, limit_base: int, from_ms: int, until_ms: int) -> int | None:
    """Return the last time (to the second) at which a meter owes no more than the limit, None if that is `until_ms` or later.

    `from_ms` if it owes more already. One that is not charged now owes no more later.
    """
    if meter.running_since_ms is None or owed_base(meter, until_ms) <= limit_base:
        return None
    low, high = 0, max(1, (until_ms - from_ms) // STEP_MS + 1)  # covered at low, not at high
    while high - low > 1:
        middle = (low + high) // 2
        if owed_base(meter, from_ms + middle * STEP_MS) <= limit_base:
            low = middle
        else:
            high = middle
    return from_ms + low * STEP_MS

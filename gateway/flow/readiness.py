"""What keeps purchases from being made now, in words that anybody may read.

Must not know HTTP.  Theory: not ready means that this process cannot do its work, so that a balancer looks for another
one; a freeze is a decision that holds for all of them, while balances and servers can still be read, so it is a limit.
P10: nobody who asks without a key learns an operator's reason, an account or a wallet.
"""

from collections.abc import Collection, Mapping

from gateway.flow.heads import Heads

STALE_AFTER_POLLS = 10
STALE_AT_LEAST_S = 30.0

_LIMITS = {"all": "frozen by the operator", "database": "database quarantined"}


def unread_chains(heads: Heads, poll_s: Mapping[int, float], now_ms: int) -> list[str]:
    """Return one sentence for each chain (id to seconds between polls) whose final block is not booked or stands still.

    A chain counts as unread once no poll has succeeded for STALE_AFTER_POLLS polls, and at least STALE_AT_LEAST_S.
    """
    reasons: list[str] = []
    for chain_id, pause_s in poll_s.items():
        at_ms = heads.read_at_ms(chain_id)
        if at_ms is None:
            reasons.append(f"chain {chain_id} was not read yet")
        elif now_ms - at_ms > 1000 * max(STALE_AT_LEAST_S, STALE_AFTER_POLLS * pause_s):
            reasons.append(f"chain {chain_id} was not read for {(now_ms - at_ms) // 1000} s")
    return reasons


def limits(frozen_scopes: Collection[str]) -> list[str]:
    """Return what stops every purchase although the process is ready."""
    return [text for scope, text in _LIMITS.items() if scope in frozen_scopes]

"""Deposits: credit for a plain transfer, without a 402, by the mark that it bears or the wallet that it comes from.

Must not know blocks or the book's rows; decision 0015 says why it is made so.  Theory: a transfer is somebody's deposit only
where it says whose by itself: on Tempo by the memo that follows from the account, elsewhere by a sender that has proven to be
the account's. A plain transfer proves nothing of who may have it back, so no deposit is ever refunded.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from contracts.incoming import Moved
from contracts.keccak import keccak256
from contracts.tokens import Token
from gateway.flow.paid.inventory import Takes, takes_all
from gateway.flow.paid.tills import Till
from gateway.ports import Store

TAG = keccak256(b"agent-payment-gateway/deposit/v1")[:4]
"""Tells a deposit's memo from an MPP charge's; a new encoding takes a new version, never a new meaning."""

LEAST_BASE = 1  # nobody says how much a deposit will be


@dataclass(frozen=True, slots=True)
class Way:
    """One way to deposit: send the token to the address, with the memo where there is one, else from a proven wallet."""

    token: Token
    address: bytes
    memo: bytes | None


def memo_of(account_id: str) -> bytes:
    """Return the 32 bytes by which a deposit on Tempo names its account."""
    return TAG + keccak256(TAG + account_id.encode())[len(TAG) :]


class Deposits:
    """Tells whose a transfer without an order is, and how an account makes one."""

    def __init__(self, *, store: Store, tills: Sequence[Till], takes: Takes = takes_all) -> None:
        self._store, self._tills, self._takes = store, tuple(tills), takes
        self._accounts: dict[bytes, str] = {}

    def account_of(self, token: Token, moved: Moved) -> str | None:
        """Return the account that a transfer is a deposit of: its memo's, or its sender's; None for nobody's.

        A memo that is meant as ours and names no account is nobody's, whoever sent it: it was meant for somebody.
        """
        if token.standard == "tip20" and moved.memo is not None and moved.memo[: len(TAG)] == TAG:
            return self._memos().get(moved.memo)
        return self._store.view.wallet_accounts.get(moved.sender)

    def ways_of(self, account_id: str, wallets: Collection[bytes]) -> tuple[Way, ...]:
        """Return every token that may be asked for once, with where an account sends it, and with which memo on Tempo.

        `wallets` are the account's. Without a memo a transfer is its sender's: an account that no wallet has opened has no
        such way, for the money would be somebody else's.
        """
        memo = memo_of(account_id)
        ways: dict[tuple[int, bytes], Way] = {}
        for till in self._tills:
            for token in till.accepted:
                if not self._takes(token, LEAST_BASE):
                    continue
                if token.standard == "tip20":
                    ways.setdefault(token.key, Way(token, till.address, memo))
                elif wallets:
                    ways.setdefault(token.key, Way(token, till.address, None))
        return tuple(ways.values())

    def wallets_of(self, account_id: str) -> tuple[bytes, ...]:
        """Return the wallets that have proven to be an account's."""
        wallets = self._store.view.wallet_accounts
        return tuple(sorted(address for address, owner in wallets.items() if owner == account_id))

    def _memos(self) -> dict[bytes, str]:
        """Accounts are never taken away, so their number tells whether one is new."""
        accounts = self._store.view.agent_accounts
        if len(accounts) != len(self._accounts):
            self._accounts = {memo_of(account_id): account_id for account_id in accounts}
        return self._accounts

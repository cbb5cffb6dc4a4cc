"""API keys: their text, their digest, and what a scope lets a key do.

Must not know headers, the store or a clock.  Theory: a key carries 256 random bits, so one plain SHA-256 is as good a
lock as any slow hash and a dictionary finds it; whoever reads the database learns nothing that opens the door.

The text is `gk_<id>_<secret>`: the id makes a leaked key easy to find and to revoke, the secret is 32 bytes in base64url
without padding (43 characters), the digest covers the whole text.
"""

import base64
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from gateway.core.ids import RANDOM_BYTES, make_id
from gateway.core.records import ApiKey, Budget
from wallets.secret import Secret

SECRET_BYTES = 32
PROXY, READ, KEYS = "proxy", "read", "keys"
SETTLE = (
    "settle"  # has the facilitator verify and collect others' payments: it costs gas, and never the account's balance
)
SPEND = "spend"  # what a route asks for that buys at a vendor which is chosen later: no key holds it by name

_TEXT = re.compile(r"gk_([A-Za-z0-9_-]{1,64})_[A-Za-z0-9_-]{43}", re.ASCII)
SCOPE_TEXT = "^(?:proxy|read|keys|settle|proxy:[a-z0-9][a-z0-9_-]{0,31})$"
_SCOPE = re.compile(SCOPE_TEXT[1:-1], re.ASCII)

Randomness = Callable[[int], bytes]
"""Returns that many unpredictable bytes."""


class ScopeError(ValueError):
    """The scopes are not ones that exist; the message says which are."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made: its text is shown once and kept nowhere."""

    text: Secret[str]
    key: ApiKey


def new_key(
    account_id: str, name: str, scopes: Iterable[str], budgets: Sequence[Budget], now_ms: int, randomness: Randomness
) -> NewKey:
    """Make a key of an account. Raises ScopeError; the account is checked where the key is added."""
    checked = check_scopes(scopes)
    key_id = make_id("key", now_ms, randomness(RANDOM_BYTES))
    text = make_text(key_id, randomness(SECRET_BYTES))
    key = ApiKey(key_id, account_id, digest_of(text.reveal()), name, checked, tuple(budgets), now_ms)
    return NewKey(text, key)


def new_budget(
    limit_base: int, window_s: int, now_ms: int, randomness: Randomness, *, vendor: str | None, route: str | None
) -> Budget:
    """Make a budget of a key: at most `limit_base` (USD) in each window; None means any vendor, any route."""
    return Budget(make_id("bud", now_ms, randomness(RANDOM_BYTES)), limit_base, window_s, vendor, route)


def make_text(key_id: str, secret: bytes) -> Secret[str]:
    """Return a key's text. Raises ValueError for an id or a secret that would not be read back."""
    text = f"gk_{key_id}_{base64.urlsafe_b64encode(secret).rstrip(b'=').decode('ascii')}"
    if len(secret) != SECRET_BYTES or key_id_of(text) != key_id:
        raise ValueError("an API key is an id of letters, digits, - and _ and 32 random bytes")
    return Secret(text)


def key_id_of(text: str) -> str | None:
    """Return the id that a key's text names, or None for what is no key. It proves nothing: the digest does."""
    found = _TEXT.fullmatch(text)
    return None if found is None else found[1]


def digest_of(text: str) -> bytes:
    """Return the SHA-256 of a whole key text: all that is ever kept of it."""
    return sha256(text.encode("ascii")).digest()


def check_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """Return the scopes, each once, in order. Raises ScopeError for none, and for any that does not exist."""
    found = tuple(sorted(set(scopes)))
    if not found or not all(_SCOPE.fullmatch(scope) for scope in found):
        raise ScopeError('scopes are "proxy", "proxy:<vendor>", "read", "keys" and "settle"; name at least one')
    return found


def allows(scopes: Iterable[str], wanted: str) -> bool:
    """Say whether scopes include the wanted one: "proxy" includes "proxy:<vendor>", and either of them SPEND."""
    held = frozenset(scopes)
    if wanted == SPEND:
        return any(scope.partition(":")[0] == PROXY for scope in held)
    return wanted in held or (wanted.startswith("proxy:") and PROXY in held)


def stands_for(asking: ApiKey, ordering: ApiKey | None) -> bool:
    """Say whether a key may change what another one of its account has ordered, and so what that one will spend.

    The ordering key itself may; another only without budgets of its own, and with at least the scopes of the ordering one.
    """
    if ordering is None or asking.id == ordering.id:
        return ordering is not None
    return asking.account_id == ordering.account_id and not asking.budgets and within(ordering.scopes, asking.scopes)


def within(scopes: Iterable[str], wider: Iterable[str]) -> bool:
    """Say whether whoever holds `wider` may do everything that `scopes` allow."""
    held = tuple(wider)
    return all(allows(held, scope) for scope in scopes)

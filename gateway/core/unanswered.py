"""Which purchases wait for their agent: so that a repeated request finds the one that it repeats.

Must not know what was answered.  Theory: several purchases may ask for the same thing under different keys, so each place
keeps all of them in the order they were made; forgetting one must not hide the next.
"""

from collections.abc import Iterator

from gateway.core.records import Payment

ATTACH_FOR_MS = 24 * 3600 * 1000  # after a day the same request means a new purchase, not an old answer


class Unanswered:
    """Purchases whose answer the agent may not have in full, by what was asked: an identical request attaches to one."""

    def __init__(self) -> None:
        self._by_account: dict[str, dict[bytes, dict[str, tuple[str | None, int]]]] = {}

    def put(self, payment: Payment) -> None:
        """Take a payment in, or out once it is answered."""
        account_id, fingerprint = payment.account_id, payment.fingerprint
        if not payment.answered:
            place = self._by_account.setdefault(account_id, {}).setdefault(fingerprint, {})
            place[payment.id] = (payment.idempotency_key, payment.created_at_ms)
        elif fingerprint in (places := self._by_account.get(account_id, {})):
            places[fingerprint].pop(payment.id, None)
            if not places[fingerprint]:
                del places[fingerprint]
            if not places:
                del self._by_account[account_id]

    def any_of(self, account_id: str) -> bool:
        """Say whether an account has any: where it has none, nobody need know what a request asks for."""
        return account_id in self._by_account

    def find(self, account_id: str, fingerprint: bytes, idempotency_key: str | None, now_ms: int) -> str | None:
        """Return the oldest purchase that such a request repeats: two different keys say that two are meant."""
        return next(self.all_of(account_id, fingerprint, idempotency_key, now_ms), None)

    def all_of(self, account_id: str, fingerprint: bytes, idempotency_key: str | None, now_ms: int) -> Iterator[str]:
        """Yield every purchase that such a request may repeat, the oldest first."""
        for payment_id, (key, created_at_ms) in self._by_account.get(account_id, {}).get(fingerprint, {}).items():
            if created_at_ms < now_ms - ATTACH_FOR_MS:
                continue
            if idempotency_key is None or key in (None, idempotency_key):
                yield payment_id

    def stale(self, now_ms: int) -> list[str]:
        """Return the purchases that nobody asked for again in time: they may be forgotten."""
        before_ms = now_ms - ATTACH_FOR_MS
        return [
            payment_id
            for places in self._by_account.values()
            for found in places.values()
            for payment_id, (_, created_at_ms) in found.items()
            if created_at_ms < before_ms
        ]

    def copy(self) -> "Unanswered":
        """Return an index of its own with the same content."""
        twin = Unanswered()
        twin._by_account = {
            account_id: {fingerprint: dict(found) for fingerprint, found in places.items()}
            for account_id, places in self._by_account.items()
        }
        return twin

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unanswered) and self._by_account == other._by_account

    __hash__ = None  # type: ignore[assignment]  # it changes

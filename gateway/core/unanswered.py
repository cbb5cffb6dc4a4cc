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
        self._by_place: dict[tuple[str, bytes], dict[str, tuple[str | None, int]]] = {}

    def put(self, payment: Payment) -> None:
        """Take a payment in, or out once it is answered."""
        place = (payment.account_id, payment.fingerprint)
        if not payment.answered:
            self._by_place.setdefault(place, {})[payment.id] = (payment.idempotency_key, payment.created_at_ms)
        elif place in self._by_place:
            self._by_place[place].pop(payment.id, None)
            if not self._by_place[place]:
                del self._by_place[place]

    def find(self, account_id: str, fingerprint: bytes, idempotency_key: str | None, now_ms: int) -> str | None:
        """Return the oldest purchase that such a request repeats: two different keys say that two are meant."""
        return next(self.all_of(account_id, fingerprint, idempotency_key, now_ms), None)

    def all_of(self, account_id: str, fingerprint: bytes, idempotency_key: str | None, now_ms: int) -> Iterator[str]:
        """Yield every purchase that such a request may repeat, the oldest first."""
        for payment_id, (key, created_at_ms) in self._by_place.get((account_id, fingerprint), {}).items():
            if created_at_ms < now_ms - ATTACH_FOR_MS:
                continue
            if idempotency_key is None or key in (None, idempotency_key):
                yield payment_id

    def stale(self, now_ms: int) -> list[str]:
        """Return the purchases that nobody asked for again in time: they may be forgotten."""
        before_ms = now_ms - ATTACH_FOR_MS
        return [
            payment_id
            for found in self._by_place.values()
            for payment_id, (_, created_at_ms) in found.items()
            if created_at_ms < before_ms
        ]

    def copy(self) -> "Unanswered":
        """Return an index of its own with the same content."""
        twin = Unanswered()
        twin._by_place = {place: dict(found) for place, found in self._by_place.items()}
        return twin

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unanswered) and self._by_place == other._by_place

    __hash__ = None  # type: ignore[assignment]  # it changes

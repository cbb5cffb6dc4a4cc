"""Which purchases wait for their agent: so that a repeated request finds the one that it repeats.

Must not know what was answered.  Theory: several purchases may ask for the same thing under different keys, so each place
keeps all of them in the order they were made; forgetting one must not hide the next.
"""

from gateway.core.records import Payment


class Unanswered:
    """Purchases whose answer the agent may not have in full, by what was asked: an identical request attaches to one."""

    def __init__(self) -> None:
        self._by_place: dict[tuple[str, bytes], dict[str, str | None]] = {}

    def put(self, payment: Payment) -> None:
        """Take a payment in, or out once it is answered."""
        place = (payment.account_id, payment.fingerprint)
        if not payment.answered:
            self._by_place.setdefault(place, {})[payment.id] = payment.idempotency_key
        elif place in self._by_place:
            self._by_place[place].pop(payment.id, None)
            if not self._by_place[place]:
                del self._by_place[place]

    def find(self, account_id: str, fingerprint: bytes, idempotency_key: str | None) -> str | None:
        """Return the oldest purchase that such a request repeats: two different keys say that two are meant."""
        for payment_id, key in self._by_place.get((account_id, fingerprint), {}).items():
            if idempotency_key is None or key in (None, idempotency_key):
                return payment_id
        return None

    def copy(self) -> "Unanswered":
        """Return an index of its own with the same content."""
        twin = Unanswered()
        twin._by_place = {place: dict(found) for place, found in self._by_place.items()}
        return twin

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unanswered) and self._by_place == other._by_place

    __hash__ = None  # type: ignore[assignment]  # it changes

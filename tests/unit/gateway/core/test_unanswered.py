"""Which purchases wait for their agent."""

from dataclasses import replace

from gateway.core.unanswered import Unanswered
from tests.factories import make_payment

ONE = make_payment(1, idempotency_key="k1")
TWO = make_payment(2, idempotency_key="k2", fingerprint=ONE.fingerprint)
BARE = make_payment(3, fingerprint=ONE.fingerprint)


def index(*payments: object) -> Unanswered:
    """Return an index of these payments."""
    found = Unanswered()
    for payment in payments:
        found.put(payment)  # type: ignore[arg-type]
    return found


def test_the_oldest_that_may_be_meant_is_found() -> None:
    """Without a key the oldest; with a key the one under it, or one without any."""
    both = index(ONE, TWO)
    assert both.find("acc_1", ONE.fingerprint, None) == "pay_0001"
    assert both.find("acc_1", ONE.fingerprint, "k2") == "pay_0002"
    assert both.find("acc_1", ONE.fingerprint, "k3") is None
    assert index(ONE, BARE).find("acc_1", ONE.fingerprint, "k3") == "pay_0003"


def test_accounts_and_requests_are_apart() -> None:
    """Another account, or another request, finds nothing."""
    assert index(ONE).find("acc_2", ONE.fingerprint, None) is None
    assert index(ONE).find("acc_1", bytes(32), None) is None


def test_answering_forgets_one_and_nothing_else() -> None:
    """The next one is found then, and a place that is empty is gone; forgetting twice does no harm."""
    both = index(ONE, TWO)
    both.put(replace(ONE, answered=True))
    both.put(replace(ONE, answered=True))
    assert both.find("acc_1", ONE.fingerprint, None) == "pay_0002"
    both.put(replace(TWO, answered=True))
    assert both == Unanswered()


def test_a_copy_goes_its_own_way() -> None:
    """What the view shows does not change under it."""
    source = index(ONE)
    twin = source.copy()
    assert twin == source
    source.put(TWO)
    assert twin.find("acc_1", ONE.fingerprint, "k2") is None
    assert twin != source

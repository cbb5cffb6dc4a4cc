"""Which purchases wait for their agent."""

from dataclasses import replace

from gateway.core.unanswered import ATTACH_FOR_MS, Unanswered
from tests.factories import NOW_MS, make_payment

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
    assert both.find("acc_1", ONE.fingerprint, None, NOW_MS) == "pay_0001"
    assert both.find("acc_1", ONE.fingerprint, "k2", NOW_MS) == "pay_0002"
    assert both.find("acc_1", ONE.fingerprint, "k3", NOW_MS) is None
    assert index(ONE, BARE).find("acc_1", ONE.fingerprint, "k3", NOW_MS) == "pay_0003"


def test_every_one_that_may_be_meant_is_told() -> None:
    """The oldest may go before the request is decided: then it is the next that it repeats."""
    several = index(ONE, TWO, BARE)
    assert list(several.all_of("acc_1", ONE.fingerprint, None, NOW_MS)) == ["pay_0001", "pay_0002", "pay_0003"]
    assert list(several.all_of("acc_1", ONE.fingerprint, "k2", NOW_MS)) == ["pay_0002", "pay_0003"]
    assert list(several.all_of("acc_1", ONE.fingerprint, None, NOW_MS + ATTACH_FOR_MS + 1)) == []


def test_accounts_and_requests_are_apart() -> None:
    """Another account, or another request, finds nothing."""
    assert index(ONE).find("acc_2", ONE.fingerprint, None, NOW_MS) is None
    assert index(ONE).find("acc_1", bytes(32), None, NOW_MS) is None


def test_an_account_has_some_until_the_last_of_them_is_answered() -> None:
    """Of whatever request: while it has one, what a request asks for has to be looked at."""
    other = replace(make_payment(4), fingerprint=bytes(32))
    both = index(ONE, other)
    assert (both.any_of("acc_1"), both.any_of("acc_2")) == (True, False)
    both.put(replace(ONE, answered=True))
    assert both.any_of("acc_1")
    both.put(replace(other, answered=True))
    assert not both.any_of("acc_1")
    assert not Unanswered().any_of("acc_1")


def test_answering_forgets_one_and_nothing_else() -> None:
    """The next one is found then, and a place that is empty is gone; forgetting twice does no harm."""
    both = index(ONE, TWO)
    both.put(replace(ONE, answered=True))
    both.put(replace(ONE, answered=True))
    assert both.find("acc_1", ONE.fingerprint, None, NOW_MS) == "pay_0002"
    both.put(replace(TWO, answered=True))
    assert both == Unanswered()


def test_a_copy_goes_its_own_way() -> None:
    """What the view shows does not change under it."""
    source = index(ONE)
    twin = source.copy()
    assert twin == source
    source.put(TWO)
    assert twin.find("acc_1", ONE.fingerprint, "k2", NOW_MS) is None
    assert twin != source


def test_an_old_purchase_is_no_longer_meant() -> None:
    """For a day an identical request attaches, to the millisecond; a younger one behind an old one is still found."""
    young = replace(TWO, created_at_ms=NOW_MS + 1)
    both = index(ONE, young)
    last_ms = NOW_MS + ATTACH_FOR_MS
    assert ATTACH_FOR_MS == 24 * 3600 * 1000
    assert both.find("acc_1", ONE.fingerprint, None, last_ms) == "pay_0001"
    assert both.find("acc_1", ONE.fingerprint, None, last_ms + 1) == "pay_0002"
    assert both.find("acc_1", ONE.fingerprint, "k1", last_ms + 1) is None
    assert both.find("acc_1", ONE.fingerprint, None, last_ms + 2) is None


def test_what_may_be_forgotten_is_exactly_what_is_not_found_any_more() -> None:
    """Purchases of any place are listed once they are too old, and not once they were answered."""
    elsewhere = replace(make_payment(4), account_id="acc_2")
    young = replace(TWO, created_at_ms=NOW_MS + 1)
    found = index(ONE, elsewhere, young)
    last_ms = NOW_MS + ATTACH_FOR_MS
    assert found.stale(last_ms) == []
    assert found.stale(last_ms + 1) == ["pay_0001", "pay_0004"]
    assert found.stale(last_ms + 2) == ["pay_0001", "pay_0002", "pay_0004"]
    found.put(replace(ONE, answered=True))
    assert found.stale(last_ms + 1) == ["pay_0004"]

"""What waits goes together by count, by patience, or before its window closes; never two tokens, never a loner."""

from dataclasses import replace

from engine_bed import many

from contracts.codec import Address
from gateway.core.paid import Settlement
from gateway.facilitator.batching import Item, Waiting

OTHER = Address(b"\x44" * 20)


def item(number: int, due_s: float = 100.0, *, alone: bool = False, token: Address | None = None) -> Item:
    """Return something that waits."""
    terms = many(1)[0].pays().authorization
    if token is not None:
        terms = replace(terms, token=replace(terms.token, address=token))
    settlement = Settlement(
        id=f"stl_{number:03}",
        account_id="house",
        chain_id=terms.token.chain_id,
        token=terms.token.address,
        authorizer=terms.authorizer,
        nonce=terms.nonce,
        pay_to=terms.pay_to,
        value_base=terms.value_base,
        valid_after_s=0,
        valid_before_s=terms.valid_before,
        signature=b"\x01" * 65,
        contract_wallet=alone,
        created_at_ms=0,
    )
    return Item(settlement, terms, alone, due_s)


def ids(load: list[Item]) -> list[str]:
    """Return whose load it is."""
    return [each.settlement.id for each in load]


def test_a_full_load_goes_at_once_and_an_impatient_one_takes_all_with_it() -> None:
    """Count first; then whatever is there goes with the first that is due."""
    waiting = Waiting(3)
    for number in range(4):
        waiting.put(item(number))
    assert ids(waiting.take(0.0, together=True)) == ["stl_000", "stl_001", "stl_002"]
    assert waiting.take(0.0, together=True) == []
    waiting.put(item(9, due_s=5.0))
    assert waiting.wait_s(1.0) == 4.0
    assert ids(waiting.take(5.0, together=True)) == ["stl_003", "stl_009"]
    assert (len(waiting), waiting.wait_s(5.0)) == (0, None)


def test_two_tokens_never_share_and_a_loner_goes_alone() -> None:
    """Each load is of one token; what cannot share is a load of one."""
    waiting = Waiting(10)
    for each in (item(1, 0.0), item(2, 0.0, token=OTHER), item(3, 0.0), item(4, 0.0, alone=True)):
        waiting.put(each)
    loads = [ids(waiting.take(1.0, together=True)) for _ in range(4)]
    assert loads == [["stl_004"], ["stl_001", "stl_003"], ["stl_002"], []]


def test_without_a_batch_contract_each_that_is_due_goes_alone() -> None:
    """What is not due waits on, as it would for company."""
    waiting = Waiting(10)
    for each in (item(1, 0.0), item(2, 50.0), item(3, 0.0)):
        waiting.put(each)
    assert [ids(waiting.take(1.0, together=False)) for _ in range(3)] == [["stl_001"], ["stl_003"], []]
    assert "stl_002" in waiting


def test_what_was_put_back_waits_until_it_may_be_tried_again() -> None:
    """A pause of one item keeps no other back, and ends."""
    waiting = Waiting(10)
    waiting.put_back([item(1, 0.0)], 3.0)
    waiting.put(item(2, 0.0))
    assert ids(waiting.take(1.0, together=True)) == ["stl_002"]
    assert (waiting.take(1.0, together=True), waiting.wait_s(1.0)) == ([], 2.0)
    assert ids(waiting.take(3.0, together=True)) == ["stl_001"]


def test_what_waits_goes_back_with_a_clock_that_is_set_back() -> None:
    """Nothing waits for longer than it was to, for company or after a failure; and nothing goes sooner."""
    waiting = Waiting(10)
    waiting.put(item(1, 1_003.0))
    waiting.put_back([item(2, 0.0, alone=True)], 1_002.0)
    assert (waiting.take(1_000.0, together=True), waiting.wait_s(1_000.0)) == ([], 2.0)
    assert waiting.wait_s(100.0) == 2.0
    assert waiting.take(101.5, together=True) == []
    assert ids(waiting.take(102.0, together=True)) == ["stl_002"]
    assert ids(waiting.take(103.0, together=True)) == ["stl_001"]

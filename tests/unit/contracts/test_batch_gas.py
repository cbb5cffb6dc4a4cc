"""What batches save: the figures of `make bench`, which a chain counts exactly, so they are a test as well."""

from tests.bench import gas


def test_batches_cost_what_was_promised() -> None:
    """T6: at most .54 of a single settlement from 20 on with few payers, at most .60 from 50 on with distinct ones."""
    section = gas.measure(1, 1.0)
    assert [ratio.verdict for ratio in section.ratios] == [
        f"target <= {target:g}: met" for target in (0.54, 0.54, 0.60)
    ]
    ours, theirs = section.rows["batch, 1 payer"], section.rows["any calls, 1 payer"]
    assert all(ours[column] < theirs[column] for column in ours)
    assert ours["1 at once"] > 1  # one alone belongs into a transaction of its own

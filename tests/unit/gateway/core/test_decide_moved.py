"""What went from a till to another place of ours: whatever its log says, it is booked as far as it can be counted."""

from gateway.core.commands import Done
from gateway.core.money import MAX_AMOUNT_BASE
from gateway.core.paid_commands import RecordMoved
from gateway.store.load import verify_book
from tests.factories import NOW_MS, PAYEE, WALLET, make_evidence, make_outflow, open_core, post, seeded


def test_figures_beyond_what_can_be_counted_stop_nothing() -> None:
    """A worthless token may say anything of its amounts and fees; what the book has of it is what can leave."""
    core = seeded(open_core())
    beyond = make_evidence(5, kind="moved", payment_id=None, value_base=2**255, fee_base=2**64)
    moved = RecordMoved(WALLET, PAYEE, make_outflow(5).asset, beyond, "task_moved", NOW_MS)
    assert post(core, moved) == Done()
    kept = core.db.execute("SELECT value_base, fee_base FROM evidence WHERE kind = 'moved'").fetchone()
    assert tuple(kept) == (MAX_AMOUNT_BASE, MAX_AMOUNT_BASE)
    verify_book(core.db)

"""The cap on a token's inventory: what is taken in no more, and what an operator is asked when there is too much all the same.

Must not know offers or chains.  Theory: the cap bounds what the house decides to take, so it is asked where a payment is
claimed, with every other claim in the same book (P2's argument: one owner decides one after another); what comes without
being asked for is booked whatever the cap says, for received money is never unbooked (P13).
"""

from gateway.core.book import Book
from gateway.core.commands import Refused
from gateway.core.inventory import CAPPED, UNDER_WAY, held_base
from gateway.core.money import format_amount
from gateway.core.paid import TopUp
from gateway.core.records import Task
from gateway.core.task_kinds import TaskKind

TASK: TaskKind = "inventory_above_cap"


def cap_refusal(book: Book, kept: TopUp | None, topup: TopUp) -> Refused | None:
    """Refuse a payment that is about to be claimed and would take more of its token than the operator wants.

    What was claimed before is under way, whatever becomes of its order: it is not asked about again.
    """
    if topup.state not in UNDER_WAY or (kept is not None and kept.state in UNDER_WAY):
        return None
    cap = book.rules.inventory_caps.get((topup.chain_id or 0, topup.token or b""))
    if cap is None:
        return None
    room_base = cap.room_base(held_base(book.ledger, cap.asset), book.paid.topups.values())
    if (topup.value_base or 0) <= room_base:
        return None
    return Refused(CAPPED, "the operator does not want so much more of this token now")


def ask_about_inventory(book: Book, asset: str, task_id: str, at_ms: int) -> None:
    """Open a task, once while it is open, where more of an asset has come in than the operator wants.

    To be called when the row that explains the booking is written.
    """
    cap = next((cap for cap in book.rules.inventory_caps.values() if cap.asset == asset), None)
    if cap is None:
        return
    there_base = held_base(book.ledger, asset)
    if there_base > cap.cap_base:
        there, most = format_amount(there_base), format_amount(cap.cap_base)
        detail = f"{there} of {asset} lie in wallets and tills, above the cap of {most}"
        book.put_task(Task(task_id, TASK, asset, detail, at_ms))

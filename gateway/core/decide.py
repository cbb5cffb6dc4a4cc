"""One door for every command: which function decides it.

Must not know how any of them decides.  Theory: a closed list of commands and a dictionary make a missing decision an
error at the first call, not a silent pass.
"""

from collections.abc import Callable
from typing import Any

from gateway.core import commands as c
from gateway.core import paid_commands as pc
from gateway.core.book import Book
from gateway.core.decide_close import (
    decide_dead,
    decide_deadline,
    decide_outcome,
    decide_resolution,
    decide_settled,
)
from gateway.core.decide_deposit import decide_balance
from gateway.core.decide_event import decide_close_event, decide_event
from gateway.core.decide_incoming import decide_incoming, decide_resolve
from gateway.core.decide_meter import (
    decide_bill,
    decide_end,
    decide_ending,
    decide_period,
    decide_run,
    decide_warning,
)
from gateway.core.decide_moved import decide_moved
from gateway.core.decide_operator import (
    decide_account,
    decide_answered,
    decide_close_task,
    decide_credit,
    decide_cursor,
    decide_freeze,
    decide_key,
    decide_new_resource,
    decide_observed_price,
    decide_payee,
    decide_price,
    decide_remember,
    decide_resource,
    decide_revoke,
    decide_task,
)
from gateway.core.decide_proof import decide_proof
from gateway.core.decide_purchase import decide_purchase
from gateway.core.decide_put import decide_delivery, decide_fan_out, decide_forgetting, decide_put
from gateway.core.decide_refund import decide_refund, decide_refund_move
from gateway.core.decide_seller import decide_nonce, decide_seller, decide_till_cursor, decide_wallet
from gateway.core.decide_settlement import decide_claim, decide_moves
from gateway.core.decide_topup import decide_loan, decide_topup
from gateway.core.decide_treasury import decide_float, decide_outflow
from gateway.core.decide_unproven import decide_unproven

_DECISIONS: dict[type, Callable[[Book, Any], c.Result]] = {
    c.OpenAccount: decide_account,
    c.CreditAccount: decide_credit,
    c.AddKey: decide_key,
    c.RevokeKey: decide_revoke,
    c.Purchase: decide_purchase,
    c.RecordOutcome: decide_outcome,
    c.MarkAnswered: decide_answered,
    c.RecordSettled: decide_settled,
    c.RecordDead: decide_dead,
    c.PassDeadline: decide_deadline,
    c.ResolveDispute: decide_resolution,
    c.ResolveUnproven: decide_unproven,
    c.ObserveFloat: decide_float,
    c.RecordOutflow: decide_outflow,
    c.SetFreeze: decide_freeze,
    c.OpenTask: decide_task,
    c.CloseTask: decide_close_task,
    c.ApprovePayee: decide_payee,
    c.ObservePrice: decide_observed_price,
    c.ApprovePrice: decide_price,
    c.UpdateResource: decide_resource,
    c.RecordResource: decide_new_resource,
    c.MoveCursor: decide_cursor,
    c.Remember: decide_remember,
    c.OpenPeriod: decide_period,
    c.BillPeriod: decide_bill,
    c.RunMeter: decide_run,
    c.MarkEnding: decide_ending,
    c.EndMeter: decide_end,
    c.WarnMeter: decide_warning,
    c.ObserveBalance: decide_balance,
    c.RecordProof: decide_proof,
    c.TakeEvent: decide_event,
    c.CloseEvent: decide_close_event,
    c.Put: decide_put,
    c.FanOut: decide_fan_out,
    c.PutDelivery: decide_delivery,
    c.ForgetDeliveries: decide_forgetting,
    pc.ClaimSettlement: decide_claim,
    pc.MoveSettlements: decide_moves,
    pc.PutTopUp: decide_topup,
    pc.LendTopUp: decide_loan,
    pc.BookIncoming: decide_incoming,
    pc.ResolveIncoming: decide_resolve,
    pc.OpenRefund: decide_refund,
    pc.MoveRefund: decide_refund_move,
    pc.RecordMoved: decide_moved,
    pc.BindWallet: decide_wallet,
    pc.TakeNonce: decide_nonce,
    pc.PutSeller: decide_seller,
    pc.MoveTillCursor: decide_till_cursor,
}


def apply(book: Book, command: c.Command) -> c.Result:
    """Decide one command: the rows it leaves are in `book.rows`, a refusal leaves none.

    Anything raised from here is a bug: memory may be ahead of the store, so the caller must stop the process.
    """
    return _DECISIONS[type(command)](book, command)

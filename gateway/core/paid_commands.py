"""What may be asked of the book about being paid: one command, one decision, one group of rows in one commit.

Must not know how a command is decided or stored.  Theory: whoever moves a record names the version that it was computed
from, so two flows that move one record cannot undo each other; whatever credits names the log that proves it (P14).
"""

from dataclasses import dataclass

from gateway.core.paid import Incoming, Refund, Relay, SellerTerms, Settlement, TopUp, WalletAccount
from gateway.core.records import Evidence


@dataclass(frozen=True, slots=True)
class ClaimSettlement:
    """Make an authorization ours alone to submit, before anything leaves.

    Done: it is ours now (`settlement` as given). Attached(id): the same one (`terms` alike) was claimed before, whatever
    became of it. Refused `duplicate_settlement`: another payload has this identity, or what it pays for is somebody else's;
    a seller may claim what a purchase of our own wallets pays it.
    One that FAILED without an end (`ended_at_ms` None) is claimed again: `settlement` must then have its id, the next
    version and the next fence, and may be another seller's by now, who answers for its gas.
    """

    settlement: Settlement
    at_ms: int


@dataclass(frozen=True, slots=True)
class MoveSettlements:
    """Write down what happened to settlements and the transaction that carries them, all in one commit.

    `relay` is new (version 1; its account nonce unused so far) or the next version of what is kept. One that becomes FINAL
    books its fee (`fee_wei`) to the house, once. Refused `changed_meanwhile` where any version is not the next one; then
    nothing of it is done.
    """

    settlements: tuple[Settlement, ...]
    relay: Relay | None
    event: str  # sent | replaced | mined | final | failed | reorged | lost
    at_ms: int


@dataclass(frozen=True, slots=True)
class PutTopUp:
    """Keep an order for credit: a new one, or its next version.

    A new one whose client token stands for another order of the account is `Attached` (same fingerprint) or Refused
    `idempotency_conflict`. One that turns PAYING claims its payment's identity: Refused `payment_reused` where anything
    else has it (P13), `topup_taken` where the order has a payment already, and `inventory_capped` where the payment's token
    would be more than the operator wants of it.
    """

    topup: TopUp
    event: str  # ordered | paying | seen | failed | expired | reopened
    at_ms: int


@dataclass(frozen=True, slots=True)
class LendTopUp:
    """Credit an order whose payment is SEEN ahead of finality, from the house's money (P6, P14).

    Refused `risk_cap` where what the house has lent altogether, or to this account, would pass a cap.
    """

    topup_id: str
    cap_base: int
    account_cap_base: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class BookIncoming:
    """A final block proves that a till received tokens. The same log again changes nothing.

    `topup` is the order's next version (CREDITED) when the log is the payment of it: its account is credited, and repays
    what the house lent. Without one the account of `incoming.account_id` is credited (a deposit, a second payment), or,
    without that too, the money is nobody's: `house:unclaimed`, and a task. `wallet` opens an account for the payer in the
    same commit where it has none.
    """

    incoming: Incoming
    evidence: Evidence
    topup: TopUp | None
    wallet: WalletAccount | None
    account_name: str  # of the account that `wallet` opens
    task_id: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class ResolveIncoming:
    """The operator decides about money that is nobody's: an account's (`account_id`), or the house's own capital (None)."""

    receipt_id: str
    account_id: str | None
    note: str
    by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class OpenRefund:
    """Hold what goes back: on the account, of what the receipt brought, and of the till. All signed bytes are in it (P3).

    Refused `insufficient_balance`, `not_refundable` (an operator's credit, a plain transfer's sender, another account's),
    `refund_exceeds_funding`, `till_short`, `idempotency_conflict`; `Attached` with the id of the same one.
    """

    refund: Refund
    at_ms: int


@dataclass(frozen=True, slots=True)
class MoveRefund:
    """Write down what happened to a refund: SENT, SETTLED with the log that proves it, or DEAD with what proves that."""

    refund: Refund
    evidence: Evidence | None
    event: str  # sent | settled | dead
    at_ms: int


@dataclass(frozen=True, slots=True)
class RecordMoved:
    """A final block proves that tokens went from a till to another place of ours (`to`), and no refund explains it.

    `evidence` (kind `moved`) is the log, with what the till paid the network in the same token.
    """

    till: bytes
    to: bytes
    asset: str
    evidence: Evidence
    task_id: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class BindWallet:
    """Open an account for a wallet that has proven its key; Attached with the account's id where it has one."""

    wallet: WalletAccount
    name: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class TakeNonce:
    """Use a sign-in challenge up. Refused `challenge_used` for one that was used before."""

    realm: str  # siwx | mpp
    challenge_id: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class PutSeller:
    """Let an account settle at the facilitator, change its terms, or end them (`ended_at_ms`)."""

    terms: SellerTerms
    by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class MoveTillCursor:
    """Every transfer of these tokens to and from these tills of a chain, (till, token), up to this final block is booked."""

    chain_id: int
    places: tuple[tuple[bytes, bytes], ...]
    block_number: int
    block_hash: bytes

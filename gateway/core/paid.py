"""The records of being paid: settlements of others' authorizations, the transactions that carry them, top-ups, receipts, refunds.

Must not know rows, rails or HTTP.  Theory: a settlement is one authorization (chain, token, authorizer, nonce) on its way
into a block, a receipt is one transfer log that a final block proves, and only receipts ever become somebody's money: so
whoever submits what, and whatever anybody says of it, the books follow the chain (P13, P14).
"""

from dataclasses import dataclass
from enum import StrEnum

Identity = tuple[int, bytes, bytes, bytes]
"""(chain id, token, authorizer, nonce)."""


TillPlace = tuple[int, bytes, bytes]
"""(chain id, till, token): one token at one receiving address."""


class SettlementState(StrEnum):
    """Where somebody's authorization is on its way into a final block."""

    CLAIMED = "claimed"  # ours alone to submit; nothing has left yet
    SENT = "sent"  # a transaction that carries it is stored, and may be anywhere
    MINED = "mined"  # collected, in a block that may still be replaced
    FINAL = "final"  # collected, proven by a final block
    FAILED = "failed"  # refused before it was sent, or not collected by the transaction that carried it


@dataclass(frozen=True, slots=True)
class Settlement:
    """One EIP-3009 authorization that somebody asked us to collect, once. (chain, token, authorizer, nonce) is unique.

    `fence` rises with every claim: whoever works for an older one is told so. `relay_id` is the transaction that carries it
    now, `tx_hash` the one that collected it (ours or not). `reason` is an x402 reason code, "" where nothing is wrong.
    A settlement that FAILED before anything was sent may be claimed again, by the same signature, with the next fence.
    """

    id: str  # stl_...
    account_id: str  # whose call asked for it: a seller's account, or the house's
    chain_id: int
    token: bytes
    authorizer: bytes
    nonce: bytes
    pay_to: bytes
    value_base: int
    valid_after_s: int
    valid_before_s: int
    signature: bytes
    contract_wallet: bool
    created_at_ms: int
    state: SettlementState = SettlementState.CLAIMED
    relay_id: str | None = None
    tx_hash: bytes | None = None
    block_number: int | None = None
    reason: str = ""
    fence: int = 1
    version: int = 1
    ended_at_ms: int | None = None  # FINAL, or FAILED for good

    @property
    def identity(self) -> Identity:
        """The authorization's identity on chain."""
        return self.chain_id, self.token, self.authorizer, self.nonce

    @property
    def terms(self) -> tuple[object, ...]:
        """What a repeat must have alike to be one."""
        return (*self.identity, self.pay_to, self.value_base, self.valid_after_s, self.valid_before_s, self.signature)


class RelayState(StrEnum):
    """Where a transaction of a relayer is."""

    SENT = "sent"  # stored; on its way
    MINED = "mined"  # in a block that may still be replaced
    FINAL = "final"  # in a final block: its fee is booked
    LOST = "lost"  # another transaction with this account nonce is final


@dataclass(frozen=True, slots=True)
class RelayAttempt:
    """One signed form of a relayer's transaction: all of them have the same account nonce, so one can be mined."""

    tx_hash: bytes
    raw: bytes
    max_fee_wei: int
    priority_fee_wei: int
    sent_at_ms: int


@dataclass(frozen=True, slots=True)
class Relay:
    """One account nonce of a relayer, and what was signed for it. (chain, relayer, account_nonce) is unique.

    `purpose`: "single" (one authorization), "batch", "gap" (nothing, only to use a nonce up), "deploy". `fee_wei` is what
    the receipt says it cost, L1 data fee included where the chain states one; it is text in a row (wei).
    """

    id: str  # rly_...
    chain_id: int
    relayer: bytes
    account_nonce: int
    purpose: str
    settlement_ids: tuple[str, ...]
    gas: int
    attempts: tuple[RelayAttempt, ...]
    created_at_ms: int
    state: RelayState = RelayState.SENT
    mined_hash: bytes | None = None
    block_number: int | None = None
    status: int | None = None
    fee_wei: int = 0
    version: int = 1
    ended_at_ms: int | None = None


class TopUpState(StrEnum):
    """Where an order for credit is."""

    OPEN = "open"  # asked for; nobody has paid
    PAYING = "paying"  # a payment was claimed for it and may land
    SEEN = "seen"  # the payment is in a block that is not final
    CREDITED = "credited"  # proven by a final block, and on the account
    FAILED = "failed"  # its payment can never land, proven; another may be made until it expires
    EXPIRED = "expired"  # nobody paid in time; a payment that lands all the same is credited


@dataclass(frozen=True, slots=True)
class TopUp:
    """An order for credit: at most one payment is taken for it. `amount_base` is USD, and the token's at its rate.

    `account_id` is None while it is nobody's: a wallet's that has no account yet. `client_token` is an Idempotency-Key or
    a payment-identifier, unique with the account ("" where there is none). `rail`: "", "x402", "mpp_tempo", "mpp_evm" or
    "deposit". Identity of the payment: (chain, token, payer, nonce); for Tempo the nonce is the transaction's hash.
    """

    id: str  # top_...
    account_id: str | None
    amount_base: int
    pack: str  # "" for POST /v1/topups, else the pack's name
    client_token: str
    fingerprint: bytes
    created_at_ms: int
    expires_at_ms: int
    state: TopUpState = TopUpState.OPEN
    rail: str = ""
    chain_id: int | None = None
    token: bytes | None = None
    payer: bytes | None = None
    nonce: bytes | None = None
    value_base: int | None = None  # in the token
    valid_before_s: int | None = None
    settlement_id: str | None = None
    challenge_id: str | None = None  # of MPP
    raw: bytes | None = None  # a signed Tempo transaction: to be sent again until it is mined or dead
    tx_hash: bytes | None = None
    receipt_id: str | None = None
    credited_base: int = 0  # USD
    lent_base: int = 0  # USD that the house lent ahead of finality, and has not got back
    reason: str = ""
    version: int = 1
    ended_at_ms: int | None = None  # credited, or expired with nothing that could land

    @property
    def identity(self) -> Identity | None:
        """The payment's identity on chain, None while there is no payment."""
        if self.chain_id is None or self.token is None or self.payer is None or self.nonce is None:
            return None
        return self.chain_id, self.token, self.payer, self.nonce


class ReceiptState(StrEnum):
    """What became of money that came in."""

    CREDITED = "credited"  # to an account
    UNCLAIMED = "unclaimed"  # nobody's yet: an operator decides
    CAPITAL = "capital"  # the operator's own


@dataclass(frozen=True, slots=True)
class Incoming:
    """One Transfer log of an accepted token to a till, proven by a final block. (chain, tx, log index) is unique (P13).

    `authorizer` and `nonce` are those of the AuthorizationUsed (or the memo) that the transfer belongs to, if any.
    """

    id: str  # rcv_...
    chain_id: int
    token: bytes
    asset: str
    till: bytes
    sender: bytes
    value_base: int
    tx_hash: bytes
    log_index: int
    block_number: int
    block_time_s: int
    nonce: bytes | None
    at_ms: int
    state: ReceiptState = ReceiptState.UNCLAIMED
    account_id: str | None = None
    topup_id: str | None = None
    amount_base: int = 0  # USD at the asset's rate
    refunded_base: int = 0  # USD of it that went back or is on its way back
    refundable: bool = False  # the sender signed the payment: only then may it go back to it
    note: str = ""
    version: int = 1


class RefundState(StrEnum):
    """Where money is that goes back to its payer."""

    HELD = "held"  # set aside, signed, stored
    SENT = "sent"  # a transaction may carry it
    SETTLED = "settled"  # proven by a final block
    DEAD = "dead"  # proven that it can never land: the hold went back


@dataclass(frozen=True, slots=True)
class Refund:
    """Unused balance on its way back to an address that signed a funding payment, in the asset and on the chain funded.

    `nonce` names the authorization that the till signed (for Tempo the memo of its transaction).
    """

    id: str  # ref_...
    account_id: str
    key_id: str
    receipt_id: str
    amount_base: int  # USD
    chain_id: int
    token: bytes
    asset: str
    till: bytes
    to: bytes
    value_base: int  # in the token
    nonce: bytes
    valid_before_s: int
    signature: bytes  # of the authorization; for Tempo the raw transaction
    client_token: str
    fingerprint: bytes
    created_at_ms: int
    fee_base: int = 0  # the most that the till itself may pay the network for it, in the token
    state: RefundState = RefundState.HELD
    settlement_id: str | None = None
    tx_hash: bytes | None = None
    hold_transfer_id: int = 0
    exposure_transfer_id: int = 0
    reason: str = ""
    version: int = 1
    ended_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class WalletAccount:
    """The account that a wallet's key opened: whoever proves the key gets API keys of it. The address is unique."""

    address: bytes
    account_id: str
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class SellerTerms:
    """What the operator lets an account do at the facilitator beyond verifying.

    `gas_budget_wei` is what failed transactions on its behalf may burn in `window_s`; `latency_s` how long an
    authorization may wait for company in a batch; `payees` whom it may be paid to (empty: anybody).
    """

    account_id: str
    gas_budget_wei: int
    window_s: int
    latency_s: float
    payees: tuple[bytes, ...]
    created_at_ms: int
    version: int = 1
    ended_at_ms: int | None = None

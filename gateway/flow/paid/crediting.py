"""Whose money a transfer to a till is: its order's, a known payer's, a deposit's, or nobody's until a human has looked.

Must not know endpoints or blocks.  Theory (P13, P14): a log that is final is booked once, to exactly one owner, whatever
anybody said of it before; an order gets what it asked for and nothing else; a payer whose signature is on the transfer may
have it back; what belongs to nobody is kept apart, and never lost.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import structlog

from contracts.codec import Address, to_hex
from contracts.incoming import Moved
from contracts.tokens import Token
from gateway.core.commands import Done, Refused
from gateway.core.money import MAX_AMOUNT_BASE, RATE_ONE_PPM
from gateway.core.paid import Incoming, ReceiptState, TopUp, TopUpState, WalletAccount
from gateway.core.paid_commands import BookIncoming
from gateway.flow.ids import Ids
from gateway.flow.paid.tills import Till, Transaction, evidence_of
from gateway.ports import Chain, Clock, Entropy, Store

ATTEMPTS = 8
UNPAID = frozenset(
    {TopUpState.OPEN, TopUpState.PAYING, TopUpState.SEEN, TopUpState.FAILED, TopUpState.EXPIRED}
)  # all but CREDITED: whatever an order was given up for, its payment is credited when it lands

DepositOf = Callable[[Token, Moved], str | None]
"""Returns the account that a transfer without an order is a deposit of, None for nobody's."""

log = structlog.get_logger()


class NotBooked(RuntimeError):  # noqa: N818 - named for what is known
    """Received money could not be booked: nothing after it may be taken for read."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Whose a transfer is: the receipt, the order that it pays, the account that it opens."""

    incoming: Incoming
    topup: TopUp | None = None
    wallet: WalletAccount | None = None


class Crediting:
    """Books one chain's transfers to tills. Everything may be told twice; the second time changes nothing.

    `rates_ppm` is by asset id; an asset without one is worth a dollar a unit. What comes from `own` addresses is the
    operator's, and never an agent's credit.
    """

    def __init__(
        self,
        *,
        store: Store,
        chain: Chain,
        deposit_of: DepositOf,
        rates_ppm: Mapping[str, int],
        own: frozenset[Address],
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._store, self._chain, self._deposit_of = store, chain, deposit_of
        self._rates_ppm, self._own, self._clock, self._ids = rates_ppm, own, clock, Ids(clock, entropy)

    async def book(self, till: Till, transaction: Transaction, moved: Moved) -> None:
        """Book one transfer to a till. Raises NotBooked where the book will not have it."""
        if await self._store.incoming_of_log(self._chain.chain_id, moved.log.tx_hash, moved.log.log_index) is not None:
            return
        refused: Refused | None = None
        for _ in range(ATTEMPTS):
            judged = await self._judge(till, transaction, moved)
            result = await self._store.post(self._command(transaction, moved, judged))
            if not isinstance(result, Refused):
                if isinstance(result, Done) and result.changed:
                    _tell(judged)
                return
            refused = result  # an order or a wallet moved meanwhile: judge it as it is now
        raise NotBooked(f"{to_hex(moved.log.tx_hash)}/{moved.log.log_index}: {refused}")

    def _command(self, transaction: Transaction, moved: Moved, judged: Judged) -> BookIncoming:
        value_base = judged.incoming.value_base
        return BookIncoming(
            incoming=judged.incoming,
            evidence=evidence_of(self._chain, "received", transaction.receipt, moved.log.log_index, value_base),
            topup=judged.topup,
            wallet=judged.wallet,
            account_name="" if judged.wallet is None else f"wallet {to_hex(judged.wallet.address)}",
            task_id=self._ids.new("task"),
            at_ms=self._clock.now_ms(),
        )

    async def _judge(self, till: Till, transaction: Transaction, moved: Moved) -> Judged:
        token = transaction.token
        incoming = self._unclaimed(till, transaction, moved)
        if moved.sender in self._own:
            return Judged(replace(incoming, state=ReceiptState.CAPITAL, note="from a wallet of our own"))
        if token not in till.accepted:
            return Judged(replace(incoming, note="a token that this till does not take"))
        order = await self._order_of(token, moved)
        if order is None:
            return self._without_order(token, moved, incoming)
        same = order.identity == (token.chain_id, token.address, moved.sender, _name(token, moved))
        if same and order.receipt_id is None and order.state in UNPAID and order.value_base == moved.value_base:
            return self._paid(order, moved, incoming)
        if not same or order.receipt_id is not None:
            # An earlier payment of an order that was given up, or a second one: the payer's all the same.
            account_id, wallet = self._account_of(order.account_id, moved.sender)
            note = f"another payment of {order.id}"
            return Judged(_credited(incoming, account_id, note, refundable=True), None, wallet)
        found = self._without_order(token, moved, incoming)
        note = f"{order.id} asked for {order.value_base} base units"
        return replace(found, incoming=replace(found.incoming, note=note))

    def _paid(self, order: TopUp, moved: Moved, incoming: Incoming) -> Judged:
        account_id, wallet = self._account_of(order.account_id, moved.sender)
        credited = _credited(incoming, account_id, "", refundable=True)
        credited = replace(credited, topup_id=order.id, amount_base=order.amount_base)
        paid = replace(
            order,
            account_id=account_id,
            state=TopUpState.CREDITED,
            tx_hash=moved.log.tx_hash,
            receipt_id=incoming.id,
            credited_base=order.amount_base,
            reason="",
            version=order.version + 1,
            ended_at_ms=incoming.at_ms,
        )
        return Judged(credited, paid, wallet)

    def _without_order(self, token: Token, moved: Moved, incoming: Incoming) -> Judged:
        """A signed transfer of a wallet that has an account is that account's; so is a deposit, which goes back nowhere."""
        bound = self._store.view.wallet_accounts.get(moved.sender)
        if moved.nonce is not None and bound is not None:
            return Judged(_credited(incoming, bound, "a payment without an order", refundable=True))
        account_id = self._deposit_of(token, moved)
        if account_id is not None:
            return Judged(_credited(incoming, account_id, "a deposit", refundable=False))
        return Judged(incoming)

    async def _order_of(self, token: Token, moved: Moved) -> TopUp | None:
        """Return the order that ever claimed this payment: by what its payer signed, and nobody else could."""
        name = _name(token, moved)
        if name is None:
            return None
        return await self._store.topup_of((token.chain_id, token.address, moved.sender, name))

    def _account_of(self, account_id: str | None, payer: bytes) -> tuple[str, WalletAccount | None]:
        """Return the account that is credited, and what opens it where the payer has none."""
        known = account_id or self._store.view.wallet_accounts.get(payer)
        if known is not None:
            return known, None
        made = WalletAccount(payer, self._ids.new("acct"), self._clock.now_ms())
        return made.account_id, made

    def _unclaimed(self, till: Till, transaction: Transaction, moved: Moved) -> Incoming:
        token, block = transaction.token, transaction.receipt.block
        value_base = min(moved.value_base, MAX_AMOUNT_BASE)
        rate_ppm = self._rates_ppm.get(token.asset_id, RATE_ONE_PPM)
        return Incoming(
            id=self._ids.new("rcv"),
            chain_id=token.chain_id,
            token=token.address,
            asset=token.asset_id,
            till=till.address,
            sender=moved.sender,
            value_base=value_base,
            tx_hash=moved.log.tx_hash,
            log_index=moved.log.log_index,
            block_number=block.number,
            block_time_s=block.time_s,
            nonce=moved.nonce if moved.nonce is not None else moved.memo,
            at_ms=self._clock.now_ms(),
            # Rounded down: the house never funds the rounding.
            amount_base=min(value_base * rate_ppm // RATE_ONE_PPM, MAX_AMOUNT_BASE),
            note="" if value_base == moved.value_base else f"of {moved.value_base} base units",
        )


def _name(token: Token, moved: Moved) -> bytes | None:
    """Return what names a payment beside its payer: a Tempo one its transaction, any other the nonce that was signed."""
    return moved.log.tx_hash if token.standard == "tip20" else moved.nonce


def _credited(incoming: Incoming, account_id: str, note: str, *, refundable: bool) -> Incoming:
    return replace(
        incoming, state=ReceiptState.CREDITED, account_id=account_id, note=note or incoming.note, refundable=refundable
    )


def _tell(judged: Judged) -> None:
    incoming = judged.incoming
    log.info(
        "incoming.booked",
        receipt=incoming.id,
        state=incoming.state.value,
        account=incoming.account_id,
        topup=incoming.topup_id,
        tx=to_hex(incoming.tx_hash),
        value_base=incoming.value_base,
    )

"""Double entry with two-phase transfers: the balances, and the only code that may change them.

Must not know what is bought or from whom.  Theory: an account is four running totals (debits and credits, pending and
posted) in one asset; reserving, posting and voiding are new transfers between two accounts, nothing is ever edited, so
the debits equal the credits in every asset after every transfer (P1), and an account marked `floored` never owes (P2).
The same floor on a wallet's token account is P7: what it has signed away is pending there and never exceeds what it holds.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from gateway.core.money import check_amount


class Phase(IntEnum):
    """What a transfer row does: move at once, reserve, turn a reservation into a move, or give it back."""

    DIRECT = 0
    PENDING = 1
    POST = 2
    VOID = 3


class Side(IntEnum):
    """The side on which an account's balance normally stands."""

    DEBIT = 0
    CREDIT = 1


class LedgerError(ValueError):
    """The transfer breaks a rule of the ledger: a bug of ours, never an answer to an agent."""


class Overdraft(Exception):  # noqa: N818 - it is a decision about money, not a fault
    """A floored account would go below zero. `available_base` is what it has."""

    def __init__(self, code: str, asset: str, available_base: int, wanted_base: int) -> None:
        super().__init__(f"{code} has {available_base} of {asset} available, {wanted_base} wanted")
        self.code, self.asset = code, asset
        self.available_base, self.wanted_base = available_base, wanted_base


@dataclass(slots=True)
class Account:
    """One ledger account in one asset. `floored`: posted balance less pending outflow is never negative."""

    id: int
    code: str
    asset: str
    side: Side
    floored: bool
    debits_pending: int = 0
    debits_posted: int = 0
    credits_pending: int = 0
    credits_posted: int = 0

    @property
    def posted_base(self) -> int:
        """What the account holds (debit side) or owes its owner (credit side), reservations not counted."""
        net = self.credits_posted - self.debits_posted
        return net if self.side is Side.CREDIT else -net

    @property
    def reserved_base(self) -> int:
        """What pending transfers will take out of the account when they post."""
        return self.debits_pending if self.side is Side.CREDIT else self.credits_pending

    @property
    def available_base(self) -> int:
        """What may still be reserved or spent: posted less reserved; incoming reservations do not count."""
        return self.posted_base - self.reserved_base


class Transfer(NamedTuple):
    """One immutable row. POST and VOID name the PENDING row they close; POST may move less than was reserved."""

    id: int
    phase: Phase
    debit_id: int
    credit_id: int
    amount_base: int
    pending_id: int | None = None


class Ledger:
    """The single owner of balances in memory. Every method either applies one transfer whole or raises and changes nothing."""

    def __init__(self, next_account_id: int = 1, next_transfer_id: int = 1) -> None:
        self._accounts: dict[int, Account] = {}
        self._by_code: dict[tuple[str, str], Account] = {}
        self._by_asset: defaultdict[str, list[Account]] = defaultdict(list)
        self._open: dict[int, Transfer] = {}  # PENDING ones that nothing has closed
        self._next_account_id = next_account_id
        self._next_transfer_id = next_transfer_id

    def load(self, account: Account) -> None:
        """Take an account from the store, totals and all."""
        self._accounts[account.id] = account
        self._by_code[account.code, account.asset] = account
        self._by_asset[account.asset].append(account)
        self._next_account_id = max(self._next_account_id, account.id + 1)

    def load_open(self, reservation: Transfer) -> None:
        """Take an open reservation from the store."""
        self._open[reservation.id] = reservation

    def start_after(self, last_transfer_id: int) -> None:
        """Number new transfers from here; ids never repeat, also after a restart."""
        self._next_transfer_id = max(self._next_transfer_id, last_transfer_id + 1)

    def open(self, code: str, asset: str, side: Side, *, floored: bool) -> Account:
        """Create an account; raises LedgerError if the code exists in that asset."""
        if (code, asset) in self._by_code:
            raise LedgerError(f"account {code} in {asset} exists")
        account = Account(self._next_account_id, code, asset, side, floored)
        self.load(account)
        return account

    def find(self, code: str, asset: str) -> Account | None:
        """Return the account, or None."""
        return self._by_code.get((code, asset))

    def by_id(self, account_id: int) -> Account:
        """Return the account with this id."""
        return self._accounts[account_id]

    def reservation(self, transfer_id: int) -> Transfer | None:
        """Return the open reservation, or None if it was posted, voided or never made."""
        return self._open.get(transfer_id)

    def accounts(self) -> list[Account]:
        """Return every account in order of creation."""
        return list(self._accounts.values())

    def in_asset(self, asset: str) -> Sequence[Account]:
        """Return the accounts in one asset in order of creation: few, except in USD."""
        return self._by_asset.get(asset, ())

    def move(self, debit: Account, credit: Account, amount_base: int) -> Transfer:
        """Move at once. Raises Overdraft if a floored account would owe."""
        self._check(debit, credit, amount_base)
        debit.debits_posted += amount_base
        credit.credits_posted += amount_base
        return self._row(Phase.DIRECT, debit.id, credit.id, amount_base)

    def reserve(self, debit: Account, credit: Account, amount_base: int) -> Transfer:
        """Set the amount aside (PENDING). Raises Overdraft if a floored account could not honour it."""
        self._check(debit, credit, amount_base)
        debit.debits_pending += amount_base
        credit.credits_pending += amount_base
        row = self._row(Phase.PENDING, debit.id, credit.id, amount_base)
        self._open[row.id] = row
        return row

    def post(self, pending_id: int, amount_base: int | None = None) -> Transfer:
        """Turn a reservation into a move of at most its amount; what is left over goes back."""
        held = self._take(pending_id, amount_base)
        moved = held.amount_base if amount_base is None else amount_base
        self._release(held)
        self._accounts[held.debit_id].debits_posted += moved
        self._accounts[held.credit_id].credits_posted += moved
        return self._row(Phase.POST, held.debit_id, held.credit_id, moved, pending_id)

    def void(self, pending_id: int) -> Transfer:
        """Give a reservation back whole."""
        held = self._take(pending_id, None)
        self._release(held)
        return self._row(Phase.VOID, held.debit_id, held.credit_id, held.amount_base, pending_id)

    def _check(self, debit: Account, credit: Account, amount_base: int) -> None:
        check_amount(amount_base)
        if debit.asset != credit.asset:
            raise LedgerError(f"{debit.code} is in {debit.asset}, {credit.code} in {credit.asset}")
        if debit.id == credit.id:
            raise LedgerError(f"{debit.code} cannot pay itself")
        payer = debit if debit.side is Side.CREDIT else None
        if payer is not None and payer.floored and payer.available_base < amount_base:
            raise Overdraft(payer.code, payer.asset, payer.available_base, amount_base)
        holder = credit if credit.side is Side.DEBIT else None
        if holder is not None and holder.floored and holder.available_base < amount_base:
            raise Overdraft(holder.code, holder.asset, holder.available_base, amount_base)

    def _take(self, pending_id: int, amount_base: int | None) -> Transfer:
        held = self._open.get(pending_id)
        if held is None:
            raise LedgerError(f"reservation {pending_id} is not open")
        if amount_base is not None and not 0 < amount_base <= held.amount_base:
            raise LedgerError(f"reservation {pending_id} holds {held.amount_base}, {amount_base} asked")
        del self._open[pending_id]
        return held

    def _release(self, held: Transfer) -> None:
        self._accounts[held.debit_id].debits_pending -= held.amount_base
        self._accounts[held.credit_id].credits_pending -= held.amount_base

    def _row(
        self, phase: Phase, debit_id: int, credit_id: int, amount_base: int, pending_id: int | None = None
    ) -> Transfer:
        row = Transfer(self._next_transfer_id, phase, debit_id, credit_id, amount_base, pending_id)
        self._next_transfer_id += 1
        return row


def imbalance(accounts: list[Account]) -> dict[str, int]:
    """Return, per asset, debits less credits where they differ: P1 says the result is always empty."""
    totals: dict[str, int] = {}
    for account in accounts:
        net = account.debits_posted - account.credits_posted + account.debits_pending - account.credits_pending
        totals[account.asset] = totals.get(account.asset, 0) + net
    return {asset: net for asset, net in totals.items() if net}

"""How each kind of payment shows on chain: which logs tell of it, what proves it, and how it stands at a final block.

Must not know the book.  Theory: an EIP-3009 nonce has a state that can be asked for and a log of its own; a Tempo charge
has no state, so it is its first TransferWithMemo, or the receipt of its transaction where the hash was known, or nothing
once its window is over. Everything else about following a payment is the same for both.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from contracts.codec import Address
from contracts.eip3009 import Authorization
from contracts.logs import (
    Log,
    decode_authorization_canceled,
    decode_authorization_used,
    decode_transfer,
    decode_transfer_with_memo,
)
from contracts.proof import Mismatch, MismatchCode, own_transfer, prove_settlement, prove_unused
from contracts.tempo import TempoTerms, TempoTransfer
from contracts.tempo_proof import prove_tempo_charge, prove_tempo_unused, tempo_fee_base
from contracts.tokens import TIP20_DECIMALS, Token, TokenKey
from gateway.core.records import AuthorizationTerms, Payment, TransferKind
from gateway.ports import Block, Chain, Receipt

# What endpoints serve in one or a few requests, also those that halve a range ten times over; and what a crash repeats.
PAGE_BLOCKS = 2_000

Promise = tuple[Payment, AuthorizationTerms]
"""A payment with what a wallet promised on chain for it."""


@dataclass(frozen=True, slots=True)
class Sign:
    """What one log says: this nonce of this wallet was collected, or cancelled."""

    wallet: Address
    nonce: bytes
    collected: bool


@dataclass(frozen=True, slots=True)
class Proven:
    """What left the wallet for a payment: to the payees together, and for the network's fee."""

    value_base: int
    fee_base: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A transaction that is on chain and moved nothing but the fee that the wallet paid for it."""

    tx_hash: bytes
    block: Block
    fee_base: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How an authorization stands at a final block: used, with the log if it is known; failed for good; or neither."""

    used: bool
    found: Log | None = None
    failed: Failed | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """One way of collecting, as functions.

    `read` returns what a log says, or None where it says nothing of money; `facts` the logs that are facts of their own;
    `moved` what left the wallet by a fact that no payment explains; `dead` whether what did not fail can never be collected.
    """

    read: Callable[[Log], Sign | None]
    facts: Callable[[Sequence[Log]], list[Log]]
    prove: Callable[[Token, AuthorizationTerms, Log, Receipt], Proven | Mismatch]
    moved: Callable[[Token, Address, Log, Sequence[Log]], int]
    standing: Callable[[Chain, Token, AuthorizationTerms, Block], Awaitable[Standing]]
    dead: Callable[[Block, AuthorizationTerms, Standing], bool]


def way_of(token: Token) -> Way:
    """Return how payments in this token are collected."""
    return _WAYS[token.standard]


def nameless(key: TokenKey, kind: TransferKind) -> Token:
    """Return a token that the configuration no longer names: good for reading its logs, never for signing."""
    if kind is TransferKind.TEMPO:
        return Token(*key, symbol="unknown", name="", version="", decimals=TIP20_DECIMALS, standard="tip20")
    return Token(*key, symbol="unknown", name="unknown", version="0", decimals=6)


def pages(first: int, last: int) -> Iterator[tuple[int, int]]:
    """Cut a range of blocks, both ends included, into pages."""
    for start in range(first, last + 1, PAGE_BLOCKS):
        yield start, min(start + PAGE_BLOCKS - 1, last)


# EIP-3009


def authorization_of(token: Token, terms: AuthorizationTerms) -> Authorization:
    """Return the authorization that terms of kind `eip3009` describe."""
    return Authorization(
        token=token,
        authorizer=Address(terms.wallet),
        pay_to=Address(terms.pay_to),
        value_base=terms.value_base,
        valid_after=0,
        valid_before=terms.valid_before_s,
        nonce=terms.nonce,
    )


def _read_authorization(log: Log) -> Sign | None:
    used, canceled = decode_authorization_used(log), decode_authorization_canceled(log)
    event = used or canceled
    return None if event is None else Sign(event.authorizer, event.nonce, collected=used is not None)


def _prove_authorization(token: Token, terms: AuthorizationTerms, found: Log, receipt: Receipt) -> Proven | Mismatch:
    proof = prove_settlement(authorization_of(token, terms), found, receipt.logs, receipt.status)
    return proof if isinstance(proof, Mismatch) else Proven(proof.authorization.value_base, 0)


def _moved_by_authorization(token: Token, wallet: Address, found: Log, logs: Sequence[Log]) -> int:
    """Return what the token's Transfer right after its AuthorizationUsed log took from the wallet; 0 if it is not one."""
    transfer = own_transfer(found, logs) if found.address == token.address else None
    return transfer.value_base if transfer is not None and transfer.sender == wallet else 0


async def _authorization_stands(chain: Chain, token: Token, terms: AuthorizationTerms, final: Block) -> Standing:
    """The token's own state, which a log that was lost cannot hide; it does not say whether used or cancelled."""
    if not await chain.authorization_used(token, terms.wallet, terms.nonce, final):
        return Standing(used=False)
    for start, end in pages(terms.signed_at_block, final.number):
        for found in await chain.payment_logs(token, [terms.wallet], start, end, terms.nonce):
            return Standing(used=True, found=found)
    return Standing(used=True)


def _authorization_is_dead(final: Block, terms: AuthorizationTerms, standing: Standing) -> bool:
    return prove_unused(final.time_s, terms.valid_before_s, standing.used)


# Tempo


def charge_of(token: Token, terms: AuthorizationTerms) -> TempoTerms:
    """Return the charge that terms of kind `tempo` describe, as far as it shows on chain."""
    split_base = sum(value_base for _, value_base in terms.splits)
    primary = TempoTransfer(Address(terms.pay_to), terms.value_base - split_base, terms.nonce)
    splits = (TempoTransfer(Address(payee), value_base) for payee, value_base in terms.splits)
    return TempoTerms(token, Address(terms.wallet), (primary, *splits), terms.fee_base)


def _read_memo(log: Log) -> Sign | None:
    """A transfer of nothing says nothing: anybody may make one out of our wallet, with any memo (transferFromWithMemo)."""
    event = decode_transfer_with_memo(log)
    return Sign(event.sender, event.memo, collected=True) if event is not None and event.value_base else None


def _first_of_each_transaction(logs: Sequence[Log]) -> list[Log]:
    """A wallet signs a transaction whole: its later memos are splits of the first."""
    first: dict[tuple[bytes, Address], Log] = {}
    for log in logs:
        sign = _read_memo(log)
        if sign is not None:
            first.setdefault((log.tx_hash, sign.wallet), log)
    return list(first.values())


def _prove_charge(token: Token, terms: AuthorizationTerms, found: Log, receipt: Receipt) -> Proven | Mismatch:
    if terms.tx_hash not in (None, found.tx_hash):
        return Mismatch(MismatchCode.OTHER_CHARGE, "another transaction than the one that was signed bears the memo")
    proof = prove_tempo_charge(charge_of(token, terms), found, receipt.logs, receipt.status)
    return proof if isinstance(proof, Mismatch) else Proven(terms.value_base, proof.fee_base)


def _moved_by_transaction(token: Token, wallet: Address, found: Log, logs: Sequence[Log]) -> int:
    """Return everything that a transaction took from the wallet, splits and fee included; without a receipt the least."""
    transfers = [decode_transfer(log) for log in logs if log.address == token.address]
    total_base = sum(t.value_base for t in transfers if t is not None and t.sender == wallet)
    known = decode_transfer_with_memo(found)
    return total_base or (0 if known is None else known.value_base)


async def _charge_stands(chain: Chain, token: Token, terms: AuthorizationTerms, final: Block) -> Standing:
    """What the logs of its memo say, and where its hash is known the receipt, which also tells of a failure."""
    found = await _memo_log(chain, token, terms, final)
    if found is not None or terms.tx_hash is None:
        return Standing(used=found is not None, found=found)
    receipt = await chain.receipt(terms.tx_hash, final)
    if receipt is None:
        return Standing(used=False)
    if receipt.block.number > final.number:
        # Not final yet; but once the window is over no later block may hold it, and then nobody calls it unused.
        return Standing(used=final.time_s >= terms.valid_before_s)
    if receipt.status == 0:
        fee_base = tempo_fee_base(Address(terms.wallet), token.address, receipt.logs)
        return Standing(used=False, failed=Failed(receipt.tx_hash, receipt.block, fee_base))
    return Standing(used=True, found=next(iter(_logs_of_memo(receipt.logs, terms)), None))


async def _memo_log(chain: Chain, token: Token, terms: AuthorizationTerms, final: Block) -> Log | None:
    """Look for the charge's memo in every block that may hold it; where two bear it, its own transaction's first."""
    found: list[Log] = []
    for start, end in pages(terms.signed_at_block, final.number):
        found += _logs_of_memo(await chain.payment_logs(token, [terms.wallet], start, end, terms.nonce), terms)
        # Its block's time is below the end of its window, and times do not go back.
        if end < final.number and (await chain.block(end)).time_s >= terms.valid_before_s:
            break
    return min(found, key=lambda log: log.tx_hash != terms.tx_hash, default=None)


def _logs_of_memo(logs: Sequence[Log], terms: AuthorizationTerms) -> list[Log]:
    sign = Sign(Address(terms.wallet), terms.nonce, collected=True)
    return [log for log in logs if log.address == terms.token and _read_memo(log) == sign]


def _charge_is_dead(final: Block, terms: AuthorizationTerms, standing: Standing) -> bool:
    return prove_tempo_unused(final.time_s, terms.valid_before_s, standing.used)


_WAYS: Mapping[str, Way] = MappingProxyType(
    {
        "eip3009": Way(
            read=_read_authorization,
            facts=list,
            prove=_prove_authorization,
            moved=_moved_by_authorization,
            standing=_authorization_stands,
            dead=_authorization_is_dead,
        ),
        "tip20": Way(
            read=_read_memo,
            facts=_first_of_each_transaction,
            prove=_prove_charge,
            moved=_moved_by_transaction,
            standing=_charge_stands,
            dead=_charge_is_dead,
        ),
    }
)

"""The guard: what a wallet may sign. It runs inside every signing call, and its default is no (P8).

Must not know prices, purchases or vendors: it sees messages only, so that a mistake or a takeover of everything above
it still cannot move money to a stranger. Theory: the policy is an immutable snapshot that the operator's changes
replace whole; each rule is one named refusal.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from contracts.codec import ZERO_ADDRESS, Address
from contracts.eip3009 import Authorization
from contracts.mpp_proof import PROOF_VERSION, IdentityProof
from contracts.tempo import TempoCharge
from contracts.tokens import TokenKey
from wallets.transactions import Transaction


class Refusal(StrEnum):
    """Why the guard said no."""

    FROZEN = "frozen"
    UNKNOWN_WALLET = "unknown_wallet"
    NOT_OURS = "not_ours"
    CHAIN_MISMATCH = "chain_mismatch"
    TOKEN_NOT_ALLOWED = "token_not_allowed"  # noqa: S105 - a reason, not a password
    PAYEE_NOT_ALLOWED = "payee_not_allowed"
    PAYEE_FORBIDDEN = "payee_forbidden"
    VALUE_ZERO = "value_zero"
    VALUE_ABOVE_MAX = "value_above_max"
    EXPIRED = "expired"
    WINDOW_TOO_LONG = "window_too_long"
    CALL_NOT_ALLOWED = "call_not_allowed"
    FEE_ABOVE_MAX = "fee_above_max"
    REALM_NOT_ALLOWED = "realm_not_allowed"
    PROOF_VERSION_NOT_ALLOWED = "proof_version_not_allowed"
    NO_REFUNDS = "no_refunds"


class SigningRefused(Exception):  # noqa: N818 - a refusal is a decision, not a fault
    """The guard refused a message; nothing was signed. ``code`` is stable, the message is for people."""

    def __init__(self, code: Refusal, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class CallKey:
    """A contract function that a wallet may call by transaction; an empty selector is a plain transfer of ether."""

    chain_id: int
    to: Address
    selector: bytes


def _empty_calls() -> Mapping[CallKey, int]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class WalletPolicy:
    """What one wallet may sign; whatever is not named is refused.

    ``max_value_base`` maps each allowed token to its ceiling for one authorization or charge, splits included, in base
    units. ``max_window_s`` bounds ``valid_before`` against the signer's clock. ``calls`` maps each allowed transaction
    to the most wei it may carry, and ``max_fee_wei`` bounds gas times price. ``max_fee_base`` bounds the network fee of
    one charge, in its token. ``realms`` are the (chain, realm) pairs to which the wallet may prove that it is itself;
    ``legacy_realms`` those of them that may have it in proof versions below 3, which other sites could relay.
    ``refunds`` marks a till: a wallet that only sends money back to addresses that have signed a payment to it. A till
    has no ``payees``, so it pays nobody else; its ceilings, window and fee are those above.
    """

    chain_ids: frozenset[int]
    max_value_base: Mapping[TokenKey, int]
    payees: frozenset[Address]
    max_window_s: int
    calls: Mapping[CallKey, int] = field(default_factory=_empty_calls)
    max_fee_wei: int = 0
    realms: frozenset[tuple[int, str]] = frozenset()
    legacy_realms: frozenset[tuple[int, str]] = frozenset()
    max_fee_base: int = 0
    refunds: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """The policies of all wallets, and every address that is our own, watched ones and relayers included."""

    wallets: Mapping[Address, WalletPolicy]
    own: frozenset[Address]


def never_refunds(_till: Address, _to: Address) -> bool:
    """Answer that nobody has funded a till, for processes that refund nothing."""
    return False


class Guard:
    """Checks messages against the current policy; every ``check_*`` returns None or raises SigningRefused.

    ``may_refund`` answers from the book, as it is committed, whether an address has signed a payment to a till.
    """

    __slots__ = ("_is_frozen", "_may_refund", "_policy")

    def __init__(
        self,
        policy: Policy,
        is_frozen: Callable[[Address], bool],
        may_refund: Callable[[Address, Address], bool] = never_refunds,
    ) -> None:
        self._policy = policy
        self._is_frozen = is_frozen
        self._may_refund = may_refund

    def replace_policy(self, policy: Policy) -> None:
        """Put another snapshot in force, from the next message on."""
        self._policy = policy

    def check_authorization(self, wallet: Address, auth: Authorization, now_s: int) -> None:
        """Allow a payment authorization of ``wallet``, judged at ``now_s`` (Unix seconds), or raise SigningRefused."""
        policy = self._payer_policy(wallet, auth.authorizer)
        ceiling_base = _ceiling(policy, auth.token.key)
        self._check_payee(policy, wallet, auth.token.address, auth.pay_to)
        _check_value(auth.value_base, ceiling_base)
        _check_window(policy, auth.valid_before, now_s)

    def check_charge(self, wallet: Address, charge: TempoCharge, now_s: int) -> None:
        """Allow a Tempo payment of ``wallet`` with all its splits, judged at ``now_s``, or raise SigningRefused."""
        policy = self._payer_policy(wallet, charge.wallet)
        ceiling_base = _ceiling(policy, charge.token.key)
        for transfer in charge.transfers:
            self._check_payee(policy, wallet, charge.token.address, transfer.to)
        _check_value(charge.amount_base, ceiling_base)
        if charge.max_fee_base > policy.max_fee_base:
            raise SigningRefused(
                Refusal.FEE_ABOVE_MAX, f"a fee of {charge.max_fee_base} is above {policy.max_fee_base} base units"
            )
        _check_window(policy, charge.valid_before, now_s)

    def check_refund(self, wallet: Address, auth: Authorization, now_s: int) -> None:
        """Allow a till to send money back to an address that has paid it by signature, or raise SigningRefused."""
        policy = self._till_policy(wallet, auth.authorizer)
        ceiling_base = _ceiling(policy, auth.token.key)
        self._check_funder(wallet, auth.token.address, auth.pay_to)
        _check_value(auth.value_base, ceiling_base)
        _check_window(policy, auth.valid_before, now_s)

    def check_refund_charge(self, wallet: Address, charge: TempoCharge, now_s: int) -> None:
        """Allow a till to send money back by a Tempo transaction of one transfer, or raise SigningRefused."""
        policy = self._till_policy(wallet, charge.wallet)
        ceiling_base = _ceiling(policy, charge.token.key)
        if len(charge.transfers) != 1:
            raise SigningRefused(Refusal.CALL_NOT_ALLOWED, "a refund is one transfer")
        self._check_funder(wallet, charge.token.address, charge.transfers[0].to)
        _check_value(charge.amount_base, ceiling_base)
        if charge.max_fee_base > policy.max_fee_base:
            raise SigningRefused(
                Refusal.FEE_ABOVE_MAX, f"a fee of {charge.max_fee_base} is above {policy.max_fee_base} base units"
            )
        _check_window(policy, charge.valid_before, now_s)

    def check_proof(self, wallet: Address, proof: IdentityProof) -> None:
        """Allow the wallet to prove itself to a realm on its list, or raise SigningRefused.

        No money moves, but whoever holds the proof controls what the wallet has bought there (P8, P9).
        """
        policy = self._payer_policy(wallet, proof.wallet)
        place = (proof.chain_id, proof.realm)
        if place not in policy.realms:
            raise SigningRefused(Refusal.REALM_NOT_ALLOWED, "the realm on this chain is not on the wallet's list")
        if proof.version < PROOF_VERSION and place not in policy.legacy_realms:
            raise SigningRefused(
                Refusal.PROOF_VERSION_NOT_ALLOWED, f"version {proof.version} could be relayed to another site"
            )

    def check_transaction(self, wallet: Address, tx: Transaction) -> None:
        """Allow a transaction by destination, function, ether and fee, or raise SigningRefused."""
        policy = self._policy_of(wallet)
        if self._is_frozen(wallet):
            raise SigningRefused(Refusal.FROZEN, "the wallet is frozen")
        if tx.chain_id not in policy.chain_ids:
            raise SigningRefused(Refusal.CHAIN_MISMATCH, f"chain {tx.chain_id} is not one of the wallet's")
        max_value_wei = policy.calls.get(CallKey(tx.chain_id, tx.to, tx.selector))
        if max_value_wei is None:
            raise SigningRefused(Refusal.CALL_NOT_ALLOWED, "this function of this address is not on the wallet's list")
        if tx.value_wei > max_value_wei:
            raise SigningRefused(Refusal.VALUE_ABOVE_MAX, f"{tx.value_wei} is above {max_value_wei} wei")
        if tx.max_fee_wei > policy.max_fee_wei:
            raise SigningRefused(Refusal.FEE_ABOVE_MAX, f"a fee of {tx.max_fee_wei} is above {policy.max_fee_wei} wei")

    def _payer_policy(self, wallet: Address, signer: Address) -> WalletPolicy:
        """Return the policy of a wallet that may sign at all, and is the one that the message names."""
        policy = self._policy_of(wallet)
        if self._is_frozen(wallet):
            raise SigningRefused(Refusal.FROZEN, "the wallet is frozen")
        if signer != wallet:
            raise SigningRefused(Refusal.NOT_OURS, "the message is not of the signing wallet")
        return policy

    def _till_policy(self, wallet: Address, signer: Address) -> WalletPolicy:
        """Return the policy of a till; a wallet that spends sends nothing back, and a till spends nothing."""
        policy = self._payer_policy(wallet, signer)
        if not policy.refunds:
            raise SigningRefused(Refusal.NO_REFUNDS, "the wallet is no till")
        return policy

    def _check_funder(self, till: Address, token: Address, payee: Address) -> None:
        if payee in {ZERO_ADDRESS, token, till} or payee in self._policy.own:
            raise SigningRefused(Refusal.PAYEE_FORBIDDEN, "the payee is nobody, the token, or a wallet of our own")
        if not self._may_refund(till, payee):
            raise SigningRefused(Refusal.PAYEE_NOT_ALLOWED, "the payee has signed no payment to this till")

    def _policy_of(self, wallet: Address) -> WalletPolicy:
        policy = self._policy.wallets.get(wallet)
        if policy is None:
            raise SigningRefused(Refusal.UNKNOWN_WALLET, "the wallet has no policy")
        return policy

    def _check_payee(self, policy: WalletPolicy, wallet: Address, token: Address, payee: Address) -> None:
        # Before the allow-list, so that a list that names one of these by mistake allows nothing.
        if payee in {ZERO_ADDRESS, token, wallet} or payee in self._policy.own:
            raise SigningRefused(Refusal.PAYEE_FORBIDDEN, "the payee is nobody, the token, or a wallet of our own")
        if payee not in policy.payees:
            raise SigningRefused(Refusal.PAYEE_NOT_ALLOWED, "the payee is not on the wallet's list")


def _check_value(value_base: int, ceiling_base: int) -> None:
    if value_base == 0:
        raise SigningRefused(Refusal.VALUE_ZERO, "a payment of nothing")
    if value_base > ceiling_base:
        raise SigningRefused(Refusal.VALUE_ABOVE_MAX, f"{value_base} is above {ceiling_base} base units")


def _check_window(policy: WalletPolicy, valid_before: int, now_s: int) -> None:
    if valid_before <= now_s:
        raise SigningRefused(Refusal.EXPIRED, "the window has passed already")
    if valid_before - now_s > policy.max_window_s:
        raise SigningRefused(
            Refusal.WINDOW_TOO_LONG, f"collectable for {valid_before - now_s} s, allowed {policy.max_window_s}"
        )


def _ceiling(policy: WalletPolicy, token: TokenKey) -> int:
    """Return the most that one authorization of this token may move, in base units."""
    if token[0] not in policy.chain_ids:
        raise SigningRefused(Refusal.CHAIN_MISMATCH, f"chain {token[0]} is not one of the wallet's")
    ceiling_base = policy.max_value_base.get(token)
    if ceiling_base is None:
        raise SigningRefused(Refusal.TOKEN_NOT_ALLOWED, "the token is not on the wallet's list")
    return ceiling_base

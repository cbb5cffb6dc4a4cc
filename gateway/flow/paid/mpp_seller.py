"""Selling credit by MPP: an order becomes challenges, and a credential becomes a verified payment of an order, or a refusal.

Must not know stores or chains.  Theory: the order's terms travel sealed in the challenge, so an unpaid 402 leaves nothing
behind and the payment brings everything with it: whose the order is, what it is worth, and until when it can be paid. The
caller asks the store whether it has seen the credential (`flow.paid.mpp`) before it asks here whether it is any good:
what was taken once keeps its answer, however long ago its challenge expired.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from contracts.codec import Address
from contracts.networks import Network
from contracts.tempo_decode import TempoTransaction
from contracts.tokens import Token, TokenKey
from gateway.core.money import MAX_AMOUNT_BASE
from gateway.flow.paid.offers import TillPrice
from gateway.flow.paid.orders import OrderTerms
from gateway.paid_ports import Exact
from gateway.ports import Clock, Entropy
from gateway.rails.mpp.issuing import Charge, Seal, body_digest, challenge_header, issue
from gateway.rails.mpp.presented import Presented, find_credential, open_credential
from gateway.rails.mpp.receipting import payment_receipt
from gateway.rails.mpp.refusing import CredentialRefused, MppProblem
from gateway.rails.mpp.verifying import Window, verify_authorization, verify_identity, verify_transaction

TOP_UP: Final = "topup"
SIGN_IN: Final = "sign-in"
X402_VERSION: Final = 2
SIGN_IN_TTL_S: Final = 300
NONCE_BYTES: Final = 9

_DIGITS = re.compile(r"[1-9][0-9]{0,15}", re.ASCII)


@dataclass(frozen=True, slots=True)
class MppRefused:
    """A credential that is none, and of which nothing has left us. With status 402 fresh challenges go along."""

    problem: MppProblem
    detail: str


@dataclass(frozen=True, slots=True)
class TempoTaken:
    """A Tempo transaction that pays an order, and that nobody has sent as far as we know."""

    order: OrderTerms
    presented: Presented
    token: Token
    transaction: TempoTransaction


@dataclass(frozen=True, slots=True)
class EvmTaken:
    """An authorization that pays an order, for whoever settles: its signature is the token's to judge."""

    order: OrderTerms
    presented: Presented
    exact: Exact

    @property
    def payer(self) -> Address:
        """Who signed."""
        return self.exact.authorization.authorizer


@dataclass(frozen=True, slots=True)
class Proven:
    """A wallet that has shown its key. The challenge may be used once: `TakeNonce("mpp", challenge_id)` before anything."""

    address: Address
    challenge_id: str
    chain_id: int


class MppSeller:
    """Makes challenges and reads credentials. Safe to share: it keeps nothing but its configuration.

    `ttl_s` bounds a challenge's life by chain id, besides its order's: pympp signs for as long as the challenge lives, and
    a Tempo before hard fork T11 takes no more than 30 s. `windows` bounds what payers may sign for.
    """

    def __init__(
        self,
        *,
        seal: Seal,
        realm: str,
        tills: Sequence[TillPrice],
        clock: Clock,
        entropy: Entropy,
        ttl_s: Mapping[int, int] | None = None,
        window: Window | None = None,
    ) -> None:
        self._seal, self._realm, self._clock, self._entropy = seal, realm, clock, entropy
        self._ttl_s = dict(ttl_s or {})
        self._window = window or Window()
        self._tills: dict[TokenKey, TillPrice] = {}
        for till in tills:
            self._tills.setdefault(till.token.key, till)

    # asking

    def challenges(
        self, terms: OrderTerms, body: bytes, *, own_header: bool, without: Collection[TokenKey] = ()
    ) -> tuple[str, ...]:
        """Return one value of WWW-Authenticate for each token that an order can be paid in, Tempo's first.

        Each is bound to the order and to the request's body. `own_header`: the credential is to come in
        Payment-Authorization, since Authorization holds the caller's key. An amount that the store could not hold is not
        offered, and neither are the tokens of `without`.
        """
        tills = sorted(self._tills.values(), key=lambda till: till.token.standard != "tip20")
        asked = [(till, till.value_base(terms.amount_base)) for till in tills if till.token.key not in without]
        return tuple(
            self._challenge(
                Charge(
                    token=till.token,
                    pay_to=till.address,
                    amount_base=value_base,
                    realm=terms.realm,
                    expires_at_ms=self._expires_at_ms(till.token, terms.expires_at_ms),
                    opaque=_packed(terms, self._nonce()),
                    external_id=terms.id,
                    digest=body_digest(body),
                    beside_bearer=own_header,
                )
            )
            for till, value_base in asked
            if 0 < value_base <= MAX_AMOUNT_BASE
        )

    def sign_in_challenge(self, body: bytes, *, own_header: bool) -> str | None:
        """Return the challenge of amount zero by which a wallet proves its key; None where no token is on Tempo."""
        till = next((till for till in self._tills.values() if till.token.standard == "tip20"), None)
        if till is None:
            return None
        return self._challenge(
            Charge(
                token=till.token,
                pay_to=till.address,
                amount_base=0,
                realm=self._realm,
                expires_at_ms=self._clock.now_ms() + SIGN_IN_TTL_S * 1000,
                opaque={"n": self._nonce(), "r": SIGN_IN},
                digest=body_digest(body),
                beside_bearer=own_header,
            )
        )

    def _challenge(self, charge: Charge) -> str:
        return challenge_header(*issue(self._seal, charge))

    def _expires_at_ms(self, token: Token, order_ends_ms: int) -> int:
        ttl_s = self._ttl_s.get(token.chain_id)
        return order_ends_ms if ttl_s is None else min(order_ends_ms, self._clock.now_ms() + ttl_s * 1000)

    def _nonce(self) -> str:
        """Two challenges for one order in one second would otherwise have one id, and one memo, and one nonce."""
        return self._entropy.bytes(NONCE_BYTES).hex()

    # taking

    def read(self, values: Iterable[str]) -> Presented | MppRefused | None:
        """Return the credential in the values of Authorization and Payment-Authorization; None where there is none."""
        try:
            credential = find_credential(values)
            return None if credential is None else open_credential(credential, self._seal, self._realm)
        except CredentialRefused as refused:
            return MppRefused(refused.problem, refused.detail)

    def order_of(self, presented: Presented) -> OrderTerms | None:
        """Return the order that a credential answers, None where it answers something else. It may have expired."""
        return _unpacked(presented)

    def take(self, presented: Presented, body: bytes, pack: str) -> TempoTaken | EvmTaken | MppRefused:
        """Judge a credential of an order for this body and this pack ("" for a free amount). Nothing is sent.

        What is owed is what the challenge said when it was given out, whatever prices and rates are now.
        """
        try:
            return self._take(presented, body, pack)
        except CredentialRefused as refused:
            return MppRefused(refused.problem, refused.detail)

    def _take(self, presented: Presented, body: bytes, pack: str) -> TempoTaken | EvmTaken:
        order = _unpacked(presented)
        if order is None or order.pack != pack:
            raise CredentialRefused(MppProblem.INVALID_CHALLENGE, "the challenge was given for something else")
        presented.require_body(body)
        presented.require_current(self._clock.now_ms())
        till = self._tills.get((presented.chain_id, presented.currency))
        if till is None or till.address != presented.pay_to:
            why = "what the challenge asks for is no longer taken there: ask again"
            raise CredentialRefused(MppProblem.INVALID_CHALLENGE, why)
        now_s = self._clock.now_ms() // 1000
        if presented.method == "tempo":
            return TempoTaken(order, presented, till.token, verify_transaction(presented, now_s, self._window))
        authorization, signature = verify_authorization(presented, till.token, now_s, self._window)
        network = Network(presented.chain_id).caip2
        return EvmTaken(order, presented, Exact(X402_VERSION, network, authorization, signature))

    def verify_proof(self, presented: Presented, body: bytes) -> Proven | MppRefused:
        """Judge a zero-amount credential that answers `sign_in_challenge` for this body."""
        try:
            _require_sign_in(presented)
            presented.require_body(body)
            presented.require_current(self._clock.now_ms())
            return Proven(verify_identity(presented), presented.challenge_id, presented.chain_id)
        except CredentialRefused as refused:
            return MppRefused(refused.problem, refused.detail)

    # thanking

    def receipt(self, presented: Presented, reference: bytes | None = None) -> str:
        """Return Payment-Receipt's value: `reference` is the transaction that a block has; None for a proof."""
        return payment_receipt(
            method=presented.method,
            challenge_id=presented.challenge_id,
            reference=presented.challenge_id if reference is None else reference,
            chain_id=presented.chain_id,
            external_id=presented.external_id,
            at_ms=self._clock.now_ms(),
        )


def _require_sign_in(presented: Presented) -> None:
    if presented.opaque.get("r") != SIGN_IN:
        raise CredentialRefused(MppProblem.INVALID_CHALLENGE, "the challenge was given for something else")


def _packed(terms: OrderTerms, nonce: str) -> dict[str, str]:
    return {
        "acct": terms.account_id or "",
        "ends": str(terms.expires_at_ms),
        "n": nonce,
        "order": terms.id,
        "pack": terms.pack,
        "r": TOP_UP,
        "usd": str(terms.amount_base),
    }


def _unpacked(presented: Presented) -> OrderTerms | None:
    opaque = presented.opaque
    if opaque.get("r") != TOP_UP or not {"acct", "ends", "order", "pack", "usd"} <= opaque.keys():
        return None
    if not opaque["order"] or any(_DIGITS.fullmatch(opaque[name]) is None for name in ("ends", "usd")):
        return None
    return OrderTerms(
        id=opaque["order"],
        account_id=opaque["acct"] or None,
        amount_base=int(opaque["usd"]),
        expires_at_ms=int(opaque["ends"]),
        pack=opaque["pack"],
        realm=presented.realm,
    )

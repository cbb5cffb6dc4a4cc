"""One 402 that offers one order in every form that stock clients pay: x402 version 1 and 2, and MPP's tempo and evm.

Must not know rows or what has been paid.  Theory: the order is one, its prices are many: whichever form is paid, the same
order is claimed, so a payment of a second form meets the first. Asking costs us nothing and leaves nothing behind: the
order's id and terms travel in the offers, under a MAC (gateway/rails/x402/order_ref.py, and MPP's own challenge ids).

What one 402 costs: nothing. A second 402 for the same request offers another order; that only one of the two is paid under one
Idempotency-Key or payment-identifier is decided where payments are claimed.
"""

import hmac
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Final, Protocol

from contracts.codec import Address, checksum
from contracts.tokens import Token, TokenKey
from gateway.core.inventory import CAPPED
from gateway.core.money import RATE_ONE_PPM, format_amount
from gateway.core.paid import TopUp, TopUpState
from gateway.core.problems import Problem
from gateway.flow.paid.attesting import Attestor
from gateway.flow.paid.inventory import Takes, takes_all
from gateway.flow.paid.orders import OrderTerms
from gateway.ports import Clock, Entropy
from gateway.rails.x402.order_ref import ID_BYTES, Order, OrderMarks, order_id
from gateway.rails.x402.selling import V2, Asking, Price, accepts, body_members, payment_required
from wallets.secret import Secret

PAYMENT_REQUIRED: Final = "https://paymentauth.org/problems/payment-required"
TITLE: Final = "Payment required"
ROUTE: Final = "/v1/topups"
OPEN_KEYLESS: Final = 1_000
LONGEST_SIGNED_S: Final = 3_600
SIGNED_MARGIN_S: Final = 600  # for clocks that differ, and for an offer that was paid late

_MINED = frozenset({TopUpState.SEEN, TopUpState.CREDITED})

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class TillPrice:
    """Where one token is received: an address of ours, and what the token is worth (USD for a million of its base units)."""

    token: Token
    address: Address
    rate_ppm: int = RATE_ONE_PPM

    def value_base(self, amount_base: int) -> int:
        """Return how much of the token is worth so much USD, rounded up: the house never funds the rounding."""
        return -(-amount_base * RATE_ONE_PPM // self.rate_ppm)


@dataclass(frozen=True, slots=True)
class TopUpRules:
    """What may be ordered, in USD base units, and for how long an offer stands.

    `open_per_account` bounds the payments under way of one account, or of one wallet that has none; `open_keyless` those
    of all wallets without an account together.
    """

    min_base: int
    max_base: int
    packs: Mapping[str, int] = field(default_factory=dict)
    order_ttl_s: int = 300
    open_per_account: int = 50
    wallet_accounts: bool = True
    open_keyless: int = OPEN_KEYLESS

    @property
    def window_max_s(self) -> int:
        """How far ahead the end of what a payer signs may lie: stock clients sign for the offer's time, or an hour."""
        return max(self.order_ttl_s, LONGEST_SIGNED_S) + SIGNED_MARGIN_S


class MppRail(Protocol):
    """The seller's side of MPP, as far as offers need it: None of it knows x402."""

    def challenges(
        self, terms: OrderTerms, body: bytes, *, own_header: bool, without: Collection[TokenKey] = ()
    ) -> Sequence[str]:
        """Return the values of WWW-Authenticate that offer an order, bound to the request's body.

        `own_header`: the credential is to come in Payment-Authorization, since Authorization holds the caller's key.
        `without` are tokens that are not asked for.
        """
        ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request for credit, whether it pays or not. `path` is our own route's, without a query.

    `bearer` says that the caller's key came in Authorization, which stock MPP clients overwrite with their payment.
    `paid_in` is the header that holds a payment, "" where none does: what is wrong with the payment is said of it.
    """

    method: str
    path: str
    body: bytes
    amount_base: int
    pack: str
    account_id: str | None
    claim: str | None  # the Idempotency-Key
    bearer: bool = False
    paid_in: str = ""

    @property
    def fingerprint(self) -> bytes:
        """What tells one request from another: a repeat under one name must have it alike."""
        digest = sha256(b"gateway-topup-v1")
        for part in (self.method.encode(), self.path.encode(), self.body):
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.digest()


@dataclass(frozen=True, slots=True)
class Offered:
    """A 402: its headers, and the members of its body."""

    headers: Headers
    document: Mapping[str, Any]


def mac_of(secret: Secret[bytes]) -> Callable[[bytes], bytes]:
    """Return HMAC-SHA256 under a secret: what marks orders as ours."""

    def mac(message: bytes) -> bytes:
        return hmac.digest(secret.reveal(), message, "sha256")

    return mac


class Offers:
    """Makes offers. `public_url` is our own origin as clients see it; `mpp` is None where MPP is not served.

    `attestor` signs offers and receipts; None where nothing is signed. `takes` says what may be asked for.
    """

    def __init__(
        self,
        tills: Sequence[TillPrice],
        rules: TopUpRules,
        marks: OrderMarks,
        public_url: str,
        realm: str,
        clock: Clock,
        entropy: Entropy,
        mpp: MppRail | None = None,
        attestor: Attestor | None = None,
        takes: Takes = takes_all,
    ) -> None:
        self._clock, self._entropy, self._mpp, self._attestor = clock, entropy, mpp, attestor
        self._takes = takes
        self.rules, self.marks = rules, marks
        self._public_url, self._realm = public_url.rstrip("/"), realm
        self._tills: dict[TokenKey, TillPrice] = {}
        for till in tills:
            self._tills.setdefault(till.token.key, till)

    @property
    def charges(self) -> tuple[Token, ...]:
        """The tokens in which MPP's challenges ask; none where MPP is not served."""
        return () if self._mpp is None else tuple(till.token for till in self._tills.values())

    @property
    def tokens(self) -> Mapping[TokenKey, Token]:
        """The tokens that authorizations are taken in."""
        return {key: till.token for key, till in self._tills.items() if till.token.standard == "eip3009"}

    def amount(self, amount_base: int) -> int:
        """Return an amount that may be ordered. Raises Problem("bad_request") for one outside the limits."""
        least, most = self.rules.min_base, self.rules.max_base
        if not least <= amount_base <= most:
            limits = {"min": format_amount(least), "max": format_amount(most)}
            detail = f"a top-up is at least {limits['min']} and at most {limits['max']}"
            raise Problem("bad_request", detail, "amount", extra=limits)
        return amount_base

    def pack(self, name: str) -> int:
        """Return what a pack costs. Raises Problem("not_found")."""
        found = self.rules.packs.get(name)
        if found is None:
            raise Problem("not_found", "there is no such pack", extra={"packs": sorted(self.rules.packs)})
        return found

    def fresh(self, wanted: Wanted) -> Order:
        """Return a new order."""
        now_ms = self._clock.now_ms()
        expires_at_ms = (now_ms // 1000 + self.rules.order_ttl_s) * 1000
        return Order(
            order_id(now_ms, self._entropy.bytes(ID_BYTES)),
            wanted.account_id,
            wanted.amount_base,
            wanted.pack,
            expires_at_ms,
        )

    def asking(
        self,
        wanted: Wanted,
        order: Order,
        error: str = "payment required",
        *,
        without: Collection[TokenKey] = (),
    ) -> Asking:
        """Return what x402 asks for an order; `without` are tokens that are not asked for.

        None are left out where a payment is held against it: what was offered is taken or refused by the book.
        """
        what = f"{format_amount(order.amount_base)} USD of credit"
        return Asking(
            url=self._public_url + wanted.path,
            description=what,
            prices=tuple(
                Price(till.token, till.address, till.value_base(order.amount_base))
                for till in self._tills.values()
                if till.token.standard == "eip3009" and till.token.key not in without
            ),
            max_timeout_s=self.rules.order_ttl_s,
            order_token=self.marks.token(order),
            error=error,
        )

    def offer(
        self,
        wanted: Wanted,
        order: Order,
        error: str = "",
        *,
        reason: str = "",
        problem: Mapping[str, object] | None = None,
    ) -> Offered:
        """Return the 402 of an order. `reason` is an x402 reason code, or "": `error` says it in words.

        `problem` stands for the members that say what is wrong, where a rail has its own. Raises Problem: inventory_capped
        where the operator wants so much of no token, not_ready where there is no way to pay at all.
        """
        full = self._full(order)
        x402_says = reason or error or "payment required"
        asking = self._attested(self.asking(wanted, order, x402_says, without=full), order)
        challenges = self._challenges(wanted, order, full)
        if not asking.prices and not challenges:
            if full:
                why = "so much is taken in no token now: ask for less, or later"
                raise Problem(CAPPED, f"{error}; {why}" if error else why)
            raise Problem("not_ready", "there is no way to pay now")
        headers: list[tuple[str, str]] = [("WWW-Authenticate", challenge) for challenge in challenges]
        document: dict[str, Any] = {
            "type": PAYMENT_REQUIRED,
            "title": TITLE,
            "status": 402,
            "detail": error
            or f"pay {format_amount(order.amount_base)} USD on one of the rails that this answer offers",
            "order": order.id,
            "amount": format_amount(order.amount_base),
            **(problem or {}),
        }
        if asking.prices:
            headers.append(("PAYMENT-REQUIRED", payment_required(asking)))
            document |= body_members(asking)
        headers.append(("Cache-Control", "no-store"))
        return Offered(tuple(headers), document)

    def receipt(self, topup: TopUp, token: Token) -> Mapping[str, Any] | None:
        """Return the signed receipt of a payment that is in a block, None where nothing is signed or none is."""
        if self._attestor is None or topup.tx_hash is None or topup.payer is None or topup.state not in _MINED:
            return None
        url = f"{self._public_url}{ROUTE}" + (f"/packs/{topup.pack}" if topup.pack else "")
        payer, at_s = Address(topup.payer), topup.created_at_ms // 1000
        return self._attestor.receipt(url, token.network.caip2, payer, topup.tx_hash, at_s)

    def _attested(self, asking: Asking, order: Order) -> Asking:
        if self._attestor is None:
            return asking
        until_s = order.expires_at_ms // 1000
        entries = enumerate(accepts(asking, V2))
        signed = tuple(self._attestor.offer(index, asking.url, entry, until_s) for index, entry in entries)
        return replace(asking, offers=signed, signer=checksum(self._attestor.address))

    def terms(self, order: Order) -> OrderTerms:
        """Return an order as MPP offers it."""
        return OrderTerms(
            id=order.id,
            account_id=order.account_id,
            amount_base=order.amount_base,
            expires_at_ms=order.expires_at_ms,
            pack=order.pack,
            realm=self._realm,
        )

    def _full(self, order: Order) -> frozenset[TokenKey]:
        """The tokens of which the operator does not want so much more."""
        asked = ((key, till, till.value_base(order.amount_base)) for key, till in self._tills.items())
        return frozenset(key for key, till, value_base in asked if not self._takes(till.token, value_base))

    def _challenges(self, wanted: Wanted, order: Order, full: Collection[TokenKey]) -> Sequence[str]:
        if self._mpp is None:
            return ()
        terms = self.terms(order)
        return self._mpp.challenges(terms, wanted.body, own_header=wanted.bearer, without=full)


def for_account(order: Order, account_id: str | None) -> Order:
    """Return an order that was nobody's as this account's: whoever pays with its key wants it there."""
    return order if order.account_id is not None or account_id is None else replace(order, account_id=account_id)

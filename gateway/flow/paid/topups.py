"""Buying credit: one request either gets an order with every way to pay it, or pays one, and is told what became of it.

Must not know HTTP libraries.  Theory: a stock client pays again whenever it sees a 402, so a 402 is only ever said where
nothing of a payment has left us, or where the newest block shows that nothing came of it; everything else is the order's own
state, which the same payment, the same Idempotency-Key or the same payment-identifier asks for as often as it likes.

What is decided here, besides what `offers` and `taking` say of themselves:

- Whose order it is: the key's that came with the request; else that of the account for which the order was made (its MAC
  says so, since MPP clients overwrite Authorization); else whoever pays, whose wallet gets an account when it is credited.
- An x402 version 1 payment echoes no order: one is made on the spot, from the route and the key that it came with. Where the
  paying wallet has an account of its own the credit is that account's, whoever brings the payment.
- A payment is judged before it is claimed only by ourselves. Where a stranger's facilitator collects, it is claimed first, for
  a stranger that was shown an authorization may collect it; then only keys' signatures are taken, which we can judge alone.
- A name (Idempotency-Key, payment-identifier) belongs to an account; without one to the paying wallet.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from contracts.codec import Address, to_hex
from gateway.core.commands import Refused, key_used
from gateway.core.inventory import CAPPED
from gateway.core.paid import TopUp, TopUpState
from gateway.core.problems import Problem
from gateway.flow.paid.funds import Funds
from gateway.flow.paid.judging import Judge, entry_of, identities, signs
from gateway.flow.paid.mpp import SHORT, TempoTopUps
from gateway.flow.paid.mpp_seller import EvmTaken, MppRefused, MppSeller, TempoTaken
from gateway.flow.paid.offers import Headers, Offered, Offers, Wanted, for_account
from gateway.flow.paid.room import Places, Room
from gateway.flow.paid.taking import (
    MPP_EVM,
    X402,
    Conflict,
    Taken,
    Taking,
    of_exact,
    same_payment,
    unpack_payment,
)
from gateway.paid_ports import Facilitator, Rejected
from gateway.ports import Chain, Clock, Store
from gateway.rails.mpp.presented import Presented
from gateway.rails.mpp.receipting import RECEIPT_HEADER
from gateway.rails.mpp.refusing import problem_document
from gateway.rails.x402.order_ref import Order
from gateway.rails.x402.payment import payer_of
from gateway.rails.x402.reasons import Reason
from gateway.rails.x402.selling import (
    V2,
    Paid,
    PaymentHeaderError,
    echo_mismatch,
    identifier_of,
    matching,
    order_token_of,
    read_header,
    receipt_header,
)

PENDING = "settlement_pending"
RETRY_AFTER_S = 5
MISMATCH = "extension_echo_mismatch"

_PAID = frozenset({TopUpState.PAYING, TopUpState.SEEN, TopUpState.CREDITED})
_ASK_ANEW = {SHORT: Reason.INSUFFICIENT_BALANCE, CAPPED: CAPPED}
"""Why a payment that was not claimed may be followed by another: the refusal, and the reason that x402 is told."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A payment was taken: its order as it stands. `hint` is a transaction that was named for it and is not proven.

    `repeated`: by an earlier request, and nothing of this one. `pending`: whether it lands is not known yet; nobody may
    sign anew.
    """

    topup: TopUp
    headers: Headers
    hint: bytes | None = None
    repeated: bool = False

    @property
    def pending(self) -> bool:
        """Whether it is to be asked for again."""
        return self.topup.state is TopUpState.PAYING


Outcome = Offered | Answered


class TopUps:
    """The use case. `seller` and `tempo` are None where MPP is not served, `facilitator` where x402 is not.

    `own` says that the facilitator is ours, in this process.
    """

    def __init__(
        self,
        *,
        store: Store,
        offers: Offers,
        taking: Taking,
        facilitator: Facilitator | None,
        own: bool,
        chains: Mapping[int, Chain],
        clock: Clock,
        seller: MppSeller | None = None,
        tempo: TempoTopUps | None = None,
    ) -> None:
        self._store, self.offers, self._taking = store, offers, taking
        self._seller, self._tempo, self._clock = seller, tempo, clock
        rules, funds = offers.rules, Funds(store, chains, clock)
        self._judge = Judge(offers.tokens, facilitator, funds, clock, own=own, window_max_s=rules.window_max_s)
        self._room = Room(store, Places(rules.open_per_account, rules.open_keyless))

    async def serve(self, wanted: Wanted, x402: str | None, authorizations: Iterable[str]) -> Outcome:
        """Answer one request: `x402` is the value of its payment header, `authorizations` of its MPP headers.

        Raises Problem: bad_request for what cannot be read, or pays on two rails at once, of which nothing is done;
        topup_taken, payment_reused, idempotency_conflict, idempotency_spent; facilitator_unavailable; key_missing;
        inventory_capped where the operator wants so much more of no token.
        """
        presented = None if self._seller is None else self._seller.read(authorizations)
        if presented is not None and x402 is not None:
            detail = "pay on one rail; none of the payments of this request was taken"
            raise Problem("bad_request", detail, wanted.paid_in or None)
        if x402 is not None and not self._judge.serves:
            raise Problem("bad_request", "x402 is not served here; nothing was taken", wanted.paid_in or None)
        if presented is not None:
            return await self._mpp(wanted, presented)
        return await self._unpaid(wanted) if x402 is None else await self._x402(wanted, x402)

    async def sweep(self) -> None:
        """Ask again about authorizations that nobody has seen, and end what is over. To be called again and again.

        Raises ChainUnavailable or ChainDisagreement once everything was looked at.
        """
        await self._taking.sweep()

    async def find(self, topup_id: str) -> TopUp | None:
        """Return an order that somebody has paid, or tried to."""
        return await self._store.topup(topup_id)

    # who has not paid

    async def _unpaid(self, wanted: Wanted) -> Outcome:
        """The order that the request's name stands for, where it was paid: whoever lost the answer must not pay twice."""
        kept = None
        if wanted.claim is not None and wanted.account_id is not None:
            kept = await self._store.topup_by_token(wanted.account_id, wanted.claim)
        if kept is not None:
            self._require_same(kept, wanted)
            if kept.state in _PAID:
                return self._answer(Taken(kept, self._taking.hint(kept)))
            self._require_open(kept)
        return self._ask(wanted)

    def _ask(
        self, wanted: Wanted, error: str = "", *, reason: str = "", problem: Mapping[str, object] | None = None
    ) -> Offered:
        """Return a 402 with an order that nobody has paid. `error` says what is wrong with the payment that came.

        Raises Problem("key_missing") where only accounts may order.
        """
        self._require_owner(wanted.account_id)
        if error and wanted.paid_in:
            problem = {**(problem or {}), "field": wanted.paid_in}
        return self.offers.offer(wanted, self.offers.fresh(wanted), error, reason=reason, problem=problem)

    def _require_owner(self, account_id: str | None) -> None:
        if account_id is None and not self.offers.rules.wallet_accounts:
            raise Problem("key_missing", "a top-up needs the API key of the account that is to have the credit")

    @staticmethod
    def _require_same(kept: TopUp, wanted: Wanted) -> None:
        if kept.fingerprint != wanted.fingerprint:
            raise key_used()

    @staticmethod
    def _require_open(kept: TopUp) -> None:
        if kept.ended_at_ms is not None:
            detail = "the top-up under this key is over, and nothing was collected for it"
            raise Problem("idempotency_spent", detail, "Idempotency-Key", extra={"topup_id": kept.id})

    # x402

    async def _x402(self, wanted: Wanted, header: str) -> Outcome:
        try:
            paid = read_header(header)
            identifier = identifier_of(paid)
        except PaymentHeaderError as bad:
            raise Problem("bad_request", f"{bad}; nothing was taken", wanted.paid_in or None) from None
        known = await self._known(paid)
        if known is not None:
            return await self._again(wanted, known, paid)
        marked, order = self._order_of(wanted, paid)
        if self._clock.now_ms() >= order.expires_at_ms:
            return self._ask(wanted, "the order has expired; nothing was taken", reason="order_expired")
        if echo_mismatch(paid):
            return self._ask(wanted, "an extension came back changed; nothing was taken", reason=MISMATCH)
        judged = self._judge.document(paid, matching(self.offers.asking(wanted, marked), paid))
        if isinstance(judged, Rejected):
            return self._refuse(wanted, judged)
        exact, entry = judged
        name = self._client_token(wanted, order.account_id, exact.authorization.authorizer, identifier)
        repeated = await self._repeated(wanted, order, name) if order.account_id is not None or signs(exact) else None
        if repeated is not None:
            return self._answer(await self._waited(repeated))
        rejected = await self._judge.payment(exact, entry)
        if rejected is not None:
            # The same payment may have been claimed while it was judged, and then it is "used", by ourselves.
            known = await self._known(paid)
            return self._refuse(wanted, rejected) if known is None else await self._again(wanted, known, paid)
        topup = await self._row(wanted, order, name)
        return await self._take(wanted, of_exact(topup, X402, exact, entry))

    def _order_of(self, wanted: Wanted, paid: Paid) -> tuple[Order, Order]:
        """The order that a payment echoes, where it is ours, else one that is made of this request; and as it is taken.

        The latter says whose the credit is: an order that was nobody's is the account's whose key came with the payment.
        """
        token = order_token_of(paid)
        order = self.offers.marks.read(token, wanted.amount_base, wanted.pack)
        if order is not None:
            return order, self._owned(wanted, order)
        order = self._owned(wanted, self.offers.fresh(wanted))
        # Nothing of the payment says whose the credit is to be, and whoever saw it on its way may have brought it.
        bound = self._store.view.wallet_accounts.get(payer_of(paid.document) or b"")
        return order, order if bound in {None, order.account_id} else replace(order, account_id=None)

    def _owned(self, wanted: Wanted, order: Order) -> Order:
        """Return whose order it is. Raises Problem where it is another's, or nobody's and must be somebody's."""
        self._require_owner(wanted.account_id or order.account_id)
        if wanted.account_id is not None and order.account_id not in {None, wanted.account_id}:
            detail = "the order was made for another account; nothing was taken"
            raise Problem("bad_request", detail, wanted.paid_in or None)
        return for_account(order, wanted.account_id)

    async def _repeated(self, wanted: Wanted, order: Order, name: str) -> TopUp | None:
        """Return the paid order that a request's name stands for: a repeat is answered by it, and its payment not touched.

        Asked before the payment is judged, for the first one may have taken all that the wallet had.
        """
        kept = await self._store.topup_by_token(order.account_id, name) if name else None
        if kept is None or kept.state not in _PAID or kept.id == order.id:
            return None
        self._require_same(kept, wanted)
        return kept

    async def _known(self, paid: Paid) -> TopUp | None:
        for identity in identities(paid, self.offers.tokens):
            found = await self._store.topup_of(identity)
            if found is not None:
                return found
        return None

    async def _again(self, wanted: Wanted, known: TopUp, paid: Paid) -> Outcome:
        """The same payment again: the same answer, for ever; one that failed may be tried again while it could land."""
        if known.raw is None or not same_payment(known, paid.document):
            raise Problem("payment_reused", "another payload with this authorization was taken before")
        if known.state in _PAID:
            return self._answer(await self._waited(known), paid.version)
        if known.ended_at_ms is not None:
            return self._ask(
                wanted, "the order of this payment is over; nothing was taken", reason=known.reason or "expired"
            )
        version, payload, entry = unpack_payment(known.raw)
        judged = self._judge.document(Paid(version, payload), [(None, entry)])
        rejected = judged if isinstance(judged, Rejected) else await self._judge.payment(judged[0], entry)
        if rejected is not None or isinstance(judged, Rejected):
            current = await self._taking.current(known)
            if current.state in _PAID:
                return self._answer(await self._waited(current), paid.version)
            return self._refuse(wanted, rejected or Rejected(Reason.INVALID_PAYLOAD, "it cannot be taken"))
        topup = replace(known, version=known.version + 1)
        return await self._take(wanted, of_exact(topup, known.rail, judged[0], entry))

    def _refuse(self, wanted: Wanted, rejected: Rejected) -> Offered:
        return self._ask(wanted, f"{rejected.message}; nothing was taken", reason=rejected.reason)

    # MPP

    async def _taken_for(self, presented: Presented) -> TopUp | None:
        """Return the order that a credential was taken for: under a caller's own name it is not the challenge's."""
        known = None if self._tempo is None else await self._tempo.known(presented)
        terms = None if self._seller is None or known is not None else self._seller.order_of(presented)
        kept = known if terms is None else await self._store.topup(terms.id)
        return kept if kept is not None and kept.challenge_id == presented.challenge_id else None

    async def _mpp(self, wanted: Wanted, presented: Presented | MppRefused) -> Outcome:
        assert self._seller is not None, "a credential was read by the seller"
        if isinstance(presented, MppRefused):
            return self._refuse_mpp(wanted, presented)
        kept = await self._taken_for(presented)
        if kept is not None and kept.state in _PAID:
            return self._answer(await self._waited(kept), presented=presented)
        taken = self._seller.take(presented, wanted.body, wanted.pack)
        if isinstance(taken, MppRefused):
            return self._refuse_mpp(wanted, taken)
        terms = taken.order
        payer = taken.payer if isinstance(taken, EvmTaken) else Address(taken.transaction.sender)
        given = Order(terms.id, terms.account_id, terms.amount_base, terms.pack, terms.expires_at_ms)
        order = self._owned(wanted, given)
        name = self._client_token(wanted, order.account_id, payer, None)
        repeated = await self._repeated(wanted, order, name) if order.account_id is not None else None
        if repeated is not None:
            return self._answer(await self._waited(repeated))
        topup = await self._row(wanted, order, name)
        if isinstance(taken, TempoTaken):
            return await self._take_tempo(wanted, topup, taken)
        return await self._take_evm(wanted, topup, taken)

    async def _take_tempo(self, wanted: Wanted, topup: TopUp, taken: TempoTaken) -> Outcome:
        if self._tempo is None:
            raise Problem("facilitator_unavailable", "nobody sends such payments now; nothing was taken")
        with self._room.place(topup.id, topup.account_id, bytes(taken.transaction.sender)):
            result = await self._tempo.take(topup, taken)
        if isinstance(result, Refused):
            other = await self._store.topup(topup.id)
            if other is None and topup.client_token:
                other = await self._store.topup_by_token(topup.account_id, topup.client_token)
            reason = _ASK_ANEW.get(result.code)
            if reason is not None and not (_alike(other, topup) and other is not None and other.state in _PAID):
                return self._ask(wanted, f"{result.detail}; nothing was taken", reason=reason)
            return await self._conflict(topup, Conflict(result.code, result.detail, other))
        paid, repeated = result
        if paid.state in _PAID:
            return self._answer(Taken(paid), presented=taken.presented, repeated=repeated)
        return self._ask(wanted, f"the transaction did not pay ({paid.reason}); ask again and pay anew")

    async def _take_evm(self, wanted: Wanted, topup: TopUp, taken: EvmTaken) -> Outcome:
        entry = entry_of(taken.exact, self.offers.rules.order_ttl_s)
        rejected = await self._judge.payment(taken.exact, entry)
        if rejected is not None:
            kept = await self._store.topup(topup.id)
            if kept is not None and kept.challenge_id == taken.presented.challenge_id and kept.state in _PAID:
                return self._answer(await self._waited(kept), presented=taken.presented)
            return self._refuse(wanted, rejected)
        paying = of_exact(topup, MPP_EVM, taken.exact, entry)
        paying = replace(paying, challenge_id=taken.presented.challenge_id)
        return await self._take(wanted, paying, taken.presented)

    def _refuse_mpp(self, wanted: Wanted, refused: MppRefused) -> Offered:
        document = problem_document(refused.problem, refused.detail)
        if refused.problem.status != 402:  # noqa: PLR2004 - HTTP's own number
            detail, extra = f"{refused.detail}; nothing was taken", {"problem": document["type"]}
            raise Problem("bad_request", detail, wanted.paid_in or None, extra=extra)
        return self._ask(wanted, refused.detail, problem=document)

    # claiming and answering

    def _client_token(self, wanted: Wanted, account_id: str | None, payer: Address, identifier: str | None) -> str:
        """Return the name under which the order is kept: an Idempotency-Key counts before a payment-identifier."""
        if account_id is not None:
            return wanted.claim or (f"pid:{identifier}" if identifier else "")
        name = f"pid:{identifier}" if identifier else f"key:{wanted.claim}" if wanted.claim else ""
        return f"{to_hex(payer)}:{name}" if name else ""

    async def _row(self, wanted: Wanted, order: Order, name: str) -> TopUp:
        """Return the order's record: the next version of one that failed, else a new one. Whoever claims it is told more."""
        kept = await self._store.topup(order.id)
        if kept is None and name:
            kept = await self._store.topup_by_token(order.account_id, name)
        if kept is not None and kept.state in {TopUpState.OPEN, TopUpState.FAILED}:
            self._require_same(kept, wanted)
            self._require_open(kept)
            owner = kept.account_id or order.account_id
            return replace(kept, account_id=owner, expires_at_ms=order.expires_at_ms, version=kept.version + 1)
        return self.offers.terms(order).opened(name, wanted.fingerprint, self._clock.now_ms())

    async def _take(self, wanted: Wanted, topup: TopUp, presented: Presented | None = None) -> Outcome:
        """Claim, collect, answer."""
        assert topup.payer is not None, "a payment has a payer"
        with self._room.place(topup.id, topup.account_id, topup.payer):
            claimed = await self._taking.claim(topup)
        if isinstance(claimed, Conflict):
            if claimed.code == CAPPED:
                return self._ask(wanted, f"{claimed.detail}; nothing was taken", reason=CAPPED)
            return await self._conflict(topup, claimed)
        taken = await self._waited(claimed)
        version = V2 if topup.raw is None else unpack_payment(topup.raw)[0]
        if taken.topup.state in _PAID:
            return self._answer(taken, version, presented, repeated=claimed is not topup)
        why = taken.topup.reason or "it was not collected"
        return self._ask(wanted, f"the payment was refused: {why}", reason=why)

    async def _waited(self, topup: TopUp) -> Taken:
        if topup.state is not TopUpState.PAYING:
            return Taken(topup)
        if topup.raw is not None and topup.rail in {X402, MPP_EVM}:
            return await self._taking.collected(topup)
        return Taken(topup if self._tempo is None else await self._tempo.follow(topup))

    async def _conflict(self, topup: TopUp, conflict: Conflict) -> Outcome:
        """A repeat under one name gets the first one's answer; anything else is refused, and its payment not touched."""
        other = conflict.other
        if other is not None and other.state in _PAID and _alike(other, topup):
            taken = await self._waited(other)
            if taken.topup.state in _PAID:
                return self._answer(taken)
        extra = {} if other is None or other.id != topup.id else {"topup_id": other.id}
        raise Problem(conflict.code, f"{conflict.detail}; the payment of this request was not taken", extra=extra)

    def _answer(
        self,
        taken: Taken,
        version: int | None = None,
        presented: Presented | None = None,
        *,
        repeated: bool = True,
    ) -> Answered:
        """Return the answer of an order that has a payment, with the receipt of the rail that it came on."""
        topup = taken.topup
        headers: list[tuple[str, str]] = [("Cache-Control", "no-store, private")]
        if topup.state is TopUpState.PAYING:
            headers += [("Location", f"/v1/topups/{topup.id}"), ("Retry-After", str(RETRY_AFTER_S))]
        if presented is not None and self._seller is not None:
            if topup.state is not TopUpState.PAYING and topup.tx_hash is not None:
                headers.append((RECEIPT_HEADER, self._seller.receipt(presented, topup.tx_hash)))
        elif topup.rail == X402 and topup.raw is not None:
            headers.append(self._receipt(topup, taken.hint, version or unpack_payment(topup.raw)[0]))
        return Answered(topup, tuple(headers), taken.hint, repeated)

    def _receipt(self, topup: TopUp, hint: bytes | None, version: int) -> tuple[str, str]:
        token = self.offers.tokens.get((topup.chain_id or 0, Address(topup.token or b"")))
        if token is None:  # no longer configured; the document says everything as well
            return ("X-Topup-Id", topup.id)
        evidence = self.offers.receipt(topup, token) if version == V2 else None
        return receipt_header(
            version,
            token,
            tx_hash=topup.tx_hash or hint,
            payer=None if topup.payer is None else Address(topup.payer),
            amount_base=topup.value_base,
            reason=PENDING if topup.state is TopUpState.PAYING else "",
            receipt=evidence,
        )


def _alike(other: TopUp | None, topup: TopUp) -> bool:
    """Say whether two orders are one under one name: then the second is a repeat."""
    return (
        other is not None
        and bool(topup.client_token)
        and (other.client_token, other.fingerprint) == (topup.client_token, topup.fingerprint)
    )

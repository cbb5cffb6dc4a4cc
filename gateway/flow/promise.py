"""From an accepted offer to a signed, sealed credential and the payment that stands for it.

Must not send anything.  Theory (P3, P4): the nonce follows from the purchase, so whatever is ever signed for it can be
collected once; the signature is made before the hold is committed, and leaves this process only after.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from contracts.codec import Address
from contracts.eip3009 import Authorization, purchase_nonce
from gateway.core.ids import make_id
from gateway.core.payment import Axes, Transfer
from gateway.core.problems import Problem
from gateway.core.records import Attempt, AuthorizationTerms, Payment
from gateway.flow.call import Call
from gateway.flow.heads import Heads
from gateway.flow.pack import pack
from gateway.flow.quote import Quote
from gateway.http.port import UpstreamRequest
from gateway.ports import Clock, Entropy
from gateway.rails.offer import Challenge
from gateway.rails.x402.credential import encode_payment
from wallets.guard import SigningRefused
from wallets.sealing import Sealer
from wallets.signer import Signer

CONDITIONAL = frozenset({"if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "range"})


@dataclass(frozen=True, slots=True)
class Promise:
    """Everything that the hold's commit takes, and the request that may leave after it."""

    payment: Payment
    attempt: Attempt
    request: UpstreamRequest


def seal_context(kind: str, payment_id: str) -> bytes:
    """Return what a sealed value is bound to: moved to another row it does not open."""
    return f"{kind}:{payment_id}".encode()


class Promiser:
    """Signs for the configured wallets."""

    def __init__(
        self, signers: Mapping[bytes, Signer], heads: Heads, sealer: Sealer, clock: Clock, entropy: Entropy
    ) -> None:
        self._signers, self._heads, self._sealer = signers, heads, sealer
        self._clock, self._entropy = clock, entropy

    def make(
        self, call: Call, quote: Quote, challenge: Challenge, request: UpstreamRequest, resource_ref: str | None
    ) -> Promise:
        """Sign and seal. Raises Problem: not_ready without a chain head, signing_refused by the guard."""
        now_ms = self._clock.now_ms()
        payment_id = make_id("pay", now_ms, self._entropy.bytes(10))
        terms, header = self._sign(call, quote, challenge, payment_id, now_ms)
        # A condition or a range could make the vendor answer "nothing for you" to a request that it has collected for.
        headers = tuple((name, value) for name, value in request.headers if name.lower() not in CONDITIONAL)
        paid = UpstreamRequest(request.method, request.target, (*headers, header), request.body, request.buffer_bytes)
        body = paid.body if isinstance(paid.body, bytes) else b""
        packed = pack(paid.method, paid.target, paid.headers, body)
        payment = Payment(
            id=payment_id,
            account_id=call.account_id,
            key_id=call.key.id,
            request_id=call.request_id,
            vendor=call.vendor.name,
            route=call.match.route.name,
            method=call.method,
            path=call.vendor.scrub(call.target),
            fingerprint=call.fingerprint,
            idempotency_key=call.idempotency_key,
            represent=call.match.route.represent.value,
            terms=terms,
            hold_base=quote.hold_base,
            created_at_ms=now_ms,
            delivery_deadline_ms=now_ms + call.vendor.terms.delivery_deadline_s * 1000,
            resource_ref=resource_ref,
            renews=call.match.route.renews,
            axes=Axes(transfer=Transfer.PRESENTED),
        )
        sealed = self._sealer.seal(packed, seal_context("attempt", payment_id))
        attempt = Attempt(payment_id, 1, terms.value_base, terms.valid_before_s, sealed, now_ms)
        return Promise(payment, attempt, paid)

    def _sign(
        self, call: Call, quote: Quote, challenge: Challenge, payment_id: str, now_ms: int
    ) -> tuple[AuthorizationTerms, tuple[str, str]]:
        offer, token, wallet = quote.offer, quote.token, Address(call.vendor.terms.wallet)
        head = self._heads.get(token.chain_id)
        if head is None:
            raise Problem("not_ready", f"no block of chain {token.chain_id} was seen yet")
        window_s = call.match.route.window.clamp(offer.max_timeout_s)
        authorization = Authorization(
            token=token,
            authorizer=wallet,
            pay_to=offer.pay_to,
            value_base=offer.amount_base,
            valid_after=0,
            valid_before=max(now_ms // 1000, head.time_s) + window_s,
            nonce=purchase_nonce(token.chain_id, token.address, wallet, payment_id),
        )
        try:
            signature = self._signers[wallet].sign_authorization(authorization)
        except SigningRefused as refused:
            if refused.code.value == "frozen":
                raise Problem("frozen", "the operator has frozen purchases") from refused
            raise Problem("signing_refused", refused.message) from refused
        header = encode_payment(challenge, offer, authorization, signature, payment_identifier=payment_id)
        terms = AuthorizationTerms(
            chain_id=token.chain_id,
            token=token.address,
            asset=token.asset_id,
            wallet=wallet,
            pay_to=offer.pay_to,
            nonce=authorization.nonce,
            value_base=offer.amount_base,
            valid_before_s=authorization.valid_before,
            signed_at_block=head.number,
        )
        return terms, header

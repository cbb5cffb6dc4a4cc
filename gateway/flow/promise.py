"""From an accepted offer to a signed, sealed credential and the payment that stands for it.

Must not send anything.  Theory (P3, P4): whatever is signed for a purchase can be collected once; the signature is made
before the hold is committed, and leaves this process only after; what has left is sealed beside the payment, to be read
again and never made again.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from contracts.codec import Address, ContractError, to_hex
from gateway.core.payment import Axes, Transfer
from gateway.core.problems import Problem
from gateway.core.records import Attempt, Payment
from gateway.flow.call import Call
from gateway.flow.credentials import (
    Basis,
    Credential,
    TempoFees,
    sign_evm,
    sign_tempo,
    sign_x402,
    valid_before_of,
)
from gateway.flow.heads import Heads
from gateway.flow.ids import Ids
from gateway.flow.pack import Headers, pack
from gateway.flow.quote import Quote
from gateway.http.port import UpstreamRequest
from gateway.ports import Clock, Entropy
from gateway.rails.asked import Asked
from gateway.rails.offer import AnyOffer, MppOffer, Offer
from wallets.sealing import Sealer
from wallets.signer import Signer

CONDITIONAL = frozenset({"if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "range"})
RAW_TRANSACTION = ":raw-transaction"  # no header's name can begin so
PURPOSE = uuid.UUID(
    "5b0f6a52-35f0-5d2c-9c0c-6f8a3d0e7b11"
)  # names our idempotency keys among all UUIDs (RFC 9562, 5.5)

_USUAL_FEES: Mapping[int, TempoFees] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Promise:
    """Everything that the hold's commit takes, and the request that may leave after it.

    `raw` is a transaction that we send ourselves, before that request. `prescribed` says that the seller chose the name
    that the authorization has on chain; `challenge_id` is of a challenge that may be answered once only.
    """

    payment: Payment
    attempt: Attempt
    request: UpstreamRequest
    raw: bytes | None = None
    prescribed: bool = False
    challenge_id: str | None = None


def seal_context(kind: str, payment_id: str) -> bytes:
    """Return what a sealed value is bound to: moved to another row it does not open."""
    return f"{kind}:{payment_id}".encode()


def purchase_key(payment_id: str) -> str:
    """Return the Idempotency-Key under which a vendor sees a purchase; it tells nothing of the payment or its agent."""
    return str(uuid.uuid5(PURPOSE, payment_id))


class Promiser:
    """Signs for the configured wallets. `tempo_fees` is by chain id."""

    def __init__(
        self,
        signers: Mapping[bytes, Signer],
        heads: Heads,
        sealer: Sealer,
        clock: Clock,
        entropy: Entropy,
        tempo_fees: Mapping[int, TempoFees] = _USUAL_FEES,
    ) -> None:
        self._signers, self._heads, self._sealer = signers, heads, sealer
        self._clock, self._ids, self._tempo_fees = clock, Ids(clock, entropy), tempo_fees

    def new_id(self) -> str:
        """Return the id of a payment that is yet to be made."""
        return self._ids.new("pay")

    def collectable_for_s(self, call: Call, offer: AnyOffer) -> int:
        """Return for how long a payment of this offer could be collected, if it were signed now."""
        now_s = self._clock.now_ms() // 1000
        return max(0, valid_before_of(offer, now_s, call.match.route.window, self._fees(offer.chain_id)) - now_s)

    def make(
        self,
        call: Call,
        quote: Quote,
        asked: Asked,
        request: UpstreamRequest,
        resource_ref: str | None,
        payment_id: str,
    ) -> Promise:
        """Sign and seal. Raises SigningRefused, and Problem: not_ready without a chain head, unsupported_transfer.

        The latter for an offer that its token cannot pay, or that could not be told from another.
        """
        now_ms = self._clock.now_ms()
        credential = self._sign(call, quote, asked, payment_id, now_ms)
        terms = credential.terms
        # A condition or a range could make the vendor answer "nothing for you" to a request that it has collected for.
        headers = tuple((name, value) for name, value in request.headers if name.lower() not in CONDITIONAL)
        paid = UpstreamRequest(
            request.method, request.target, (*headers, credential.header), request.body, request.buffer_bytes
        )
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
        sealed = self._sealer.seal(pack_paid(paid, credential.raw), seal_context("attempt", payment_id))
        attempt = Attempt(payment_id, 1, terms.value_base, terms.valid_before_s, sealed, now_ms)
        challenge_id = quote.offer.challenge_id if isinstance(quote.offer, MppOffer) else None
        return Promise(payment, attempt, paid, credential.raw, credential.prescribed, challenge_id)

    def _sign(self, call: Call, quote: Quote, asked: Asked, payment_id: str, now_ms: int) -> Credential:
        offer, token, wallet = quote.offer, quote.token, Address(call.vendor.terms.wallet)
        head = self._heads.get(token.chain_id)
        if head is None:
            raise Problem("not_ready", f"no block of chain {token.chain_id} was seen yet")
        now_s, window = max(now_ms // 1000, head.time_s), call.match.route.window
        basis = Basis(payment_id, token, wallet, now_s, head, window, self._fees(token.chain_id))
        signer = self._signers[wallet]
        try:
            if isinstance(offer, Offer):
                assert asked.x402 is not None, "an offer of x402 is of a challenge of x402"
                return sign_x402(signer, asked.x402, offer, basis)
            return sign_tempo(signer, offer, basis) if offer.method == "tempo" else sign_evm(signer, offer, basis)
        except ContractError as error:
            raise Problem("unsupported_transfer", str(error)) from error

    def _fees(self, chain_id: int) -> TempoFees:
        return self._tempo_fees.get(chain_id) or TempoFees()


def pack_paid(request: UpstreamRequest, raw: bytes | None) -> bytes:
    """Return a paid request, and the transaction that goes before it, as the bytes that are sealed."""
    before: Headers = () if raw is None else ((RAW_TRANSACTION, to_hex(raw)),)
    body = request.body if isinstance(request.body, bytes) else b""
    return pack(request.method, request.target, (*before, *request.headers), body)


def split_raw(headers: Headers) -> tuple[Headers, bytes | None]:
    """Take the transaction that `pack_paid` put before the headers away from them again."""
    if not headers or headers[0][0] != RAW_TRANSACTION:
        return headers, None
    return headers[1:], bytes.fromhex(headers[0][1].removeprefix("0x"))

"""Telling a vendor who we are where its 402 asks for that and for no money: MPP's zero-amount proof.

Must not know money.  Theory (P3, P8, P13): a proof costs nothing and gives control over what the wallet has bought, so it
goes to a realm of the vendor's alone, is on record with the agent's call before it exists, and answers one challenge once.
A refusal is final, unless the operator lets this vendor have the older versions that it may still want.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import structlog

from contracts.codec import Address
from contracts.mpp_proof import PROOF_VERSION, IdentityProof, ProofVersion
from gateway.core.commands import RecordProof, Refused
from gateway.core.problems import Problem
from gateway.flow.asking import ask_vendor, read_asked
from gateway.flow.call import Call
from gateway.flow.refusing import refusal_to_sign
from gateway.flow.tasks import Tasks
from gateway.http.port import Upstream, UpstreamRequest, UpstreamResponse
from gateway.ports import Clock, Store
from gateway.rails.asked import Asked
from gateway.rails.choose import AcceptableTerms, choose_proof
from gateway.rails.mpp.credential import did_source, encode_credential, proof_payload
from gateway.rails.offer import MppOffer
from gateway.rails.problems import ChallengeError, OfferRefused
from wallets.guard import SigningRefused
from wallets.signer import Signer
from wallets.watermark import Watermark

PAYMENT_REQUIRED: Final = 402
OLDER_VERSIONS: Final[tuple[ProofVersion, ...]] = (2, 1)

log = structlog.get_logger()


def proof_terms(call: Call, now_ms: int) -> AcceptableTerms:
    """Return what a zero-amount challenge must be to be answered with a proof: of this vendor's tokens and realms alone."""
    terms = call.vendor.terms
    return AcceptableTerms(
        assets=frozenset(token.key for token in terms.tokens),
        payees=frozenset(),
        own_addresses=frozenset(),
        ceiling_base=0,
        now_ms=now_ms,
        rails=terms.rails,
        realms=terms.realms,
    )


class Prover:
    """Proves with the vendors' wallets."""

    def __init__(
        self,
        *,
        store: Store,
        upstream: Upstream,
        signers: Mapping[bytes, Signer],
        watermark: Watermark,
        tasks: Tasks,
        clock: Clock,
    ) -> None:
        self._store, self._upstream, self._signers = store, upstream, signers
        self._watermark, self._tasks, self._clock = watermark, tasks, clock

    async def answer(self, call: Call, asked: Asked, request: UpstreamRequest) -> UpstreamResponse:
        """Repeat a request with a proof for one of the challenges, and return what the vendor says to that.

        Raises Problem: what `choose_proof` refuses, frozen, signing_refused, challenge_repeated, proof_refused for
        another 402, and what a request to a vendor may raise.
        """
        terms = call.vendor.terms
        versions = (PROOF_VERSION, *OLDER_VERSIONS) if terms.legacy_proofs else (PROOF_VERSION,)
        for version in versions:
            offer = self._choose(call, asked)
            header = await self._prove(call, offer, version)
            answer = await ask_vendor(
                self._upstream, call, replace(request, headers=(*request.headers, header), may_resend=False)
            )
            if answer.status != PAYMENT_REQUIRED:
                return answer
            log.warning("proof.refused", vendor=call.vendor.name, route=call.match.route.name, version=version)
            again = await self._again(answer)
            if again is None:
                break
            asked = again
        raise Problem("proof_refused", f"{call.vendor.name} asks again who we are after we have proven it")

    def _choose(self, call: Call, asked: Asked) -> MppOffer:
        try:
            return choose_proof(asked, proof_terms(call, self._clock.now_ms()))
        except OfferRefused as refused:
            raise Problem(refused.code.value, refused.message, refused.field or None) from refused

    async def _prove(self, call: Call, offer: MppOffer, version: ProofVersion) -> tuple[str, str]:
        """Record the proof, then sign it; return the header."""
        wallet = Address(call.vendor.terms.wallet)
        result = await self._store.post(
            RecordProof(
                wallet=wallet,
                vendor=call.vendor.name,
                route=call.match.route.name,
                account_id=call.account_id,
                key_id=call.key.id,
                request_id=call.request_id,
                challenge_id=offer.challenge_id,
                realm=offer.realm,
                chain_id=offer.chain_id,
                at_ms=self._clock.now_ms(),
            )
        )
        if isinstance(result, Refused):
            raise Problem(result.code, result.detail)
        view = self._store.view
        self._watermark.record(view.journal_seq, view.journal_head)
        proof = IdentityProof(wallet, offer.chain_id, offer.challenge_id, offer.realm, version)
        try:
            signature = self._signers[wallet].sign_proof(proof)
        except SigningRefused as refused:
            raise await refusal_to_sign(self._tasks, wallet, refused) from refused
        return encode_credential(offer, proof_payload(signature), did_source(offer.chain_id, wallet))

    async def _again(self, answer: UpstreamResponse) -> Asked | None:
        """Return the fresh challenge that comes with a refusal, if it asks for a proof."""
        try:
            asked = await read_asked(answer, self._clock.now_ms())
        except ChallengeError:
            return None
        return asked if asked is not None and asked.proofs else None

"""Whether an authorization is a payment of what we ask, and whether it could be collected, before it is claimed.

Must not know orders or rows.  Theory: what is claimed costs a row and somebody's patience, and what is refused must not have
left us; so everything that we can judge alone is judged here, and a stranger's facilitator is shown nothing that is not
claimed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from contracts.calls import SIGNATURE_MAX_BYTES
from contracts.codec import ContractError, checksum, parse_address, parse_bytes32, parse_hex, parse_uint, to_hex
from contracts.networks import parse_network
from contracts.signature import SignatureError, normalise_v, recover_address
from contracts.tokens import Token, TokenKey
from gateway.core.paid import Identity
from gateway.core.problems import Problem
from gateway.flow.paid.funds import Funds
from gateway.paid_ports import Exact, Facilitator, FacilitatorUnknown, Json, Rejected
from gateway.ports import Clock
from gateway.rails.x402.payment import check_window, read_payment
from gateway.rails.x402.reasons import Reason
from gateway.rails.x402.selling import V1, V2, Paid, Price


class Judge:
    """Judges payments in some tokens. `facilitator` is None where nobody collects; `own` says that it is ours.

    `window_max_s` is how far ahead validBefore may lie: a claim that nobody collects is kept and asked about until then.
    """

    def __init__(
        self,
        tokens: Mapping[TokenKey, Token],
        facilitator: Facilitator | None,
        funds: Funds,
        clock: Clock,
        *,
        own: bool,
        window_max_s: int,
    ) -> None:
        self._tokens, self._facilitator, self._clock, self._own = dict(tokens), facilitator, clock, own
        self._funds, self._window_max_s = funds, window_max_s

    @property
    def serves(self) -> bool:
        """Whether anybody collects authorizations."""
        return self._facilitator is not None

    def document(
        self, paid: Paid, candidates: Sequence[tuple[Price | None, dict[str, Any]]]
    ) -> tuple[Exact, dict[str, Any]] | Rejected:
        """Return the payment and what it is for, or which of the checks of `rails.x402.payment` it fails.

        Version 1 does not name the token: of several the one that was signed for counts.
        """
        now_s = self._clock.now_ms() // 1000
        found: list[tuple[Exact, dict[str, Any]]] = []
        refused = Rejected(Reason.INVALID_REQUIREMENTS, "the payment is for nothing that is asked here")
        for _, entry in candidates:
            exact = read_payment(paid.version, paid.document, entry, self._tokens)
            wrong = exact if isinstance(exact, Rejected) else check_window(exact, now_s, now_s, self._window_max_s)
            if wrong is None and not isinstance(exact, Rejected):
                found.append((exact, entry))
            elif wrong is not None:
                refused = wrong
        if not found:
            return refused
        return next((each for each in found if signs(each[0])), found[0])

    async def payment(self, exact: Exact, entry: Json) -> Rejected | None:
        """Say why a payment could not be collected now, None where it could.

        Raises Problem: facilitator_unavailable where nobody knows, too_many_open_payments where the payer's other
        payments may take what it has. Nothing was sent.
        """
        if self._facilitator is None:
            raise Problem("facilitator_unavailable", "nobody collects such payments now; nothing was taken")
        if not self._own:
            return await self._strangers(exact)
        try:
            judged = await self._facilitator.verify(exact.version, payload_of(exact, entry), entry)
        except FacilitatorUnknown:
            detail = "the chain does not answer; nothing was taken, and the same payment may be sent again"
            raise Problem("facilitator_unavailable", detail) from None
        return judged if isinstance(judged, Rejected) else None

    async def _strangers(self, exact: Exact) -> Rejected | None:
        """Where a stranger collects, it must not be asked before the claim: what we can see alone has to do."""
        terms = exact.authorization
        if not signs(exact):
            message = "it is not signed by the payer's own key, and contract wallets are not served here"
            return Rejected(Reason.SIGNATURE, message, terms.authorizer)
        short = await self._funds.shortage(terms.token, terms.authorizer, terms.nonce, terms.value_base)
        return None if short is None else Rejected(Reason.INSUFFICIENT_BALANCE, short, terms.authorizer)


def signs(exact: Exact) -> bool:
    """Say whether the payer's own key has signed."""
    try:
        return recover_address(exact.authorization.digest, exact.signature) == exact.authorization.authorizer
    except SignatureError:
        return False


def identities(paid: Paid, tokens: Mapping[TokenKey, Token]) -> list[Identity]:
    """Return what a payment may be on chain, read before it is judged: a repeat is answered whatever we would ask now."""
    signed = paid.document.get("payload")
    terms = signed.get("authorization") if isinstance(signed, Mapping) else None
    chosen = paid.document if paid.version == V1 else paid.document.get("accepted")
    if not isinstance(terms, Mapping) or not isinstance(chosen, Mapping):
        return []
    try:
        chain_id = parse_network(chosen.get("network")).chain_id
        payer, nonce = parse_address(terms.get("from")), parse_bytes32(terms.get("nonce"))
        named = [parse_address(chosen.get("asset"))] if paid.version == V2 else None
    except ContractError:
        return []
    ours = [address for chain, address in tokens if chain == chain_id]
    return [(chain_id, address, payer, nonce) for address in (ours if named is None else named)]


def entry_of(exact: Exact, timeout_s: int) -> dict[str, Any]:
    """Return what an authorization that came by MPP pays, as version 2 requirements: any facilitator can be asked with them."""
    terms = exact.authorization
    return {
        "scheme": "exact",
        "network": terms.token.network.caip2,
        "amount": str(terms.value_base),
        "asset": checksum(terms.token.address),
        "payTo": checksum(terms.pay_to),
        "maxTimeoutSeconds": timeout_s,
        "extra": {"name": terms.token.name, "version": terms.token.version},
    }


def payload_of(exact: Exact, entry: Json) -> dict[str, Any]:
    """Return a payment in our own words: what a facilitator is shown, and what is kept, holds no text of a stranger's."""
    terms = exact.authorization
    signed = {
        "signature": to_hex(exact.signature),
        "authorization": {
            "from": checksum(terms.authorizer),
            "to": checksum(terms.pay_to),
            "value": str(terms.value_base),
            "validAfter": str(terms.valid_after),
            "validBefore": str(terms.valid_before),
            "nonce": to_hex(terms.nonce),
        },
    }
    if exact.version == V1:
        return {"x402Version": V1, "scheme": entry["scheme"], "network": entry["network"], "payload": signed}
    return {"x402Version": V2, "accepted": dict(entry), "payload": signed}


def signed_in(document: Json) -> tuple[object, ...] | None:
    """Return what was signed in a payment's document, and the signature, however they are spelled; None for none."""
    payload = document.get("payload")
    terms = payload.get("authorization") if isinstance(payload, Mapping) else None
    if not isinstance(payload, Mapping) or not isinstance(terms, Mapping):
        return None
    try:
        return (
            parse_address(terms.get("from")),
            parse_address(terms.get("to")),
            *(parse_uint(terms.get(name)) for name in ("value", "validAfter", "validBefore")),
            parse_bytes32(terms.get("nonce")),
            normalise_v(parse_hex(payload.get("signature"), SIGNATURE_MAX_BYTES)),
        )
    except ContractError:
        return None

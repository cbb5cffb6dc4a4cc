"""Reads a 402's `WWW-Authenticate: Payment` challenges as offers: MPP charges on Tempo and on EVM chains.

It must not know which offer is wanted, whose realm it should be, or who pays: that is `choose`. Theory: every
challenge stands alone, and one that cannot be read is kept with its reason beside those that can. An amount of zero
is not a cheap offer but another question, who we are, so such challenges never stand among the offers.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final, Literal, cast

from gateway.rails.codes import Problem
from gateway.rails.mpp.header import read_payment_params
from gateway.rails.mpp.request import EntryError, Method, parse_charge
from gateway.rails.mpp.text import is_base64url, parse_rfc3339_ms
from gateway.rails.offer import MppChallenge, MppOffer, RejectedEntry
from gateway.rails.x402.wire import WireError, clean_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multidict import MultiMapping

    from gateway.rails.mpp.header import PaymentParams

__all__ = ["MAX_ID_CHARS", "MAX_OPAQUE_CHARS", "parse_mpp"]

MAX_ID_CHARS: Final = 256
MAX_OPAQUE_CHARS: Final = 8 * 1024
MAX_DIGEST_CHARS: Final = 256
MAX_EXPIRES_CHARS: Final = 64
# A longer description is not repeated: it is outside the challenge's seal, and headers over 8 KB are refused by many.
MAX_DESCRIPTION_ECHO_CHARS: Final = 1_024

_PAYMENT_REQUIRED: Final = 402
_HEADER: Final = "WWW-Authenticate"
_ID = re.compile(rf"[\x21-\x7e]{{1,{MAX_ID_CHARS}}}", re.ASCII)
_REALM = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?", re.ASCII)
_DIGEST = re.compile(rf"[\x21-\x7e]{{1,{MAX_DIGEST_CHARS}}}", re.ASCII)
_METHODS: Final = ("tempo", "evm")
_INTENT: Final = "charge"
_CREDENTIAL_HEADERS: Final[dict[str, Literal["Authorization", "Payment-Authorization"]]] = {
    "authorization": "Authorization",
    "payment-authorization": "Payment-Authorization",
}
# In the order in which SDKs repeat them.
_ECHOED: Final = ("id", "realm", "method", "intent", "request", "expires", "digest", "header", "opaque", "description")


def parse_mpp(status: int, headers: MultiMapping[str]) -> MppChallenge | None:
    """The MPP challenges in an answer, or None when it has none; `headers` must be case-insensitive.

    Raises ChallengeError when the header itself cannot be read; a challenge in it that cannot be read is `rejected`, and
    so is one without `expires`, for SDK sellers refuse its credential.
    The offers in the result are readable, not approved, and may have expired: `choose` judges them.
    """
    if status != _PAYMENT_REQUIRED:
        return None
    found = read_payment_params(headers.getall(_HEADER, ()))
    if not found:
        return None
    offers: list[MppOffer] = []
    proofs: list[MppOffer] = []
    rejected: list[RejectedEntry] = []
    unique = _without_copies(found)
    ids = Counter(params.values.get("id") for _, params in unique)
    for index, params in unique:
        if ids[params.values.get("id")] > 1:  # a receipt, a memo and a nonce would name either
            why = "two challenges have the same id"
            rejected.append(RejectedEntry(index, Problem.OFFER_MALFORMED, why, "id", "mpp"))
            continue
        try:
            offer = _offer(params)
            (proofs if offer.is_proof else offers).append(offer)
        except EntryError as error:
            rejected.append(RejectedEntry(index, error.code, error.why, error.field, "mpp"))
    return MppChallenge(tuple(offers), tuple(proofs), tuple(rejected))


def _without_copies(found: tuple[PaymentParams, ...]) -> list[tuple[int, PaymentParams]]:
    """Each challenge once with its place: proxies repeat field lines."""
    kept: list[tuple[int, PaymentParams]] = []
    for index, params in enumerate(found):
        if all(params != other for _, other in kept):
            kept.append((index, params))
    return kept


def _offer(params: PaymentParams) -> MppOffer:
    if params.repeated:
        raise EntryError(Problem.OFFER_MALFORMED, "the parameter occurs twice", clean_text(params.repeated, 40))
    values = params.values
    method = _method(values)
    challenge_id = _matching(values, "id", _ID)
    realm = _matching(values, "realm", _REALM)
    expires_at_ms = _expires(values)
    charge = parse_charge(method, values.get("request", ""))
    _check_echoed(values)
    return MppOffer(
        rail="mpp",
        method=method,
        chain_id=charge.chain_id,
        asset=charge.asset,
        pay_to=charge.pay_to,
        amount_base=charge.amount_base,
        splits=charge.splits,
        fee_payer=charge.fee_payer,
        modes=charge.modes,
        expires_at_ms=expires_at_ms,
        realm=realm,
        challenge_id=challenge_id,
        header=_credential_header(values),
        memo=charge.memo,
        wire_network=f"tempo:{charge.chain_id}" if method == "tempo" else f"eip155:{charge.chain_id}",
        wire_pay_to=charge.wire_pay_to,
        echo=_echo(values),
    )


def _method(values: Mapping[str, str]) -> Method:
    """The method, when both it and the intent are ones that we serve. A session is never approved as if it were a charge."""
    method, intent = values.get("method", ""), values.get("intent", "")
    if method not in _METHODS:
        why = f"the method is {clean_text(method, 40)!r}"
        raise EntryError(Problem.UNSUPPORTED_PAYMENT_METHOD, why, "method")
    if intent != _INTENT:
        why = f"{method} asks for the intent {clean_text(intent, 40)!r}, and only charges are paid"
        raise EntryError(Problem.UNSUPPORTED_PAYMENT_INTENT, why, "intent")
    return cast("Method", method)


def _matching(values: Mapping[str, str], name: str, grammar: re.Pattern[str]) -> str:
    value = values.get(name, "")
    if grammar.fullmatch(value) is None:
        raise EntryError(Problem.OFFER_MALFORMED, f"{name} is missing or malformed", name)
    return value


def _expires(values: Mapping[str, str]) -> int:
    text = values.get("expires")
    if text is None:
        raise EntryError(Problem.TIMEOUT_MALFORMED, "the challenge names no end", "expires")
    try:
        return parse_rfc3339_ms(text[: MAX_EXPIRES_CHARS + 1])
    except WireError as error:
        raise EntryError(Problem.TIMEOUT_MALFORMED, f"{error}: {clean_text(text, 40)}", "expires") from error


def _check_echoed(values: Mapping[str, str]) -> None:
    """What only the server reads goes back to it in a header of ours, so it must be what it may be, and bounded."""
    if "digest" in values:
        _matching(values, "digest", _DIGEST)
    opaque = values.get("opaque")
    if opaque is not None and (len(opaque) > MAX_OPAQUE_CHARS or not is_base64url(opaque)):
        why = f"not base64url of at most {MAX_OPAQUE_CHARS} characters"
        raise EntryError(Problem.OFFER_MALFORMED, why, "opaque")


def _credential_header(values: Mapping[str, str]) -> Literal["Authorization", "Payment-Authorization"]:
    """The request header for the credential. A server must not choose any: it would put our text into Host or Cookie."""
    name = values.get("header", "Authorization")
    header = _CREDENTIAL_HEADERS.get(name.lower())
    if header is None:
        raise EntryError(Problem.OFFER_MALFORMED, f"a credential does not go into {clean_text(name, 40)!r}", "header")
    return header


def _echo(values: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, values[name])
        for name in _ECHOED
        if name in values and (name != "description" or len(values[name]) <= MAX_DESCRIPTION_ECHO_CHARS)
    )

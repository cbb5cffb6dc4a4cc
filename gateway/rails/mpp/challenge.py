"""Reads a 402's `WWW-Authenticate: Payment` challenges as offers (mpp.md 3.1, 4.1, 5 and 6).

It must not know which offer is wanted, whose realm it should be, or who pays: that is `choose`. Theory: every
challenge stands alone, and one that cannot be read is kept with its reason beside those that can. An amount of zero
is not a cheap offer but another question, who we are, so such challenges never stand among the offers.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from typing import TYPE_CHECKING, Final, Literal, cast

from gateway.rails.mpp.header import read_payment_params
from gateway.rails.mpp.request import EntryError, Method, parse_charge
from gateway.rails.mpp.text import is_base64url, parse_rfc3339_ms
from gateway.rails.offer import MppChallenge, MppOffer, RejectedEntry
from gateway.rails.problems import Problem
from gateway.rails.x402.wire import WireError, clean_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multidict import MultiMapping

    from gateway.rails.mpp.header import PaymentParams

__all__ = ["MAX_ID_CHARS", "MAX_OPAQUE_CHARS", "NO_EXPIRY_TIMEOUT_S", "parse_mpp"]

MAX_ID_CHARS: Final = 256
MAX_OPAQUE_CHARS: Final = 8 * 1024
MAX_DIGEST_CHARS: Final = 256
MAX_EXPIRES_CHARS: Final = 64
MAX_DESCRIPTION_CHARS: Final = 300
# A longer description is not repeated: it is outside the challenge's seal, and headers over 8 KB are refused by many.
MAX_DESCRIPTION_ECHO_CHARS: Final = 1_024
# What the SDKs give a challenge, for one that names no end and is taken all the same.
NO_EXPIRY_TIMEOUT_S: Final = 300

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


def parse_mpp(
    status: int,
    headers: MultiMapping[str],
    now_ms: int,
    *,
    pinned_chain_id: int | None = None,
    require_expires: bool = True,
) -> MppChallenge | None:
    """The MPP challenges in an answer, or None when it has none; `headers` must be case-insensitive.

    `pinned_chain_id` stands for a chain that a challenge does not name, and refuses one that it names otherwise. A
    challenge without `expires` is rejected, for SDK sellers refuse its credential, unless `require_expires` is False.
    Raises ChallengeError when the header itself cannot be read; a challenge in it that cannot be read is `rejected`.
    The offers in the result are readable, not approved, and may have expired: `choose` judges them.
    """
    if status != _PAYMENT_REQUIRED:
        return None
    lines = headers.getall(_HEADER, ())
    found = read_payment_params(lines)
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
            offer = _offer(index, params, now_ms, pinned_chain_id, require_expires=require_expires)
            (proofs if offer.is_proof else offers).append(offer)
        except EntryError as error:
            rejected.append(RejectedEntry(index, error.code, error.why, error.field, "mpp"))
    digest = hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).digest()
    return MppChallenge(tuple(offers), tuple(proofs), tuple(rejected), digest)


def _without_copies(found: tuple[PaymentParams, ...]) -> list[tuple[int, PaymentParams]]:
    """Each challenge once with its place: proxies repeat field lines."""
    kept: list[tuple[int, PaymentParams]] = []
    for index, params in enumerate(found):
        if all(params != other for _, other in kept):
            kept.append((index, params))
    return kept


def _offer(
    index: int, params: PaymentParams, now_ms: int, pinned_chain_id: int | None, *, require_expires: bool
) -> MppOffer:
    if params.repeated:
        raise EntryError(Problem.OFFER_MALFORMED, "the parameter occurs twice", clean_text(params.repeated, 40))
    values = params.values
    method = _method(values)
    challenge_id = _matching(values, "id", _ID)
    realm = _matching(values, "realm", _REALM)
    expires_at_ms = _expires(values, required=require_expires)
    charge = parse_charge(method, values.get("request", ""), pinned_chain_id)
    return MppOffer(
        rail="mpp",
        method=method,
        intent=_INTENT,
        chain_id=charge.chain_id,
        asset=charge.asset,
        pay_to=charge.pay_to,
        amount_base=charge.amount_base,
        splits=charge.splits,
        fee_payer=charge.fee_payer,
        modes=charge.modes,
        expires_at_ms=expires_at_ms,
        max_timeout_s=NO_EXPIRY_TIMEOUT_S if expires_at_ms is None else max(0, (expires_at_ms - now_ms) // 1000),
        realm=realm,
        challenge_id=challenge_id,
        request_b64=values["request"],
        digest=_matching(values, "digest", _DIGEST) if "digest" in values else None,
        opaque=_opaque(values),
        header=_credential_header(values),
        memo=charge.memo,
        description=clean_text(values.get("description"), MAX_DESCRIPTION_CHARS) or charge.description,
        external_id=charge.external_id,
        wire_network=f"tempo:{charge.chain_id}" if method == "tempo" else f"eip155:{charge.chain_id}",
        wire_pay_to=charge.wire_pay_to,
        echo=_echo(values),
        raw_index=index,
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


def _expires(values: Mapping[str, str], *, required: bool) -> int | None:
    text = values.get("expires")
    if text is None:
        if required:
            raise EntryError(Problem.TIMEOUT_MALFORMED, "the challenge names no end", "expires")
        return None
    try:
        return parse_rfc3339_ms(text[: MAX_EXPIRES_CHARS + 1])
    except WireError as error:
        raise EntryError(Problem.TIMEOUT_MALFORMED, f"{error}: {clean_text(text, 40)}", "expires") from error


def _opaque(values: Mapping[str, str]) -> str | None:
    opaque = values.get("opaque")
    if opaque is not None and (len(opaque) > MAX_OPAQUE_CHARS or not is_base64url(opaque)):
        why = f"not base64url of at most {MAX_OPAQUE_CHARS} characters"
        raise EntryError(Problem.OFFER_MALFORMED, why, "opaque")
    return opaque


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

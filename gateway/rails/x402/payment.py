"""Reads one x402 `exact` payment and what it is to pay, as facilitator and seller must.

It must not ask a chain, a store or a clock, nor know who asks. Theory: every lenient reading (`int(" 10 ")`, a domain taken
from the payload, `>=` for `==`) is a payment that one side takes and the other does not; so each field has one spelling,
the checks go from cheap to dear in the order that the specification names them, and the first that fails is the answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from contracts.calls import SIGNATURE_MAX_BYTES
from contracts.codec import ZERO_ADDRESS, CodecError, parse_address, parse_bytes32, parse_hex, parse_uint
from contracts.eip3009 import Authorization, AuthorizationError
from contracts.networks import NetworkError, parse_network
from contracts.signature import normalise_v
from gateway.paid_ports import Exact, Rejected
from gateway.rails.x402.entry import MAX_TIMEOUT_S
from gateway.rails.x402.reasons import Reason
from gateway.rails.x402.wire import clean_text

if TYPE_CHECKING:
    from contracts.codec import Address
    from contracts.tokens import Token, TokenKey

__all__ = ["MARGIN_S", "MAX_AMOUNT_BASE", "MAX_TIME_S", "check_window", "payer_of", "read_payment"]

MARGIN_S: Final = 6  # validBefore this near is too late: the next block may be
MAX_AMOUNT_BASE: Final = 10**15  # what the book can hold
MAX_TIME_S: Final = 253_402_300_799  # the end of the year 9999
MAX_EXTRA_CHARS: Final = 4_096
MAX_SHOWN: Final = 60

_V1: Final = 1
_V2: Final = 2
_SCHEME: Final = "exact"
_METHOD: Final = "eip3009"
_OTHER_KINDS: Final = frozenset({"permit2Authorization", "delegationManager", "permissionContext", "transaction"})
"""Members of payloads of other transfer methods (Permit2, ERC-7710, signed transactions)."""

_Object = Mapping[str, Any]


class _Refusal(Exception):  # noqa: N818 - never leaves this module
    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


def read_payment(
    version: object, payload: object, requirements: object, tokens: Mapping[TokenKey, Token]
) -> Exact | Rejected:
    """Return the payment, or the first of checks 1 to 9 that it fails: all that does not depend on the time."""
    try:
        return _read(version, payload, requirements, tokens)
    except _Refusal as refusal:
        return Rejected(refusal.reason, refusal.message, payer_of(payload))


def check_window(exact: Exact, earliest_s: int, latest_s: int, window_max_s: int = 0) -> Rejected | None:
    """Check 10: the payment can be collected now and for MARGIN_S more; the token's bounds are exclusive.

    `earliest_s` and `latest_s` are what the time may be: the lesser and the greater of the wall clock and the head's time.
    """
    terms = exact.authorization
    reason, message = Reason.VALID_BEFORE, ""
    if terms.valid_before < latest_s + MARGIN_S:
        message = "validBefore has passed, or is about to"
    elif window_max_s and terms.valid_before > latest_s + window_max_s:
        message = f"validBefore lies more than {window_max_s} seconds ahead"
    elif terms.valid_after >= earliest_s:
        reason, message = Reason.VALID_AFTER, "validAfter has not passed yet"
    return Rejected(reason, message, terms.authorizer) if message else None


def payer_of(payload: object) -> Address | None:
    """Return whom a payload names as payer, where it can be read; who signed it is another question."""
    for member in ("payload", "authorization"):
        payload = payload.get(member) if isinstance(payload, Mapping) else None
    if not isinstance(payload, Mapping):
        return None
    try:
        return parse_address(payload.get("from"))
    except CodecError:
        return None


def _read(version: object, payload: object, requirements: object, tokens: Mapping[TokenKey, Token]) -> Exact:
    own, sent = _versioned(version, payload)
    asked = _object(requirements, "paymentRequirements", Reason.INVALID_REQUIREMENTS)
    chosen = sent if own == _V1 else _object(sent.get("accepted"), "accepted", Reason.INVALID_PAYLOAD)
    signed = _object(sent.get("payload"), "payload", Reason.INVALID_PAYLOAD)
    _check_scheme(chosen, asked, signed)
    network = _network(own, chosen, asked, tokens)
    token = _token(network, asked, tokens)
    extra = _extra(own, asked)
    _check_method(extra)
    _check_domain(extra, token)
    words = _Words(signed)
    amount_base, pay_to = _price(own, asked)
    if own == _V2:
        _check_accepted(chosen, amount_base, token.address, pay_to)
    if words.to != pay_to:
        raise _Refusal(Reason.RECIPIENT_MISMATCH, "the authorization pays another than payTo")
    if words.value_base != amount_base:
        raise _Refusal(Reason.VALUE_MISMATCH, f"the authorization is over another amount than {amount_base}")
    return Exact(own, network, words.authorization(token), words.signature)


# 1: shape and version


def _versioned(version: object, payload: object) -> tuple[int, _Object]:
    # `True == 1` and `1.0 == 1`: the type decides first.
    if type(version) is not int or version not in (_V1, _V2):
        raise _Refusal(Reason.INVALID_VERSION, "x402Version must be 1 or 2")
    sent = _object(payload, "paymentPayload", Reason.INVALID_PAYLOAD)
    own = sent.get("x402Version")
    if type(own) is not int or own != version:
        raise _Refusal(Reason.INVALID_VERSION, f"paymentPayload.x402Version must be {version} as well")
    return version, sent


def _object(value: object, field: str, reason: Reason) -> _Object:
    if not isinstance(value, Mapping):
        raise _Refusal(reason, f"{field} must be an object")
    return value


def _text(members: _Object, field: str, reason: Reason) -> str:
    value = members.get(field)
    if not isinstance(value, str):
        raise _Refusal(reason, f"{field} must be text")
    return value


# 2: scheme, and the kind of payload


def _check_scheme(chosen: _Object, asked: _Object, signed: _Object) -> None:
    sides = (_text(chosen, "scheme", Reason.INVALID_PAYLOAD), _text(asked, "scheme", Reason.INVALID_REQUIREMENTS))
    for scheme in sides:
        if scheme != _SCHEME:
            raise _Refusal(Reason.UNSUPPORTED_SCHEME, f"only exact is served, not {clean_text(scheme, MAX_SHOWN)!r}")
    if "authorization" not in signed and not _OTHER_KINDS.isdisjoint(signed):
        raise _Refusal(Reason.UNSUPPORTED_PAYLOAD, "only EIP-3009 authorizations are served")


def _check_method(extra: _Object) -> None:
    method = extra.get("assetTransferMethod")
    if method is not None and method != _METHOD:
        raise _Refusal(Reason.UNSUPPORTED_PAYLOAD, "only EIP-3009 authorizations are served")


# 3 and 4: network and asset


def _network(own: int, chosen: _Object, asked: _Object, tokens: Mapping[TokenKey, Token]) -> str:
    """Return the network's name in the caller's spelling. One that no token is on is refused before anybody asks a chain."""
    name = _text(asked, "network", Reason.INVALID_REQUIREMENTS)
    served = {chain_id for chain_id, _ in tokens}
    try:
        known = parse_network(name).chain_id in served and (own == _V1 or ":" in name)
    except NetworkError:
        known = False
    if not known:
        raise _Refusal(Reason.INVALID_NETWORK, f"the network {clean_text(name, MAX_SHOWN)!r} is not served")
    if _text(chosen, "network", Reason.INVALID_PAYLOAD) != name:
        raise _Refusal(Reason.NETWORK_MISMATCH, f"the payment is not for {name}")
    return name


def _token(network: str, asked: _Object, tokens: Mapping[TokenKey, Token]) -> Token:
    address = _requirement_address(asked, "asset")
    token = tokens.get((parse_network(network).chain_id, address))
    if token is None:
        raise _Refusal(Reason.INVALID_REQUIREMENTS, "the asset is not served")
    return token


def _requirement_address(members: _Object, field: str) -> Address:
    try:
        return parse_address(members.get(field), field)
    except CodecError as error:
        raise _Refusal(Reason.INVALID_REQUIREMENTS, str(error)) from None


# 5: the token's signing domain


def _extra(own: int, asked: _Object) -> _Object:
    """Return `extra`; version 1 may hold it as JSON text."""
    extra = asked.get("extra")
    if own == _V1 and isinstance(extra, str) and len(extra) <= MAX_EXTRA_CHARS:
        try:
            extra = json.loads(extra)
        except (ValueError, RecursionError):
            extra = None
    if not isinstance(extra, Mapping):
        raise _Refusal(Reason.MISSING_DOMAIN, "extra must be an object with the token's name and version")
    return extra


def _check_domain(extra: _Object, token: Token) -> None:
    """The domain that is signed under is the token's own; what the requirements say of it may only agree."""
    name, version = extra.get("name"), extra.get("version")
    if not isinstance(name, str) or not isinstance(version, str):
        raise _Refusal(Reason.MISSING_DOMAIN, "extra.name and extra.version must be text")
    if name != token.name:
        raise _Refusal(Reason.NAME_MISMATCH, f"extra.name must be {token.name!r}")
    if version != token.version:
        raise _Refusal(Reason.VERSION_MISMATCH, f"extra.version must be {token.version!r}")


# 6: what was signed, and what is asked


class _Words:
    """The fields of the authorization and its signature, strictly read."""

    def __init__(self, signed: _Object) -> None:
        fields = _object(signed.get("authorization"), "payload.authorization", Reason.INVALID_PAYLOAD)
        try:
            self.authorizer = parse_address(fields.get("from"), "authorization.from")
            self.to = parse_address(fields.get("to"), "authorization.to")
            self.value_base = parse_uint(fields.get("value"), field="authorization.value")
            self.valid_after = parse_uint(fields.get("validAfter"), field="authorization.validAfter")
            self.valid_before = parse_uint(fields.get("validBefore"), field="authorization.validBefore")
            self.nonce = parse_bytes32(fields.get("nonce"), "authorization.nonce")
            signature = parse_hex(signed.get("signature"), SIGNATURE_MAX_BYTES, "signature")
        except CodecError as error:
            raise _Refusal(Reason.INVALID_PAYLOAD, str(error)) from None
        self.signature = normalise_v(signature)

    def authorization(self, token: Token) -> Authorization:
        """Return it as the token would see it."""
        if self.valid_before > MAX_TIME_S:
            raise _Refusal(Reason.VALID_BEFORE, "validBefore is no time that will come")
        if self.valid_after > MAX_TIME_S:
            raise _Refusal(Reason.VALID_AFTER, "validAfter is no time that will come")
        try:
            return Authorization(
                token, self.authorizer, self.to, self.value_base, self.valid_after, self.valid_before, self.nonce
            )
        except AuthorizationError as error:
            raise _Refusal(Reason.VALID_BEFORE, str(error)) from None


def _price(own: int, asked: _Object) -> tuple[int, Address]:
    """Return amount and payee. A requirement that states two amounts is one that two readers read in two ways."""
    field, other = ("maxAmountRequired", "amount") if own == _V1 else ("amount", "maxAmountRequired")
    if other in asked and asked[other] is not None and asked[other] != asked.get(field):
        raise _Refusal(Reason.INVALID_REQUIREMENTS, f"{field} and {other} differ")
    try:
        amount_base = parse_uint(asked.get(field), field=field)
    except CodecError as error:
        raise _Refusal(Reason.INVALID_REQUIREMENTS, str(error)) from None
    if not 0 < amount_base <= MAX_AMOUNT_BASE:
        raise _Refusal(Reason.INVALID_REQUIREMENTS, f"{field} must lie between 1 and {MAX_AMOUNT_BASE}")
    pay_to = _requirement_address(asked, "payTo")
    if pay_to == ZERO_ADDRESS:
        raise _Refusal(Reason.INVALID_REQUIREMENTS, "payTo is the zero address")
    timeout_s = asked.get("maxTimeoutSeconds")
    if type(timeout_s) is not int or not 0 < timeout_s <= MAX_TIMEOUT_S:
        raise _Refusal(Reason.INVALID_REQUIREMENTS, "maxTimeoutSeconds must be a positive integer")
    return amount_base, pay_to


# 7: version 2 repeats what it pays for


def _check_accepted(accepted: _Object, amount_base: int, asset: Address, pay_to: Address) -> None:
    """A payment for one offer must not stand for another that differs only in what this seller asks now."""
    try:
        amount = parse_uint(accepted.get("amount"), field="accepted.amount")
        address = parse_address(accepted.get("asset"), "accepted.asset")
        payee = parse_address(accepted.get("payTo"), "accepted.payTo")
    except CodecError as error:
        raise _Refusal(Reason.INVALID_PAYLOAD, str(error)) from None
    found = (("amount", amount, amount_base), ("asset", address, asset), ("payTo", payee, pay_to))
    for field, offered, wanted in found:
        if offered != wanted:
            raise _Refusal(Reason.INVALID_REQUIREMENTS, f"accepted.{field} is not that of the requirements")

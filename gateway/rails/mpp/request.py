"""The `request` of one MPP charge, as what it would have us pay.

It must not know realms, expiry or what is allowed, only what can be read without doubt. Theory: as for an x402 entry,
a field is taken when it has the one type and the one spelling that the specification gives it; a field that would
change what has to be signed and that we do not serve refuses the offer, and never goes by unseen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from contracts.codec import ZERO_ADDRESS, Address, CodecError, parse_address, parse_bytes32, parse_uint
from contracts.networks import CHAIN_ID_BITS
from gateway.rails.codes import Problem
from gateway.rails.mpp.text import decode_base64url, load_request
from gateway.rails.offer import Split
from gateway.rails.x402.wire import WireError, clean_text

__all__ = ["MAX_REQUEST_CHARS", "MAX_SPLITS", "ChargeRequest", "EntryError", "Method", "parse_charge"]

Method = Literal["tempo", "evm"]

MAX_REQUEST_CHARS: Final = 16 * 1024
MAX_SPLITS: Final = 10
MAX_MODES: Final = 8
MAX_CREDENTIAL_TYPES: Final = 16
DECIMALS: Final = 6

_MODES: Final = ("pull", "push")
_AUTHORIZATION: Final = "authorization"


class EntryError(ValueError):
    """Why one challenge is no offer."""

    def __init__(self, code: Problem, why: str, field: str) -> None:
        super().__init__(f"{code}: {why}")
        self.code = code
        self.why = why
        self.field = field


@dataclass(frozen=True, slots=True)
class ChargeRequest:
    """The readable part of a request; see `MppOffer` for what each field means."""

    chain_id: int
    asset: Address
    pay_to: Address
    wire_pay_to: str
    amount_base: int
    splits: tuple[Split, ...]
    fee_payer: bool
    modes: tuple[str, ...]
    memo: bytes | None


def parse_charge(method: Method, request_b64: str) -> ChargeRequest:
    """The charge in a challenge's `request`. Raises EntryError with the request's own field name."""
    document = _decode(request_b64)
    details = _details(document)
    amount_base = _amount(document.get("amount"), "amount")
    if amount_base == 0 and method != "tempo":
        raise EntryError(Problem.AMOUNT_MALFORMED, f"{method} knows no proof of identity: the amount is zero", "amount")
    asset, pay_to, wire_pay_to = _parties(document, amount_base)
    splits = _splits(method, details, amount_base, asset)
    fee_payer = _flag(details, "feePayer")
    if method == "evm":
        _require_authorization(details)
    modes = _modes(details) if method == "tempo" and amount_base else ()
    if fee_payer and modes == ("push",):
        why = "a fee payer cannot sign what we send ourselves"
        raise EntryError(Problem.UNSUPPORTED_TRANSFER, why, "methodDetails.supportedModes")
    return ChargeRequest(
        chain_id=_chain(details),
        asset=asset,
        pay_to=pay_to,
        wire_pay_to=wire_pay_to,
        amount_base=amount_base,
        splits=splits,
        fee_payer=fee_payer,
        modes=modes,
        memo=_memo(details, "methodDetails.memo"),
    )


def _decode(request_b64: str) -> dict[str, Any]:
    if len(request_b64) > MAX_REQUEST_CHARS:
        raise EntryError(Problem.OFFER_OVERSIZED, f"the request is over {MAX_REQUEST_CHARS} characters", "request")
    try:
        return load_request(decode_base64url(request_b64))
    except WireError as error:
        raise EntryError(Problem.OFFER_MALFORMED, str(error), "request") from error


def _details(document: dict[str, Any]) -> dict[str, Any]:
    details = document.get("methodDetails")
    if details is None:
        return {}
    if not isinstance(details, dict):
        raise EntryError(Problem.OFFER_MALFORMED, "not an object", "methodDetails")
    return details


def _parties(document: dict[str, Any], amount_base: int) -> tuple[Address, Address, str]:
    """Token and payee. A proof moves nothing, so it need not name them; what it does name must still be readable."""
    asset = pay_to = ZERO_ADDRESS
    wire_pay_to = ""
    if amount_base or document.get("currency") is not None:
        asset = _address(document.get("currency"), "currency")
    if amount_base or document.get("recipient") is not None:
        pay_to = _address(document.get("recipient"), "recipient")
        wire_pay_to = document["recipient"]
    if amount_base and pay_to == asset:
        # Tokens sent to their own contract are lost to everybody.
        raise EntryError(Problem.ADDRESS_MALFORMED, "the recipient is the token itself", "recipient")
    return asset, pay_to, wire_pay_to


def _amount(value: object, field: str) -> int:
    try:
        return parse_uint(value, field=field)
    except CodecError as error:
        raise EntryError(Problem.AMOUNT_MALFORMED, f"{error}: {clean_text(value, 90)}", field) from error


def _address(value: object, field: str) -> Address:
    try:
        address = parse_address(value, field)
    except CodecError as error:
        raise EntryError(Problem.ADDRESS_MALFORMED, str(error), field) from error
    if address == ZERO_ADDRESS:
        raise EntryError(Problem.ADDRESS_MALFORMED, f"{field} is the zero address", field)
    return address


def _chain(details: dict[str, Any]) -> int:
    """The chain id. The drafts disagree on a default, so there is none."""
    value = details.get("chainId")
    if value is None:
        raise EntryError(Problem.UNKNOWN_NETWORK, "the challenge names no chain", "methodDetails.chainId")
    if type(value) is not int or not 0 < value < 1 << CHAIN_ID_BITS:
        raise EntryError(Problem.UNKNOWN_NETWORK, f"not a chain id: {clean_text(value, 40)}", "methodDetails.chainId")
    return value


def _splits(method: Method, details: dict[str, Any], amount_base: int, asset: Address) -> tuple[Split, ...]:
    """The splits: 1 to 10, each above zero, together below the amount, so that the payee gets something too."""
    field = "methodDetails.splits"
    entries = details.get("splits")
    if entries is None:
        return ()
    if method != "tempo":
        raise EntryError(Problem.UNSUPPORTED_TRANSFER, "one authorization pays one payee: no splits", field)
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_SPLITS:
        raise EntryError(Problem.OFFER_MALFORMED, f"not a list of 1 to {MAX_SPLITS}", field)
    splits = tuple(_split(entry, f"{field}[{index}]", asset) for index, entry in enumerate(entries))
    total_base = sum(split.amount_base for split in splits)
    if total_base >= amount_base:
        raise EntryError(Problem.AMOUNT_MALFORMED, f"the splits take {total_base} of {amount_base}", field)
    return splits


def _split(entry: object, field: str, asset: Address) -> Split:
    if not isinstance(entry, dict):
        raise EntryError(Problem.OFFER_MALFORMED, "not an object", field)
    pay_to = _address(entry.get("recipient"), f"{field}.recipient")
    if pay_to == asset:
        raise EntryError(Problem.ADDRESS_MALFORMED, "the recipient is the token itself", f"{field}.recipient")
    amount_base = _amount(entry.get("amount"), f"{field}.amount")
    if amount_base == 0:
        raise EntryError(Problem.AMOUNT_MALFORMED, "a split of zero", f"{field}.amount")
    return Split(pay_to, amount_base, _memo(entry, f"{field}.memo"), entry["recipient"])


def _memo(holder: dict[str, Any], field: str) -> bytes | None:
    value = holder.get("memo")
    if value is None:
        return None
    try:
        return parse_bytes32(value, field)
    except CodecError as error:
        raise EntryError(Problem.OFFER_MALFORMED, str(error), field) from error


def _flag(details: dict[str, Any], name: str) -> bool:
    value = details.get(name)
    if value is not None and not isinstance(value, bool):
        raise EntryError(Problem.OFFER_MALFORMED, "neither true nor false", f"methodDetails.{name}")
    return bool(value)


def _modes(details: dict[str, Any]) -> tuple[str, ...]:
    """The ways of collecting that we know of those that the server takes; () where it names none."""
    field = "methodDetails.supportedModes"
    if details.get("supportedModes") is None:
        return ()
    values = _texts(details["supportedModes"], field, MAX_MODES)
    modes = tuple(mode for mode in _MODES if mode in values)
    if not modes:
        raise EntryError(Problem.UNSUPPORTED_TRANSFER, f"the modes are {clean_text(values, 80)}", field)
    return modes


def _require_authorization(details: dict[str, Any]) -> None:
    field = "methodDetails.credentialTypes"
    values = _texts(details.get("credentialTypes"), field, MAX_CREDENTIAL_TYPES)
    if _AUTHORIZATION not in values:
        raise EntryError(Problem.UNSUPPORTED_TRANSFER, f"the credential types are {clean_text(values, 80)}", field)
    decimals = details.get("decimals")
    if decimals is not None and (type(decimals) is not int or decimals != DECIMALS):
        why = f"the amount has {clean_text(decimals, 20)} decimals, the token {DECIMALS}"
        raise EntryError(Problem.AMOUNT_MALFORMED, why, "methodDetails.decimals")


def _texts(value: object, field: str, limit: int) -> list[str]:
    if not isinstance(value, list) or not 1 <= len(value) <= limit or not all(isinstance(item, str) for item in value):
        raise EntryError(Problem.OFFER_MALFORMED, f"not a list of 1 to {limit} texts", field)
    return value

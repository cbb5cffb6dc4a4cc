"""One entry of `accepts`, as an offer: of version 1 or of version 2.

It must not know what is allowed, only what can be read without doubt. Theory: a field is taken when it has the one
type and the one spelling that the specification gives it; money is a decimal string, and whatever Python's `int()`
would also take (signs, spaces, `1_0`, full-width digits) is an attack or a bug, both unpaid.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from contracts.codec import ZERO_ADDRESS, Address, CodecError, parse_address, parse_uint
from contracts.networks import NetworkError, parse_network
from gateway.rails.codes import Problem
from gateway.rails.offer import Offer
from gateway.rails.x402.wire import clean_text, compact_json

__all__ = ["MAX_ACCEPTED_CHARS", "MAX_TIMEOUT_S", "EntryError", "parse_entry"]

# A v2 entry travels back in a request header, beside everything else that does.
MAX_ACCEPTED_CHARS: Final = 8 * 1024
MAX_TIMEOUT_S: Final = 366 * 24 * 3600

_V1: Final = 1
_V2: Final = 2
_SCHEME: Final = "exact"
# `paymentFlow` names who moves first; both leave us one EIP-3009 authorization to sign. `escrow` does not.
_FLOWS: Final = ("authorization", "upfront")


class EntryError(ValueError):
    """Why one entry is no offer."""

    def __init__(self, code: Problem, why: str, field: str) -> None:
        super().__init__(f"{code}: {why}")
        self.code = code
        self.why = why
        self.field = field


def parse_entry(version: Literal[1, 2], entry: object) -> Offer:
    """The offer in `entry`, whatever challenge it stands in. Raises EntryError."""
    if not isinstance(entry, dict):
        raise EntryError(Problem.OFFER_MALFORMED, "not an object", "accepts")
    scheme = _text(entry, "scheme")
    if scheme != _SCHEME:
        raise EntryError(Problem.UNSUPPORTED_SCHEME, f"the scheme is {clean_text(scheme, 40)!r}", "scheme")
    wire_network = _text(entry, "network")
    try:
        chain_id = parse_network(wire_network).chain_id
    except NetworkError as error:
        why = f"the network is {clean_text(wire_network, 60)!r}"
        raise EntryError(Problem.UNKNOWN_NETWORK, why, "network") from error
    _check_extra(entry)
    asset = _address(entry, "asset")
    pay_to = _address(entry, "payTo")
    if pay_to == asset:
        # Tokens sent to their own contract are lost to everybody.
        raise EntryError(Problem.ADDRESS_MALFORMED, "payTo is the token itself", "payTo")
    return Offer(
        rail="x402",
        version=version,
        scheme=scheme,
        chain_id=chain_id,
        asset=asset,
        pay_to=pay_to,
        amount_base=_amount(version, entry),
        max_timeout_s=_timeout(entry),
        wire_network=wire_network,
        wire_pay_to=entry["payTo"],
        accepted_json=_echo(entry) if version == _V2 else "",
    )


def _text(entry: dict[str, Any], field: str) -> str:
    value = entry.get(field)
    if not isinstance(value, str):
        raise EntryError(Problem.OFFER_MALFORMED, f"{field} is not a string", field)
    return value


def _amount(version: Literal[1, 2], entry: dict[str, Any]) -> int:
    """The price in base units. Some v1 servers send both fields; they must then say the same."""
    own, other = ("maxAmountRequired", "amount") if version == _V1 else ("amount", "maxAmountRequired")
    present = [field for field in (own, other) if entry.get(field) is not None]
    if not present:
        raise EntryError(Problem.AMOUNT_MALFORMED, f"{own} is missing", own)
    amounts = [_decimal(field, entry[field]) for field in present]
    if amounts[0] != amounts[-1]:
        raise EntryError(Problem.AMOUNT_FIELDS_DIFFER, f"{own} is {amounts[0]}, {other} is {amounts[-1]}", own)
    return amounts[0]


def _decimal(field: str, value: object) -> int:
    try:
        amount = parse_uint(value, field=field)
    except CodecError as error:
        raise EntryError(Problem.AMOUNT_MALFORMED, f"{error}: {clean_text(value, 90)}", field) from error
    if amount == 0:
        raise EntryError(Problem.AMOUNT_MALFORMED, f"{field} is zero", field)
    return amount


def _address(entry: dict[str, Any], field: str) -> Address:
    try:
        address = parse_address(entry.get(field), field)
    except CodecError as error:
        raise EntryError(Problem.ADDRESS_MALFORMED, str(error), field) from error
    if address == ZERO_ADDRESS:
        raise EntryError(Problem.ADDRESS_MALFORMED, f"{field} is the zero address", field)
    return address


def _timeout(entry: dict[str, Any]) -> int:
    value = entry.get("maxTimeoutSeconds")
    if type(value) is not int or not 0 < value <= MAX_TIMEOUT_S:
        why = f"not an integer from 1 to {MAX_TIMEOUT_S}: {clean_text(value, 40)}"
        raise EntryError(Problem.TIMEOUT_MALFORMED, why, "maxTimeoutSeconds")
    return value


def _check_extra(entry: dict[str, Any]) -> None:
    """`extra` is all hints, but for the two keys that would change what has to be signed."""
    extra = entry.get("extra")
    if not isinstance(extra, dict):
        return
    method = extra.get("assetTransferMethod")
    if method is not None and method != "eip3009":
        raise EntryError(
            Problem.UNSUPPORTED_TRANSFER, f"the transfer method is {clean_text(method, 40)!r}", "assetTransferMethod"
        )
    flow = extra.get("paymentFlow")
    if flow is not None and flow not in _FLOWS:
        raise EntryError(Problem.UNSUPPORTED_TRANSFER, f"the payment flow is {clean_text(flow, 40)!r}", "paymentFlow")


def _echo(entry: dict[str, Any]) -> str:
    echo = compact_json(entry)
    if len(echo) > MAX_ACCEPTED_CHARS:
        raise EntryError(Problem.OFFER_OVERSIZED, f"the entry is over {MAX_ACCEPTED_CHARS} characters", "accepts")
    return echo

"""Payments that must be refused before anybody is asked to collect them: one kind a function, each with its reason code."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eth_account import Account

from tests.unit.gateway.facilitator.payments_bed import DOMAIN, OTHER, Draft, Sent

if TYPE_CHECKING:
    from collections.abc import Callable

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
MAGIC = bytes.fromhex("6492") * 16
BOTH = (1, 2)


@dataclass(frozen=True)
class Kind:
    """A way to be wrong: what is changed before signing, what after it, and what is said of it."""

    name: str
    reason: str
    after: Callable[[Sent], None] = lambda _: None
    before: Callable[[Draft], Draft] = lambda draft: draft
    versions: tuple[int, ...] = BOTH


def _set(where: Callable[[Sent], Any], name: str, value: Any) -> Callable[[Sent], None]:
    def change(sent: Sent) -> None:
        where(sent)[name] = value

    return change


def _drop(where: Callable[[Sent], Any], name: str) -> Callable[[Sent], None]:
    return lambda sent: where(sent).pop(name)


def _attr(name: str, value: Any) -> Callable[[Sent], None]:
    return lambda sent: setattr(sent, name, value)


def _asked(sent: Sent) -> Any:
    return sent.requirements


def _payload(sent: Sent) -> Any:
    return sent.payload


def _signed(sent: Sent) -> Any:
    return sent.payload["payload"]


def _terms(sent: Sent) -> Any:
    return sent.authorization


def _chosen(sent: Sent) -> Any:
    return sent.chosen


def _extra(sent: Sent) -> Any:
    return sent.requirements["extra"]


def _resigned(change: Callable[[bytes], bytes]) -> Callable[[Sent], None]:
    def apply(sent: Sent) -> None:
        sent.signature = change(sent.signature)

    return apply


def _high_s(signature: bytes) -> bytes:
    s = ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes((55 - signature[64],))


def _compact(signature: bytes) -> bytes:
    """ERC-2098: v in the top bit of s."""
    s = int.from_bytes(signature[32:64], "big") | (signature[64] - 27) << 255
    return signature[:32] + s.to_bytes(32, "big")


def _permit2(sent: Sent) -> None:
    sent.payload["payload"] = {"signature": "0x00", "permit2Authorization": {"from": OTHER, "nonce": "1"}}


def _delegation(sent: Sent) -> None:
    sent.payload["payload"] = {"delegationManager": OTHER, "permissionContext": "0x00", "delegator": OTHER}


def _both_amounts(sent: Sent) -> None:
    other = "amount" if sent.version == 1 else "maxAmountRequired"
    sent.requirements[other] = "1"


def _priced(text: object) -> Callable[[Sent], None]:
    return lambda sent: sent.both(sent.amount, text)


def _zero(sent: Sent) -> None:
    sent.both(sent.amount, "0")


def _network(name: str) -> Callable[[Sent], None]:
    return lambda sent: sent.both("network", name)


def _valid_after(offset_s: int) -> Callable[[Draft], Draft]:
    return lambda draft: draft.change(valid_after=int(time.time()) + offset_s)


def _domain(**changes: Any) -> Callable[[Draft], Draft]:
    return lambda draft: draft.change(domain={**DOMAIN, **changes})


VERSION, PAYLOAD, ASKED = "invalid_x402_version", "invalid_payload", "invalid_payment_requirements"
SCHEME, TYPE = "unsupported_scheme", "unsupported_payload_type"
NETWORK, MISSING = "invalid_network", "missing_eip712_domain"
BEFORE = "invalid_exact_evm_payload_authorization_valid_before"
AFTER = "invalid_exact_evm_payload_authorization_valid_after"
VALUE = "invalid_exact_evm_payload_authorization_value_mismatch"
RECIPIENT = "invalid_exact_evm_payload_recipient_mismatch"
SIGNATURE = "invalid_exact_evm_payload_signature"
UNDEPLOYED = "invalid_exact_evm_payload_undeployed_smart_wallet"

_NUMBERS = {
    "a JSON number": 10_000,
    "leading blank": " 10000",
    "a plus": "+10000",
    "an underscore": "10_000",
    "leading zero": "010000",
    "full-width digits": "１００００",
    "trailing newline": "10000\n",
    "hex": "0x2710",
    "an exponent": "1e4",
    "a fraction": "10000.0",
    "negative": "-10000",
    "empty": "",
    "past uint256": str(2**256),
    "a boolean": True,
}

SHAPES = (
    Kind("version 3", VERSION, _attr("version", 3)),
    Kind("version as text", VERSION, _attr("version", "1")),
    Kind("version true", VERSION, _attr("version", True), versions=(1,)),
    Kind("no version", VERSION, _attr("version", None)),
    Kind("versions differ", VERSION, _set(_payload, "x402Version", 7)),
    Kind("payload has no version", VERSION, _drop(_payload, "x402Version")),
    Kind("payload is a list", PAYLOAD, _attr("payload", [])),
    Kind("payload is missing", PAYLOAD, _attr("payload", None)),
    Kind("requirements are missing", ASKED, _attr("requirements", None)),
    Kind("requirements are text", ASKED, _attr("requirements", "exact")),
    Kind("nothing is signed", PAYLOAD, _drop(_payload, "payload")),
    Kind("nothing is accepted", PAYLOAD, _drop(_payload, "accepted"), versions=(2,)),
    Kind("no authorization", PAYLOAD, _drop(_signed, "authorization")),
    Kind("authorization is text", PAYLOAD, _set(_signed, "authorization", "0x00")),
    Kind("another scheme paid", SCHEME, _set(_chosen, "scheme", "upto")),
    Kind("another scheme asked", SCHEME, _set(_asked, "scheme", "upto")),
    Kind("scheme in capitals", SCHEME, lambda sent: sent.both("scheme", "EXACT")),
    Kind("no scheme", PAYLOAD, _drop(_chosen, "scheme")),
    Kind("permit2", TYPE, _permit2),
    Kind("erc-7710", TYPE, _delegation),
    Kind("permit2 asked", TYPE, _set(_extra, "assetTransferMethod", "permit2")),
    Kind("unknown network", NETWORK, _network("solana:mainnet")),
    Kind("network of nobody here", NETWORK, _network("eip155:84532")),
    Kind("network with a leading zero", NETWORK, _network("eip155:08453")),
    Kind("network in full-width digits", NETWORK, _network("eip155:８４５３")),
    Kind("version 1's name in version 2", NETWORK, _network("base"), versions=(2,)),
    Kind("networks differ", "network_mismatch", _set(_chosen, "network", "eip155:1")),
    Kind("another asset", ASKED, lambda sent: sent.both("asset", OTHER)),
    Kind("asset is no address", ASKED, lambda sent: sent.both("asset", "USDC")),
    Kind("no extra", MISSING, _drop(_asked, "extra")),
    Kind("no name", MISSING, _drop(_extra, "name")),
    Kind("no domain version", MISSING, _drop(_extra, "version")),
    Kind("extra is broken text", MISSING, _set(_asked, "extra", '{"name":'), versions=(1,)),
    Kind("extra is text", MISSING, _set(_asked, "extra", '{"name":"USD Coin","version":"2"}'), versions=(2,)),
    Kind("testnet's name", "invalid_exact_evm_token_name_mismatch", _set(_extra, "name", "USDC")),
    Kind("another domain version", "invalid_exact_evm_token_version_mismatch", _set(_extra, "version", "1")),
    Kind("payer is short", PAYLOAD, _set(_terms, "from", "0x" + "1" * 39)),
    Kind("payer's checksum is wrong", PAYLOAD, _set(_terms, "from", "0x" + "aB" * 20)),
    Kind("payee is missing", PAYLOAD, _drop(_terms, "to")),
    Kind("nonce is short", PAYLOAD, _set(_terms, "nonce", "0x" + "11" * 31)),
    Kind("nonce without 0x", PAYLOAD, _set(_terms, "nonce", "11" * 32)),
    Kind("signature is missing", PAYLOAD, _drop(_signed, "signature")),
    Kind("signature is no hex", PAYLOAD, _set(_signed, "signature", "0xzz")),
    Kind("signature is endless", PAYLOAD, _set(_signed, "signature", "0x" + "00" * 8_193)),
    *(Kind(f"value: {name}", PAYLOAD, _set(_terms, "value", text)) for name, text in _NUMBERS.items()),
    Kind("validBefore is a number", PAYLOAD, _set(_terms, "validBefore", 1_900_000_000)),
    Kind("validAfter is missing", PAYLOAD, _drop(_terms, "validAfter")),
    *(Kind(f"price: {name}", ASKED, _priced(text)) for name, text in _NUMBERS.items()),
    Kind("price is zero", ASKED, _zero, lambda draft: draft.change(value=0)),
    Kind("price is past the book", ASKED, _priced(str(10**15 + 1)), lambda draft: draft.change(value=10**15 + 1)),
    Kind("two prices", ASKED, _both_amounts),
    Kind("payTo is nobody", ASKED, lambda sent: sent.both("payTo", "0x" + "0" * 40)),
    Kind("payTo is no address", ASKED, lambda sent: sent.both("payTo", "seller.eth")),
    Kind("time-out is text", ASKED, lambda sent: sent.both("maxTimeoutSeconds", "120")),
    Kind("time-out is zero", ASKED, lambda sent: sent.both("maxTimeoutSeconds", 0)),
    Kind("time-out is true", ASKED, lambda sent: sent.both("maxTimeoutSeconds", True)),
    Kind("another amount accepted", ASKED, _set(_chosen, "amount", "1"), versions=(2,)),
    Kind("another asset accepted", ASKED, _set(_chosen, "asset", OTHER), versions=(2,)),
    Kind("another payee accepted", ASKED, _set(_chosen, "payTo", OTHER), versions=(2,)),
    Kind("accepted amount is a number", PAYLOAD, _set(_chosen, "amount", 10_000), versions=(2,)),
    Kind("pays another", RECIPIENT, before=lambda draft: draft.change(to=OTHER)),
    Kind("underpaid", VALUE, before=lambda draft: draft.change(value=9_999)),
    Kind("overpaid", VALUE, before=lambda draft: draft.change(value=10_001)),
    Kind(
        "window is empty",
        BEFORE,
        before=lambda draft: draft.change(valid_after=1_999_999_999, valid_before=2_000_000_000),
    ),
    Kind("valid for ever", BEFORE, before=lambda draft: draft.change(valid_before=2**256 - 1)),
    Kind(
        "never valid",
        AFTER,
        before=lambda draft: draft.change(valid_after=2**255),
        after=_set(_terms, "validBefore", "2000000000"),
    ),
)
"""What reading refuses (checks 1 to 9)."""

MOMENTS = (
    Kind("expired", BEFORE, before=lambda draft: draft.change(valid_for_s=-10)),
    Kind("about to expire", BEFORE, before=lambda draft: draft.change(valid_for_s=4)),
    Kind("window is too wide", BEFORE, before=lambda draft: draft.change(valid_for_s=7_200)),
    Kind("not yet valid", AFTER, before=_valid_after(60)),
    Kind("valid from the next second", AFTER, before=_valid_after(1)),
)
"""What the time refuses (check 10)."""

SIGNATURES = (
    Kind("no signature", SIGNATURE, _set(_signed, "signature", "0x")),
    Kind("ERC-2098", UNDEPLOYED, _resigned(_compact)),
    Kind("a byte too many", UNDEPLOYED, _resigned(lambda signature: signature + b"\0")),
    Kind("high s", SIGNATURE, _resigned(_high_s)),
    Kind("v is 29", SIGNATURE, _resigned(lambda signature: signature[:64] + b"\x1d")),
    Kind("r is zero", SIGNATURE, _resigned(lambda signature: bytes(32) + signature[32:])),
    Kind("all zeros", SIGNATURE, _resigned(lambda _: bytes(65))),
    Kind("another key's", SIGNATURE, before=lambda draft: draft.change(sender=OTHER)),
    Kind("another nonce than signed", SIGNATURE, _set(_terms, "nonce", "0x" + "33" * 32)),
    Kind("under the testnet's name", SIGNATURE, before=_domain(name="USDC")),
    Kind("for another chain", SIGNATURE, before=_domain(chainId=84532)),
    Kind("for another token", SIGNATURE, before=_domain(verifyingContract=OTHER)),
    Kind("ERC-6492", "eip6492_factory_not_allowed", _resigned(lambda signature: signature + MAGIC)),
)
"""What was not signed (check 11)."""

KINDS = (*SHAPES, *MOMENTS, *SIGNATURES)
CASES = [(kind, version) for kind in KINDS for version in kind.versions]


def name_of(case: object) -> str:
    """Return a test's name."""
    return case.name.replace(" ", "-") if isinstance(case, Kind) else f"v{case}"


def broken(kind: Kind, version: int, key: str = "0x" + "5a" * 32) -> Sent:
    """Return a payment that is wrong in this one way."""
    sent = kind.before(Draft(key)).sign(version)
    kind.after(sent)
    return sent


def payer_of(key: str) -> str:
    """Return a key's address."""
    return str(Account.from_key(key).address)

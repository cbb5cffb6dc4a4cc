"""Checks and collects payments, with PyPI `x402` and nothing of our own, so that a mistake of ours cannot cancel out.

The SDK is synchronous and blocks on its RPC, so every call runs in a thread. It knows authorizations and
requirements, not what is sold.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from requests import RequestException
from web3.exceptions import Web3Exception
from x402.http.utils import decode_payment_signature_header
from x402.mechanisms.evm import FacilitatorWeb3Signer
from x402.mechanisms.evm.erc6492 import parse_erc6492_signature
from x402.mechanisms.evm.exact.eip3009_utils import (
    execute_transfer_with_authorization,
    parse_eip3009_authorization,
)
from x402.mechanisms.evm.exact.v1.facilitator import ExactEvmSchemeV1, ExactEvmSchemeV1Config
from x402.mechanisms.evm.types import ExactEIP3009Payload
from x402.mechanisms.evm.utils import hex_to_bytes
from x402.schemas.v1 import PaymentPayloadV1, PaymentRequirementsV1

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

log = logging.getLogger("vpsagent.payments")

VERIFIERS = 4


class PaymentRefusedError(Exception):
    """The payment is no good; `reason` is the SDK's code, or ours where the header cannot even be read."""

    def __init__(self, reason: str, message: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Presented:
    """A payment header that could be read; nothing of it is checked yet."""

    payload: dict[str, Any]
    payer: str
    nonce: str
    value: str
    valid_before_s: int


@dataclass(frozen=True, slots=True)
class Collected:
    """The outcome of one attempt to collect."""

    ok: bool
    tx_hash: str
    reason: str | None


def read_header(header: str) -> Presented:
    """Decode an X-Payment header with the SDK; raises PaymentRefusedError when it is not a v1 EIP-3009 payment."""
    try:
        payload = decode_payment_signature_header(header)
    except (ValueError, AttributeError) as error:  # base64, UTF-8, JSON and pydantic errors are all ValueErrors
        raise PaymentRefusedError("invalid_payload", "the X-Payment header is not base64 of a payment") from error
    if not isinstance(payload, PaymentPayloadV1):
        raise PaymentRefusedError("invalid_x402_version", "this vendor speaks x402 version 1")
    try:
        authorization = ExactEIP3009Payload.from_dict(payload.payload).authorization
        return Presented(
            payload=payload.model_dump(by_alias=True),
            payer=authorization.from_address,
            nonce=str(authorization.nonce).lower(),
            value=str(authorization.value),
            valid_before_s=int(authorization.valid_before),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PaymentRefusedError("invalid_payload", "the payment carries no EIP-3009 authorization") from error


def acceptable(requirements: dict[str, Any]) -> bool:
    """Whether the SDK could verify against these at all (a challenge may be malformed on purpose)."""
    try:
        parsed = PaymentRequirementsV1.model_validate(requirements)
    except ValidationError:
        return False
    return parsed.max_amount_required.isascii() and parsed.max_amount_required.isdigit()


class Payments:
    """The SDK's v1 facilitator scheme on one chain with one relayer."""

    def __init__(self, rpc_url: str, relayer_key: str, workers: int) -> None:
        self._rpc_url = rpc_url
        self._relayer_key = relayer_key
        # Apart, or settlements that wait for a block would keep new payments waiting to be verified.
        self._verifiers = ThreadPoolExecutor(max_workers=VERIFIERS, thread_name_prefix="verify")
        self._settlers = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="settle")
        self._collecting = 0
        self._signer = self._new_signer()
        self._scheme = self._new_scheme()

    @property
    def relayer(self) -> str:
        """The address that pays the gas."""
        return str(self._signer.address)

    def close(self) -> None:
        """Let go of the threads; a settlement under way goes on in the background until the process ends."""
        for threads in (self._verifiers, self._settlers):
            threads.shutdown(wait=False, cancel_futures=True)

    async def verify(self, payment: Presented, candidates: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The first of the candidate requirements that the payment satisfies.

        Raises PaymentRefusedError with the first reason.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._verifiers, self._verify, payment, candidates)

    async def settle(self, payload: dict[str, Any], requirements: dict[str, Any]) -> Collected:
        """Collect, simulated first; never raises for what the chain or its RPC says."""
        return await self._collect(lambda: self._settle(payload, requirements))

    async def broadcast(self, payload: dict[str, Any], requirements: dict[str, Any]) -> Collected:
        """Send the transfer without any check, as a vendor would that settles twice or in the last second."""
        return await self._collect(lambda: self._broadcast(payload, requirements))

    def _new_signer(self) -> FacilitatorWeb3Signer:
        return FacilitatorWeb3Signer(self._relayer_key, self._rpc_url, confirmation_timeout_seconds=60)

    def _new_scheme(self) -> ExactEvmSchemeV1:
        return ExactEvmSchemeV1(self._signer, ExactEvmSchemeV1Config(simulate_in_settle=True))

    async def _collect(self, call: Callable[[], Collected]) -> Collected:
        # The SDK's signer only ever counts its nonce up: after a failed send, or a chain that was rolled back, it
        # waits forever. A new one asks the chain. Only when no other is in flight, or the two would take the same
        # nonce.
        if self._collecting == 0:
            self._signer = self._new_signer()
            self._scheme = self._new_scheme()
        self._collecting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._settlers, call)
        finally:
            self._collecting -= 1

    def _verify(self, payment: Presented, candidates: Sequence[dict[str, Any]]) -> dict[str, Any]:
        payload = PaymentPayloadV1.model_validate(payment.payload)
        first: PaymentRefusedError | None = None
        for requirements in candidates:
            verdict = self._scheme.verify(payload, PaymentRequirementsV1.model_validate(requirements))
            if verdict.is_valid:
                return requirements
            first = first or PaymentRefusedError(verdict.invalid_reason or "invalid_payment", verdict.invalid_message)
        raise first or PaymentRefusedError("invalid_payment")

    def _settle(self, payload: dict[str, Any], requirements: dict[str, Any]) -> Collected:
        try:
            result = self._scheme.settle(
                PaymentPayloadV1.model_validate(payload), PaymentRequirementsV1.model_validate(requirements)
            )
        except (RequestException, Web3Exception) as error:
            return Collected(ok=False, tx_hash="", reason=f"rpc: {type(error).__name__}")
        if not result.success:
            log.warning("settle: %s %s", result.error_reason, result.error_message)
        return Collected(ok=result.success, tx_hash=result.transaction, reason=result.error_reason)

    def _broadcast(self, payload: dict[str, Any], requirements: dict[str, Any]) -> Collected:
        inner = ExactEIP3009Payload.from_dict(payload["payload"])
        try:
            tx_hash = execute_transfer_with_authorization(
                self._signer,
                requirements["asset"],
                parse_eip3009_authorization(inner.authorization),
                parse_erc6492_signature(hex_to_bytes(inner.signature or "")),
            )
            receipt = self._signer.wait_for_transaction_receipt(tx_hash)
        except (RequestException, Web3Exception, ValueError) as error:
            return Collected(ok=False, tx_hash="", reason=f"{type(error).__name__}: {error}"[:200])
        ok = receipt.status == 1
        return Collected(ok=ok, tx_hash=tx_hash, reason=None if ok else "reverted")

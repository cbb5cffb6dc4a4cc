"""The SDK's facilitator on one chain: in process for a seller, or behind `facilitator`'s HTTP routes.

The SDK's schemes block on their RPC (its "async" facilitator stops the event loop for as long as a block takes), so each
call runs in a thread. It must not know who sells what.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from x402 import x402FacilitatorSync
from x402.mechanisms.evm import FacilitatorWeb3Signer
from x402.mechanisms.evm.exact import register_exact_evm_facilitator

if TYPE_CHECKING:
    from x402.schemas import SettleResponse, SupportedResponse, VerifyResponse

WORKERS = 16


class LocalFacilitator:
    """Implements the SDK's `FacilitatorClient` on its own facilitator, with simulation before each settlement."""

    def __init__(self, rpc_url: str, relayer_key: str, network: str = "eip155:8453") -> None:
        self._threads = ThreadPoolExecutor(max_workers=WORKERS, thread_name_prefix="x402")
        signer = FacilitatorWeb3Signer(relayer_key, rpc_url, confirmation_timeout_seconds=60)
        self.relayer = str(signer.address)
        self._facilitator = x402FacilitatorSync()
        register_exact_evm_facilitator(self._facilitator, signer, network, simulate_in_settle=True)

    async def verify(self, payload: Any, requirements: Any) -> VerifyResponse:
        """The SDK's verdict on a payment of either version."""
        return await self._in_thread(self._facilitator.verify, payload, requirements)

    async def settle(self, payload: Any, requirements: Any) -> SettleResponse:
        """The SDK's settlement of a payment of either version."""
        return await self._in_thread(self._facilitator.settle, payload, requirements)

    def get_supported(self) -> SupportedResponse:
        """What the SDK says that it supports."""
        return self._facilitator.get_supported()

    async def _in_thread(self, call: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

"""A stock payer: PyPI `x402`'s own httpx client, run once. `python -m sandbox.sellers.client --config FILE|JSON|-`.

Config: private_key, url, method (GET), json (none), headers (none), repeat (1), concurrency (1). Prints one JSON line
`{"answers": [{status, headers, body, elapsed_s}]}`; spend controls are off, as the gateway's are not the SDK's.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

from eth_account import Account
from x402 import x402Client
from x402.http.clients.httpx import x402HttpxClient
from x402.mechanisms.evm.exact import register_exact_evm_client

from sandbox.process import child_config

if TYPE_CHECKING:
    import httpx

TIMEOUT_S = 60


async def pay(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Make the configured calls and return what came back."""
    payer = x402Client()
    register_exact_evm_client(payer, Account.from_key(config["private_key"]))
    payer.set_spend_controls(False)
    gate = asyncio.Semaphore(config.get("concurrency", 1))
    async with x402HttpxClient(payer, timeout=TIMEOUT_S) as client:
        calls = (_call(client, gate, config) for _ in range(config.get("repeat", 1)))
        return await asyncio.gather(*calls)


async def _call(client: httpx.AsyncClient, gate: asyncio.Semaphore, config: dict[str, Any]) -> dict[str, Any]:
    async with gate:
        began = time.perf_counter()
        answer = await client.request(
            config.get("method", "GET"), config["url"], json=config.get("json"), headers=config.get("headers")
        )
        elapsed_s = time.perf_counter() - began
    return {
        "status": answer.status_code,
        "headers": dict(answer.headers),
        "body": answer.text,
        "elapsed_s": elapsed_s,
    }


def main() -> None:
    """Pay and print."""
    print(json.dumps({"answers": asyncio.run(pay(child_config()))}))


if __name__ == "__main__":
    main()

"""The reference of T2: PyPI `x402`'s own httpx client, driven line by line. Runs in the sandbox's environment.

Imports nothing of ours. First line in: {private_key, url}; then {start, count, concurrency} a round, each answered with
{seconds, latencies_us}.
"""

import asyncio
import json
import sys
import time
from typing import Any

from eth_account import Account
from x402 import x402Client
from x402.http.clients.httpx import x402HttpxClient
from x402.mechanisms.evm.exact import register_exact_evm_client


async def pay(client: x402HttpxClient, url: str, order: dict[str, Any]) -> dict[str, Any]:
    """Make one round's calls."""
    numbers = iter(range(order["start"], order["start"] + order["count"]))
    latencies_us: list[float] = []

    async def lane() -> None:
        for number in numbers:
            began = time.perf_counter()
            answer = await client.get(f"{url}?n={number}")
            latencies_us.append((time.perf_counter() - began) * 1e6)
            if answer.status_code != 200:
                raise RuntimeError(f"answered {answer.status_code}: {answer.text[:300]}")

    began = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(order["concurrency"])))
    return {"seconds": time.perf_counter() - began, "latencies_us": latencies_us}


def main() -> None:
    """Answer orders until standard input ends."""
    config = json.loads(sys.stdin.readline())
    payer = x402Client()
    register_exact_evm_client(payer, Account.from_key(config["private_key"]))
    payer.set_spend_controls(False)
    with asyncio.Runner() as runner:
        client = x402HttpxClient(payer, timeout=60)
        print(json.dumps({"ready": True}), flush=True)
        for line in sys.stdin:
            print(json.dumps(runner.run(pay(client, config["url"], json.loads(line)))), flush=True)
        runner.run(client.aclose())


if __name__ == "__main__":
    main()

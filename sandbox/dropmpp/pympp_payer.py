"""Another stock payer: PyPI `pympp`'s own client, run once. `python -m sandbox.dropmpp.pympp_payer --config FILE|JSON|-`.

It needs an environment of its own (requirements-pympp.txt). Config: private_key, rpc_url, method, url, json (none),
headers (none). Prints one JSON line `{status, headers, body}`.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import mpp.methods.tempo.client as tempo_client
from mpp.client import Mpp
from mpp.methods.tempo import TempoAccount

from sandbox.process import child_config

# pympp signs for 60 s; a chain before hard fork T11, such as anvil's, takes no more than 30.
_VALID_S = 25


async def pay(config: dict[str, Any]) -> dict[str, Any]:
    """Make the configured call and return what came back."""
    account = TempoAccount.from_key(config["private_key"])
    method = tempo_client.charge(account=account, rpc_url=config["rpc_url"])
    async with Mpp(methods=[method]) as payer:
        answer = await payer.fetch(
            config["url"], method=config["method"], json=config.get("json"), headers=config.get("headers")
        )
        return {"status": answer.status_code, "headers": dict(answer.headers), "body": answer.text}


def main() -> None:
    """Pay and print."""
    tempo_client.EXPIRING_NONCE_VALID_BEFORE_SECS = _VALID_S
    print(json.dumps(asyncio.run(pay(child_config()))))


if __name__ == "__main__":
    main()

"""A stock payer of MPP: PyPI `pympp`'s own client. `python -m sandbox.payers.pympp --config FILE|JSON`.

It needs the environment of dropmpp/requirements-pympp.txt. Config: private_key, rpc_url of Tempo, url, method (GET), json
(none), headers (none), calls (one: `{}`): what is different in each of several. Prints one JSON line for each call,
`{status, headers, body, sent, receipt}`: `sent` the headers that it paid with, one entry for each time that it signed,
`receipt` what the SDK reads in the answer (null without one).
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import mpp.methods.tempo.client as tempo_client
from mpp import Receipt
from mpp.client import Mpp
from mpp.events import CREDENTIAL_CREATED
from mpp.methods.tempo import TempoAccount

from sandbox.process import child_config

TIMEOUT_S = 60


async def pay(config: dict[str, Any]) -> dict[str, Any]:
    """Make the configured call and return what came back."""
    account, sent = TempoAccount.from_key(config["private_key"]), []

    def note(created: dict[str, Any]) -> None:
        sent.append({created["challenge"].credential_header.lower(): created["credential"].to_authorization()})

    async with Mpp(methods=[tempo_client.charge(account=account, rpc_url=config["rpc_url"])]) as payer:
        payer.on(CREDENTIAL_CREATED, note)
        async with payer.client(timeout=TIMEOUT_S) as client:
            answer = await client.request(
                config.get("method", "GET"), config["url"], json=config.get("json"), headers=config.get("headers")
            )
    told = answer.headers.get("payment-receipt")
    found = {"status": answer.status_code, "headers": dict(answer.headers), "body": answer.text}
    return found | {"sent": sent, "receipt": _plain(Receipt.from_payment_receipt(told)) if told else None}


def _plain(receipt: Receipt) -> dict[str, Any]:
    return {"method": receipt.method, "reference": receipt.reference, "status": receipt.status}


def main() -> None:
    """Pay and print, a line for each call."""
    config = child_config()
    for call in config.get("calls", [{}]):
        print(json.dumps(asyncio.run(pay(config | call))), flush=True)


if __name__ == "__main__":
    main()

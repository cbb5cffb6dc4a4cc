"""Anvil's Tempo spoken to as if it were a Tempo node: what differs between the two, method by method.

It knows JSON-RPC and must not know HTTP or faults. Where a method needs nothing, the call goes through as it came.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from typing import TYPE_CHECKING, Any

from sandbox.anvil import JsonRpc, RpcError
from sandbox.tempo import tip20

if TYPE_CHECKING:
    from collections.abc import Callable

FAUCET_BASE = 1_000_000_000_000
"""What `tempo_fundAddress` gives of each dev token: a million, as on the test network."""
_MINE_TIMEOUT_S = 30
_CALL_TIMEOUT_S = 60  # eth_sendRawTransactionSync waits 30 s for a block by itself


class TempoNode:
    """Answers one JSON-RPC call after the other from an anvil; threads may share it."""

    def __init__(self, host: str, port: int, treasury: str) -> None:
        self._host, self._port = host, port
        self._rpc = JsonRpc(host, port)
        self._treasury = treasury
        self._sending = threading.Lock()
        self._own: dict[str, Callable[[list[Any]], Any]] = {
            "tempo_fundAddress": self._faucet,
            "tempo_simulateV1": self._simulate,
            "sandbox_fund": self._fund,
        }

    def answer(self, call: dict[str, Any]) -> dict[str, Any]:
        """The whole JSON-RPC answer to one call; raises OSError when the node cannot be reached."""
        method, params = call.get("method"), call.get("params") or []
        if method in self._own:
            try:
                return {"jsonrpc": "2.0", "id": call.get("id"), "result": self._own[method](params)}
            except RpcError as error:
                return _error(call, error.code, error.message)
            except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
                return _error(call, -32602, f"invalid params: {error}")
        if method == "eth_sendRawTransactionSync":  # a Tempo node takes a timeout as well, anvil does not
            call = {**call, "params": params[:1]}
        return self._forward(call)

    def _forward(self, call: dict[str, Any]) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_CALL_TIMEOUT_S)
        try:
            connection.request("POST", "/", json.dumps(call), {"content-type": "application/json"})
            answer: dict[str, Any] = json.load(connection.getresponse())
        finally:
            connection.close()
        return answer

    def _faucet(self, params: list[Any]) -> list[str]:
        """[address] -> one transaction hash for each token."""
        return [self._send(token, params[0], FAUCET_BASE) for token in tip20.DEV_TOKENS]

    def _fund(self, params: list[Any]) -> str:
        """[address, amount in base units as hex, token] -> the hash of a mined transfer."""
        owner, amount, token = params
        return self._send(token, owner, int(amount, 16))

    def _send(self, token: str, to: str, amount_base: int) -> str:
        transaction = {"from": self._treasury, "to": token, "data": tip20.transfer(to, amount_base)}
        with self._sending:  # anvil counts the nonce when it is asked, so two askers must not overlap
            tx_hash = str(self._rpc.call("eth_sendTransaction", transaction))
            self._await_success(tx_hash)
        return tx_hash

    def _await_success(self, tx_hash: str) -> None:
        give_up_at = time.monotonic() + _MINE_TIMEOUT_S
        while time.monotonic() < give_up_at:
            receipt = self._rpc.call("eth_getTransactionReceipt", tx_hash)
            if receipt is not None:
                if receipt["status"] != "0x1":
                    raise RpcError("eth_sendTransaction", {"code": -32000, "message": f"{tx_hash} failed"})
                return
            time.sleep(0.02)
        raise RpcError("eth_sendTransaction", {"code": -32000, "message": f"{tx_hash} was not mined"})

    def _simulate(self, params: list[Any]) -> dict[str, Any]:
        """Tempo's simulation by anvil's: the batch of a 0x76 request becomes plain calls, one status for all."""
        payload, block = params[0], params[1] if len(params) > 1 else "latest"
        blocks = []
        for entry in payload["blockStateCalls"]:
            results = [self._simulate_request(request, block) for request in entry["calls"]]
            blocks.append({"calls": results})
        return {"blocks": blocks}

    def _simulate_request(self, request: dict[str, Any], block: str) -> dict[str, Any]:
        calls = [*request.get("calls", [])]
        if "to" in request:  # the node takes the top-level call as the last of the batch
            calls.append(request)
        plain = [{"from": request["from"], "to": call["to"], "data": call.get("data", "0x")} for call in calls]
        simulation = {"blockStateCalls": [{"calls": plain}], "validation": False}
        results = self._rpc.call("eth_simulateV1", simulation, block)[0]["calls"]
        failed = [result for result in results if result["status"] != "0x1"]
        return failed[0] if failed else results[-1]


def _error(call: dict[str, Any], code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": call.get("id"), "error": {"code": code, "message": message}}

"""A local Tempo for tests and the demo: anvil's Tempo network with the test network's chain id, and the shim before it.

Standard library only, because the product's environment and the reference SDKs' both import it. Theory: hard fork T4
has expiring nonces; blocks come each second even without transactions, because calls run on the last block's time and
a clock that stands still makes every expiry look too far away; and a block is final at once, as on Tempo.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self, TypedDict

from sandbox.anvil import Anvil, JsonRpc, RpcError
from sandbox.tempo import tip20
from sandbox.tempo.node import TempoNode
from sandbox.tempo.shim import Shim
from sandbox.tempo.tip20 import PATH_USD, MemoTransfer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

__all__ = ["Block", "LocalTempo", "MemoTransfer", "RpcError"]

CHAIN_ID = 42431
_ACCOUNTS = 10  # as many as the network's genesis holds tokens for
_TREASURY = 9  # funds others; the nine before it belong to the tests
_RECEIPT_TIMEOUT_S = 30


class Block(TypedDict):
    """The head of a block; `timestamp` in Unix seconds, hashes as 0x text."""

    number: int
    timestamp: int
    hash: str
    parent_hash: str


class LocalTempo:
    """One running chain. Blocking; threads may share it; from a coroutine call it through `asyncio.to_thread`.

    Its own questions go to anvil itself, so that the shim's faults never disturb the observer.
    """

    chain_id = CHAIN_ID
    token_address = PATH_USD

    def __init__(
        self,
        anvil_url: str,
        rpc_url: str,
        *,
        process: Anvil | None,
        shim: Shim | None,
        accounts: Sequence[tuple[str, str]],
    ) -> None:
        self.anvil_url, self.rpc_url = anvil_url, rpc_url
        self._anvil, self._shim_rpc = _client(anvil_url), _client(rpc_url)
        self._process = process
        self._shim = shim
        self._more_shims: list[Shim] = []
        self._accounts = tuple(accounts)

    # ---- life --------------------------------------------------------------------------------------------------------

    @classmethod
    def start(cls, *, port: int = 0) -> Self:
        """Start a chain and its shim on `port` (0: any free one).

        It ends with `stop`, or with this process, however it dies. Raises FileNotFoundError when anvil is not
        installed, RuntimeError when it does not start.
        """
        options = ["--network", "tempo", "--hardfork", "T4", "--chain-id", str(CHAIN_ID), "--accounts", str(_ACCOUNTS)]
        # Zero slots an epoch: "finalized" is the newest block, which is what Tempo's consensus promises.
        options += ["--block-time", "1", "--mixed-mining", "--slots-in-an-epoch", "0"]
        process = Anvil.start(*options)
        try:
            accounts = list(zip(process.config["available_accounts"], process.config["private_keys"], strict=True))
            shim = Shim(_node(process.rpc.url, accounts[_TREASURY][0]), port=port)
        except BaseException:
            process.stop()
            raise
        return cls(process.rpc.url, shim.url, process=process, shim=shim, accounts=accounts)

    @classmethod
    def attach(cls, anvil_url: str, rpc_url: str, *, accounts: Sequence[tuple[str, str]] = ()) -> Self:
        """Return a client of a chain that another process started; `stop` then leaves it running."""
        return cls(anvil_url, rpc_url, process=None, shim=None, accounts=accounts)

    def stop(self) -> None:
        """End the chain that this object started. Safe to repeat."""
        shims = [*self._more_shims, *([self._shim] if self._shim else [])]
        self._more_shims, self._shim = [], None
        for shim in shims:
            shim.stop()
        if self._process is not None:
            self._process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def another_endpoint(self, *, port: int = 0) -> Shim:
        """Open one more endpoint on the same chain, with a log and faults of its own; it ends with the chain."""
        treasury = self.rpc("eth_accounts")[_TREASURY]
        shim = Shim(_node(self.anvil_url, treasury), port=port)
        self._more_shims.append(shim)
        return shim

    def log(self) -> str:
        """Return what anvil has printed so far, empty for an attached chain."""
        return self._process.log() if self._process is not None else ""

    # ---- the shim ----------------------------------------------------------------------------------------------------

    @property
    def shim(self) -> Shim:
        """The endpoint that this object started; raises LookupError for an attached chain (use its HTTP routes)."""
        if self._shim is None:
            raise LookupError("the shim runs in another process")
        return self._shim

    # ---- reading -----------------------------------------------------------------------------------------------------

    def rpc(self, method: str, *params: object) -> Any:
        """Return the result of one JSON-RPC call to anvil itself; raise RpcError."""
        return self._anvil.call(method, *params)

    def dev_account(self, index: int) -> tuple[str, str]:
        """Return (address, private key) of one of the nine rich accounts that are free for tests."""
        if not 0 <= index < _TREASURY:
            raise IndexError(f"accounts 0..{_TREASURY - 1} are free; the last is the treasury")
        return self._accounts[index]

    def block(self, tag: str | int) -> Block:
        """Return the head of a block, by number or tag."""
        raw = self.rpc("eth_getBlockByNumber", tag if isinstance(tag, str) else hex(tag), False)
        return Block(
            number=int(raw["number"], 16),
            timestamp=int(raw["timestamp"], 16),
            hash=raw["hash"],
            parent_hash=raw["parentHash"],
        )

    def head(self) -> Block:
        """Return the newest block."""
        return self.block("latest")

    def final(self) -> Block:
        """Return the newest final block: on Tempo, the newest."""
        return self.block("finalized")

    def balance_of(self, owner: str, *, token: str = PATH_USD, block: str | int = "latest") -> int:
        """Return a balance in base units."""
        request = {"to": token, "data": tip20.balance_of(owner)}
        return int(self.rpc("eth_call", request, block if isinstance(block, str) else hex(block)), 16)

    def memo_transfers(
        self, memo: str | None = None, *, sender: str | None = None, recipient: str | None = None, from_block: int = 0
    ) -> list[MemoTransfer]:
        """Return the transfers with a memo, oldest first, of any token; None matches anything."""
        addresses = [None if address is None else "0x" + tip20.word(address) for address in (sender, recipient)]
        topics = [tip20.TRANSFER_WITH_MEMO_TOPIC, *addresses, memo]
        wanted = {"fromBlock": hex(from_block), "toBlock": "latest", "topics": topics}
        return [MemoTransfer.from_log(log) for log in self.rpc("eth_getLogs", wanted)]

    def receipt(self, tx_hash: str) -> dict[str, Any]:
        """Wait for a transaction and return its receipt, good or bad; TimeoutError when not mined in 30 s."""
        give_up_at = time.monotonic() + _RECEIPT_TIMEOUT_S
        while time.monotonic() < give_up_at:
            receipt: dict[str, Any] | None = self.rpc("eth_getTransactionReceipt", tx_hash)
            if receipt is not None:
                return receipt
            time.sleep(0.02)
        raise TimeoutError(f"{tx_hash} was not mined")

    # ---- money -------------------------------------------------------------------------------------------------------

    def fund(self, amounts_base: Mapping[str, int], *, token: str = PATH_USD) -> None:
        """Give tokens to accounts out of the treasury; returns when they have them."""
        for owner, amount_base in amounts_base.items():
            self._shim_rpc.call("sandbox_fund", owner, hex(amount_base), token)


def _client(url: str) -> JsonRpc:
    host, _, port = url.removeprefix("http://").partition(":")
    return JsonRpc(host, int(port))


def _node(anvil_url: str, treasury: str) -> TempoNode:
    host, _, port = anvil_url.removeprefix("http://").partition(":")
    return TempoNode(host, int(port), treasury)

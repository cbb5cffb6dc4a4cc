"""A local Base for tests and the demo: anvil with chain id 8453 and our USDC at the real one's address.

Standard library only, because the product's environment and the reference SDKs' both import it. Theory: with the real
chain id, address, name and version the EIP-712 domain is Base's own, so what is signed here is what would be signed
there. `python -m sandbox.chain` runs one in the foreground.
"""

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict

from sandbox.anvil import Anvil, JsonRpc, RpcError, revert_text
from sandbox.devtoken import BASE_USDC, Authorization, Contract, signed_call

__all__ = ["Authorization", "Block", "LocalBase", "Reverted", "RpcError"]

CHAIN_ID = 8453
_ACCOUNTS = 20
_RELAYER, _ADMIN = 18, 19  # the last two of anvil's accounts; the others belong to the tests
_GAS = 300_000  # more than any call of the token needs, so that a call that reverts is mined as on Base, and costs gas
_UNLIMITED = 2**256 - 1
_RECEIPT_TIMEOUT_S = 30


class Block(TypedDict):
    """The head of a block; `timestamp` in Unix seconds, hashes as 0x text."""

    number: int
    timestamp: int
    hash: str
    parent_hash: str


class Reverted(Exception):  # noqa: N818 -- the chain's own word for it
    """A transaction was mined and failed; `reason` is the contract's text."""

    def __init__(self, reason: str | None, receipt: dict[str, Any]) -> None:
        super().__init__(f"reverted: {reason}")
        self.reason = reason
        self.receipt = receipt
        self.tx_hash: str = receipt["transactionHash"]


class LocalBase:
    """One running chain. Blocking; threads may share it; from a coroutine call it through `asyncio.to_thread`."""

    chain_id = CHAIN_ID
    token_address = BASE_USDC

    def __init__(
        self, rpc: JsonRpc, *, process: Anvil | None, accounts: Sequence[tuple[str, str]], automine: bool
    ) -> None:
        self._rpc = rpc
        self._process = process
        self._accounts = tuple(accounts)
        self._automine = automine
        self._sending = threading.Lock()
        self._token = Contract.load("DevUSDC")
        unlocked: list[str] = rpc.call("eth_accounts")
        self.relayer, self.admin = unlocked[_RELAYER], unlocked[_ADMIN]
        self.rpc_url = rpc.url

    # ---- life --------------------------------------------------------------------------------------------------------

    @classmethod
    def start(cls, *, block_time_s: float | None = 1, port: int = 0) -> Self:
        """Start a chain with the token in place.

        `block_time_s` None mines a block for each transaction. The chain ends with `stop`, or with this process,
        however it dies. Raises FileNotFoundError when anvil is not installed, RuntimeError when it does not start.
        """
        options = ["--chain-id", str(CHAIN_ID), "--accounts", str(_ACCOUNTS), "--hardfork", "prague"]
        # One slot an epoch: a block is final two blocks later, where Base takes about twenty minutes.
        options += ["--slots-in-an-epoch", "1"]
        if block_time_s is not None:
            options += ["--block-time", f"{block_time_s:g}"]
        process = Anvil.start(*options, port=port)
        try:
            accounts = list(zip(process.config["available_accounts"], process.config["private_keys"], strict=True))
            chain = cls(process.rpc, process=process, accounts=accounts, automine=block_time_s is None)
            chain.place_code(BASE_USDC, chain._token)
            chain.act(BASE_USDC, chain._token.call("initialize(address)", chain.admin))
            chain.act(BASE_USDC, chain._token.call("configureMinter(address,uint256)", chain.admin, _UNLIMITED))
        except BaseException:
            process.stop()
            raise
        return chain

    @classmethod
    def attach(cls, rpc_url: str, *, accounts: Sequence[tuple[str, str]] = ()) -> Self:
        """Return a client of a chain that another process started; `stop` then leaves it running.

        Pass the `accounts` that it announced to use `dev_account`.
        """
        host, _, port = rpc_url.removeprefix("http://").partition(":")
        rpc = JsonRpc(host, int(port))
        return cls(rpc, process=None, accounts=accounts, automine=rpc.call("anvil_getAutomine"))

    def stop(self) -> None:
        """End the chain that this object started. Safe to repeat."""
        if self._process is not None:
            self._process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def log(self) -> str:
        """Return what anvil has printed so far, empty for an attached chain."""
        return self._process.log() if self._process is not None else ""

    # ---- reading -----------------------------------------------------------------------------------------------------

    def rpc(self, method: str, *params: object) -> Any:
        """Return the result of one JSON-RPC call; raise RpcError."""
        return self._rpc.call(method, *params)

    def dev_account(self, index: int) -> tuple[str, str]:
        """Return (address, private key) of one of the 18 funded accounts that are free for tests."""
        if not 0 <= index < _RELAYER:
            raise IndexError("accounts 0..17 are free; the others are the relayer and the token's owner")
        return self._accounts[index]

    def block(self, tag: str | int) -> Block:
        """Return the head of a block, by number or tag."""
        raw = self.rpc("eth_getBlockByNumber", _tag(tag), False)
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
        """Return the newest final block: two behind the head, or the first one on a shorter chain."""
        return self.block("finalized")

    def call(self, to: str, data: str, *, sender: str | None = None, block: str | int = "latest") -> bytes:
        """Return what a read-only call answers; raise RpcError, its `reason` the contract's text, when it reverts."""
        request = {"to": to, "data": data} | ({"from": sender} if sender else {})
        return bytes.fromhex(self.rpc("eth_call", request, _tag(block))[2:])

    def token_call(self, signature: str, *arguments: object, block: str | int = "latest") -> bytes:
        """Return what one of the token's views answers, undecoded."""
        return self.call(BASE_USDC, self._token.call(signature, *arguments), block=block)

    def balance_of(self, owner: str, block: str | int = "latest") -> int:
        """Return a balance in base units."""
        return int.from_bytes(self.token_call("balanceOf(address)", owner, block=block), "big")

    def authorization_state(self, authorizer: str, nonce: str, block: str | int = "latest") -> bool:
        """Return whether the nonce was used or cancelled; which of the two only the log tells."""
        return any(self.token_call("authorizationState(address,bytes32)", authorizer, nonce, block=block))

    # ---- the token's owner: at once, in a block of its own -----------------------------------------------------------

    def mint(self, owner: str, amount_base: int) -> None:
        """Create tokens."""
        self.fund({owner: amount_base})

    def fund(self, amounts_base: Mapping[str, int]) -> None:
        """Create tokens for several owners in one block."""
        calls = [self._token.call("mint(address,uint256)", *item) for item in amounts_base.items()]
        self._act([(BASE_USDC, data) for data in calls])

    def set_paused(self, paused: bool) -> None:  # noqa: FBT001 -- the value is the whole meaning
        """Stop all movement of the token, or allow it again."""
        self.act(BASE_USDC, self._token.call("pause()" if paused else "unpause()"))

    def set_blacklisted(self, account: str, blacklisted: bool = True) -> None:  # noqa: FBT001, FBT002 -- as above
        """Bar an account from sending and receiving, or let it again."""
        self.act(BASE_USDC, self._token.call("blacklist(address)" if blacklisted else "unBlacklist(address)", account))

    def act(self, to: str, data: str) -> dict[str, Any]:
        """Send a call as the token's owner, mine it at once, and return its receipt."""
        return self._act([(to, data)])[0]

    def place_code(self, address: str, contract: Contract) -> None:
        """Put a contract's code at an address; its storage stays as it is."""
        self.rpc("anvil_setCode", address, contract.runtime_bytecode)

    def place_contract_wallet(self, address: str, owner: str, cosigner: str = "0x" + "00" * 20) -> None:
        """Put an ERC-1271 wallet at an address; with a co-signer it wants both signatures in a row, owner first."""
        wallet = Contract.load("DevContractWallet")
        self.place_code(address, wallet)
        self.act(address, wallet.call("setup(address,address)", owner, cosigner))

    # ---- the relayer: waits for a block like anybody else ------------------------------------------------------------

    def transfer_with_authorization(
        self, authorization: Authorization, signature: bytes, *, overload: str = "auto"
    ) -> dict[str, Any]:
        """Submit an authorization; return the receipt, or raise Reverted with the token's text. See `signed_call`."""
        data = signed_call(self._token, "transferWithAuthorization", authorization.words(), signature, overload)
        return self.receipt(self.send(BASE_USDC, data))

    def cancel_authorization(
        self, authorizer: str, nonce: str, signature: bytes, *, overload: str = "auto"
    ) -> dict[str, Any]:
        """Submit a signed cancellation; return the receipt, or raise Reverted with the token's text."""
        data = signed_call(self._token, "cancelAuthorization", (authorizer, nonce), signature, overload)
        return self.receipt(self.send(BASE_USDC, data))

    def send(self, to: str, data: str, *, sender: str | None = None) -> str:
        """Send a transaction from an unlocked account (the relayer unless told), return its hash, do not wait."""
        transaction = {"from": sender or self.relayer, "to": to, "data": data, "gas": hex(_GAS)}
        with self._sending:  # anvil counts the nonce when it is asked, so two askers must not overlap
            return str(self.rpc("eth_sendTransaction", transaction))

    def receipt(self, tx_hash: str) -> dict[str, Any]:
        """Wait for a transaction; return its receipt, or raise Reverted; TimeoutError when not mined in 30 s."""
        give_up_at = time.monotonic() + _RECEIPT_TIMEOUT_S
        while time.monotonic() < give_up_at:
            receipt: dict[str, Any] | None = self.rpc("eth_getTransactionReceipt", tx_hash)
            if receipt is not None:
                if receipt["status"] == "0x1":
                    return receipt
                raise Reverted(self._revert_reason(tx_hash), receipt)
            time.sleep(0.02)
        raise TimeoutError(f"{tx_hash} was not mined")

    # ---- time and history: never together with a reference SDK, which reads the wall clock ---------------------------

    def mine(self, blocks: int = 1, interval_s: int | None = None) -> None:
        """Mine blocks now; with an interval, their times are that far apart."""
        self.rpc("anvil_mine", hex(blocks), *([] if interval_s is None else [hex(interval_s)]))

    def set_next_block_time(self, unix_s: int) -> None:
        """Give the next block exactly this time; later ones count on from it."""
        self.rpc("evm_setNextBlockTimestamp", unix_s)

    def set_time(self, unix_s: int) -> None:
        """Mine a block with exactly this time; later ones count on from it."""
        self.set_next_block_time(unix_s)
        self.mine()

    def advance(self, seconds: int) -> None:
        """Let the chain's clock run ahead, and mine a block that shows it."""
        self.rpc("evm_increaseTime", seconds)
        self.mine()

    def snapshot(self) -> str:
        """Return the name of the present state, for one `restore`."""
        return str(self.rpc("evm_snapshot"))

    def restore(self, snapshot: str) -> None:
        """Go back to a snapshot. Raises ValueError when it was used before."""
        if not self.rpc("evm_revert", snapshot):
            raise ValueError(f"there is no snapshot {snapshot}")

    def reorg(self, depth: int, transactions: Sequence[tuple[dict[str, Any], int]] = ()) -> None:
        """Replace the newest `depth` blocks by others; transactions in them are gone.

        `transactions` are put into the new blocks instead: (transaction, index of the block from 0).
        """
        self.rpc("anvil_reorg", depth, [list(pair) for pair in transactions])

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _act(self, calls: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        hashes = [self.send(to, data, sender=self.admin) for to, data in calls]
        if not self._automine:
            self.mine()
        return [self.receipt(tx_hash) for tx_hash in hashes]

    def _revert_reason(self, tx_hash: str) -> str | None:
        trace = self.rpc("debug_traceTransaction", tx_hash, {"tracer": "callTracer"})
        return revert_text(trace.get("output", ""))


def _tag(block: str | int) -> str:
    return block if isinstance(block, str) else hex(block)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a chain in the foreground: one JSON line when ready; the end on SIGINT, SIGTERM or `--leash`."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.chain", description="A local Base with USDC.")
    parser.add_argument("--block-time", type=float, default=1.0, help="seconds; 0 mines a block for each transaction")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--leash", action="store_true", help="end when stdin closes, that is, with whoever holds it")
    parser.add_argument("--log", type=Path, help="write anvil's log here when it ends")
    options = parser.parse_args(arguments)
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with LocalBase.start(block_time_s=options.block_time or None, port=options.port) as chain:
        ready = {"rpc_url": chain.rpc_url, "token": chain.token_address, "chain_id": chain.chain_id}
        print(json.dumps(ready | {"accounts": [chain.dev_account(i) for i in range(_RELAYER)]}), flush=True)
        if options.leash:
            threading.Thread(target=_end_with_stdin, daemon=True).start()
        signal.sigwait(signals)
        if options.log:
            options.log.write_text(chain.log())
    return 0


def _end_with_stdin() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())

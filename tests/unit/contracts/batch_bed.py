"""What the tests of the batch contract share: a chain with the contract on it, signed authorizations, and sending."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from contracts import batch
from contracts.batch import Outcome
from contracts.calls import selector
from contracts.codec import Address, checksum, parse_address, parse_bytes32, to_hex
from contracts.eip3009 import Authorization
from contracts.keccak import keccak256
from contracts.signature import load_key, sign_digest
from contracts.tokens import BASE_USDC, Token
from sandbox.chain import LocalBase, Reverted

TOKEN = BASE_USDC.address
BATCH_TEXT = checksum(batch.batch_address())
FAR = 2**40
ITEM_GAS = 120_000
NO_TOKEN = selector("NoToken(address)")
TOO_LITTLE_GAS = selector("TooLittleGas(uint256)")
Item = tuple[Authorization, bytes]


def payee(number: int) -> Address:
    """Return one of many addresses that nobody has a key of."""
    return Address(keccak256(b"payee %d" % number)[:20])


def payer(chain: LocalBase, index: int) -> Address:
    """Return the address of one of the chain's free accounts."""
    return parse_address(chain.dev_account(index)[0])


def signed(chain: LocalBase, index: int, number: int, token: Token = BASE_USDC, **terms: Any) -> Item:
    """Return an authorization of account `index` whose nonce is made of `number`, and its signature."""
    fields = {"pay_to": payee(0), "value_base": 1_000, "valid_after": 0, "valid_before": FAR} | terms
    auth = Authorization(token=token, authorizer=payer(chain, index), nonce=keccak256(b"nonce %d" % number), **fields)
    return auth, sign_digest(load_key(parse_bytes32(chain.dev_account(index)[1])), auth.digest)


def deploy(chain: LocalBase) -> None:
    """Deploy the contract as the gateway would, through the deterministic deployer."""
    to, data = batch.deployment()
    sent = submit(chain, to, data, 1_000_000)
    assert sent.receipt["status"] == "0x1"
    assert code_at(chain, BATCH_TEXT) == batch.runtime_code()


def code_at(chain: LocalBase, address: str) -> bytes:
    """Return the code at an address."""
    return bytes.fromhex(chain.rpc("eth_getCode", address, "latest")[2:])


@dataclass(frozen=True)
class Sent:
    """A mined transaction."""

    receipt: dict[str, Any]

    @property
    def gas(self) -> int:
        """What it used."""
        return int(self.receipt["gasUsed"], 16)

    @property
    def events(self) -> list[tuple[str, ...]]:
        """Address, topics and data of its logs, in their order."""
        return [(log["address"], *log["topics"], log["data"]) for log in self.receipt["logs"]]


def submit(chain: LocalBase, to: Address, data: bytes, gas: int) -> Sent:
    """Send a transaction of the relayer's and return it mined, failed or not; the chain must mine at once."""
    request = {"from": chain.relayer, "to": to_hex(to), "data": to_hex(data), "gas": hex(gas)}
    try:
        return Sent(chain.receipt(chain.rpc("eth_sendTransaction", request)))
    except Reverted as failed:
        return Sent(failed.receipt)


def restore(chain: LocalBase, snapshot: str) -> None:
    """Go back to a snapshot once the pool is empty.

    Anvil shows a receipt a moment before its pool forgets the transaction; one that is still there is mined again.
    """
    give_up_at = time.monotonic() + 40
    while any(int(count, 16) for count in chain.rpc("txpool_status").values()):
        if time.monotonic() > give_up_at:
            raise TimeoutError("the pool does not empty")
        time.sleep(0.002)
    chain.restore(snapshot)


def ask(chain: LocalBase, data: bytes, gas: int) -> bytes:
    """Call the contract without a transaction; raises RpcError."""
    request = {"from": chain.relayer, "to": BATCH_TEXT, "data": to_hex(data), "gas": hex(gas)}
    return bytes.fromhex(chain.rpc("eth_call", request, "latest")[2:])


def settle(chain: LocalBase, items: Sequence[Item], item_gas: int = ITEM_GAS, token: Address = TOKEN) -> Sent:
    """Send a batch with the gas limit that the gateway would give it."""
    limit = batch.gas_limit(len(items), item_gas)
    return submit(chain, batch.batch_address(), batch.encode_batch(token, items, item_gas), limit)


def in_a_row(chain: LocalBase, items: Sequence[Item], item_gas: int = ITEM_GAS) -> tuple[Outcome, ...]:
    """Say what would become of a batch."""
    data = batch.encode_batch(items[0][0].token.address, items, item_gas)
    return batch.decode_outcomes(ask(chain, data, batch.gas_limit(len(items), item_gas)), len(items))


def simulation_gas(count: int, item_gas: int) -> int:
    """Return the gas for an eth_call of a simulation with which no item is left untried: it calls itself for each."""
    return batch.gas_limit(count, item_gas) + count * 2_000 + item_gas // 31 + 2_000


def one_by_one(
    chain: LocalBase, items: Sequence[Item], item_gas: int = ITEM_GAS, gas: int | None = None
) -> tuple[Outcome, ...]:
    """Say what would become of each item alone."""
    data = batch.encode_simulation(items[0][0].token.address, items, item_gas)
    answer = ask(chain, data, simulation_gas(len(items), item_gas) if gas is None else gas)
    return batch.decode_outcomes(answer, len(items))


def used(chain: LocalBase, items: Sequence[Item]) -> list[bool]:
    """Return which nonces the token knows as used."""
    return [chain.authorization_state(to_hex(auth.authorizer), to_hex(auth.nonce)) for auth, _ in items]

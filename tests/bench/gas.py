"""T6: the gas of a settlement in a batch, as a multiple of the same settlement's in a transaction of its own.

The chain counts exactly, so one round says as much as a hundred. Payers and payee hold the token already, as they do in daily
business, and every nonce is new. The token stands
behind a proxy, as USDC does on Base, because what a proxy costs once in a transaction is part of what a batch saves.
"""

import itertools
from collections.abc import Iterator, Sequence

from coincurve import PrivateKey
from eth_abi.abi import encode

from contracts import batch, calls
from contracts.codec import Address, checksum, to_hex
from contracts.eip3009 import Authorization
from contracts.keccak import keccak256
from contracts.signature import address_of, load_key, sign_digest
from contracts.tokens import BASE_USDC
from sandbox.chain import LocalBase
from sandbox.devtoken import Contract
from tests.bench.figures import Ratio, Section

Item = tuple[Authorization, bytes]
Call = tuple[Address, bytes]

SIZES = (1, 5, 20, 50, 100)
MOST = max(SIZES)
SHAPES = {"1 payer": 1, "5 payers": 5, "distinct payers": MOST}
FEW, DISTINCT = ("1 payer", "5 payers"), "distinct payers"
FEW_TARGET, DISTINCT_TARGET = 0.54, 0.60
KNEE_FEW, KNEE_DISTINCT = 20, 50
ITEM_GAS = 120_000
BLOCK_GAS = 10**9
TOKEN = BASE_USDC.address
PAYEE = Address(b"\x22" * 20)
TOKEN_CODE = Address(b"\xbb" * 20)
IMPLEMENTATION_SLOT = to_hex(keccak256(b"org.zeppelinos.proxy.implementation"))
ANY_CALLS = Address(b"\xaa" * 20)
AGGREGATE = calls.selector("aggregate3((address,bool,bytes)[])")
FAR = 2**40


def measure(_rounds: int, _scale: float) -> Section:
    """Run the section; rounds and load mean nothing here."""
    section = Section("T6", "gas of one settlement in a batch / in a transaction of its own")
    nonces = itertools.count()
    with LocalBase.start(block_time_s=None) as chain:
        created = _prepare(chain)
        alone = _send(chain, (TOKEN, calls.encode_transfer_vrs(*_items(nonces, 1, 1)[0])), 1)
        for way, call in (("batch", _batch), ("any calls", _any_calls)):
            for shape, payers in SHAPES.items():
                row = section.rows[f"{way}, {shape}"] = {}
                for count in SIZES:
                    row[_column(count)] = _send(chain, call(_items(nonces, count, payers)), count) / count / alone
    for shape in FEW:
        section.ratios.append(_worst(section, f"batch, {shape}", KNEE_FEW, FEW_TARGET))
    section.ratios.append(_worst(section, f"batch, {DISTINCT}", KNEE_DISTINCT, DISTINCT_TARGET))
    section.notes.append(f"alone {alone:,} gas; deploying the contract, once on each chain, {created:,} gas")
    section.notes.append(_bytes_note(_items(nonces, MOST, MOST)))
    return section


def _key(number: int) -> PrivateKey:
    return load_key(keccak256(b"payer %d" % number))


def _items(nonces: Iterator[int], count: int, payers: int) -> list[Item]:
    found = []
    for number in range(count):
        key = _key(number % payers)
        nonce = keccak256(next(nonces).to_bytes(8, "big"))
        auth = Authorization(BASE_USDC, address_of(key), PAYEE, 10_000, 0, FAR, nonce)
        found.append((auth, sign_digest(key, auth.digest)))
    return found


def _prepare(chain: LocalBase) -> int:
    """Put the token behind a proxy, deploy, place the other contestant, give everybody tokens; return what deploying cost."""
    chain.rpc("evm_setBlockGasLimit", hex(BLOCK_GAS))
    chain.place_code(checksum(ANY_CALLS), Contract.load("DevAggregate"))
    chain.place_code(checksum(TOKEN_CODE), Contract.load("DevUSDC"))
    chain.place_code(checksum(TOKEN), Contract.load("DevProxy"))
    chain.rpc("anvil_setStorageAt", checksum(TOKEN), IMPLEMENTATION_SLOT, to_hex(TOKEN_CODE.rjust(32, b"\0")))
    holders = {address_of(_key(number)) for number in range(MOST)} | {PAYEE}
    chain.fund({checksum(holder): 100_000_000 for holder in holders})
    return _send(chain, batch.deployment(), 0)


def _batch(items: Sequence[Item]) -> Call:
    return batch.batch_address(), batch.encode_batch(TOKEN, items, ITEM_GAS)


def _any_calls(items: Sequence[Item]) -> Call:
    each = [(checksum(TOKEN), True, calls.encode_transfer_vrs(*item)) for item in items]
    return ANY_CALLS, AGGREGATE + encode(["(address,bool,bytes)[]"], [each])


def _send(chain: LocalBase, call: Call, settled: int) -> int:
    to, data = call
    request = {"from": chain.relayer, "to": checksum(to), "data": to_hex(data), "gas": hex(batch.TRANSACTION_GAS_MAX)}
    receipt = chain.receipt(chain.rpc("eth_sendTransaction", request))
    # One that failed would look cheap: each must have left AuthorizationUsed and Transfer.
    if len(receipt["logs"]) != 2 * settled:
        raise RuntimeError(f"{settled} settlements left {len(receipt['logs'])} logs")
    return int(receipt["gasUsed"], 16)


def _worst(section: Section, row: str, from_count: int, target: float) -> Ratio:
    value = max(section.rows[row][_column(count)] for count in SIZES if count >= from_count)
    return Ratio(f"{row}, {from_count} or more at once / alone", value, target)


def _column(count: int) -> str:
    return f"{count} at once"


def _bytes_note(items: Sequence[Item]) -> str:
    alone = len(calls.encode_transfer_vrs(*items[0]))
    ours, theirs = (len(call(items)[1]) / len(items) for call in (_batch, _any_calls))
    return f"call data of each: {alone} bytes alone, {ours:.0f} in a batch of {len(items)}, {theirs:.0f} as any calls"

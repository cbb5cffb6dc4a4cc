"""The hand-made charge against a real Tempo: it is taken under the hash that we knew, and its own logs prove it."""

import dataclasses
import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest

from contracts.attribution import attribution_memo
from contracts.codec import Address, parse_address, parse_bytes32, to_hex
from contracts.keccak import keccak256
from contracts.logs import Log, decode_transfer_with_memo, parse_log
from contracts.signature import address_of, load_key, sign_digest
from contracts.tempo import TempoCharge, TempoTransfer
from contracts.tempo_proof import TempoSettled, prove_tempo_charge, tempo_fee_base
from contracts.tokens import MODERATO_PATHUSD
from sandbox.tempo.chain import LocalTempo, RpcError
from tests.tempo_sponsor import complete

TOKEN = MODERATO_PATHUSD.address
PAYEE, SPLIT = Address(b"\x51" * 20), Address(b"\x52" * 20)
REALM = "api.example.com"
_CHALLENGES = itertools.count(1)


@pytest.fixture(scope="module")
def tempo() -> Iterator[LocalTempo]:
    """One chain for this file."""
    with LocalTempo.start() as chain:
        yield chain


def key_of(chain: LocalTempo, index: int) -> Any:
    """Return the key of a rich account."""
    return load_key(parse_bytes32(chain.dev_account(index)[1]))


def charge_of(
    key: Any, *splits: TempoTransfer, value: int = 1_234, lives_s: int = 25, sponsored: bool = False
) -> TempoCharge:
    """Return a charge with a challenge of its own."""
    memo = attribution_memo(REALM, f"challenge-{next(_CHALLENGES)}")
    return TempoCharge(
        token=MODERATO_PATHUSD,
        wallet=address_of(key),
        transfers=(TempoTransfer(PAYEE, value, memo), *splits),
        valid_before=int(time.time()) + lives_s,
        gas=1_000_000,
        max_fee_per_gas=40 * 10**9,
        max_priority_fee_per_gas=10**9,
        sponsored=sponsored,
    )


def signed(charge: TempoCharge, key: Any) -> bytes:
    """Return the signed bytes."""
    return charge.encode(sign_digest(key, charge.signing_hash))


def send(chain: LocalTempo, raw: bytes) -> str:
    """Send a raw transaction."""
    return str(chain.rpc("eth_sendRawTransaction", to_hex(raw)))


def facts_of(receipt: dict[str, Any]) -> tuple[list[Log], int]:
    """Read a receipt's logs and status."""
    return [parse_log(log) for log in receipt["logs"]], int(receipt["status"], 16)


def proven(charge: TempoCharge, receipt: dict[str, Any]) -> TempoSettled:
    """Prove a charge from its receipt, by the log that bears its memo."""
    found, status = facts_of(receipt)
    noted = [(log, decode_transfer_with_memo(log)) for log in found]
    (log,) = [log for log, event in noted if event is not None and event.memo == charge.memo]
    result = prove_tempo_charge(charge.terms, log, found, status)
    assert isinstance(result, TempoSettled), result
    less = dataclasses.replace(charge.terms.transfers[0], value_base=charge.terms.transfers[0].value_base - 1)
    other = dataclasses.replace(charge.terms, transfers=(less, *charge.terms.transfers[1:]))
    assert not isinstance(prove_tempo_charge(other, log, found, status), TempoSettled)
    return result


@pytest.mark.parametrize("splits", [(), (TempoTransfer(SPLIT, 5), TempoTransfer(PAYEE, 7, b"\x01" * 32))])
def test_a_charge_that_pays_its_own_fee(tempo: LocalTempo, splits: tuple[TempoTransfer, ...]) -> None:
    """The hash is known beforehand; the wallet loses the amount and the proven fee; the same bytes again do nothing."""
    key = key_of(tempo, 0)
    charge = charge_of(key, *splits)
    raw = signed(charge, key)
    owner = to_hex(charge.wallet)
    before = tempo.balance_of(owner)

    sent = send(tempo, raw)
    assert parse_bytes32(sent) == charge.tx_hash(raw)
    result = proven(charge, tempo.receipt(sent))
    assert 0 < result.fee_base <= charge.max_fee_base
    assert before - tempo.balance_of(owner) == charge.amount_base + result.fee_base

    send(tempo, raw)
    assert tempo.memo_transfers(to_hex(charge.memo))[0].tx_hash == sent
    assert before - tempo.balance_of(owner) == charge.amount_base + result.fee_base


def test_p4_a_hand_over_is_collected_once_whoever_sponsors_it(tempo: LocalTempo) -> None:
    """P4: two sponsors complete one signature to two transactions; one is taken, and the wallet pays no fee."""
    key = key_of(tempo, 1)
    charge = charge_of(key, TempoTransfer(SPLIT, 5), sponsored=True)
    hand_over = signed(charge, key)
    assert charge.tx_hash(hand_over) is None
    first, second = (complete(hand_over, key_of(tempo, sponsor), TOKEN) for sponsor in (2, 3))
    before = tempo.balance_of(to_hex(charge.wallet))

    result = proven(charge, tempo.receipt(send(tempo, first)))
    assert result.fee_base == 0
    send(tempo, second)
    height = tempo.head()["number"]
    while tempo.head()["number"] < height + 2:
        time.sleep(0.1)
    assert tempo.rpc("eth_getTransactionReceipt", to_hex(keccak256(second))) is None
    assert len(tempo.memo_transfers(to_hex(charge.memo))) == 1
    assert before - tempo.balance_of(to_hex(charge.wallet)) == charge.amount_base


def test_p7_a_failed_charge_costs_its_fee_and_is_dead(tempo: LocalTempo) -> None:
    """P7: a charge beyond the balance fails on chain, costs the fee in its receipt, and never lands afterwards."""
    key = load_key(b"\x5a" * 32)
    charge = charge_of(key, value=60_000)
    owner = to_hex(charge.wallet)
    tempo.fund({owner: 50_000})
    raw = signed(charge, key)

    receipt = tempo.receipt(send(tempo, raw))
    found, status = facts_of(receipt)
    fee_base = tempo_fee_base(charge.wallet, TOKEN, found)
    assert status == 0
    assert 0 < fee_base <= charge.max_fee_base
    assert tempo.balance_of(owner) == 50_000 - fee_base
    assert not isinstance(prove_tempo_charge(charge.terms, found[0], found, status), TempoSettled)

    tempo.fund({owner: 500_000})
    send(tempo, raw)
    height = tempo.head()["number"]
    while tempo.head()["number"] < height + 2:
        time.sleep(0.1)
    assert tempo.balance_of(owner) == 550_000 - fee_base


def test_what_the_node_refuses(tempo: LocalTempo) -> None:
    """An expired charge, and one whose highest fee the wallet does not hold, never enter the pool."""
    rich, poor = key_of(tempo, 0), load_key(b"\x5b" * 32)
    with pytest.raises(RpcError, match="valid_before"):
        send(tempo, signed(charge_of(rich, lives_s=-1), rich))
    penniless = charge_of(poor)
    with pytest.raises(RpcError, match=f"need {penniless.max_fee_base}"):
        send(tempo, signed(penniless, poor))


def test_the_chain_has_the_token_of_our_table(tempo: LocalTempo) -> None:
    """The dev chain's first token is the one that we call pathUSD."""
    assert parse_address(tempo.token_address) == TOKEN
    assert tempo.chain_id == MODERATO_PATHUSD.chain_id

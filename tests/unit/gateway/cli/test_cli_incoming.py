"""The operator's calls about received money and sellers, on a real store."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from test_cli_operations import Bench

from gateway.core import commands as c
from gateway.core.paid import Incoming
from gateway.core.paid_commands import BookIncoming
from gateway.core.records import Evidence
from gateway.store.sqlite import SqliteStore
from tests.factories import ASSET, CHAIN_ID, NOW_MS, PAYEE, TOKEN, WALLET, make_account, make_key

PAID_TO = "0x8eCbd65228930060363C70854da7D37D57ffC358"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """An account, and two receipts of five dollars that are nobody's."""
    store = await SqliteStore.open(tmp_path / "gateway.db")
    for command in (c.OpenAccount(make_account()), c.AddKey(make_key()), received(1), received(2)):
        assert isinstance(await store.post(command), c.Done)
    yield Bench(store)
    await store.close()


def received(n: int) -> BookIncoming:
    """Return a stranger's transfer of five dollars."""
    incoming = Incoming(
        id=f"rcv_{n}",
        chain_id=CHAIN_ID,
        token=TOKEN,
        asset=ASSET,
        till=WALLET,
        sender=PAYEE,
        value_base=5_000_000,
        tx_hash=bytes((n,)) * 32,
        log_index=n,
        block_number=100 + n,
        block_time_s=NOW_MS // 1000,
        nonce=None,
        at_ms=NOW_MS,
        amount_base=5_000_000,
    )
    evidence = Evidence("received", CHAIN_ID, 100 + n, bytes(32), NOW_MS // 1000, ("a", "b"))
    evidence = replace(evidence, tx_hash=incoming.tx_hash, log_index=n, value_base=5_000_000)
    return BookIncoming(incoming, evidence, None, None, "", f"task_{n}", NOW_MS)


async def test_the_queue_ends_by_naming_whose_it_is(bench: Bench) -> None:
    """Each with its task: to an account, which is credited once, or to the house; the list pages, and gets empty."""
    first = await bench.ask("incoming_list", limit=1)
    assert ([row["id"] for row in first["incoming"]], first["next"]) == (["rcv_1"], "rcv_1")
    resolved = await bench.ask("incoming_resolve", receipt="rcv_1", account="acc_1", note="told us by mail")
    assert (resolved["changed"], resolved["incoming"]["state"], resolved["incoming"]["refundable"]) == (
        True,
        "credited",
        False,
    )
    again = await bench.ask("incoming_resolve", receipt="rcv_1", account="acc_1", note="told us by mail")
    assert not again["changed"]
    assert bench.store.view.balances["acc_1"].available_base == 5_000_000
    capital = await bench.ask("incoming_resolve", receipt="rcv_2", capital=True, note="our own float")
    assert capital["incoming"]["state"] == "capital"
    assert (await bench.ask("incoming_list"))["incoming"] == []
    assert [row["id"] for row in (await bench.ask("incoming_list", account="acc_1"))["incoming"]] == ["rcv_1"]
    assert (await bench.ask("tasks_list"))["tasks"] == []
    assert await bench.store.contradiction() is None


async def test_a_decision_names_one_owner_and_a_reason(bench: Bench) -> None:
    """Nobody, both, nobody that exists, no reason: nothing is changed."""
    for wrong in (
        {"note": "why"},
        {"account": "acc_1", "capital": True, "note": "why"},
        {"account": "acc_1"},
    ):
        assert (await bench.refused("incoming_resolve", receipt="rcv_1", **wrong)).code == "bad_request"
    assert (await bench.refused("incoming_resolve", receipt="rcv_1", account="acc_9", note="why")).code == "not_found"
    assert (await bench.refused("incoming_resolve", receipt="rcv_9", capital=True, note="why")).code == "not_found"
    assert (await bench.refused("incoming_list", account="acc_9")).code == "not_found"
    await bench.ask("incoming_resolve", receipt="rcv_1", capital=True, note="ours")
    late = await bench.refused("incoming_resolve", receipt="rcv_1", account="acc_1", note="theirs")
    assert late.code == "changed_meanwhile"


async def test_sellers_terms_are_set_replaced_and_ended(bench: Bench) -> None:
    """What is in force is what was said last; terms that ended may be set again."""
    one = await bench.ask("sellers_set", account="acc_1", gas_budget="0.01", latency="0.5", payees=[PAID_TO])
    assert one["seller"] == {
        "account": "acc_1",
        "gas_budget": "0.01",
        "window_s": 86_400,
        "latency_s": 0.5,
        "payees": [PAID_TO],
        "set_at": "2027-01-15T08:00:00.000Z",
        "ended_at": None,
    }
    terms = bench.store.view.sellers["acc_1"]
    assert (terms.gas_budget_wei, terms.version) == (10**16, 1)
    await bench.ask("sellers_set", account="acc_1", gas_budget="1", window=60)
    assert [row["gas_budget"] for row in (await bench.ask("sellers_list"))["sellers"]] == ["1"]
    assert bench.store.view.sellers["acc_1"].payees == ()
    assert (await bench.ask("sellers_end", account="acc_1"))["changed"]
    assert not (await bench.ask("sellers_end", account="acc_1"))["changed"]
    assert (await bench.ask("sellers_list"))["sellers"] == []
    await bench.ask("sellers_set", account="acc_1", gas_budget="0")
    assert bench.store.view.sellers["acc_1"].version == 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"gas_budget": "-1"},
        {"gas_budget": "0.0000000000000000001"},
        {"gas_budget": "1e3"},
        {"gas_budget": "\u0661"},
        {"gas_budget": "1", "latency": "soon"},
        {"gas_budget": "1", "payees": ["0x12"]},
        {"gas_budget": "1", "window": -1},
        {},
    ],
)
async def test_terms_that_cannot_be_read_are_refused(bench: Bench, wrong: dict[str, object]) -> None:
    """Nothing is guessed about who may burn our gas."""
    assert (await bench.refused("sellers_set", account="acc_1", **wrong)).code == "bad_request"


async def test_only_an_account_is_a_seller(bench: Bench) -> None:
    """A name that does not exist gets no terms, and has none to end."""
    assert (await bench.refused("sellers_set", account="acc_9", gas_budget="1")).code == "not_found"
    assert (await bench.refused("sellers_end", account="acc_1")).code == "not_found"

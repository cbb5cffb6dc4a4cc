"""The journal as events: one account's page is what everybody's page holds of it, and costs no other account's payments."""

import re
from pathlib import Path

import pytest

from gateway.core import commands as c
from gateway.core.events import project
from gateway.core.records import AgentAccount
from gateway.store.core import connect, migrate
from gateway.store.sqlite import SqliteStore
from gateway.store.told import TELLABLE_OF_ACCOUNT, TellableJournal
from tests.factories import (
    METERED,
    NOW_MS,
    make_balance,
    make_created,
    make_credit,
    make_dead,
    make_float,
    make_hook,
    make_key,
    make_meter,
    make_order,
    make_outcome,
    make_purchase,
    make_resource,
    make_server,
    make_settled,
)

OWNERS = ("acc_1", "acc_2")


async def filled(store: SqliteStore) -> None:
    """Let both accounts buy, hold, lose, rent by the hour, run out of money and have servers, one by turns."""
    await store.post(make_float())
    await store.post(make_balance())
    for n, account_id in enumerate(OWNERS, 1):
        own = {"account_id": account_id, "key_id": f"key_{n}"}
        for command in (
            c.OpenAccount(AgentAccount(account_id, account_id, NOW_MS)),
            c.AddKey(make_key(n, account_id=account_id)),
            make_credit(n, account_id=account_id),
            make_purchase(n, **own),
            make_outcome(n),
            make_settled(n),
            make_purchase(n + 10, **own),
            make_dead(n + 10),
            c.Put(make_server(n, payment_id=f"pay_{n:04}", **own), "ordered", NOW_MS, {}),
            c.Put(make_hook(n, account_id=account_id), "created", NOW_MS, {}),
            make_order(n + 20, meter=make_meter(n + 20, **own)),
            make_created(n + 20, resource=make_resource(n + 20, vendor=METERED, account_id=account_id)),
            c.WarnMeter(f"met_{n + 20:04}", unfunded=False, at_ms=NOW_MS),
            c.WarnMeter(f"met_{n + 20:04}", unfunded=True, at_ms=NOW_MS),
            c.RevokeKey(f"key_{n}", account_id, NOW_MS),
        ):
            result = await store.post(command)
            assert isinstance(result, c.Done), (command, result)


@pytest.mark.parametrize("limit", [3, 1_000])
async def test_a_page_of_an_account_is_its_part_of_everybodys(tmp_path: Path, limit: int) -> None:
    """Whoever's payment, meter or name a row has; in pages of any length."""
    store = await SqliteStore.open(tmp_path / "gateway.db")
    try:
        await filled(store)
        history, end = TellableJournal(store), store.view.journal_seq
        everything = [event for event in map(project, await history.page(0, end, 1_000)) if event is not None]
        for account_id in OWNERS:
            own = [event for event in everything if event.account_id == account_id]
            found, after = [], 0
            while rows := await history.page(after, end, limit, account_id):
                found += [project(row) for row in rows]
                after = rows[-1].seq
            assert found == own
            assert {event.type for event in own} >= {
                *("payment.held", "payment.settled", "payment.captured", "payment.voided", "balance.credited"),
                *("balance.low", "balance.exhausted", "server.ordered", "key.added", "key.revoked"),
            }
        assert await history.page(0, end, 1_000, "acc_3") == []
    finally:
        await store.close()


def test_whose_a_row_is_takes_no_look_at_others_payments() -> None:
    """It is found in the account's own part of an index, before the row's payment is read."""
    db = connect(":memory:")
    migrate(db)
    names = set(re.findall(r":([a-z_]+)", TELLABLE_OF_ACCOUNT))
    plan = [str(row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN {TELLABLE_OF_ACCOUNT}", dict.fromkeys(names))]
    asked = [n for n, step in enumerate(plan) if "COVERING INDEX payments_account (account_id=? AND id=?)" in step]
    read = [n for n, step in enumerate(plan) if step.startswith("SEARCH p ")]
    assert asked
    assert read
    assert max(asked) < min(read)
    assert not [step for step in plan if step.startswith("SCAN")]

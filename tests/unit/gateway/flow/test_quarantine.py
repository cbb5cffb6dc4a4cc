"""An older copy of the database: recognised, kept from spending, and released by the chain or by the operator (P12)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contracts.tokens import BASE_USDC
from gateway.config import Config, parse_config
from gateway.core.commands import MoveCursor, RevokeKey, SetFreeze
from gateway.core.times import utc_text
from gateway.flow.heads import Heads
from gateway.flow.quarantine import BY, SCOPE, Quarantine
from gateway.graph import WATERMARK_PAUSE_S, Gateway, Parts, assemble
from gateway.http.courier import Courier
from gateway.ports import Block
from gateway.system import SystemEntropy
from tests.unit.gateway.flow.spend_bed import NOW_MS, PAYEE, WALLET, Bed, opened
from wallets.secret import Secret
from wallets.watermark import Mark, Standing

CHAIN_ID = BASE_USDC.chain_id
PATIENCE_S = 40.0
NOW_S = NOW_MS // 1000
OTHER = b"\xee" * 32
CONFIG = f"""\
[keystore]
passphrase = "env:PASSPHRASE"

[chains.base]
chain_id = {CHAIN_ID}
rpc = ["https://one.example/", "https://two.example/"]

[tokens.base-usdc]

[wallets.main]
address = "0x{WALLET.hex()}"
tokens = ["base-usdc"]
max_value = "100"

[vendors.shop]
kind = "x402"
base_url = "https://shop.example"
wallet = "main"
tokens = ["base-usdc"]
payees = ["0x{PAYEE.hex()}"]
ceiling = "25"
"""


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    """A funded book whose mark is behind it, as after a first start."""
    async with opened(tmp_path) as running:
        yield running


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A configuration of one shop."""
    return parse_config(CONFIG, {"PASSPHRASE": "x"}, directory=tmp_path)


def quarantine(bed: Bed, heads: Heads | None = None) -> Quarantine:
    """Return the quarantine of a book that pays on Base."""
    return Quarantine(
        store=bed.store,
        watermark=bed.watermark,
        heads=heads or bed.heads,
        chain_ids=(CHAIN_ID,),
        clock=bed.clock,
        entropy=SystemEntropy(),
    )


def gateway(bed: Bed, config: Config) -> Gateway:
    """Return the whole graph on the bed's parts, without a chain."""
    parts = Parts(
        store=bed.store,
        upstream=bed.line,
        chains={},
        signers={WALLET: bed.signer},
        guard=bed.guard,
        data_key=Secret(b"\x22" * 32),
        watermark=bed.watermark,
        clock=bed.clock,
        entropy=SystemEntropy(),
        own_addresses=frozenset({WALLET}),
        business=bed.clock,
        vendor_secrets={},
        broadcasters={},
        posting=Courier(),
    )
    return assemble(config, parts)


def journal(bed: Bed) -> Mark:
    """Return the mark that the journal's end would make, with the mark's own window."""
    return Mark(bed.store.view.journal_seq, bed.store.view.journal_head, bed.watermark.read().max_valid_before)


async def read_to(bed: Bed, heads: Heads, final: Block) -> None:
    """Let a tracker have seen a final block, and booked everything up to it."""
    heads.saw(CHAIN_ID, final, final)
    await bed.store.post(MoveCursor(CHAIN_ID, final.number, final.hash, final.time_s))


async def test_a_true_database_moves_the_mark_to_its_end(bed: Bed) -> None:
    """What recovery may present before the next purchase is known outside of the database at once."""
    assert await quarantine(bed).judge() is Standing.CURRENT
    assert bed.watermark.read() == journal(bed)
    assert bed.store.view.freezes == {}


@pytest.mark.parametrize(
    ("ahead", "standing"), [(1, Standing.OLDER), (10**6, Standing.OLDER), (0, Standing.FORKED), (-1, Standing.FORKED)]
)
async def test_another_database_is_frozen_and_a_human_is_asked(bed: Bed, ahead: int, standing: Standing) -> None:
    """A journal that does not reach the mark, or differs at it, spends nothing until a time that is told; the mark stays."""
    mark = Mark(bed.store.view.journal_seq + ahead, OTHER, NOW_S + 900)
    bed.watermark.record(mark.height, mark.hash, mark.max_valid_before)
    assert await quarantine(bed).judge() is standing
    freeze = bed.store.view.freezes[SCOPE]
    assert freeze.by == BY
    assert freeze.reason.endswith(f"is past {utc_text((NOW_S + 900) * 1000)}")
    assert await bed.tasks() == [("database_quarantined", "database")]
    assert bed.watermark.read() == mark
    problem = await bed.refused("/priced/x")
    assert (problem.code, problem.detail) == ("frozen", "the operator has frozen this database")
    assert bed.line.presented == []


async def test_a_second_start_asks_no_second_time(bed: Bed) -> None:
    """The same copy started again is frozen by the same freeze, with the one task."""
    bed.watermark.record(bed.store.view.journal_seq + 50, OTHER, NOW_S + 900)
    for _ in range(2):
        assert await quarantine(bed).judge() is Standing.OLDER
    assert await bed.tasks() == [("database_quarantined", "database")]


async def test_it_ends_once_the_chain_has_told_all(bed: Bed) -> None:
    """Every chain's booked final block is past the last window that was ever signed, not at it and not before."""
    end_s = NOW_S + 900
    bed.watermark.record(bed.store.view.journal_seq + 50, OTHER, end_s)
    heads = Heads()
    held = quarantine(bed, heads)
    await held.judge()
    assert not await held.lift()
    heads.saw(CHAIN_ID, Block(300, b"\x08" * 32, end_s + 1), Block(300, b"\x08" * 32, end_s + 1))
    assert not await held.lift()  # final, and not booked yet
    await read_to(bed, heads, Block(200, b"\x09" * 32, end_s))
    assert not await held.lift()  # booked, and the last window may still be open
    await read_to(bed, heads, Block(201, b"\x0a" * 32, end_s + 1))
    assert await held.lift()
    assert bed.store.view.freezes == {}
    assert bed.watermark.read() == journal(bed)
    assert await quarantine(bed, heads).judge() is Standing.CURRENT
    assert (await bed.run("/priced/x")).status == 200


async def test_a_freeze_of_the_operators_is_not_lifted(bed: Bed) -> None:
    """Only what the quarantine froze ends by itself."""
    await bed.freeze("all")
    assert not await quarantine(bed).lift()
    assert "all" in bed.store.view.freezes


# the mark between purchases


async def reaches(bed: Bed, mark: Mark) -> None:
    """Wait until the mark stands there. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE_S):
        while bed.watermark.read() != mark:  # noqa: ASYNC110 - a file tells nobody that it has changed
            await asyncio.sleep(0.01)


async def test_the_mark_follows_the_journal_every_second(bed: Bed, config: Config) -> None:
    """P12: a key that is revoked without a purchase after it does not come back with an older copy."""
    assert WATERMARK_PAUSE_S == 1.0
    loops = gateway(bed, config).loops(lambda: None)
    loops.start()
    try:
        await reaches(bed, journal(bed))
        await bed.post(RevokeKey(bed.keys["acc_2"].id, "acc_2", NOW_MS))
        await reaches(bed, journal(bed))
    finally:
        await loops.stop(5.0)


async def test_a_quarantined_journal_does_not_move_the_mark(bed: Bed, config: Config) -> None:
    """Else the older copy would pass for the true one at its next start."""
    made = gateway(bed, config)
    mark = Mark(bed.store.view.journal_seq + 2, OTHER, NOW_S + 900)
    bed.watermark.record(mark.height, mark.hash, mark.max_valid_before)
    await made.prepare()
    for number in range(5):
        await bed.post(SetFreeze(f"vendor:{number}", frozen=True, reason="drill", by="me", at_ms=NOW_MS))
        await made._sync_watermark()
    assert bed.store.view.journal_seq > mark.height
    assert bed.watermark.read() == mark


async def test_another_freeze_does_not_stop_the_mark(bed: Bed, config: Config) -> None:
    """The operator's freeze of everything is part of the true journal."""
    await bed.freeze("all")
    await gateway(bed, config)._sync_watermark()
    assert bed.watermark.read() == journal(bed)


async def test_an_accepted_database_is_the_true_one_from_then_on(bed: Bed, config: Config) -> None:
    """After a forced lift the mark stands at this journal, lower or not, and keeps the last window's end."""
    made = gateway(bed, config)
    bed.watermark.record(bed.store.view.journal_seq + 50, OTHER, NOW_S + 900)
    await made.prepare()
    await bed.post(SetFreeze(SCOPE, frozen=False, reason="checked by hand", by="me", at_ms=NOW_MS))
    made.accept_database()
    assert bed.watermark.read() == journal(bed)
    assert bed.watermark.read().max_valid_before == NOW_S + 900
    assert await quarantine(bed).judge() is Standing.CURRENT
    assert (await bed.run("/priced/x")).status == 200
    await made._sync_watermark()
    assert bed.watermark.read() == journal(bed)

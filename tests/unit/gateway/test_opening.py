"""What is demanded of a configuration and a database before anything is served."""

import contextlib
import time
from pathlib import Path

import pytest

from contracts.tokens import BASE_USDC
from gateway.app import LOST_MARK, _require_all_followed, _watermark
from gateway.config import Config, ConfigError, parse_config
from gateway.core import commands as c
from gateway.core.view import View
from gateway.store.sqlite import SqliteStore
from tests.factories import make_account, make_key
from tests.paid_factories import TILL, book, paying, refund

OTHER_TILL = b"\x12" * 20
CONFIG = """\
[keystore]
passphrase = "env:PASSPHRASE"

[chains.base]
chain_id = 8453
rpc = ["https://one.example/", "https://two.example/"]

[tokens.base-usdc]

[tills.main]
address = "0x{till}"
tokens = ["base-usdc"]
"""


def config(folder: Path, till: bytes) -> Config:
    """Return a configuration of one till."""
    return parse_config(CONFIG.format(till=till.hex()), {"PASSPHRASE": "x"}, directory=folder)


def test_m5_a_start_without_the_till_of_an_open_order_is_refused(tmp_path: Path) -> None:
    """Its payment would come to an address that nobody reads."""
    order = paying(1, token=BASE_USDC.address)
    view = View(topups={order.id: order}, till_cursors={(8453, TILL, bytes(BASE_USDC.address)): (7, bytes(32))})
    _require_all_followed(config(tmp_path, TILL), view)
    with pytest.raises(ConfigError, match="1 open order or refund needs it"):
        _require_all_followed(config(tmp_path, OTHER_TILL), view)


async def test_p12_a_mark_that_is_missing_beside_refunds_is_a_lost_one(tmp_path: Path) -> None:
    """What the tills signed is as unknown then as what the wallets signed; beside nothing it is a first start."""
    made = config(tmp_path, TILL)
    made.keystore.watermark.parent.mkdir(parents=True, exist_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        store = await SqliteStore.open(tmp_path / "gateway.db")
        stack.push_async_callback(store.close)
        paid_in = book(1, account_id="acc_1", refundable=True)
        for command in (c.OpenAccount(make_account()), c.AddKey(make_key()), paid_in):
            assert isinstance(await store.post(command), c.Done)
        first = await _watermark(made, store)
        stack.callback(first.close)
        assert first.read().height == 0
        made.keystore.watermark.unlink()
        assert isinstance(await store.post(refund(1)), c.Done)
        lost = await _watermark(made, store)
        stack.callback(lost.close)
        assert lost.read().height == LOST_MARK
        assert lost.read().max_valid_before > time.time()

"""Asking the running gateway: how long a command waits for its answer."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from gateway.cli import operate
from gateway.cli.exits import CliError

PATIENCE_S = 0.05


@pytest.fixture
async def slow_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    """A gateway that takes ten times as long as a command waits."""

    async def answer(_request: web.Request) -> web.Response:
        await asyncio.sleep(PATIENCE_S * 10)
        return web.json_response({"verified": True})

    monkeypatch.setattr(operate, "TIMEOUT_S", PATIENCE_S)
    app = web.Application()
    app.router.add_post("/operator/{name}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    place = tmp_path / "operator.sock"
    await web.UnixSite(runner, str(place)).start()
    yield place
    await runner.cleanup()


async def test_what_reads_the_whole_book_is_waited_for(slow_server: Path) -> None:
    """A proof takes as long as the books are large; to give up and ask again would never end."""
    assert await asyncio.to_thread(operate.ask_server, slow_server, "journal_verify", {}) == {"verified": True}


async def test_everything_else_is_given_up(slow_server: Path) -> None:
    """A server that hangs must not hang its operator, who is told that the call may have been carried out."""
    with pytest.raises(CliError, match="may or may not have been carried out"):
        await asyncio.to_thread(operate.ask_server, slow_server, "account_list", {})

"""Serves one vendor process: both ports, the tick of the business clock, the ready line, the end on a signal.

It must not know which vendor it serves.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from typing import TYPE_CHECKING, Any

from aiohttp import web

from sandbox.process import announce_ready, child_config
from sandbox.shared_vendor.config import BaseConfig, read_config

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.shared_vendor.vendor import SandboxVendor

    Build = Callable[[Any], tuple[SandboxVendor, web.Application, web.Application]]

log = logging.getLogger("sandbox.vendor")


def main(kind: type[BaseConfig], build: Build) -> None:
    """Read the config, build vendor, public and admin application from it, and serve until SIGTERM or SIGINT."""
    try:
        config = read_config(kind, child_config())
        parts = build(config)
    except (ValueError, TypeError) as error:
        raise SystemExit(f"config: {error}") from error
    logging.basicConfig(
        level=config.log_level, stream=sys.stderr, format="%(asctime)s %(name)s %(levelname)s %(message)s"
    )
    asyncio.run(_serve(config, *parts))


async def _serve(
    config: BaseConfig, vendor: SandboxVendor, public_app: web.Application, admin_app: web.Application
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    public = await _listen(public_app, config.host, config.port)
    admin = await _listen(admin_app, config.host, config.admin_port)
    vendor.origin = config.public_url or _url(public)
    ticking = asyncio.create_task(_tick(vendor, config.tick_s))
    announce_ready(base_url=_url(public), admin_url=_url(admin))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({ticking, stopped}, return_when=asyncio.FIRST_COMPLETED)
    broken = ticking.done()
    for task in (ticking, stopped):
        task.cancel()
    await vendor.close()
    for runner in (public, admin):
        await runner.cleanup()
    if broken:
        await ticking  # a clock that broke ends the vendor, loudly


async def _tick(vendor: SandboxVendor, every_s: float) -> None:
    while True:
        vendor.timeline.play()
        await asyncio.sleep(every_s)


async def _listen(app: web.Application, host: str, port: int) -> web.AppRunner:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner


def _url(runner: web.AppRunner) -> str:
    host, port = runner.addresses[0][:2]
    return f"http://{host}:{port}"

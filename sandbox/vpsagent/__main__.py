"""Runs the vendor: `python -m sandbox.vpsagent --config FILE|JSON|-`.

Prints one JSON line `{base_url, admin_url, ssh_port, relayer, pay_to}` when it serves, and ends on SIGTERM, SIGINT or
its parent's death.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys

from aiohttp import web

from sandbox.process import announce_ready, child_config
from sandbox.vpsagent.admin import admin_app
from sandbox.vpsagent.app import public_app
from sandbox.vpsagent.config import Config, read_config
from sandbox.vpsagent.vendor import Vendor
from sandbox.vpsagent.worker import Worker

# aiohttp's default of 8190 bytes would refuse long X-Payment headers before a handler sees them.
HEADER_LIMIT = 65_536


async def serve(config: Config) -> None:
    """Serve until a signal."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    vendor = Vendor(config)
    public = await _listen(public_app(vendor), config.host, config.port)
    admin = await _listen(admin_app(vendor), config.host, config.admin_port)
    vendor.origin = _url(public)
    vendor.save()
    worker = asyncio.create_task(Worker(vendor).run())
    announce_ready(
        base_url=vendor.origin,
        admin_url=_url(admin),
        ssh_port=vendor.boxes.ssh_port,
        relayer=vendor.payments.relayer,
        pay_to=config.pay_to,
    )
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({worker, stopped}, return_when=asyncio.FIRST_COMPLETED)
    for task in (worker, stopped):
        task.cancel()
    vendor.boxes.take_down_all()
    for runner in (public, admin):
        await runner.cleanup()
    vendor.payments.close()
    with contextlib.suppress(asyncio.CancelledError):
        await worker  # a worker that broke ends the vendor, loudly


async def _listen(app: web.Application, host: str, port: int) -> web.AppRunner:
    # No access log: it would show root tokens, which this vendor takes in the query string.
    runner = web.AppRunner(
        app, access_log=None, max_field_size=HEADER_LIMIT, max_line_size=HEADER_LIMIT, shutdown_timeout=1
    )
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner


def _url(runner: web.AppRunner) -> str:
    host, port = runner.addresses[0][:2]
    return f"http://{host}:{port}"


def main() -> None:
    """Read the config and serve."""
    try:
        config = read_config(child_config())
    except (ValueError, TypeError) as error:
        raise SystemExit(f"config: {error}") from error
    logging.basicConfig(
        level=config.log_level, stream=sys.stderr, format="%(asctime)s %(name)s %(levelname)s %(message)s"
    )
    asyncio.run(serve(config))


if __name__ == "__main__":
    main()

"""The process: opens the gateway, lets agents and the operator in, and drains when told to stop.

Must not know what requests mean.  Theory: the doors open last and close first, so no request ever meets half a gateway;
what is still under way at the end is on disk, and the next start finds it.
"""

import asyncio
import contextlib
import json
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace

import structlog
from aiohttp import web

from gateway.api.callers import Callers
from gateway.api.deps import Accounts, ApiDeps, ApiSettings, Webhooks
from gateway.api.exchange import log_request
from gateway.api.lines import JsonLines, RequestLog
from gateway.api.server import build_api
from gateway.app import USUAL, Fittings, open_gateway
from gateway.config import Config, LogConfig, LogFormat, LogLevel
from gateway.graph import Gateway
from gateway.jobs.loops import Loops
from gateway.logs import configure_logging
from gateway.operator.services import Relaying, Services, routes_of
from gateway.operator.socket import operator_socket
from gateway.vendor_hooks import hooks_of
from wallets.sealing import Sealer

LAST_ANSWERS_S = 1.0  # for answers that are being written when everything else has been waited for
EXIT_BROKEN = 70  # EX_SOFTWARE: the supervisor should start us again

log = structlog.get_logger()


class Countdown:
    """One span of time for everything that a stop waits for, however many things that are."""

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        self._ends_at: float | None = None

    def start(self) -> None:
        """Begin to count; later calls change nothing."""
        if self._ends_at is None:
            self._ends_at = time.monotonic() + self._span_s

    def left_s(self) -> float:
        """Return what is left of it, at least a moment."""
        self.start()
        return max(0.05, (self._ends_at or 0.0) - time.monotonic())


async def serve(config: Config, environ: Mapping[str, str], fittings: Fittings = USUAL) -> int:
    """Serve until SIGTERM or SIGINT (0), or until the store breaks (EXIT_BROKEN). Raises what a failed start raises.

    Prints one JSON line on standard output once agents may come.
    """
    configure_logging(config.log)
    with _bound(config) as (placed, place):
        return await _serve(placed, place, environ, fittings)


async def _serve(config: Config, place: socket.socket, environ: Mapping[str, str], fittings: Fittings) -> int:
    stop, broken = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_broken() -> None:
        broken.set()
        stop.set()

    countdown = Countdown(config.server.shutdown_timeout_s)
    async with open_gateway(config, environ, fittings) as gateway:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loops = gateway.loops(on_broken)
        gateway.paid.start()
        loops.start()
        try:
            async with (
                operator_socket(_services(gateway), config.server.operator_socket),
                _door(gateway, loops, on_broken, countdown, place),
            ):
                await stop.wait()
                countdown.start()
        finally:
            await _drain(gateway, loops, countdown)
    log.info("gateway.stopped", broken=broken.is_set())
    return EXIT_BROKEN if broken.is_set() else 0


@contextlib.contextmanager
def _bound(config: Config) -> Iterator[tuple[Config, socket.socket]]:
    """Take the port before anything is opened: what is offered for sale must say where. Nobody is let in yet."""
    server = config.server
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as place:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            place.bind((server.host, server.port))
        except OSError as error:
            raise OSError(
                f"[server] {server.host} port {server.port}: {error.strerror}; is a gateway running here?"
            ) from None
        yield replace(config, server=replace(server, port=int(place.getsockname()[1]))), place


async def _drain(gateway: Gateway, loops: Loops, countdown: Countdown) -> None:
    """Let what is under way end. First of all nothing is begun any more: what a loop began now would meet closed lines."""
    async with asyncio.TaskGroup() as ending:
        gateway.neutral.ordering.stop()
        ending.create_task(loops.stop(countdown.left_s()), name="stop loops")
        await asyncio.sleep(0)  # from here on no loop begins another turn
        await gateway.neutral.drain(countdown.left_s())
        await gateway.answers.drain(countdown.left_s())
        await gateway.recovery.drain(countdown.left_s())
        await gateway.paid.drain(countdown.left_s())


@contextlib.asynccontextmanager
async def _door(
    gateway: Gateway, loops: Loops, on_broken: Callable[[], None], countdown: "Countdown", place: socket.socket
) -> AsyncIterator[None]:
    api = build_api(_deps(gateway, loops, on_broken))
    runner = web.ServerRunner(api, shutdown_timeout=LAST_ANSWERS_S)
    await runner.setup()
    try:
        await web.SockSite(runner, place).start()
        host, port = runner.addresses[0][:2]
        sys.stdout.write(json.dumps({"base_url": f"http://{host}:{port}"}) + "\n")
        sys.stdout.flush()
        log.info("gateway.ready", host=host, port=port, vendors=sorted(gateway.config.vendors))
        yield
    finally:
        api.refuse_new()
        await api.drain(countdown.left_s())
        await runner.cleanup()


def _services(gateway: Gateway) -> Services:
    parts, by_account = gateway.parts, {} if gateway.accounts is None else gateway.accounts.vendors
    return Services(
        store=parts.store,
        clock=parts.clock,
        entropy=parts.entropy,
        routes=routes_of([*gateway.vendors.values(), *by_account.values()]),
        own_addresses=frozenset(parts.own_addresses),
        payees_changed=gateway.refresh_guard,
        accept_database=gateway.accept_database,
        account_vendors=frozenset(by_account),
        relaying=_relaying(gateway),
        unproven=gateway.unproven,
    )


def _relaying(gateway: Gateway) -> Relaying | None:
    engine, config, relays = gateway.paid.engine, gateway.config, gateway.parts.relays
    if engine is None or config.facilitator is None:
        return None
    named = [(each.name, chain_id, each.address) for chain_id in relays for each in config.relayers_on(chain_id)]
    return Relaying(named, relays, engine, config.facilitator.batch)


def _deps(gateway: Gateway, loops: Loops, on_broken: Callable[[], None]) -> ApiDeps:
    parts, server = gateway.parts, gateway.config.server
    return ApiDeps(
        store=parts.store,
        spend=gateway.spend,
        vendors=gateway.vendors,
        heads=gateway.heads,
        sealer=Sealer(parts.data_key),
        clock=parts.clock,
        entropy=parts.entropy,
        sightings=gateway.sightings.of,
        ready=gateway.reasons_not_ready,
        on_broken=on_broken,
        accounts=_accounts(gateway),
        neutral=gateway.neutral,
        webhooks=Webhooks(hooks_of(gateway.config, parts.vendor_secrets), parts.business),
        limits=gateway.limits,
        loops=loops.states,
        facilitator=gateway.paid.door,
        topups=gateway.paid.topups,
        refunds=gateway.paid.refunds,
        wallets=gateway.paid.wallets,
        deposits=gateway.paid.deposits,
        callers=Callers(server.trusted_proxies),
        request_log=_request_log(gateway.config.log),
        settings=ApiSettings(
            buffer_bytes=server.max_paid_body_bytes, stream_bytes=server.max_body_bytes, metrics=server.metrics
        ),
    )


def _accounts(gateway: Gateway) -> Accounts | None:
    side = gateway.accounts
    return None if side is None else Accounts(side.vendors, side.broker, side.tokens)


def _request_log(config: LogConfig) -> RequestLog:
    """The one line a request is the one hot line: JSON has a way of its own that costs a tenth."""
    if config.format is LogFormat.JSON and config.level in (LogLevel.DEBUG, LogLevel.INFO):
        return JsonLines(sys.stderr.write)
    return log_request

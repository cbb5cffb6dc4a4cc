"""Runs a FastAPI application on uvicorn and says when it is ready. It knows no routes."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import uvicorn

from sandbox.process import announce_ready

if TYPE_CHECKING:
    from fastapi import FastAPI

# uvicorn's default of 64 KiB for all headers together is what a long PAYMENT-SIGNATURE needs for itself.
HEADER_LIMIT = 128 * 1024


def serve(app: FastAPI, *, host: str, port: int, log_level: str, **info: Any) -> None:
    """Serve until SIGTERM; prints `{base_url, **info}` once requests are taken."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    base_url = f"http://{host}:{listener.getsockname()[1]}"
    config = uvicorn.Config(
        app,
        log_level=log_level,
        access_log=False,
        h11_max_incomplete_event_size=HEADER_LIMIT,
        timeout_graceful_shutdown=1,
    )
    _Announcing(config, {"base_url": base_url, **info}).run(sockets=[listener])


class _Announcing(uvicorn.Server):
    """uvicorn, saying when it takes requests."""

    def __init__(self, config: uvicorn.Config, info: dict[str, Any]) -> None:
        super().__init__(config)
        self._info = info

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, then print the ready line."""
        await super().startup(sockets=sockets)
        announce_ready(**self._info)

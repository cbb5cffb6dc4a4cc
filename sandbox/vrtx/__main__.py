"""Runs the vendor: `python -m sandbox.vrtx --config FILE|JSON|-`; prints `{base_url, admin_url}` when it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.shared_vendor.serving import main
from sandbox.shared_vendor.shell import public_app
from sandbox.vrtx.admin import admin
from sandbox.vrtx.config import Config
from sandbox.vrtx.gate import VrtxGate, wording
from sandbox.vrtx.routes import routes
from sandbox.vrtx.vendor import Vrtx

if TYPE_CHECKING:
    from aiohttp import web


def build(config: Config) -> tuple[Vrtx, web.Application, web.Application]:
    """The vendor and its two applications."""
    vendor = Vrtx(config)
    return vendor, public_app(vendor, VrtxGate(vendor), wording, routes(vendor)), admin(vendor)


if __name__ == "__main__":
    main(Config, build)

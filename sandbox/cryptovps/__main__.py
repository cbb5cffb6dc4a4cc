"""Runs the vendor: `python -m sandbox.cryptovps --config FILE|JSON|-`; prints `{base_url, admin_url}` when it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.cryptovps.admin import admin
from sandbox.cryptovps.config import Config
from sandbox.cryptovps.gate import CryptoGate, wording
from sandbox.cryptovps.routes import routes
from sandbox.cryptovps.vendor import CryptoVps
from sandbox.shared_vendor.serving import main
from sandbox.shared_vendor.shell import public_app

if TYPE_CHECKING:
    from aiohttp import web


def build(config: Config) -> tuple[CryptoVps, web.Application, web.Application]:
    """The vendor and its two applications."""
    vendor = CryptoVps(config)
    return vendor, public_app(vendor, CryptoGate(vendor), wording, routes(vendor)), admin(vendor)


if __name__ == "__main__":
    main(Config, build)

"""Runs the vendor: `python -m sandbox.litevps --config FILE|JSON|-`; prints `{base_url, admin_url}` when it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.litevps.account_routes import account_routes
from sandbox.litevps.admin import admin
from sandbox.litevps.config import Config
from sandbox.litevps.gate import LiteGate, wording
from sandbox.litevps.guest_routes import guest_routes
from sandbox.litevps.public_routes import public_routes
from sandbox.litevps.vendor import LiteVps
from sandbox.litevps.vps_routes import vps_routes
from sandbox.shared_vendor.serving import main
from sandbox.shared_vendor.shell import public_app

if TYPE_CHECKING:
    from aiohttp import web


def build(config: Config) -> tuple[LiteVps, web.Application, web.Application]:
    """The vendor and its two applications."""
    vendor = LiteVps(config)
    table = [*public_routes(vendor), *account_routes(vendor), *vps_routes(vendor), *guest_routes(vendor)]
    vendor.documented = table
    return vendor, public_app(vendor, LiteGate(vendor), wording, table), admin(vendor)


if __name__ == "__main__":
    main(Config, build)

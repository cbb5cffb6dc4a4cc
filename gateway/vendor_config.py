"""From a vendor's block of configuration to its module.

Must not know what the modules do with it.  Theory: a kind names a module; everything else in the block narrows what the
module's own table of routes allows.
"""

from dataclasses import replace

from gateway.account_ports import AccountTerms, AccountVendor
from gateway.config import RouteOverride, VendorConfig, VendorKind
from gateway.core.routes import Pricing, Represent, Route, Window
from gateway.ports import Vendor, VendorTerms
from gateway.vendors.cryptovps import CryptoVps
from gateway.vendors.dropmpp import DropMpp
from gateway.vendors.dropmpp.routes import ROUTES as DROPMPP_ROUTES
from gateway.vendors.generic import GenericVendor, PathRule
from gateway.vendors.litevps import LiteVps
from gateway.vendors.overrides import RouteOverride as ModuleOverride
from gateway.vendors.vpsagent import VpsAgent
from gateway.vendors.vpsagent.routes import ROUTES as VPSAGENT_ROUTES
from gateway.vendors.vrtx import Vrtx


def make_vendor(config: VendorConfig, terms: VendorTerms) -> Vendor:
    """Return the vendor that a block describes. Raises ValueError naming the route that cannot be meant."""
    name, origin = config.name, str(config.base_url)
    if config.kind is VendorKind.VPSAGENT:
        return VpsAgent(name, origin, terms, _capped(VPSAGENT_ROUTES, _overrides(config), config.ceiling_base))
    if config.kind is VendorKind.DROPMPP:
        return DropMpp(name, origin, terms, _capped(DROPMPP_ROUTES, _overrides(config), config.ceiling_base))
    if config.kind not in {VendorKind.X402, VendorKind.MPP}:
        raise ValueError(f"{name} is paid from an account")
    rules = tuple(
        PathRule(prefix, override.ceiling_base, _window(override), override.represent)
        for prefix, override in config.routes.items()
    )
    return GenericVendor(
        name, origin, terms, ceiling_base=config.ceiling_base, represent=Represent.UNKNOWN, rules=rules
    )


def make_account_vendor(config: VendorConfig, terms: AccountTerms, *, standing_token: bool = False) -> AccountVendor:
    """Return the module of a vendor that is paid from an account; `standing_token`: its credential needs no login.

    Raises ValueError naming the route that cannot be meant.
    """
    name, origin, overrides = config.name, str(config.base_url), _overrides(config)
    if config.kind is VendorKind.CRYPTOVPS:
        return CryptoVps(name, origin, terms, overrides)
    if config.kind is VendorKind.LITEVPS:
        return LiteVps(name, origin, terms, overrides, standing_token=standing_token)
    if config.kind is VendorKind.VRTX:
        return Vrtx(name, origin, terms, overrides)
    raise ValueError(f"{name} is not paid from an account")


def _overrides(config: VendorConfig) -> dict[str, ModuleOverride]:
    return {
        name: ModuleOverride(override.ceiling_base, _window(override), override.represent)
        for name, override in config.routes.items()
    }


def _capped(
    routes: tuple[Route, ...], overrides: dict[str, ModuleOverride], ceiling_base: int
) -> dict[str, ModuleOverride]:
    """The vendor's own ceiling bounds every priced route that has none of its own in the configuration."""
    capped = dict(overrides)
    for route in routes:
        override = capped.get(route.name, ModuleOverride())
        if route.pricing is not Pricing.FREE and override.ceiling_base is None:
            capped[route.name] = replace(override, ceiling_base=min(route.ceiling_base, ceiling_base))
    return capped


def _window(override: RouteOverride) -> Window | None:
    if override.window_min_s is None or override.window_max_s is None:
        return None
    return Window(override.window_min_s, override.window_max_s)

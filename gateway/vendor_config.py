"""From a vendor's block of configuration to its module.

Must not know what the modules do with it.  Theory: a kind names a module; everything else in the block narrows what the
module's own table of routes allows.
"""

from dataclasses import replace

from gateway.config import RouteOverride, VendorConfig, VendorKind
from gateway.core.routes import Pricing, Represent, Route, Window
from gateway.ports import Vendor, VendorTerms
from gateway.vendors.generic import GenericVendor, PathRule
from gateway.vendors.overrides import RouteOverride as ModuleOverride
from gateway.vendors.vpsagent import VpsAgent
from gateway.vendors.vpsagent.routes import ROUTES as VPSAGENT_ROUTES


def make_vendor(config: VendorConfig, terms: VendorTerms) -> Vendor:
    """Return the vendor that a block describes. Raises ValueError naming the route that cannot be meant."""
    origin = str(config.base_url)
    if config.kind is VendorKind.VPSAGENT:
        overrides = {
            name: ModuleOverride(override.ceiling_base, _window(override), override.represent)
            for name, override in config.routes.items()
        }
        return VpsAgent(config.name, origin, terms, _capped(VPSAGENT_ROUTES, overrides, config.ceiling_base))
    rules = tuple(
        PathRule(prefix, override.ceiling_base, _window(override), override.represent)
        for prefix, override in config.routes.items()
    )
    return GenericVendor(
        config.name, origin, terms, ceiling_base=config.ceiling_base, represent=Represent.UNKNOWN, rules=rules
    )


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

"""What an operator may change about a declared route: ceiling, window and re-presentation, within hard bounds.

Must not know any vendor's routes.  Theory: a module's table is the default that its document supports; configuration
changes these three and nothing else, and a name or a number that cannot be meant stops the start.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from gateway.core.money import MAX_AMOUNT_BASE, AmountError, check_amount
from gateway.core.routes import Pricing, Represent, Route, Window

__all__ = ["MAX_WINDOW_S", "RouteOverride", "check_ceiling", "check_window", "with_overrides"]

MAX_WINDOW_S: Final = 48 * 3600  # design 6: what an exposure may last at most


@dataclass(frozen=True, slots=True)
class RouteOverride:
    """An operator's own ceiling (USD base units), window, and word on presenting twice; None keeps the default."""

    ceiling_base: int | None = None
    window: Window | None = None
    represent: Represent | None = None


def with_overrides(routes: Iterable[Route], overrides: Mapping[str, RouteOverride]) -> tuple[Route, ...]:
    """Return the routes with the overrides of their names applied.

    Raises ValueError, naming the route, for a name that is no route, a free route, or a number out of bounds.
    """
    table = {route.name: route for route in routes}
    for name, override in overrides.items():
        route = table.get(name)
        if route is None:
            raise ValueError(f"{name}: no such route; there are {', '.join(sorted(table))}")
        if route.pricing is Pricing.FREE:
            raise ValueError(f"{name}: is free, so it has neither ceiling nor window")
        if override.ceiling_base is not None:
            route = replace(route, ceiling_base=check_ceiling(override.ceiling_base, name))
        if override.window is not None:
            route = replace(route, window=check_window(override.window, name))
        if override.represent is not None:
            route = replace(route, represent=override.represent)
        table[name] = route
    return tuple(table.values())


def check_ceiling(ceiling_base: int, where: str) -> int:
    """Return a ceiling in base units, or raise ValueError naming `where`."""
    try:
        return check_amount(ceiling_base)
    except AmountError:
        raise ValueError(f"{where}: the ceiling must be from 1 to {MAX_AMOUNT_BASE} base units") from None


def check_window(window: Window, where: str) -> Window:
    """Return a window, or raise ValueError naming `where`."""
    if not 1 <= window.min_s <= window.max_s <= MAX_WINDOW_S:
        raise ValueError(f"{where}: the window must be 1 <= min <= max <= {MAX_WINDOW_S} seconds")
    return window

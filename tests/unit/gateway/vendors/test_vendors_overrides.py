"""What an operator may change about a route: two numbers, within bounds."""

import pytest

from gateway.core.money import MAX_AMOUNT_BASE
from gateway.core.routes import Window
from gateway.vendors.overrides import MAX_WINDOW_S, RouteOverride, with_overrides
from gateway.vendors.vpsagent.routes import ROUTES


def test_an_override_changes_only_its_route() -> None:
    """Ceiling and window of the named route, each alone or both."""
    changed = with_overrides(
        ROUTES, {"rent": RouteOverride(ceiling_base=5), "renew": RouteOverride(window=Window(10, 20))}
    )
    before, after = ({route.name: route for route in routes} for routes in (ROUTES, changed))
    assert after["rent"].ceiling_base == 5
    assert after["rent"].window == before["rent"].window
    assert after["renew"].window == Window(10, 20)
    assert after["renew"].ceiling_base == before["renew"].ceiling_base
    assert after["catalog"] == before["catalog"]
    assert [route.name for route in changed] == [route.name for route in ROUTES]


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("rents", RouteOverride(ceiling_base=5)),
        ("healthz", RouteOverride(ceiling_base=5)),
        ("instance", RouteOverride()),
        ("rent", RouteOverride(ceiling_base=0)),
        ("rent", RouteOverride(ceiling_base=-1)),
        ("rent", RouteOverride(ceiling_base=True)),
        ("rent", RouteOverride(ceiling_base=MAX_AMOUNT_BASE + 1)),
        ("rent", RouteOverride(ceiling_base=0.5)),  # type: ignore[arg-type]
        ("rent", RouteOverride(window=Window(0, 10))),
        ("rent", RouteOverride(window=Window(20, 10))),
        ("rent", RouteOverride(window=Window(10, MAX_WINDOW_S + 1))),
    ],
)
def test_what_cannot_be_meant_stops_the_start(name: str, override: RouteOverride) -> None:
    """Unknown and free routes, and numbers out of bounds, are named in the error."""
    with pytest.raises(ValueError, match=f"^{name}: "):
        with_overrides(ROUTES, {name: override})

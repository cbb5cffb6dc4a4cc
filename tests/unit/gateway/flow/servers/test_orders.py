"""One order at one vendor, made of what was asked for and of what its vendor needs."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.core.plan import Billing, Image, Need, Plan, Source
from gateway.core.spec import ServerSpec
from gateway.flow.servers.orders import OrderSettings, order_for
from gateway.server_ports import Feature, Features, Order, RenewRule

IMAGES = (Image("trial", "Trial", ttl_s=3600), Image("debian-12", "Debian 12"), Image("ubuntu-24", "Ubuntu"))
PLAN = Plan(
    "one", "small", "Small", Billing.MINUTES, "0.01", Source.API, 1, regions=("ams", "nyc"), images=IMAGES, setup="0.01"
)


class Servers:
    """A vendor with these features."""

    def __init__(self, **changes: Any) -> None:
        does = dict.fromkeys(Feature, "no")
        renew = RenewRule(unit_s=60, min_units=5, max_units=10_000, lead_s=60)
        made = Features(does=does, billing=Billing.MINUTES, unit_s=60, hold_max_s=60, refundable="", pays="at_once")
        self.features = replace(made, **{"renew": renew, **changes})


def order(need: Need, plan: Plan = PLAN, spec: dict[str, Any] | None = None, /, **features: Any) -> Order:
    """Return the order of a need."""
    asked = ServerSpec(need, **(spec or {}))
    return order_for(Servers(**features), plan, asked, "web-1", OrderSettings(), ssh_keys=("7",))  # type: ignore[arg-type]


def test_region_and_image_are_the_vendors_own_words() -> None:
    """However an agent spells them."""
    made = order(Need(region="NYC", image="DEBIAN 12"))
    assert (made.region, made.image, made.plan, made.name) == ("nyc", "debian-12", "small", "web-1")
    assert made.ssh_keys == ("7",)


def test_what_is_left_open_is_decided_the_same_way_each_time() -> None:
    """The first region; no image where the vendor needs none to be named."""
    assert (order(Need()).region, order(Need()).image) == ("ams", "")
    assert order(Need(), replace(PLAN, regions=())).region == ""


def test_an_image_that_must_be_named_is_one_that_lasts() -> None:
    """The vendor's usual one, else one that does not destroy itself, else any that there is."""
    assert order(Need(), default_image="ubuntu-24").image == "ubuntu-24"
    assert order(Need(), default_image="other").image == "debian-12"
    assert order(Need(), replace(PLAN, images=IMAGES[:1]), default_image="other").image == "trial"
    assert order(Need(), replace(PLAN, images=()), default_image="other").image == "other"


def test_a_snapshot_brings_its_own_image() -> None:
    """Only what the agent itself names goes with it."""
    servers, asked = Servers(default_image="ubuntu-24"), ServerSpec(Need())
    made = order_for(servers, PLAN, asked, "web-1", OrderSettings(), snapshot="ref")  # type: ignore[arg-type]
    assert (made.image, made.snapshot) == ("", "ref")


@pytest.mark.parametrize(
    ("for_s", "asked", "minutes"),
    [
        (None, None, 60),
        (None, 7, 7),
        (3600, 7, 7),
        (90, None, 5),
        (3_601, None, 61),
        (10 * 86_400, None, 1_440),
    ],
)
def test_time_is_prepaid_as_long_as_needed(for_s: int | None, asked: int | None, minutes: int) -> None:
    """As asked, else as long as it is needed within bounds, else an hour."""
    assert order(Need(for_s=for_s), PLAN, {"minutes": asked}).minutes == minutes


def test_only_what_sells_minutes_is_asked_for_minutes() -> None:
    """Elsewhere they would be refused."""
    hourly = replace(PLAN, billing=Billing.HOURLY)
    assert order(Need(for_s=3600), hourly, {"minutes": 7}).minutes is None


def test_an_expected_price_may_rise_a_little() -> None:
    """By a twentieth and a cent."""
    assert OrderSettings().bound(1_000_000) == 1_060_000

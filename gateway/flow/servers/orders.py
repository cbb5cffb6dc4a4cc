"""One order at one vendor, made of what was asked for: its plan's own region and image, and the time to prepay.

Must not know prices or who orders.  Theory: what an agent leaves open is decided in one place and the same way each time,
so that what was quoted is what is ordered.
"""

from dataclasses import dataclass

from gateway.core.plan import Billing, Plan
from gateway.core.ranking import MINUTE_S, find_image, find_region
from gateway.core.spec import ServerSpec
from gateway.server_ports import Order, ServerVendor


@dataclass(frozen=True, slots=True)
class OrderSettings:
    """What an agent gets that does not say how much time to prepay: `prepay_minutes`.

    Where it says for how long it needs the server, that, but at most `prepay_most_minutes`: more is bought before they
    run out. A price that is only expected may rise by `margin_ppm` and `margin_base` until it is asked for.
    """

    prepay_minutes: int = 60
    prepay_most_minutes: int = 1_440
    margin_ppm: int = 50_000
    margin_base: int = 10_000

    def bound(self, expected_base: int) -> int:
        """Return the most that something may cost whose price is expected to be this."""
        return expected_base + expected_base * self.margin_ppm // 1_000_000 + self.margin_base


def order_for(
    servers: ServerVendor,
    plan: Plan,
    asked: ServerSpec,
    name: str,
    settings: OrderSettings,
    *,
    ssh_keys: tuple[str, ...] = (),
    snapshot: str = "",
) -> Order:
    """Return the order of a plan that fits what is asked. `ssh_keys` and `snapshot` are the vendor's own ids."""
    return Order(
        plan=plan.id,
        name=name,
        region=_region(plan, asked.need.region),
        image=_image(servers, plan, asked.need.image, needed=not snapshot),
        ssh_keys=ssh_keys,
        user_data=asked.user_data,
        minutes=_minutes(servers, asked, settings) if plan.billing is Billing.MINUTES else None,
        snapshot=snapshot,
    )


def _region(plan: Plan, wanted: str | None) -> str:
    if wanted is not None:
        return find_region(plan, wanted) or wanted
    return plan.regions[0] if plan.regions else ""


def _image(servers: ServerVendor, plan: Plan, wanted: str | None, *, needed: bool) -> str:
    """Return the image that is wanted, or one that lasts where the vendor needs one to be named."""
    default = servers.features.default_image if needed else ""
    if wanted is not None or default:
        found = find_image(plan, wanted or default)
        if found is not None:
            return found.id
        if wanted is not None or not plan.images:
            return wanted or default
        return next((image.id for image in plan.images if image.ttl_s is None), plan.images[0].id)
    return ""


def _minutes(servers: ServerVendor, asked: ServerSpec, settings: OrderSettings) -> int:
    if asked.minutes is not None:
        return asked.minutes
    if asked.need.for_s is None:
        return settings.prepay_minutes
    least = 1 if servers.features.renew is None else servers.features.renew.min_units
    return max(least, min(-(-asked.need.for_s // MINUTE_S), settings.prepay_most_minutes))

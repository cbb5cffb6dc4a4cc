"""How VRTX shows its records: bytes, JSON numbers for money, times with a +00:00 offset."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sandbox.shared_vendor.noise import noisy
from sandbox.shared_vendor.timeline import MS, iso
from sandbox.vrtx import catalog

if TYPE_CHECKING:
    from sandbox.vrtx.records import Server
    from sandbox.vrtx.vendor import Vrtx


def plan_view(vendor: Vrtx, plan: catalog.Plan) -> dict[str, Any]:
    """One plan, at the price that the list shows now."""
    fault = vendor.faults.take("price", plan=plan.name, shown=True)
    factor = Decimal(fault["factor"]) if fault else 1
    return {
        "id": plan.id,
        "name": plan.name,
        "cpu": plan.cpu,
        "memory": plan.memory,
        "disk": plan.disk,
        "monthly_price": noisy(vendor.faults, plan.monthly * factor),
        "hourly_price": noisy(vendor.faults, plan.hourly * factor),
    }


def brief_view(vendor: Vrtx, server: Server, route: str) -> dict[str, Any]:
    """A server as lists show it; a `state` fault puts another status in."""
    fault = vendor.faults.take("state", route, of=server.uuid)
    return {
        "uuid": server.uuid,
        "uuid_short": server.uuid[:8],
        "name": server.name,
        "status": server.status if fault is None else fault["value"],
        "cpu": server.cpu,
        "memory": server.memory,
    }


def full_view(vendor: Vrtx, server: Server, route: str) -> dict[str, Any]:
    """A server whole."""
    return {
        **brief_view(vendor, server, route),
        "disk": server.disk,
        "password_status": server.password_status,
        "operating_system": catalog.TEMPLATES[server.template],
        "ip_addresses": [{"address": server.ip, "type": "ipv4", "gateway": "203.0.113.1", "cidr": 24}],
        "created_at": iso(vendor.shown_ms(server.created_ms), suffix="+00:00"),
    }


def status_view(vendor: Vrtx, server: Server, route: str) -> dict[str, Any]:
    """The hypervisor's and the application's word on a server."""
    status = vendor.faults.take("state", route, of=server.uuid)
    state = vendor.faults.take("hypervisor", route, of=server.uuid)
    up_ms = 0 if server.up_since_ms is None else vendor.timeline.now_ms() - server.up_since_ms
    return {
        "state": server.state if state is None else state["value"],
        "status": server.status if status is None else status["value"],
        "uptime_seconds": up_ms // MS,
    }


def credentials_view(server: Server) -> dict[str, Any]:
    """The root password, once it is ready."""
    ready = server.password_status == "ready"
    return {"password_status": server.password_status, "root_password": server.root_password if ready else None}

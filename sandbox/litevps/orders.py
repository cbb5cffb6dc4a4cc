"""Reads what a client orders: a plan or a template, with its own fields over the template's.

A machine made from a template is priced as the cheapest plan that holds its resources: the document does not say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sandbox.litevps.catalog import Plan, smallest
from sandbox.shared_vendor.body import HOSTNAME, Body

if TYPE_CHECKING:
    from sandbox.litevps.records import Account
    from sandbox.litevps.vendor import LiteVps

_TTL_LIMIT = 60 * 24 * 365


@dataclass(frozen=True, slots=True)
class Order:
    """One machine to be made."""

    plan: Plan
    template: str | None
    settings: dict[str, Any]


def read_order(vendor: LiteVps, account: Account, body: Body) -> Order:
    """The order in a body; raises InvalidBodyError."""
    name = body.text("name", pattern=HOSTNAME, high=63)
    slug, plan_id = body.optional_text("template"), body.optional_text("plan_id")
    template = vendor.templates.get(slug or "")
    plan = vendor.plans.get(plan_id or "")
    if slug is not None and template is None:
        body.wrong("template", "unknown template")
    if plan_id is not None and plan is None:
        body.wrong("plan_id", "unknown plan")
    if slug is None and plan_id is None:
        body.wrong("plan_id", "is required")
    keys = body.texts("ssh_key_ids", required=False)
    if any(key not in account.keys for key in keys):
        body.wrong("ssh_key_ids", "unknown ssh key")
    base = template or plan
    ttl = body.raw.get("ttl_minutes", template.ttl_minutes if template else None)
    if ttl is not None:
        ttl = body.integer("ttl_minutes", low=1, high=_TTL_LIMIT, default=ttl)
    user_data = body.optional_text("user_data", high=65_536)
    body_size = {
        "vcpu": body.integer("vcpu", low=1, high=64, default=base.vcpu if base else 1),
        "memory_mb": body.integer("memory_mb", low=128, high=262_144, default=base.memory_mb if base else 512),
        "disk_gb": body.integer("disk_gb", low=1, high=4096, default=base.disk_gb if base else 10),
    }
    body.done()
    priced = plan or smallest(vendor.plans.values(), **body_size)
    if priced is None:
        body.wrong("vcpu", "no plan is that large")
        body.done()
    assert priced is not None
    settings = {
        "name": name,
        "template": slug,
        "user_data": user_data if user_data is not None else (template.user_data if template else ""),
        "ttl_minutes": ttl,
        "ssh_key_ids": keys,
        **body_size,
    }
    return Order(priced, slug, settings)

"""The names of VRTX's routes, as faults and the record of calls use them."""

from __future__ import annotations

ROUTES = (
    *("plans", "locations", "templates", "list", "create", "get", "status", "credentials", "power", "delete"),
    "backups",
)

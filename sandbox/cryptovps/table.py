"""The names of CryptoVPS's routes, as faults and the record of calls use them."""

from __future__ import annotations

ROUTES = (
    *("register", "login", "me", "billing", "list", "get", "create", "bulk", "delete"),
    *("backups", "backup", "restore", "delete_backup", "guide", "docs", "custom_requests"),
)

"""The names of LiteVPS's routes, as faults and the record of calls use them."""

from __future__ import annotations

ROUTES = (
    *("health", "agent_json", "openapi", "register", "login", "pricing", "me"),
    *("list", "create", "get", "update", "delete", "start", "stop", "restart", "vnc_port"),
    *("snapshots", "snapshot", "restore_snapshot", "delete_snapshot"),
    *("upload", "download", "exec", "jobs", "job", "cancel_job"),
    *("templates", "template", "batch_create", "batch_delete", "batch_exec"),
    *("keys", "add_key", "delete_key"),
    *("balance", "add_funds", "history", "notify_emails", "add_notify_email", "delete_notify_email"),
    *("tokens", "add_token", "delete_token"),
)

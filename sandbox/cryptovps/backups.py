"""CryptoVPS's backups: PENDING to AVAILABLE or ERROR, EXPIRED after seven days or once deleted. No HTTP."""

from __future__ import annotations

import uuid
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sandbox.cryptovps.records import Account, Backup, Server
from sandbox.shared_vendor.timeline import MS
from sandbox.shared_vendor.wire import RefusedError

if TYPE_CHECKING:
    from sandbox.cryptovps.vendor import CryptoVps


class Backups:
    """All backups of one vendor."""

    def __init__(self, vendor: CryptoVps) -> None:
        self._vendor = vendor
        self._backups: dict[str, Backup] = {}

    def of(self, account_id: str) -> list[Backup]:
        """An account's backups, oldest first; expired ones stay visible as EXPIRED."""
        return [backup for backup in self._backups.values() if backup.account_id == account_id]

    def owned(self, account_id: str, backup_id: str) -> Backup:
        """One backup; raises RefusedError (404)."""
        backup = self._backups.get(backup_id)
        if backup is None or backup.account_id != account_id:
            raise RefusedError(404, "backup not found")
        return backup

    def take(self, server: Server) -> Backup:
        """Begin a backup of an ACTIVE server; raises RefusedError (409) for any other."""
        if server.status != "ACTIVE":
            raise RefusedError(409, f"server is {server.status}, not ACTIVE")
        timeline, config = self._vendor.timeline, self._vendor.config
        now = timeline.now_ms()
        backup = Backup(
            id=str(uuid.uuid4()),
            account_id=server.account_id,
            label=server.label,
            plan=server.plan,
            region=server.region,
            created_ms=now,
            expires_ms=now + round(config.backup_ttl_s * MS),
        )
        self._backups[backup.id] = backup
        fault = self._vendor.faults.take("backup") or {"mode": None}
        outcome = "ERROR" if fault["mode"] == "error" else "AVAILABLE"
        if fault["mode"] != "never":
            timeline.after(config.backup_s, lambda: self._become(backup, "PENDING", outcome))
        timeline.at(backup.expires_ms, lambda: self._become(backup, backup.status, "EXPIRED"))
        return backup

    def restore(self, account: Account, backup: Backup) -> Server:
        """A new server from an AVAILABLE backup; raises RefusedError (402, 403, 409)."""
        if backup.status != "AVAILABLE":
            raise RefusedError(409, f"backup is {backup.status}, not AVAILABLE")
        return self._vendor.deploy(account, [backup.label], backup.plan, backup.region)[0]

    def delete(self, backup: Backup) -> None:
        """Expire a backup now; raises RefusedError (409) when it is gone."""
        if backup.status == "EXPIRED":
            raise RefusedError(409, "already deleted")
        backup.status = "EXPIRED"

    def as_json(self) -> dict[str, Any]:
        """For the admin API."""
        return {key: asdict(backup) for key, backup in self._backups.items()}

    def forget(self) -> None:
        """Have none."""
        self._backups.clear()

    @staticmethod
    def _become(backup: Backup, from_status: str, to_status: str) -> None:
        if backup.status == from_status:
            backup.status = to_status

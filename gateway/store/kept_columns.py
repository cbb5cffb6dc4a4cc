"""How the neutral API's records become rows and rows become records; nothing else knows the columns' order.

Must not know when anything is written.  Theory: a column is named like its field wherever one value is one column, so what
is read back equals what was written, and a field that was forgotten is an error at import, not a value that is lost.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from gateway.core.kept import FLEET, HOOK, QUOTE, SERVER, SNAPSHOT, SSH_KEY
from gateway.core.server import (
    Candidate,
    Fleet,
    FleetState,
    Hook,
    HookDelivery,
    HookDeliveryState,
    Kept,
    Quote,
    Server,
    ServerState,
    Snapshot,
    SshKey,
    Wanted,
)


def _columns(record: type) -> tuple[str, ...]:
    return tuple(each.name for each in fields(record))


_SERVER = _columns(Server)
_SNAPSHOT = _columns(Snapshot)
_SSH_KEY = _columns(SshKey)
_FLEET = _columns(Fleet)
_HOOK = _columns(Hook)
_DELIVERY = _columns(HookDelivery)

SERVER_COLUMNS = ", ".join(_SERVER)
QUOTE_COLUMNS = (
    "id, account_id, vendor, plan, region, first_charge_max_base, document, sealed_spec, created_at_ms, expires_at_ms"
)
SNAPSHOT_COLUMNS = ", ".join(_SNAPSHOT)
SSH_KEY_COLUMNS = ", ".join(_SSH_KEY)
FLEET_COLUMNS = ", ".join(_FLEET)
HOOK_COLUMNS = ", ".join(_HOOK)
DELIVERY_COLUMNS = ", ".join(_DELIVERY)


def _row(record: object, columns: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(record, name) for name in columns}


def _fields(row: Any, columns: tuple[str, ...]) -> dict[str, Any]:  # noqa: ANN401 - a tuple, sqlite3.Row or mapping's values
    return dict(zip(columns, tuple(row), strict=True))


def server_row(server: Server) -> tuple[Any, ...]:
    """Return a server's row."""
    row = _row(server, _SERVER)
    row["candidates"] = json.dumps([[c.vendor, c.plan, c.region, c.first_charge_max_base] for c in server.candidates])
    row["state"], row["wanted"] = server.state.value, server.wanted.value
    row["auto_renew"], row["warned"] = int(server.auto_renew), json.dumps(server.warned)
    return tuple(row.values())


def server_from(row: Any) -> Server:  # noqa: ANN401 - as of _fields
    """Return the server that a row of SERVER_COLUMNS holds."""
    found = _fields(row, _SERVER)
    found["candidates"] = tuple(Candidate(*each) for each in json.loads(found["candidates"]))
    found["state"], found["wanted"] = ServerState(found["state"]), Wanted(found["wanted"])
    found["auto_renew"], found["warned"] = bool(found["auto_renew"]), tuple(json.loads(found["warned"]))
    return Server(**found)


def quote_row(quote: Quote) -> tuple[Any, ...]:
    """Return a quote's row."""
    c = quote.candidate
    head = (quote.id, quote.account_id, c.vendor, c.plan, c.region, c.first_charge_max_base)
    return (*head, quote.document, quote.sealed_spec, quote.created_at_ms, quote.expires_at_ms)


def quote_from(row: Any) -> Quote:  # noqa: ANN401 - as of _fields
    """Return the quote that a row of QUOTE_COLUMNS holds."""
    r = tuple(row)
    return Quote(r[0], r[1], Candidate(*r[2:6]), *r[6:])


def snapshot_row(snapshot: Snapshot) -> tuple[Any, ...]:
    """Return a snapshot's row."""
    return tuple(_row(snapshot, _SNAPSHOT).values())


def snapshot_from(row: Any) -> Snapshot:  # noqa: ANN401 - as of _fields
    """Return the snapshot that a row of SNAPSHOT_COLUMNS holds."""
    return Snapshot(*tuple(row))


def ssh_key_row(key: SshKey) -> tuple[Any, ...]:
    """Return an SSH key's row."""
    return tuple((_row(key, _SSH_KEY) | {"installed": json.dumps(key.installed)}).values())


def ssh_key_from(row: Any) -> SshKey:  # noqa: ANN401 - as of _fields
    """Return the SSH key that a row of SSH_KEY_COLUMNS holds."""
    found = _fields(row, _SSH_KEY)
    found["installed"] = tuple((vendor, ref) for vendor, ref in json.loads(found["installed"]))
    return SshKey(**found)


def fleet_row(fleet: Fleet) -> tuple[Any, ...]:
    """Return a fleet's row."""
    return tuple((_row(fleet, _FLEET) | {"state": fleet.state.value}).values())


def fleet_from(row: Any) -> Fleet:  # noqa: ANN401 - as of _fields
    """Return the fleet that a row of FLEET_COLUMNS holds."""
    found = _fields(row, _FLEET)
    found["state"] = FleetState(found["state"])
    return Fleet(**found)


def hook_row(hook: Hook) -> tuple[Any, ...]:
    """Return an endpoint's row."""
    return tuple((_row(hook, _HOOK) | {"events": json.dumps(hook.events)}).values())


def hook_from(row: Any) -> Hook:  # noqa: ANN401 - as of _fields
    """Return the endpoint that a row of HOOK_COLUMNS holds."""
    found = _fields(row, _HOOK)
    found["events"] = tuple(json.loads(found["events"]))
    return Hook(**found)


def delivery_row(delivery: HookDelivery) -> tuple[Any, ...]:
    """Return a delivery's row."""
    return tuple((_row(delivery, _DELIVERY) | {"state": delivery.state.value}).values())


def delivery_from(row: Any) -> HookDelivery:  # noqa: ANN401 - as of _fields
    """Return the delivery that a row of DELIVERY_COLUMNS holds."""
    found = _fields(row, _DELIVERY)
    found["state"] = HookDeliveryState(found["state"])
    return HookDelivery(**found)


@dataclass(frozen=True, slots=True)
class Table:
    """Where records of one kind are kept, and the pair of functions between them and its rows."""

    name: str
    columns: str
    row: Callable[[Any], tuple[Any, ...]]
    record: Callable[[Any], Kept]

    @property
    def by_id(self) -> str:
        """The statement that finds one by its id."""
        return f"SELECT {self.columns} FROM {self.name} WHERE id = ?"  # noqa: S608 - names are ours

    @property
    def put(self) -> str:
        """The statement that adds one or replaces its earlier version."""
        names = self.columns.split(", ")
        marks, change = ", ".join("?" * len(names)), ", ".join(f"{name} = excluded.{name}" for name in names[1:])
        # Not OR REPLACE: what is unique besides the id must fail, and never take another record's row.
        into = f"INSERT INTO {self.name} ({self.columns}) VALUES ({marks})"  # noqa: S608 - names are ours
        return f"{into} ON CONFLICT (id) DO UPDATE SET {change}"


TABLES: Mapping[str, Table] = {
    FLEET: Table("fleets", FLEET_COLUMNS, fleet_row, fleet_from),
    QUOTE: Table("quotes", QUOTE_COLUMNS, quote_row, quote_from),
    SERVER: Table("servers", SERVER_COLUMNS, server_row, server_from),
    SNAPSHOT: Table("snapshots", SNAPSHOT_COLUMNS, snapshot_row, snapshot_from),
    SSH_KEY: Table("ssh_keys", SSH_KEY_COLUMNS, ssh_key_row, ssh_key_from),
    HOOK: Table("hooks", HOOK_COLUMNS, hook_row, hook_from),
}
"""By kind, in the order in which rows may name each other."""

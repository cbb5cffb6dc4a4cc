"""What dropmpp can be asked to do with one server, snapshot or key, as requests, and what its answers show of them.

Must not know the order of calls or who asks.  Theory: every action is one row in two tables, so what is built and what is
read of it stand side by side, and an action that is in neither is one that the vendor does not have.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from gateway.core.server import ServerState
from gateway.core.strict_json import dump_json
from gateway.ports import Reading
from gateway.server_ports import Action, Ask, Heard, Sight, SnapshotSight
from gateway.vendors import neutral
from gateway.vendors.account import is_ref, segment, time_ms
from gateway.vendors.dropmpp.answers import entries_of, size_gb
from gateway.vendors.dropmpp.routes import KEY, LISTS, SERVER, SNAPSHOT, state_of
from wallets.secret import Secret

__all__ = ["BUILDERS", "HEARERS", "sight_of"]

_USERNAME: Final = "root"  # the document names only the root password
_STATES: Final[Mapping[str, ServerState]] = MappingProxyType(
    {
        "provisioning": ServerState.PROVISIONING,
        "active": ServerState.RUNNING,
        "off": ServerState.STOPPED,
        "rebooting": ServerState.REBOOTING,
        "expired": ServerState.LAPSED,
        "destroyed": ServerState.DESTROYED,
    }
)


def sight_of(ref: str, document: Mapping[str, Any], **said: Any) -> Sight:  # noqa: ANN401 - members of Sight
    """Return what an entry or an answer shows of a server."""
    word, password = neutral.word_in(document, "status"), neutral.member_text(document, "root_password")
    state = _STATES.get(state_of(SERVER, document["status"]), ServerState.UNKNOWN) if "status" in document else None
    access = {"username": Secret(_USERNAME), "password": Secret(password)} if password else {}
    known = {
        "address": neutral.member_text(document, "ip"),
        "region": neutral.member_text(document, "region"),
        "image": neutral.member_text(document, "image"),
        "plan": neutral.member_text(document, "size"),
        "expires_at_ms": time_ms(document.get("paid_until")),
    }
    return Sight(ref, state, word, access=access, **{**known, **said})


def _snapshot(entry: Mapping[str, Any]) -> SnapshotSight:
    return SnapshotSight(
        entry["id"],
        neutral.member_text(entry, "name"),
        state_of(SNAPSHOT, entry.get("status")),
        time_ms(entry.get("created_at")),
        time_ms(entry.get("expires_at")),
        size_gb(entry.get("size_gb")),
    )


# what may be asked


def _target(kind: str, ref: str, verb: str = "") -> str:
    return f"/v1/{LISTS[kind]}/{segment(ref)}" + (f"/{verb}" if verb else "")


def _power(action: str) -> Callable[[str, Mapping[str, Any]], Ask]:
    return lambda ref, _: Ask("POST", _target(SERVER, ref, "power"), dump_json({"action": action}))


def _show(ref: str, _: Mapping[str, Any]) -> Ask:
    return Ask("GET", _target(SERVER, ref))


def _renew(ref: str, parameters: Mapping[str, Any]) -> Ask:
    return Ask("POST", _target(SERVER, ref, "extend"), dump_json({"minutes": parameters.get("units")}))


def _take(ref: str, parameters: Mapping[str, Any]) -> Ask:
    name = parameters.get("name")
    return Ask("POST", _target(SERVER, ref, "snapshot"), dump_json({"name": name}) if name else b"")


def _register(_: str, parameters: Mapping[str, Any]) -> Ask:
    members = {name: parameters.get(name) for name in ("name", "public_key")}
    return Ask("POST", f"/v1/{LISTS[KEY]}", dump_json(members))


def _delete(kind: str, member: str) -> Callable[[str, Mapping[str, Any]], Ask]:
    return lambda _, parameters: Ask("DELETE", _target(kind, neutral.text_parameter(parameters, member)))


BUILDERS: Final[Mapping[Action, Callable[[str, Mapping[str, Any]], Ask]]] = MappingProxyType(
    {
        Action.SHOW: _show,
        Action.CREDENTIALS: _show,
        Action.DESTROY: lambda ref, _: Ask("DELETE", _target(SERVER, ref)),
        Action.START: _power("on"),
        Action.STOP: _power("off"),
        Action.REBOOT: lambda ref, _: Ask("POST", _target(SERVER, ref, "reboot")),
        Action.RENEW: _renew,
        Action.SNAPSHOT_CREATE: _take,
        Action.SNAPSHOT_LIST: lambda _ref, _: Ask("GET", f"/v1/{LISTS[SNAPSHOT]}"),
        Action.SNAPSHOT_DELETE: _delete(SNAPSHOT, "snapshot"),
        Action.KEY_ADD: _register,
        Action.KEY_DELETE: _delete(KEY, "key"),
    }
)


# what is answered; the reading has found it good


def _hear_server(ref: str, document: Any, _: Reading) -> Heard:  # noqa: ANN401 - JSON's own type
    return Heard(True, sight_of(ref, document if isinstance(document, dict) else {}))


def _hear_credentials(ref: str, document: Any, _: Reading) -> Heard:  # noqa: ANN401 - JSON's own type
    sight = sight_of(ref, document)
    return Heard(True, sight, access=sight.access)


def _hear_destroyed(ref: str, _: Any, reading: Reading) -> Heard:  # noqa: ANN401 - JSON's own type
    """The vendor takes a snapshot first, and keeps it."""
    return Heard(True, Sight(ref, ServerState.DESTROYED), snapshots=_taken(reading, ""))


def _hear_taken(_ref: str, document: Any, reading: Reading) -> Heard:  # noqa: ANN401 - JSON's own type
    return Heard(True, snapshots=_taken(reading, neutral.member_text(document, "name")))


def _taken(reading: Reading, name: str) -> tuple[SnapshotSight, ...]:
    made = reading.created
    return () if made is None else (SnapshotSight(made.ref, name, made.state, size_gib=made.plan),)


def _hear_snapshots(ref: str, document: Any, _: Reading) -> Heard:  # noqa: ANN401 - JSON's own type
    """The list is of all the wallet's; whoever asks for no server's gets them all."""
    entries = entries_of(document, SNAPSHOT) or []
    wanted = [entry for entry in entries if is_ref(entry.get("id")) and ref in {"", entry.get("source_server")}]
    return Heard(True, snapshots=tuple(_snapshot(entry) for entry in wanted))


def _hear_key(_ref: str, _document: Any, reading: Reading) -> Heard:  # noqa: ANN401 - JSON's own type
    return Heard(True, key_ref="" if reading.created is None else reading.created.ref)


def _hear_done(_ref: str, _document: Any, _reading: Reading) -> Heard:  # noqa: ANN401 - JSON's own type
    return Heard(True)


HEARERS: Final[Mapping[Action, Callable[[str, Any, Reading], Heard]]] = MappingProxyType(
    {
        Action.SHOW: _hear_server,
        Action.CREDENTIALS: _hear_credentials,
        Action.DESTROY: _hear_destroyed,
        Action.START: _hear_server,
        Action.STOP: _hear_server,
        Action.REBOOT: _hear_server,
        Action.RENEW: _hear_server,
        Action.SNAPSHOT_CREATE: _hear_taken,
        Action.SNAPSHOT_LIST: _hear_snapshots,
        Action.SNAPSHOT_DELETE: _hear_done,
        Action.KEY_ADD: _hear_key,
        Action.KEY_DELETE: _hear_done,
    }
)

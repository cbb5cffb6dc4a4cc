"""LiteVPS's requests for what is done to one machine and inside it, each with the neutral field that its path is made of.

Must not know answers or features.  Theory: a request is built as its document shows it and nothing is checked here: the
checks of the vendor's module see it next, and an id that cannot stand in a path matches no route.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

from gateway.server_ports import Action, Ask
from gateway.vendors import neutral
from gateway.vendors.account import request_to, segment

__all__ = ["BUILDERS", "Built"]

_KEYS: Final = "/api/keys"
_BYTES: Final = (("Content-Type", "application/octet-stream"),)

Built = tuple[Ask, str]
"""A request, and the neutral field that its path is made of."""


def _plain(method: str, suffix: str) -> Callable[[str, Mapping[str, Any]], Built]:
    return lambda one, _: (Ask(method, one + suffix), "server")


def _named(method: str, middle: str, parameter: str, suffix: str = "") -> Callable[[str, Mapping[str, Any]], Built]:
    def build(one: str, parameters: Mapping[str, Any]) -> Built:
        name = segment(neutral.text_parameter(parameters, parameter))
        return Ask(method, f"{one}/{middle}/{name}{suffix}"), parameter

    return build


def _file(method: str) -> Callable[[str, Mapping[str, Any]], Built]:
    def build(one: str, parameters: Mapping[str, Any]) -> Built:
        target = f"{one}/files?path={quote(neutral.text_parameter(parameters, 'path'))}"
        # A content that is streamed goes beside the request.
        content = parameters.get("content", b"") if method == "PUT" else b""
        return Ask(method, target, content, _BYTES if method == "PUT" else ()), "path"

    return build


def _exec(one: str, parameters: Mapping[str, Any]) -> Built:
    document: dict[str, Any] = {"command": neutral.text_parameter(parameters, "command")}
    for member, name in (("timeout_seconds", "timeout_s"), ("background", "background")):
        if parameters.get(name) is not None:
            document[member] = parameters[name]
    return neutral.ask_of(request_to("POST", f"{one}/exec", document)), "command"


def _take_snapshot(one: str, parameters: Mapping[str, Any]) -> Built:
    document = {"name": neutral.text_parameter(parameters, "name")}
    return neutral.ask_of(request_to("POST", f"{one}/snapshots", document)), "name"


def _add_key(_: str, parameters: Mapping[str, Any]) -> Built:
    document = {member: neutral.text_parameter(parameters, member) for member in ("name", "public_key")}
    return neutral.ask_of(request_to("POST", _KEYS, document)), "name"


def _delete_key(_: str, parameters: Mapping[str, Any]) -> Built:
    return Ask("DELETE", f"{_KEYS}/{segment(neutral.text_parameter(parameters, 'key'))}"), "key"


BUILDERS: Final[Mapping[Action, Callable[[str, Mapping[str, Any]], Built]]] = MappingProxyType(
    {
        Action.START: _plain("POST", "/start"),
        Action.STOP: _plain("POST", "/stop"),
        Action.REBOOT: _plain("POST", "/restart"),
        Action.EXEC: _exec,
        Action.JOB_LIST: _plain("GET", "/jobs"),
        Action.JOB_SHOW: _named("GET", "jobs", "job"),
        Action.JOB_CANCEL: _named("DELETE", "jobs", "job"),
        Action.FILE_GET: _file("GET"),
        Action.FILE_PUT: _file("PUT"),
        Action.SNAPSHOT_CREATE: _take_snapshot,
        Action.SNAPSHOT_LIST: _plain("GET", "/snapshots"),
        Action.SNAPSHOT_DELETE: _named("DELETE", "snapshots", "snapshot"),
        Action.RESTORE: _named("POST", "snapshots", "snapshot", "/restore"),
        Action.KEY_ADD: _add_key,
        Action.KEY_DELETE: _delete_key,
    }
)

"""The operator's door of a running server: a Unix socket whose file permissions say who may come in.

Must not know what the calls do.  Theory: who can open the socket could as well open the database, so no password is asked;
the kernel names the caller, and that name goes into the journal.
"""

import contextlib
import json
import os
import pwd
import socket
import stat
import struct
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from gateway.core.problems import Problem
from gateway.operator.registry import operate
from gateway.operator.services import Services

MAX_BODY_BYTES = 64 * 1024
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
_SERVICES = web.AppKey("services", Services)


class SocketInUse(RuntimeError):  # noqa: N818 - named for what the operator reads
    """Something that is no socket of ours stands where the operator's socket should be."""


def operator_app(services: Services) -> web.Application:
    """Return the application behind the socket: POST /operator/{name} with a JSON object, answered with one."""
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app[_SERVICES] = services
    app.router.add_post("/operator/{name}", _operate)
    return app


@contextlib.asynccontextmanager
async def operator_socket(services: Services, path: Path) -> AsyncIterator[None]:
    """Serve the operator's calls on a Unix socket (mode 0600) until the block ends. Raises SocketInUse.

    Call it only while holding the store: that lock is what proves a socket left behind to be stale.
    """
    listening = _listen(path)
    runner = web.AppRunner(operator_app(services), access_log=None)
    try:
        await runner.setup()
        await web.SockSite(runner, listening).start()
        yield
    finally:
        await runner.cleanup()
        listening.close()
        _remove(path)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _listen(path: Path) -> socket.socket:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise SocketInUse(f"{path} exists and is not a socket: move it away")
        path.unlink()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)  # the file is private from its first moment, not after a chmod
    try:
        listening.bind(str(path))
    except OSError:
        listening.close()
        raise
    finally:
        os.umask(mask)
    return listening


async def _operate(request: web.Request) -> web.Response:
    try:
        answer = await operate(
            request.app[_SERVICES], request.match_info["name"], await _parameters(request), _caller(request)
        )
    except Problem as problem:
        return web.json_response(problem.document(), status=problem.status, content_type="application/problem+json")
    return web.json_response(answer)


async def _parameters(request: web.Request) -> dict[str, object]:
    try:
        body = json.loads(await request.read() or b"{}")
    except ValueError:
        raise Problem("bad_request", "the body is not JSON") from None
    if not isinstance(body, dict):
        raise Problem("bad_request", "the body is not a JSON object")
    return body


def _caller(request: web.Request) -> str:
    peer = None if request.transport is None else request.transport.get_extra_info("socket")
    if peer is None:
        return "operator"
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return user_name(_CREDENTIALS.unpack(raw)[1])


def user_name(uid: int) -> str:
    """Return how the journal names a user of this machine."""
    try:
        return f"operator {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"operator uid {uid}"

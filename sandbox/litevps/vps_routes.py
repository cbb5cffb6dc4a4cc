"""LiteVPS's routes of machines: list, create, update, destroy, power, VNC, snapshots, and the batch routes.

A batch answers 207 with one result an item: an item that fails does not stop the others.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from aiohttp import web

from sandbox.litevps.gate import TOKEN_ID
from sandbox.litevps.orders import read_order
from sandbox.litevps.views import machine_view
from sandbox.shared_vendor.body import HOSTNAME, Body, InvalidBodyError
from sandbox.shared_vendor.shell import Route
from sandbox.shared_vendor.timeline import iso
from sandbox.shared_vendor.transport import ACCOUNT, route_name
from sandbox.shared_vendor.wire import RefusedError, answer

if TYPE_CHECKING:
    from sandbox.litevps.records import Account, Machine
    from sandbox.litevps.vendor import LiteVps

SNAPSHOT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)


class Handlers:
    """Handlers over one vendor."""

    def __init__(self, vendor: LiteVps) -> None:
        self._vendor = vendor

    async def list(self, request: web.Request) -> web.Response:
        """GET /api/vps."""
        found = self._vendor.listed(request[ACCOUNT])
        return answer([machine_view(self._vendor, machine, route_name(request)) for machine in found])

    async def create(self, request: web.Request) -> web.Response:
        """POST /api/vps."""
        return answer(self._create(request, await Body.read(request)), 201)

    async def get(self, request: web.Request) -> web.Response:
        """GET /api/vps/:id."""
        return self._shown(request, self._machine(request))

    async def update(self, request: web.Request) -> web.Response:
        """PUT /api/vps/:id: the name only."""
        body = await Body.read(request)
        name = body.text("name", pattern=HOSTNAME, high=63)
        body.done()
        machine = self._machine(request)
        machine.name = name
        return self._shown(request, machine)

    async def delete(self, request: web.Request) -> web.Response:
        """DELETE /api/vps/:id."""
        self._vendor.destroy(self._machine(request))
        return web.Response(status=204)

    async def start(self, request: web.Request) -> web.Response:
        """POST /api/vps/:id/start."""
        machine = self._machine(request)
        self._vendor.start(machine)
        return self._shown(request, machine)

    async def stop(self, request: web.Request) -> web.Response:
        """POST /api/vps/:id/stop."""
        machine = self._machine(request)
        self._vendor.stop(machine)
        return self._shown(request, machine)

    async def restart(self, request: web.Request) -> web.Response:
        """POST /api/vps/:id/restart: it stays `running`."""
        machine = self._machine(request)
        self._vendor.needs(machine, "running")
        return self._shown(request, machine)

    async def vnc_port(self, request: web.Request) -> web.Response:
        """GET /api/vps/:id/vnc-port."""
        machine = self._machine(request)
        self._vendor.needs(machine, "running")
        return answer({"port": machine.vnc_port})

    async def snapshots(self, request: web.Request) -> web.Response:
        """GET /api/vps/:id/snapshots."""
        machine = self._machine(request)
        return answer([self._snapshot(name, at_ms) for name, at_ms in machine.snapshots.items()])

    async def snapshot(self, request: web.Request) -> web.Response:
        """POST /api/vps/:id/snapshots."""
        body = await Body.read(request)
        name = body.text("name", pattern=SNAPSHOT_NAME, high=63)
        body.done()
        machine = self._machine(request)
        self._vendor.needs(machine, "running", "stopped")
        if name in machine.snapshots:
            raise RefusedError(409, "snapshot already exists")
        self._vendor.disks.snapshot(machine.id, name)
        machine.snapshots[name] = self._vendor.timeline.now_ms()
        return answer(self._snapshot(name, machine.snapshots[name]), 201)

    async def restore_snapshot(self, request: web.Request) -> web.Response:
        """POST /api/vps/:id/snapshots/:name/restore."""
        machine, name = self._machine(request), self._snapshot_name(request)
        self._vendor.needs(machine, "stopped")
        self._vendor.disks.restore(machine.id, name)
        return self._shown(request, machine)

    async def delete_snapshot(self, request: web.Request) -> web.Response:
        """DELETE /api/vps/:id/snapshots/:name."""
        machine, name = self._machine(request), self._snapshot_name(request)
        del machine.snapshots[name]
        self._vendor.disks.drop_snapshot(machine.id, name)
        return web.Response(status=204)

    async def batch_create(self, request: web.Request) -> web.Response:
        """POST /api/vps/batch."""
        body = await Body.read(request)
        items = body.raw.get("vms")
        limit = self._vendor.config.max_batch_size
        if not isinstance(items, list) or not items or len(items) > limit:
            body.wrong("vms", f"must be an array of 1 to {limit} objects")
        body.done()
        assert isinstance(items, list)
        results = []
        for index, item in enumerate(items):
            try:
                self._vendor.strike_item(index)
                results.append({"index": index, "vps": self._create(request, Body.of(item))})
            except (RefusedError, InvalidBodyError) as error:
                results.append({"index": index, "error": str(error)})
        return answer({"results": results}, 207)

    async def batch_delete(self, request: web.Request) -> web.Response:
        """DELETE /api/vps/batch, with a body."""
        body = await Body.read(request)
        ids = body.texts("ids", high=self._vendor.config.max_batch_size)
        body.done()
        results: list[dict[str, Any]] = []
        for index, machine_id in enumerate(ids):
            try:
                self._vendor.strike_item(index)
                self._vendor.destroy(self._vendor.owned(request[ACCOUNT], machine_id))
                results.append({"id": machine_id, "deleted": True})
            except RefusedError as refused:
                results.append({"id": machine_id, "deleted": False, "error": refused.message})
        return answer({"results": results}, 207)

    def _create(self, request: web.Request, body: Body) -> dict[str, Any]:
        account: Account = self._vendor.accounts[request[ACCOUNT]]
        order = read_order(self._vendor, account, body)
        machine = self._vendor.create(account, order, request.get(TOKEN_ID))
        return machine_view(self._vendor, machine, route_name(request))

    def _machine(self, request: web.Request) -> Machine:
        return self._vendor.owned(request[ACCOUNT], request.match_info["id"])

    def _shown(self, request: web.Request, machine: Machine) -> web.Response:
        return answer(machine_view(self._vendor, machine, route_name(request)))

    def _snapshot(self, name: str, at_ms: int) -> dict[str, Any]:
        return {"name": name, "created_at": iso(self._vendor.shown_ms(at_ms))}

    def _snapshot_name(self, request: web.Request) -> str:
        name = request.match_info["name"]
        if name not in self._machine(request).snapshots:
            raise RefusedError(404, "snapshot not found")
        return name


def vps_routes(vendor: LiteVps) -> list[Route]:
    """The machines' part of the document; the fixed paths stand before those with an id."""
    on = Handlers(vendor)
    one = "/api/vps/{id}"
    return [
        Route("POST", "/api/vps/batch", "batch_create", on.batch_create),
        Route("DELETE", "/api/vps/batch", "batch_delete", on.batch_delete),
        Route("GET", "/api/vps", "list", on.list),
        Route("POST", "/api/vps", "create", on.create),
        Route("GET", one, "get", on.get),
        Route("PUT", one, "update", on.update),
        Route("DELETE", one, "delete", on.delete),
        Route("POST", f"{one}/start", "start", on.start),
        Route("POST", f"{one}/stop", "stop", on.stop),
        Route("POST", f"{one}/restart", "restart", on.restart),
        Route("GET", f"{one}/vnc-port", "vnc_port", on.vnc_port),
        Route("GET", f"{one}/snapshots", "snapshots", on.snapshots),
        Route("POST", f"{one}/snapshots", "snapshot", on.snapshot),
        Route("POST", f"{one}/snapshots/{{name}}/restore", "restore_snapshot", on.restore_snapshot),
        Route("DELETE", f"{one}/snapshots/{{name}}", "delete_snapshot", on.delete_snapshot),
    ]

"""LiteVPS's routes into a machine: files, commands at once and in the background, jobs, and commands over several."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import web

from sandbox.litevps.disks import PathError
from sandbox.litevps.views import job_view
from sandbox.shared_vendor.body import Body
from sandbox.shared_vendor.shell import Route
from sandbox.shared_vendor.transport import ACCOUNT
from sandbox.shared_vendor.wire import RefusedError, answer

if TYPE_CHECKING:
    from sandbox.litevps.records import Machine
    from sandbox.litevps.vendor import LiteVps

COMMAND_LENGTH = 65_536


class Handlers:
    """Handlers over one vendor."""

    def __init__(self, vendor: LiteVps) -> None:
        self._vendor = vendor

    async def upload(self, request: web.Request) -> web.Response:
        """PUT /api/vps/:id/files?path=."""
        machine, path = self._machine(request), _path(request)
        self._vendor.needs(machine, "running")
        content = await request.read()
        try:
            self._vendor.disks.write(machine.id, path, content)
        except PathError as error:
            raise RefusedError(400, str(error)) from error
        return answer({"path": path, "size": len(content)})

    async def download(self, request: web.Request) -> web.Response:
        """GET /api/vps/:id/files?path=."""
        machine, path = self._machine(request), _path(request)
        self._vendor.needs(machine, "running")
        try:
            content = self._vendor.disks.read(machine.id, path)
        except PathError as error:
            raise RefusedError(400, str(error)) from error
        if content is None:
            raise RefusedError(404, "file not found")
        return web.Response(body=content, content_type="application/octet-stream")

    async def exec(self, request: web.Request) -> web.Response:
        """POST /api/vps/:id/exec."""
        machine = self._machine(request)
        command, timeout_s, background = self._read(await Body.read(request))
        return answer(await self._do(machine, command, timeout_s, background=background))

    async def batch_exec(self, request: web.Request) -> web.Response:
        """POST /api/vps/batch/exec."""
        body = await Body.read(request)
        ids = body.texts("ids", high=self._vendor.config.max_batch_size)
        command, timeout_s, background = self._read(body)

        async def one(index: int, machine_id: str) -> dict[str, Any]:
            try:
                self._vendor.strike_item(index)
                machine = self._vendor.owned(request[ACCOUNT], machine_id)
                return {"vps_id": machine_id, **await self._do(machine, command, timeout_s, background=background)}
            except RefusedError as refused:
                return {"vps_id": machine_id, "error": refused.message}

        results = await asyncio.gather(*(one(index, machine_id) for index, machine_id in enumerate(ids)))
        return answer({"results": results}, 207)

    async def jobs(self, request: web.Request) -> web.Response:
        """GET /api/vps/:id/jobs."""
        return answer([job_view(self._vendor, job) for job in self._vendor.jobs.recent(self._machine(request))])

    async def job(self, request: web.Request) -> web.Response:
        """GET /api/vps/:id/jobs/:job_id."""
        found = self._vendor.jobs.owned(self._machine(request), request.match_info["job_id"])
        return answer(job_view(self._vendor, found))

    async def cancel_job(self, request: web.Request) -> web.Response:
        """DELETE /api/vps/:id/jobs/:job_id."""
        found = self._vendor.jobs.owned(self._machine(request), request.match_info["job_id"])
        self._vendor.jobs.cancel(found)
        return answer(job_view(self._vendor, found))

    async def _do(self, machine: Machine, command: str, timeout_s: int, *, background: bool) -> dict[str, Any]:
        if background:
            job = self._vendor.jobs.begin(machine, command, timeout_s)
            return {"job_id": job.id, "status": "pending", "timeout_seconds": timeout_s}
        done = await self._vendor.jobs.run(machine, command, timeout_s)
        return {
            "stdout": done.stdout,
            "stderr": done.stderr,
            "exit_code": done.exit_code,
            "duration_ms": round(done.duration_s * 1000),
        }

    def _read(self, body: Body) -> tuple[str, int, bool]:
        config = self._vendor.config
        command = body.text("command", high=COMMAND_LENGTH)
        timeout_s = body.integer("timeout_seconds", low=1, high=config.exec_max_s, default=config.exec_default_s)
        background = body.flag("background")
        body.done()
        return command, timeout_s, background

    def _machine(self, request: web.Request) -> Machine:
        return self._vendor.owned(request[ACCOUNT], request.match_info["id"])


def guest_routes(vendor: LiteVps) -> list[Route]:
    """The part of the document that reaches into machines."""
    on = Handlers(vendor)
    one = "/api/vps/{id}"
    return [
        Route("POST", "/api/vps/batch/exec", "batch_exec", on.batch_exec),
        Route("PUT", f"{one}/files", "upload", on.upload),
        Route("GET", f"{one}/files", "download", on.download),
        Route("POST", f"{one}/exec", "exec", on.exec),
        Route("GET", f"{one}/jobs", "jobs", on.jobs),
        Route("GET", f"{one}/jobs/{{job_id}}", "job", on.job),
        Route("DELETE", f"{one}/jobs/{{job_id}}", "cancel_job", on.cancel_job),
    ]


def _path(request: web.Request) -> str:
    path = request.query.get("path", "")
    if not path:
        raise RefusedError(400, "path is required")
    return path

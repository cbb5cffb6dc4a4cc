"""Commands on machines: run at once, or as background jobs that go pending, running, done | timeout | cancelled.

A synchronous command keeps its caller waiting in real time; a job runs on the business clock. All calls are audited.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

from sandbox.litevps.guest_shell import Result, denied
from sandbox.litevps.records import Job, Machine
from sandbox.shared_vendor.timeline import MS
from sandbox.shared_vendor.wire import RefusedError

if TYPE_CHECKING:
    from sandbox.litevps.vendor import LiteVps

JOBS_KEPT = 50


class Jobs:
    """Commands of one vendor."""

    def __init__(self, vendor: LiteVps) -> None:
        self._vendor = vendor

    async def run(self, machine: Machine, command: str, timeout_s: int) -> Result:
        """Run at once; raises RefusedError (403 denied, 409 not running, 502 lost, 504 too slow)."""
        self._admit(machine, command)
        fault = self._vendor.faults.take("exec") or {"mode": None}
        done = self._vendor.shell.run(machine.id, command)
        if fault["mode"] == "lost":
            raise RefusedError(502, "ssh connection lost")
        if fault["mode"] == "hangs" or done.duration_s > timeout_s:
            await asyncio.sleep(timeout_s)
            raise RefusedError(504, f"command timed out after {timeout_s}s")
        await asyncio.sleep(done.duration_s)
        return done

    def begin(self, machine: Machine, command: str, timeout_s: int) -> Job:
        """Queue a background job; raises RefusedError (403, 409)."""
        self._admit(machine, command)
        timeline = self._vendor.timeline
        job = Job(id=str(uuid.uuid4()), command=command, timeout_s=timeout_s, created_ms=timeline.now_ms())
        machine.jobs[job.id] = job
        timeline.after(self._vendor.config.job_start_s, lambda: self._start(machine, job))
        return job

    @staticmethod
    def owned(machine: Machine, job_id: str) -> Job:
        """One of the machine's last fifty jobs; raises RefusedError (404)."""
        job = next((job for job in Jobs.recent(machine) if job.id == job_id), None)
        if job is None:
            raise RefusedError(404, "job not found")
        return job

    @staticmethod
    def recent(machine: Machine) -> list[Job]:
        """The last fifty jobs, newest first."""
        return list(reversed(machine.jobs.values()))[:JOBS_KEPT]

    def cancel(self, job: Job) -> None:
        """Cancel a job that has not ended; raises RefusedError (409)."""
        if job.status not in ("pending", "running"):
            raise RefusedError(409, f"job is {job.status}")
        self._end(job, "cancelled")

    def _admit(self, machine: Machine, command: str) -> None:
        entry = denied(command)
        self._vendor.audit.append(
            {
                "at_ms": self._vendor.timeline.now_ms(),
                "account_id": machine.account_id,
                "vps_id": machine.id,
                "command": command,
                "denied": entry,
            }
        )
        if entry is not None:
            raise RefusedError(403, f"command blocked: {entry}")
        self._vendor.needs(machine, "running")

    def _start(self, machine: Machine, job: Job) -> None:
        if job.status != "pending":
            return
        timeline = self._vendor.timeline
        job.status, job.started_ms = "running", timeline.now_ms()
        if machine.gone_ms is not None:
            self._end(job, "cancelled")
            return
        hangs = self._vendor.faults.take("exec") is not None
        done = self._vendor.shell.run(machine.id, job.command)
        in_time = done.duration_s <= job.timeout_s and not hangs

        def finish() -> None:
            if job.status == "running":
                if in_time:
                    job.stdout, job.stderr, job.exit_code = done.stdout, done.stderr, done.exit_code
                self._end(job, "done" if in_time else "timeout")

        timeline.at(timeline.now_ms() + round((done.duration_s if in_time else job.timeout_s) * MS), finish)

    def _end(self, job: Job, status: str) -> None:
        job.status, job.ended_ms = status, self._vendor.timeline.now_ms()

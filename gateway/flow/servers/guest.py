"""Inside a server: commands, jobs and files, at vendors that let one in without a password.

Must not know vendors' wires or HTTP.  Theory: a command that ran twice has done its work twice, so it is sent once and its
fate is told as it is known; a file is bytes that pass, and is never kept here.
"""

from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from gateway.core.commands import Remember
from gateway.core.problems import Problem
from gateway.core.records import Answer
from gateway.core.server import USABLE, Server, ServerState
from gateway.flow.call import Reply
from gateway.flow.locks import Locks
from gateway.flow.servers.doing import Doing, Done, claim_of, require_made, require_state
from gateway.flow.servers.runner import Who
from gateway.server_ports import Action, Feature, JobSight

UNDONE_MAX = 10_000
READY = USABLE | {ServerState.UNKNOWN}  # what its document does not name may well be running: the vendor says


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a command. `replayed`: the answer is that of an earlier request with the same Idempotency-Key."""

    job: JobSight
    replayed: bool = False


class Guest:
    """The use case. Every method raises Problem: not_found, capability_missing, server_ended, server_not_ready."""

    def __init__(self, doing: Doing) -> None:
        self._doing, self._keeping, self._locks = doing, doing.keeping, Locks()
        self._undone: dict[str, None] = {}

    async def exec(
        self,
        who: Who,
        server_id: str,
        command: str,
        *,
        timeout_s: int | None = None,
        background: bool = False,
        idempotency_key: str | None = None,
    ) -> Ran:
        """Run a command, once: when no answer comes nobody asks again. Raises also "action_unknown"."""
        server = await self._keeping.server(who.account_id, server_id)
        self._doing.require(server.vendor, Feature.EXEC, self._doing.ways_in(server))
        claim = claim_of(server, idempotency_key)
        if not await self._doing.is_claimed(who, claim):
            _require_ready(server, "a command")
        parameters = {"command": command, "timeout_s": timeout_s, "background": background}
        done = await self._doing.whole(self._run_once(who, server, parameters, claim))
        if not done.heard.jobs:
            raise Problem("action_unknown", f"{server.vendor} took the command and does not say what became of it")
        return Ran(done.heard.jobs[0], done.replayed)

    async def _run_once(self, who: Who, server: Server, parameters: Mapping[str, Any], claim: str | None) -> Done:
        """Run a command; under a claim it is durable before it leaves, so that a repeat never runs it again blindly."""
        if claim is None:
            return await self._doing.run(who, server, Action.EXEC, parameters)
        lock, sent = self._locks.of(who.account_id, claim), f"sent {claim}"
        async with lock:
            known = await self._doing.is_claimed(who, claim)
            if not known and sent not in self._undone and await self._doing.is_claimed(who, sent):
                detail = (
                    f"{server.vendor} was sent this before, and nobody knows whether it ran; take a new key to run it"
                )
                raise Problem("action_unknown", detail)
            if not known:
                await self._mark(who, sent)
            self._undone.pop(sent, None)
            try:
                return await self._doing.run(who, server, Action.EXEC, parameters, claim=claim)
            except Problem as problem:
                if problem.code != "action_unknown":
                    self._note_undone(sent)
                raise

    async def _mark(self, who: Who, sent: str) -> None:
        """Keep that a command is about to leave."""
        answer = Answer("", 0, self._keeping.seal("sent", sent, {}), self._keeping.clock.now_ms())
        await self._keeping.store.post(Remember(who.account_id, sent, sha256(sent.encode()).digest(), answer))

    def _note_undone(self, sent: str) -> None:
        """For certain nothing was done: the same request may try again, for as long as this is remembered."""
        while len(self._undone) >= UNDONE_MAX:
            self._undone.pop(next(iter(self._undone)))
        self._undone[sent] = None

    async def jobs(self, who: Who, server_id: str) -> tuple[JobSight, ...]:
        """Return the jobs that the vendor remembers of a server."""
        server = await self._jobbing(who, server_id)
        return (await self._doing.run(who, server, Action.JOB_LIST)).heard.jobs

    async def job(self, who: Who, server_id: str, job_id: str) -> JobSight:
        """Return one job."""
        server = await self._jobbing(who, server_id)
        done = await self._doing.run(who, server, Action.JOB_SHOW, {"job": job_id})
        return _one(done.heard.jobs, job_id)

    async def cancel(self, who: Who, server_id: str, job_id: str) -> JobSight:
        """Cancel a job, and return it as the vendor says that it is then."""
        server = await self._jobbing(who, server_id)
        done = await self._doing.whole(self._doing.run(who, server, Action.JOB_CANCEL, {"job": job_id}))
        if done.heard.jobs:
            return _one(done.heard.jobs, job_id)
        return _one((await self._doing.run(who, server, Action.JOB_SHOW, {"job": job_id})).heard.jobs, job_id)

    async def read_file(self, who: Who, server_id: str, path: str) -> Reply:
        """Return a file as it comes: a good answer, whose `rest` goes on where its body ends. Close or read it."""
        server = await self._with_files(who, server_id)
        return await self._doing.stream(who, server, Action.FILE_GET, {"path": path})

    async def require_files(self, who: Who, server_id: str) -> None:
        """Raise Problem where no file of a server can be read or written now."""
        await self._with_files(who, server_id)

    async def write_file(self, who: Who, server_id: str, path: str, content: bytes | AsyncIterable[bytes]) -> None:
        """Write a file; content that is not kept is sent once, as it comes."""
        server = await self._with_files(who, server_id)
        whole = content if isinstance(content, bytes) else b""
        stream = None if isinstance(content, bytes) else content
        reply = await self._doing.stream(who, server, Action.FILE_PUT, {"path": path, "content": whole}, stream)
        if reply.rest is not None:
            await reply.rest.close()

    async def _jobbing(self, who: Who, server_id: str) -> Server:
        server = await self._keeping.server(who.account_id, server_id)
        self._doing.require(server.vendor, Feature.JOBS)
        require_made(server)
        return server

    async def _with_files(self, who: Who, server_id: str) -> Server:
        server = await self._keeping.server(who.account_id, server_id)
        self._doing.require(server.vendor, Feature.FILES, self._doing.ways_in(server))
        _require_ready(server, "a file")
        return server


def _require_ready(server: Server, what: str) -> None:
    require_made(server)
    require_state(server, READY, what)


def _one(jobs: tuple[JobSight, ...], job_id: str) -> JobSight:
    found = next((job for job in jobs if job.id == job_id), None)
    if found is None:
        raise Problem("not_found", f"the vendor shows no job {job_id} of this server")
    return found

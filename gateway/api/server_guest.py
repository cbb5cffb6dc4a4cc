"""`/v1/servers/{id}/exec`, `/jobs` and `/files`: commands and files, at vendors that let them in.

Must not know vendors.  Theory: a file is bytes that pass through here and are never kept; one that breaks off is seen to
break off, and a command is answered with what is known of it, never run again to know more.
"""

from typing import Any

from gateway.api import examples
from gateway.api.asked import idempotency_key, query_of
from gateway.api.body import LongBody, read_body, read_small
from gateway.api.deps import ApiDeps
from gateway.api.endpoint import Endpoint, Told
from gateway.api.exchange import Exchange
from gateway.api.needs import bad, check_members, parse_flag, parse_object
from gateway.api.once import REPLAYED
from gateway.api.plans import neutral_of
from gateway.api.schemas import FLAG, INTEGER, TEXT, choice, maybe, named, optional, record, several
from gateway.core.apikeys import SPEND
from gateway.core.problems import Problem
from gateway.flow.call import Reply
from gateway.flow.servers.runner import Who
from gateway.http.port import BodyStream
from gateway.server_ports import JobSight

MAX_EXEC_BYTES = 256 * 1024
MAX_COMMAND_CHARS = 64 * 1024
MAX_TIMEOUT_S = 24 * 3600
MAX_PATH_CHARS = 4096
MAX_JOB_ID_CHARS = 128
BYTES_TYPE = "application/octet-stream"
NO_CONTENT = 204

_JOB = record(
    id={**maybe(TEXT), "description": "null for a command that was waited for, where its vendor keeps no job of it"},
    state=choice("pending", "running", "done", "timeout", "cancelled", "unknown"),
    exit_code=maybe(INTEGER),
    stdout=TEXT,
    stderr=TEXT,
)
JOB = named("Job", _JOB, examples.JOB)
_EXEC_BODY = optional(
    record(
        command={
            **TEXT,
            "minLength": 1,
            "maxLength": MAX_COMMAND_CHARS,
            "description": "run by root's shell, once; no NUL",
        },
        timeout_s={**INTEGER, "minimum": 1, "maximum": MAX_TIMEOUT_S},
        background={**FLAG, "description": "answer at once with a job; the way for whatever takes long"},
    ),
    "timeout_s",
    "background",
)
BYTES = {"type": "string", "format": "binary"}
_FILE_QUERY = {"path": {"type": "string", "pattern": "^/", "maxLength": MAX_PATH_CHARS, "description": "absolute"}}
EXEC_BODY = named("Command", _EXEC_BODY, examples.EXEC)
_SHORT = ("not_found", "capability_missing", "server_ended", "server_not_ready", "action_refused")
_CHANGING = (*_SHORT, "action_unknown", "input_refused")


async def run_command(deps: ApiDeps, exchange: Exchange) -> Told:
    """Run a command on a server of the account. Raises Problem."""
    query_of(exchange.query, frozenset())
    body = await read_small(exchange.request, MAX_EXEC_BYTES, deps.settings.body_silence_s)
    members = parse_object(body)
    check_members(members, "", ("timeout_s", "background"), ("command",))
    ran = await neutral_of(deps).acting.guest.exec(
        Who(exchange.granted, exchange.request_id),
        exchange.parameters["id"],
        _command(members["command"]),
        timeout_s=_timeout(members),
        background=parse_flag(members, "background", "") or False,
        idempotency_key=idempotency_key(exchange.request),
    )
    return Told({"job": job_view(ran.job)}, headers=(REPLAYED,) if ran.replayed else ())


async def list_jobs(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with the jobs that the vendor remembers. Raises Problem."""
    query_of(exchange.query, frozenset())
    who = Who(exchange.granted, exchange.request_id)
    jobs = await neutral_of(deps).acting.guest.jobs(who, exchange.parameters["id"])
    return Told({"entries": [job_view(job) for job in jobs]})


async def show_job(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with one job. Raises Problem."""
    query_of(exchange.query, frozenset())
    who = Who(exchange.granted, exchange.request_id)
    job = await neutral_of(deps).acting.guest.job(who, exchange.parameters["id"], _job_id(exchange))
    return Told({"job": job_view(job)})


async def cancel_job(deps: ApiDeps, exchange: Exchange) -> Told:
    """Cancel a job, and answer with it. Raises Problem."""
    query_of(exchange.query, frozenset())
    who = Who(exchange.granted, exchange.request_id)
    job = await neutral_of(deps).acting.guest.cancel(who, exchange.parameters["id"], _job_id(exchange))
    return Told({"job": job_view(job)})


async def read_file(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with a file's bytes as they come. Raises Problem."""
    who, path = Who(exchange.granted, exchange.request_id), _path(exchange)
    reply = await neutral_of(deps).acting.guest.read_file(who, exchange.parameters["id"], path)
    coded = tuple(each for each in reply.headers if each[0].lower() == "content-encoding")
    headers = (("X-Content-Type-Options", "nosniff"), *coded)
    if reply.rest is None:
        return Told(reply.body, headers=headers)
    if exchange.request.method == "HEAD":
        await reply.rest.close()
        return Told(b"", headers=headers)
    return Told(_Pieces(reply, reply.rest), headers=headers)


async def write_file(deps: ApiDeps, exchange: Exchange) -> Told:
    """Write a file, up to the limit that a body may have at all. Raises Problem."""
    who, path = Who(exchange.granted, exchange.request_id), _path(exchange)
    guest = neutral_of(deps).acting.guest
    await guest.require_files(who, exchange.parameters["id"])  # before megabytes are read for nothing
    body = await read_body(exchange.request, deps.settings)
    try:
        await guest.write_file(who, exchange.parameters["id"], path, body)
    except Problem:
        if isinstance(body, LongBody) and body.oversized:  # the vendor was cut off because of it
            limit_bytes = deps.settings.stream_bytes
            detail = f"the body is larger than {limit_bytes} bytes"
            raise Problem("body_oversized", detail, extra={"limit_bytes": limit_bytes}) from None
        raise
    return Told(b"", NO_CONTENT)


def job_view(job: JobSight) -> dict[str, Any]:
    """Return a job as its agent reads it."""
    return {
        "id": job.id or None,
        "state": job.state,
        "exit_code": job.exit_code,
        "stdout": job.stdout,
        "stderr": job.stderr,
    }


class _Pieces:
    """A file as it comes. One that is given up half-way says so, so that nobody takes what came for all of it."""

    def __init__(self, reply: Reply, rest: BodyStream) -> None:
        self._head, self._rest, self._coming = reply.body, rest, aiter(rest)
        self._over = False

    def __aiter__(self) -> "_Pieces":
        return self

    async def __anext__(self) -> bytes:
        if self._head:
            head, self._head = self._head, b""
            return head
        try:
            return await anext(self._coming)
        except StopAsyncIteration:
            self._over = True
            raise

    async def aclose(self) -> None:
        """Let go of the rest. Raises Problem where there was any."""
        await self._rest.close()
        if not self._over:
            self._over = True
            raise Problem("shutting_down", "the file was not sent to its end")


def _command(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_COMMAND_CHARS or "\0" in value:
        raise bad(f"command is a text of 1 to {MAX_COMMAND_CHARS} characters without NUL", "command")
    return _encodable(value, "command")


def _timeout(members: dict[str, Any]) -> int | None:
    value = members.get("timeout_s")
    if "timeout_s" in members and (type(value) is not int or not 1 <= value <= MAX_TIMEOUT_S):
        raise bad(f"timeout_s is a whole number from 1 to {MAX_TIMEOUT_S}", "timeout_s")
    return value


def _path(exchange: Exchange) -> str:
    path = query_of(exchange.query, frozenset({"path"})).get("path", "")
    if not path.startswith("/") or len(path) > MAX_PATH_CHARS or not path.isprintable():
        raise bad(f"path is absolute, of at most {MAX_PATH_CHARS} printable characters", "path")
    return _encodable(path, "path")


def _job_id(exchange: Exchange) -> str:
    job_id = exchange.parameters["job"]
    if len(job_id) > MAX_JOB_ID_CHARS or not job_id.isascii() or not job_id.isprintable():
        raise Problem("not_found", "there is no such job")
    return job_id


def _encodable(text: str, field: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can spell and UTF-8 cannot
        raise bad(f"{field} is not Unicode text", field) from None
    return text


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/servers/{id}/exec",
        "Run a command as root, once",
        run_command,
        record(job=JOB),
        scope=SPEND,
        body=EXEC_BODY,
        problems=("bad_request", "body_oversized", "idempotency_conflict", "upstream_policy_denied", *_CHANGING),
        idempotent_key=True,
        asks_vendor=True,
    ),
    Endpoint(
        "GET",
        "/v1/servers/{id}/jobs",
        "Its jobs",
        list_jobs,
        record(entries=several(JOB)),
        scope=SPEND,
        problems=_SHORT,
    ),
    Endpoint("GET", "/v1/servers/{id}/jobs/{job}", "A job", show_job, record(job=JOB), scope=SPEND, problems=_SHORT),
    Endpoint(
        "DELETE",
        "/v1/servers/{id}/jobs/{job}",
        "Cancel a job",
        cancel_job,
        record(job=JOB),
        scope=SPEND,
        problems=_CHANGING,
        asks_vendor=True,
    ),
    Endpoint(
        "GET",
        "/v1/servers/{id}/files",
        "A file's bytes",
        read_file,
        BYTES,
        scope=SPEND,
        query=frozenset(_FILE_QUERY),
        query_schemas=_FILE_QUERY,
        query_needed=frozenset(_FILE_QUERY),
        problems=("bad_request", *_SHORT),
        media_type=BYTES_TYPE,
        asks_vendor=True,
    ),
    Endpoint(
        "PUT",
        "/v1/servers/{id}/files",
        "Write a file: the body's bytes, up to 256 MiB",
        write_file,
        BYTES,
        scope=SPEND,
        status=NO_CONTENT,
        query=frozenset(_FILE_QUERY),
        query_schemas=_FILE_QUERY,
        query_needed=frozenset(_FILE_QUERY),
        body=BYTES,
        body_type=BYTES_TYPE,
        body_needed=False,  # an empty file is one
        problems=("bad_request", "body_oversized", *_CHANGING),
        media_type=BYTES_TYPE,
        asks_vendor=True,
    ),
)

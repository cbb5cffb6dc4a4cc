"""The client: one method a route of `/v1`, over one aiohttp session.

Must not know a vendor.  Theory: a request that may spend is repeated only under the Idempotency-Key it began with, so a
lost answer costs a second look and never a second server.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar, cast
from urllib.parse import quote, urlencode

import aiohttp
from yarl import URL

from gateway_client.problem import GatewayProblem
from gateway_client.shapes import (
    Deposits,
    Event,
    Fleet,
    Need,
    Page,
    Plan,
    Quote,
    Receipt,
    Refund,
    Server,
    Snapshot,
    SshKey,
    TopUp,
    TopUpOffer,
)

TIMEOUT_S = 330.0  # a long poll of the longest wait, and some more
TRIES = 4
PAUSE_S = 0.5
RETRY_AFTER_MOST_S = 30.0
REPEATABLE = frozenset({429, 503, 504})  # the API says that nothing was done, or that the same request may come again
SUCCESS_BELOW = 400

JsonObject = dict[str, Any]
T = TypeVar("T")


class GatewayClient:
    """Speaks for one API key. Use it as an async context manager, or close it."""

    def __init__(self, base_url: str, api_key: str, session: aiohttp.ClientSession | None = None) -> None:
        self._base_url = base_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self._owned = session is None
        self._session = session or aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections that this client opened."""
        if self._owned:
            await self._session.close()

    # money and the catalogue

    async def balance(self) -> JsonObject:
        """Return what is available, held and spent, and what runs."""
        return await self.call("GET", "/v1/balance")

    async def statement(self, after: str | None = None, limit: int | None = None) -> Page[JsonObject]:
        """Return a page of the statement, oldest entry first."""
        return await self._page("/v1/statement", after, limit)

    async def payments(self, after: str | None = None, limit: int | None = None) -> Page[JsonObject]:
        """Return a page of payments, newest first."""
        return await self._page("/v1/payments", after, limit)

    async def payment(self, payment_id: str) -> JsonObject:
        """Return one payment with its axes and its evidence."""
        return await self.call("GET", f"/v1/payments/{_part(payment_id)}")

    async def vendors(self) -> list[JsonObject]:
        """Return every vendor with what it can do."""
        found: list[JsonObject] = (await self.call("GET", "/v1/vendors"))["vendors"]
        return found

    async def plans(
        self, after: str | None = None, limit: int | None = None, **filters: str | int | bool
    ) -> Page[Plan]:
        """Return a page of plans; filters are the query parameters of GET /v1/plans."""
        return await self._page("/v1/plans", after, limit, filters)

    async def quote(
        self, *, need: Need | None = None, plan: str | None = None, idempotency_key: str | None = None, **spec: object
    ) -> Quote:
        """Return a binding quote for a need or a plan."""
        body = _given(need=need, plan=plan, **spec)
        return await self._as(Quote, "POST", "/v1/quotes", body, key=idempotency_key)

    # servers

    async def create_server(
        self,
        *,
        name: str,
        need: Need | None = None,
        plan: str | None = None,
        quote: str | None = None,
        wait: str | None = None,
        timeout_s: int | None = None,
        idempotency_key: str | None = None,
        **spec: object,
    ) -> Server:
        """Order a server from a need, a plan or a quote; the same `idempotency_key` again is the same server.

        `wait` is a state to wait for, at most `timeout_s`. `spec`: region, image, ssh_keys, user_data, minutes, snapshot,
        keep_until, auto_renew, max_total.
        """
        body = _given(name=name, need=need, plan=plan, quote=quote, **spec)
        path = "/v1/servers" + _query(wait=wait, timeout_s=timeout_s)
        return await self._as(Server, "POST", path, body, key=idempotency_key or _new_key())

    async def servers(self, after: str | None = None, limit: int | None = None, **filters: str | bool) -> Page[Server]:
        """Return a page of the account's servers."""
        return await self._page("/v1/servers", after, limit, filters)

    async def server(self, server_id: str, *, wait: str | None = None, timeout_s: int | None = None) -> Server:
        """Return a server; with `wait` once it is in that state or has ended, at most `timeout_s` later."""
        path = f"/v1/servers/{_part(server_id)}" + _query(wait=wait, timeout_s=timeout_s)
        return await self._as(Server, "GET", path)

    async def change_server(self, server_id: str, **changes: object) -> Server:
        """Change name, keep_until, auto_renew or max_total."""
        return await self._as(Server, "PATCH", f"/v1/servers/{_part(server_id)}", changes)

    async def destroy_server(self, server_id: str) -> Server:
        """Have a server destroyed; asked again it is the same wish."""
        return await self._as(Server, "DELETE", f"/v1/servers/{_part(server_id)}")

    async def act(self, server_id: str, action: str, *, idempotency_key: str | None = None) -> Server:
        """Start, stop or reboot a server."""
        path = f"/v1/servers/{_part(server_id)}/actions"
        return await self._as(Server, "POST", path, {"action": action}, key=idempotency_key or _new_key())

    async def credentials(self, server_id: str) -> JsonObject:
        """Return the ways into a server: secrets."""
        return await self.call("GET", f"/v1/servers/{_part(server_id)}/credentials")

    async def run(
        self, server_id: str, command: str, *, timeout_s: int | None = None, background: bool = False
    ) -> JsonObject:
        """Run a command on a server and return its job. It is never sent a second time by itself."""
        body = _given(command=command, timeout_s=timeout_s, background=background or None)
        found: JsonObject = (await self.call("POST", f"/v1/servers/{_part(server_id)}/exec", body))["job"]
        return found

    async def jobs(self, server_id: str) -> Page[JsonObject]:
        """Return the jobs of a server."""
        return await self._page(f"/v1/servers/{_part(server_id)}/jobs", None, None)

    async def job(self, server_id: str, job_id: str) -> JsonObject:
        """Return one job with its output."""
        return await self.call("GET", f"/v1/servers/{_part(server_id)}/jobs/{_part(job_id)}")

    async def cancel_job(self, server_id: str, job_id: str) -> JsonObject:
        """Cancel a job."""
        return await self.call("DELETE", f"/v1/servers/{_part(server_id)}/jobs/{_part(job_id)}")

    async def read_file(self, server_id: str, path: str) -> bytes:
        """Return a file of a server."""
        target = f"/v1/servers/{_part(server_id)}/files" + _query(path=path)
        return (await self._send("GET", target, None, {}, repeat=True))[1]

    async def write_file(self, server_id: str, path: str, content: bytes) -> None:
        """Write a file of a server."""
        headers = {"Content-Type": "application/octet-stream"}
        await self._send("PUT", f"/v1/servers/{_part(server_id)}/files" + _query(path=path), content, headers)

    async def renew(
        self, server_id: str, *, units: int | None = None, until: str | None = None, idempotency_key: str | None = None
    ) -> Server:
        """Buy more of a server's paid time."""
        path, body = f"/v1/servers/{_part(server_id)}/renewals", _given(units=units, until=until)
        return await self._as(Server, "POST", path, body, key=idempotency_key or _new_key())

    async def renewals(self, server_id: str) -> Page[JsonObject]:
        """Return what a server's renewals cost and became."""
        return await self._page(f"/v1/servers/{_part(server_id)}/renewals", None, None)

    # snapshots, keys, fleets

    async def snapshot(
        self, server_id: str, name: str | None = None, *, idempotency_key: str | None = None
    ) -> Snapshot:
        """Make a snapshot."""
        path = f"/v1/servers/{_part(server_id)}/snapshots"
        return await self._as(Snapshot, "POST", path, _given(name=name), key=idempotency_key or _new_key())

    async def snapshots(self, after: str | None = None, limit: int | None = None) -> Page[Snapshot]:
        """Return the account's snapshots."""
        return await self._page("/v1/snapshots", after, limit)

    async def snapshot_by_id(self, snapshot_id: str) -> Snapshot:
        """Return one snapshot."""
        return await self._as(Snapshot, "GET", f"/v1/snapshots/{_part(snapshot_id)}")

    async def delete_snapshot(self, snapshot_id: str) -> Snapshot:
        """Delete a snapshot."""
        return await self._as(Snapshot, "DELETE", f"/v1/snapshots/{_part(snapshot_id)}")

    async def restore(
        self, snapshot_id: str, *, name: str | None = None, idempotency_key: str | None = None, **spec: object
    ) -> Server:
        """Restore a snapshot: in place, or to a new server where the vendor does that."""
        path, body = f"/v1/snapshots/{_part(snapshot_id)}/restore", _given(name=name, **spec)
        return await self._as(Server, "POST", path, body, key=idempotency_key or _new_key())

    async def add_ssh_key(self, name: str, public_key: str, *, idempotency_key: str | None = None) -> SshKey:
        """Keep a public key; it is installed where a server is ordered with it."""
        body = {"name": name, "public_key": public_key}
        return await self._as(SshKey, "POST", "/v1/ssh-keys", body, key=idempotency_key or _new_key())

    async def ssh_keys(self) -> Page[SshKey]:
        """Return the account's public keys."""
        return await self._page("/v1/ssh-keys", None, None)

    async def delete_ssh_key(self, key_id: str) -> SshKey:
        """Forget a public key, here and at the vendors."""
        return await self._as(SshKey, "DELETE", f"/v1/ssh-keys/{_part(key_id)}")

    async def create_fleet(
        self,
        *,
        name: str,
        count: int,
        need: Need,
        until: str,
        budget: str,
        idempotency_key: str | None = None,
        **spec: object,
    ) -> Fleet:
        """Keep `count` servers of a need alive until a time, for at most a budget."""
        body = _given(name=name, count=count, need=need, until=until, budget=budget, **spec)
        return await self._as(Fleet, "POST", "/v1/fleets", body, key=idempotency_key or _new_key())

    async def fleet(self, fleet_id: str) -> Fleet:
        """Return a fleet."""
        return await self._as(Fleet, "GET", f"/v1/fleets/{_part(fleet_id)}")

    async def fleets(self, after: str | None = None, limit: int | None = None) -> Page[Fleet]:
        """Return the account's fleets."""
        return await self._page("/v1/fleets", after, limit)

    async def change_fleet(self, fleet_id: str, **changes: object) -> Fleet:
        """Change count, until or budget."""
        return await self._as(Fleet, "PATCH", f"/v1/fleets/{_part(fleet_id)}", changes)

    async def end_fleet(self, fleet_id: str) -> Fleet:
        """End a fleet and destroy its servers."""
        return await self._as(Fleet, "DELETE", f"/v1/fleets/{_part(fleet_id)}")

    # paying in, and getting it back

    async def topup_offer(self, amount: str) -> TopUpOffer:
        """Return what an amount of credit costs, in the form of x402 version 1; nothing is paid.

        To pay, let a stock x402 or MPP client send the same request: it reads the other forms from the headers.
        """
        return await self._offer("/v1/topups", {"amount": amount})

    async def pack_offer(self, name: str) -> TopUpOffer:
        """Return what a fixed pack of credit costs; nothing is paid."""
        return await self._offer(f"/v1/topups/packs/{_part(name)}", None)

    async def topups(self, after: str | None = None, limit: int | None = None) -> Page[TopUp]:
        """Return a page of the account's top-ups, newest first."""
        return await self._page("/v1/topups", after, limit)

    async def topup(self, topup_id: str) -> TopUp:
        """Return how a top-up stands. Raises GatewayProblem("not_found") for an order that nobody has paid."""
        return await self._as(TopUp, "GET", f"/v1/topups/{_part(topup_id)}")

    async def receipts(self, after: str | None = None, limit: int | None = None) -> Page[Receipt]:
        """Return a page of what came in for the account, oldest first."""
        return await self._page("/v1/receipts", after, limit)

    async def receipt(self, receipt_id: str) -> Receipt:
        """Return one receipt."""
        return await self._as(Receipt, "GET", f"/v1/receipts/{_part(receipt_id)}")

    async def refund(
        self, *, idempotency_key: str, receipt: str | None = None, topup: str | None = None, amount: str | None = None
    ) -> Refund:
        """Send unused balance back to the wallet that paid it in: of one receipt or top-up, all of it without an amount.

        The same `idempotency_key` again is the same refund: keep it until you have the answer.
        """
        body = _given(receipt=receipt, topup=topup, amount=amount)
        return await self._as(Refund, "POST", "/v1/refunds", body, key=idempotency_key)

    async def refunds(self, after: str | None = None, limit: int | None = None) -> Page[Refund]:
        """Return a page of the account's refunds, newest first."""
        return await self._page("/v1/refunds", after, limit)

    async def refund_by_id(self, refund_id: str) -> Refund:
        """Return one refund."""
        return await self._as(Refund, "GET", f"/v1/refunds/{_part(refund_id)}")

    async def deposits(self) -> Deposits:
        """Return how to pay in by a plain transfer."""
        return await self._as(Deposits, "GET", "/v1/deposits")

    # events

    async def events(self, after: str | None = None, limit: int | None = None, types: str | None = None) -> Page[Event]:
        """Return a page of events, oldest first."""
        return await self._page("/v1/events", after, limit, {} if types is None else {"types": types})

    async def follow(self, path: str = "/v1/events", last_event_id: str | None = None) -> AsyncIterator[Event]:
        """Yield events as they happen, until the stream ends; resume with the `id` of the last one.

        `path` may be that of one server.
        """
        headers = {**self._headers, "Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
        async with self._session.get(self._url(path), headers=headers, timeout=timeout) as answer:
            if answer.status >= SUCCESS_BELOW:
                raise _problem(answer.status, await answer.read())
            data: list[str] = []
            async for raw in answer.content:
                line = raw.decode().rstrip("\r\n")
                if line.startswith("data:"):
                    data.append(line[5:].removeprefix(" "))
                elif not line and data:
                    yield json.loads("\n".join(data))
                    data = []

    async def create_webhook(
        self, url: str, events: list[str], *, description: str = "", idempotency_key: str | None = None
    ) -> JsonObject:
        """Have events sent to an address; the answer holds the secret, once."""
        body = {"url": url, "events": events, "description": description}
        return await self.call("POST", "/v1/webhooks", body, key=idempotency_key or _new_key())

    # any route

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> JsonObject:
        """Send one JSON request to any route and return its JSON object. Raises GatewayProblem.

        Reads, and requests with an Idempotency-Key, are repeated when no answer comes or the answer says to come again.
        """
        said = dict(headers or {})
        content = None
        if body is not None:
            content, said["Content-Type"] = json.dumps(body).encode(), "application/json"
        if key is not None:
            said["Idempotency-Key"] = key
        _, answer = await self._send(method, path, content, said, repeat=key is not None or method in {"GET", "DELETE"})
        document: JsonObject = json.loads(answer) if answer else {}
        return document

    async def _offer(self, path: str, body: Mapping[str, Any] | None) -> TopUpOffer:
        """Ask without a payment: the 402 is the answer, and nothing came of it, so it may be asked again."""
        method = "GET" if body is None else "POST"
        content = None if body is None else json.dumps(body).encode()
        said = {} if body is None else {"Content-Type": "application/json"}
        try:
            status, _ = await self._send(method, path, content, said, repeat=True)
        except GatewayProblem as problem:
            if problem.code != "payment_required":
                raise
            told = {"title": problem.title, "detail": problem.detail, **problem.extra}
            return cast("TopUpOffer", told)
        raise GatewayProblem(status, {"title": "no 402", "detail": "this answered a request that pays nothing"})

    async def _as(
        self, _shape: type[T], method: str, path: str, body: Mapping[str, Any] | None = None, *, key: str | None = None
    ) -> T:
        """`call`, with its answer as the shape that the route documents."""
        return cast("T", await self.call(method, path, body, key=key))

    async def _send(
        self, method: str, path: str, content: bytes | None, headers: dict[str, str], *, repeat: bool = False
    ) -> tuple[int, bytes]:
        for tried in range(1, TRIES + 1):
            last = tried == TRIES or not repeat
            pause_s = PAUSE_S * 2 ** (tried - 1)
            try:
                async with self._session.request(
                    method, self._url(path), data=content, headers={**self._headers, **headers}
                ) as answer:
                    read = await answer.read()
                    if answer.status < SUCCESS_BELOW:
                        return answer.status, read
                    if last or answer.status not in REPEATABLE:
                        raise _problem(answer.status, read)
                    pause_s = max(pause_s, _retry_after_s(answer.headers.get("Retry-After", "")))
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError):
                if last:
                    raise
            await asyncio.sleep(pause_s)
        raise AssertionError("the last try returns or raises")

    def _url(self, path: str) -> URL:
        """Return where a path leads: it is encoded already, and sent as it is."""
        return URL(self._base_url + path, encoded=True)

    async def _page(
        self, path: str, after: str | None, limit: int | None, filters: Mapping[str, str | int | bool] | None = None
    ) -> Page[Any]:
        query = _query(after=after, limit=limit, **(filters or {}))
        return cast("Page[Any]", await self.call("GET", path + query))


def _problem(status: int, body: bytes) -> GatewayProblem:
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    return GatewayProblem(
        status, document if isinstance(document, dict) else {"detail": body[:200].decode("utf-8", "replace")}
    )


def _retry_after_s(text: str) -> float:
    return min(float(text), RETRY_AFTER_MOST_S) if text.isascii() and text.isdigit() else 0.0


def _new_key() -> str:
    return str(uuid.uuid4())


def _given(**members: object) -> JsonObject:
    return {name: value for name, value in members.items() if value is not None}


def _part(text: str) -> str:
    return quote(text, safe="")


def _query(**parameters: str | int | bool | None) -> str:
    given = {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in parameters.items()
        if value is not None
    }
    return "?" + urlencode(given) if given else ""

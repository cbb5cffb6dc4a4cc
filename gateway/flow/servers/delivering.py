"""Deliveries on their way: sent when they are due, sent again while that makes sense, and given up with the reason.

Must not know how an address is reached.  Theory: what is due stands in the store, and what became of an attempt is written
after it, so a crash between the two sends an event twice under one id and never loses it (at least once); whose turn it is
at an endpoint is gateway.flow.servers.turns' to say; one that fails is asked by one attempt at a time, for nobody's sake
faster than it can answer.
"""

import asyncio
import json
from dataclasses import dataclass, replace
from typing import Final

import structlog

from gateway.core.commands import PutDelivery, Refused
from gateway.core.events import Event, project
from gateway.core.pause import is_over
from gateway.core.server import Hook, HookDelivery, HookDeliveryState
from gateway.core.webhook import JITTER_PARTS, retry_at_ms, sign
from gateway.flow.servers.history import History
from gateway.flow.servers.hooks import Hooks, HookSettings, Posting
from gateway.flow.servers.keeping import Keeping
from gateway.flow.servers.turns import Turns
from gateway.http.port import UpstreamError
from gateway.ports import Entropy

MAX_BODY_BYTES: Final = 20 * 1024  # what the specification advises
REST_MS: Final = 1_000  # after a failure, doubled with each that follows it
REST_MAX_MS: Final = 60_000
USER_AGENT: Final = "agent-payment-gateway-webhooks/1"

GONE: Final = 410
GONE_REASON: Final = "the endpoint answered 410 Gone"
FAILED_REASON: Final = "nothing was taken for as long as an event is tried; the last attempt ended with {last}"
DISABLED_ERROR: Final = "endpoint_disabled"
UNKNOWN_EVENT: Final = "event_unknown"
MISTAKE_PAUSE_MS: Final = 60_000

log = structlog.get_logger()


@dataclass(slots=True)
class _Box:
    """What is due to one endpoint, and how it has been answering."""

    turns: Turns
    failures: int = 0
    rest_until_ms: int = 0


@dataclass(frozen=True, slots=True)
class _Outcome:
    status: int | None
    error: str
    retry_after_s: int | None = None

    @property
    def taken(self) -> bool:
        return self.status is not None and 200 <= self.status < 300  # noqa: PLR2004 - the class of success

    @property
    def last(self) -> str:
        return self.error if self.status is None else f"status {self.status}"


class Outbox:
    """Sends what is due. `deliver` is called often and returns at once; attempts go on beside it."""

    def __init__(
        self,
        keeping: Keeping,
        history: History,
        posting: Posting,
        hooks: Hooks,
        entropy: Entropy,
        settings: HookSettings,
    ) -> None:
        self._keeping, self._history, self._posting, self._hooks = keeping, history, posting, hooks
        self._entropy, self._settings = entropy, settings
        self._boxes: dict[str, _Box] = {}
        self._loaded, self._closing = False, False
        self._flying = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def waiting(self, hook_id: str) -> int:
        """Return how many events an endpoint has not taken yet."""
        box = self._boxes.get(hook_id)
        return 0 if box is None else len(box.turns)

    def add(self, hook_id: str, seq: int) -> None:
        """Take up a delivery that was just kept as pending."""
        pending = self._keeping.view.deliveries
        if (hook_id, seq) in pending:
            if hook_id not in self._boxes:
                self._boxes[hook_id] = _Box(Turns(hook_id, pending))
            self._boxes[hook_id].turns.put(seq)

    def is_flying(self, hook_id: str, seq: int) -> bool:
        """Say whether an attempt of this delivery is under way."""
        return hook_id in self._boxes and self._boxes[hook_id].turns.is_flying(seq)

    async def deliver(self) -> None:
        """Begin every attempt that is due and has room. Raises what an earlier attempt raised that no receiver caused."""
        self._load()
        self._raise_failures()
        for hook_id, box in list(self._boxes.items()):
            if not self._begin(hook_id, box):
                await self._give_up(hook_id, box)

    async def drain(self, timeout_s: float) -> None:
        """Begin nothing more, and wait for attempts under way, at most that long; the rest is made after the next start."""
        self._closing = True
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _load(self) -> None:
        """Take up what was pending when this process began."""
        if not self._loaded:
            self._loaded = True
            self._boxes.clear()
            for hook_id, seq in self._keeping.view.deliveries:
                self.add(hook_id, seq)

    def _raise_failures(self) -> None:
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.discard(task)
            if not task.cancelled():
                task.result()

    def _begin(self, hook_id: str, box: _Box) -> bool:
        """Begin what is due to an endpoint, as far as there is room; False for an endpoint that wants nothing more."""
        hook, now_ms = self._keeping.view.hooks.get(hook_id), self._keeping.clock.now_ms()
        if hook is None or hook.disabled_reason:
            return False
        room = 1 if box.failures else self._settings.at_once_per_endpoint
        rested = is_over(box.rest_until_ms, now_ms, max(REST_MAX_MS, MISTAKE_PAUSE_MS))
        while rested and box.turns.flying < room and self._flying < self._settings.at_once:
            delivery = None if self._closing else box.turns.begin(now_ms)
            if delivery is None:
                break
            self._flying += 1
            self._tasks.add(asyncio.create_task(self._fly(hook, box, delivery), name=f"deliver to {hook_id}"))
        return True

    async def _give_up(self, hook_id: str, box: _Box) -> None:
        """Nobody wants what is left: its owner can have it sent again once the endpoint is enabled."""
        now_ms = self._keeping.clock.now_ms()
        for seq in box.turns.clear():
            delivery = self._keeping.view.deliveries.get((hook_id, seq))
            if delivery is not None:
                await self._put(_given_up(delivery, DISABLED_ERROR, now_ms))
        if not box.turns:
            del self._boxes[hook_id]

    # one attempt

    async def _fly(self, hook: Hook, box: _Box, delivery: HookDelivery) -> None:
        unexpected = True
        try:
            row = await self._history.row(delivery.event_seq)
            event = None if row is None else project(row)
            if event is None or event.account_id != hook.account_id:
                await self._put(_given_up(delivery, UNKNOWN_EVENT, self._keeping.clock.now_ms()))
                unexpected = False
                return
            outcome = await self._post(hook, event)
            self._judge(box, outcome)
            await self._record(hook, delivery, outcome)
            unexpected = False
        finally:
            if unexpected:  # a mistake of ours, that would be made again at once: others' deliveries go on meanwhile
                box.rest_until_ms = self._keeping.clock.now_ms() + MISTAKE_PAUSE_MS
            self._flying -= 1
            box.turns.landed(delivery.event_seq)
        self._begin(hook.id, box)  # the next one does not wait for the loop's next turn

    async def _post(self, hook: Hook, event: Event) -> _Outcome:
        body, now_ms = body_of(event), self._keeping.clock.now_ms()
        at_s = now_ms // 1000
        headers = (
            ("Content-Type", "application/json"),
            ("User-Agent", USER_AGENT),
            ("webhook-id", event.id),
            ("webhook-timestamp", str(at_s)),
            ("webhook-signature", sign(self._hooks.secrets(hook, now_ms), event.id, at_s, body)),
        )
        try:
            answer = await self._posting.post(hook.url, headers, body)
        except UpstreamError as error:  # sent or not: it is sent again, and the id tells the receiver
            return _Outcome(None, error.code)
        good = _Outcome(answer.status, "")
        return good if good.taken else _Outcome(answer.status, _class_of(answer.status), answer.retry_after_s)

    def _judge(self, box: _Box, outcome: _Outcome) -> None:
        if outcome.taken:
            box.failures, box.rest_until_ms = 0, 0
            return
        rest_ms = min(REST_MS << min(box.failures, 16), REST_MAX_MS)
        box.failures, box.rest_until_ms = box.failures + 1, self._keeping.clock.now_ms() + rest_ms

    async def _record(self, hook: Hook, delivery: HookDelivery, outcome: _Outcome) -> None:
        now_ms, attempts = self._keeping.clock.now_ms(), delivery.attempts + 1
        tried = replace(delivery, attempts=attempts, last_status=outcome.status, last_error=outcome.error)
        if outcome.taken:
            await self._put(replace(tried, state=HookDeliveryState.DELIVERED, done_at_ms=now_ms))
            return
        jitter = self._entropy.bytes(1)[0] % JITTER_PARTS
        gone = outcome.status == GONE
        due_at_ms = None if gone else retry_at_ms(attempts, now_ms, jitter, outcome.retry_after_s)
        if due_at_ms is not None:
            await self._put(replace(tried, due_at_ms=due_at_ms))
            return
        # Asked first: what the endpoint took meanwhile is kept only for as long as this one is on its way.
        took = gone or await self._history.taken_since(hook.id, delivery.created_at_ms)
        await self._put(_given_up(tried, outcome.error, now_ms))
        if gone:
            await self._hooks.disable(hook, GONE_REASON)
        elif not took:
            await self._hooks.disable(hook, FAILED_REASON.format(last=outcome.last))

    async def _put(self, delivery: HookDelivery) -> None:
        result = await self._keeping.store.post(PutDelivery(delivery))
        if isinstance(result, Refused):  # the endpoint was deleted while it was asked
            log.info("webhook.gone", hook=delivery.hook_id, event_seq=delivery.event_seq)


def body_of(event: Event) -> bytes:
    """Return an event as it is sent; one that is too long without what is not an id."""
    document = event.document()
    body = _json(document)
    if len(body) <= MAX_BODY_BYTES:
        return body
    ids = {name: value for name, value in document["data"].items() if name == "id" or name.endswith("_id")}
    return _json({**document, "data": {**ids, "shortened": True}})


def _json(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _class_of(status: int) -> str:
    """Return what kind of failure a status is: redirects are not followed, and so are failures."""
    return {1: "unexpected", 3: "redirect", 4: "client_error"}.get(status // 100, "server_error")


def _given_up(delivery: HookDelivery, error: str, now_ms: int) -> HookDelivery:
    return replace(delivery, state=HookDeliveryState.GIVEN_UP, last_error=error, done_at_ms=now_ms)

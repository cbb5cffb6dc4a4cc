"""Keeping agents apart at a vendor that knows us by the one wallet that pays (P9): what a call may name, and what it shows.

Must not know any vendor, or how it is paid.  Theory: the vendor would show every agent's things to each of them and obey
any of them, so a request is fenced before it leaves and an answer before it is shown, by the places that the route
declares; and whatever an answer tells is taken over at once, because nobody else remembers whose it is.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import structlog

from gateway.core.commands import Command, Done, ObservePrice, RecordResource, UpdateResource
from gateway.core.problems import Problem
from gateway.core.records import Resource
from gateway.core.routes import Listing, Match, Route
from gateway.core.strict_json import JsonError, dump_json, parse_json
from gateway.flow.broker.fence import Foreign, fit, named_things
from gateway.flow.broker.showing import ENCODED
from gateway.flow.call import Call, Reply
from gateway.flow.pack import Headers
from gateway.http.port import is_success
from gateway.ports import Clock, Reading, Seen, Store, Vendor

_NAME = "name"  # such vendors are told no other name than the agent's

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Whole:
    """A vendor whose ids have one spelling."""

    name: str

    def canonical(self, kind: str, name: str, owned: Collection[str]) -> str | None:  # noqa: ARG002 - the fence's seam
        """Return None: there are no short forms."""
        return None


class Sharing:
    """The fence around a shared wallet. Of vendors without one it lets everything pass."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock

    async def admit(self, call: Call) -> Reply | None:
        """Return the vendor's own answer to a call that names another's thing, None for a call that may go on.

        Raises Problem for what nobody can fence: a body that was not read, or a query that no document names.
        """
        vendor, route = call.vendor, call.match.route
        if vendor.shared is None or not is_fenced(route):
            return None
        if call.stream is not None:
            raise Problem("body_oversized", f"{vendor.name} takes no body of this size here")
        if call.target.partition("?")[1]:
            raise Problem("input_refused", f"{vendor.name} documents no query parameters here", "query")
        vendor.check_input(call.match, call.body)
        try:
            await named_things(self._store, _Whole(vendor.name), call.account_id, call.match, call.target, call.body)
        except Foreign as foreign:
            status, document = vendor.shared.missing(foreign.ref.kind)
            return Reply.of_json(status, document)
        return None

    async def take(self, call: Call, reading: Reading) -> None:
        """Take over what an answer tells of prices and of things that are known; what belongs to a known one is its owner's."""
        for command in await self._told(call, reading):
            result = await self._store.post(command)
            if not isinstance(result, Done):
                log.warning("command.refused", command=type(command).__name__, vendor=call.vendor.name)

    async def shown(self, call: Call, status: int, headers: Headers, reading: Reading) -> tuple[Headers, bytes]:
        """Return headers and body with only the account's own things.

        Raises Problem("answer_withheld") for a body in which they cannot be told.
        """
        route = call.match.route
        if call.vendor.shared is None or not route.listings or not is_success(status):
            return headers, reading.body
        own = {r.ref: r for r in await self._store.things(call.account_id, call.vendor.name)}
        body = fit_body(reading.body, route.listings, own)
        if body is None:
            raise Problem("answer_withheld", f"{call.vendor.name} answered with what cannot be told to be yours")
        return tuple((name, value) for name, value in headers if name.lower() not in ENCODED), body

    async def _told(self, call: Call, reading: Reading) -> list[Command]:
        vendor, now_ms = call.vendor.name, self._clock.now_ms()
        commands: list[Command] = [ObservePrice(vendor, item, base, now_ms) for item, base in reading.prices]
        for seen in reading.seen:
            known = await self._store.resource(vendor, seen.ref)
            if known is None:
                commands += await self._adopted(vendor, seen, now_ms)
            elif is_news(seen, known):
                commands.append(update_of(vendor, seen, now_ms))
        return commands

    async def _adopted(self, vendor: str, seen: Seen, now_ms: int) -> list[Command]:
        """A thing made of a known one is its owner's, also where the answer that told of it was lost."""
        parent = None if seen.parent is None else await self._store.resource(vendor, seen.parent)
        if parent is None:
            return []
        resource = Resource(
            vendor=vendor,
            ref=seen.ref,
            account_id=parent.account_id,
            payment_id="",
            kind=seen.kind,
            state=seen.state or "unknown",
            surrogate_digest=None,
            sealed_secret=None,
            expires_at_ms=seen.expires_at_ms,
            as_of_ms=now_ms,
            plan=seen.plan,
        )
        return [RecordResource(resource, now_ms)]


def fit_body(body: bytes, listings: Iterable[Listing], own: Mapping[str, Resource]) -> bytes | None:
    """Return an answer's body with foreign things left out; None for one that nobody can tell apart: it is not shown.

    A list may come bare where the document has it as a member. Only members that the route declares may hold things.
    """
    try:
        document = parse_json(body)
    except JsonError:
        return None
    if isinstance(document, list):
        listings = [replace(listing, member="") for listing in listings]
    elif not isinstance(document, dict):
        return None
    fitted = fit(document, listings, own, _NAME)
    return None if fitted is None else dump_json(fitted)


def is_fenced(route: Route) -> bool:
    """Say whether a route has to do with things."""
    return bool(route.refs or route.listings)


def update_of(vendor: str, seen: Seen, now_ms: int) -> UpdateResource:
    """Return what an answer tells of a known thing, as a command."""
    return UpdateResource(vendor, seen.ref, seen.state, seen.expires_at_ms, now_ms, seen.plan)


def is_news(seen: Seen, known: Resource) -> bool:
    """Say whether an answer tells more of a thing than is known."""
    return (
        seen.state not in (None, known.state)
        or seen.expires_at_ms not in (None, known.expires_at_ms)
        or seen.plan not in ("", known.plan)
    )


def with_plan(vendor: Vendor, match: Match, body: bytes, reading: Reading) -> Reading:
    """Return a reading in which a thing that was made has the plan that its request named, where the answer names none."""
    created = reading.created
    if vendor.shared is None or created is None or created.plan:
        return reading
    return replace(reading, created=replace(created, plan=vendor.shared.plan_of(match, body)))

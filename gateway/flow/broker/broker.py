"""Serving an agent's call at a vendor that knows us by one account: fenced, paced, and answered in the vendor's own words.

Must not know any vendor.  Theory: the route's data says what a call is (ours to answer, closed, a bulk, an order, or a
plain call), so this file has one branch for each of those and none for a vendor; money moves only in `order`.
"""

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import parse_qsl

from gateway.account_ports import AccountVendor, Thing, Told
from gateway.core.commands import RecordResource, UpdateResource
from gateway.core.payment import Delivery
from gateway.core.problems import Problem
from gateway.core.records import Resource
from gateway.core.routes import Match, Pricing, Retry
from gateway.flow.answers import Answers
from gateway.flow.asking import unanswered
from gateway.flow.broker.bound import Bound, Bounds
from gateway.flow.broker.bulk import Bulks
from gateway.flow.broker.desk import Asking, Desk
from gateway.flow.broker.fence import Foreign, Named, named_things, outgoing_target
from gateway.flow.broker.meters import UNKNOWN_STATE, Meters
from gateway.flow.broker.order import Orders, merged
from gateway.flow.broker.showing import Showing, withheld
from gateway.flow.call import AccountCall, Reply
from gateway.flow.slots import Slots, SlottedStream
from gateway.http.port import (
    BodyStream,
    NotSent,
    UpstreamError,
    UpstreamRequest,
    UpstreamResponse,
    is_success,
)
from gateway.ports import Clock, Store

BUFFER_BYTES = 1024 * 1024
NOT_FOUND = 404
MAX_PAGES = 100
_NO_PARAMETERS: frozenset[str] = frozenset()
# Of an account-wide list they tell whether something of anybody's has changed, and part of it cannot be fenced.
_PARTIAL = frozenset(
    {"range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "cache-control"}
)
_CODING = frozenset({"content-encoding"})  # of a body that was read and checked as it is


class Broker:
    """The use case. One object serves every account vendor."""

    def __init__(
        self,
        *,
        desks: Mapping[str, Desk],
        store: Store,
        answers: Answers,
        bounds: Bounds,
        orders: Orders,
        showing: Showing,
        meters: Meters,
        calls_per_vendor: Mapping[str, int],
        clock: Clock,
    ) -> None:
        self._desks, self._store, self._answers = desks, store, answers
        self._bounds, self._orders, self._showing, self._meters = bounds, orders, showing, meters
        self._calls_per_vendor, self._clock, self._slots = calls_per_vendor, clock, Slots()
        self._bulks = Bulks(store=store, answers=answers, showing=showing, serve=self._serve, bound=self._bound)

    async def run(self, call: AccountCall) -> Reply:
        """Serve one call. Raises Problem; then nothing was charged unless the problem names a payment."""
        route, vendor = call.match.route, call.vendor
        if route.pricing is Pricing.CLOSED:
            raise Problem("route_closed", route.reason)
        if route.pricing is Pricing.LOCAL:
            return await self._local(call)
        if call.stream is not None and not route.raw:  # on a shared account no document passes unread (P9)
            raise Problem("body_oversized", f"{vendor.name} takes bodies of at most {BUFFER_BYTES} bytes here")
        earlier = None if route.split else await self._answers.earlier(call)  # a bulk's parts are claimed one by one
        if earlier is not None:
            return earlier
        slot = self._slots.take(call.account_id, vendor.name, self._calls_per_vendor[vendor.name])
        rest: BodyStream | None = None
        try:
            reply = await (self._bulk(call) if route.split else self._serve(call))
            rest = reply.rest
        finally:
            if rest is None:
                slot.give_back()
        return reply if rest is None else replace(reply, rest=SlottedStream(rest, slot))

    async def _bulk(self, call: AccountCall) -> Reply:
        call.vendor.check_input(call.match, call.body)
        _check_query(call.vendor, call.match, call.target)
        try:
            return await self._bulks.run(call)
        except Foreign as foreign:
            return _missing(call.vendor, foreign)

    async def _serve(self, call: AccountCall) -> Reply:
        vendor = call.vendor
        try:
            call, named = await self._admit(call)
        except Foreign as foreign:
            return _missing(vendor, foreign)
        if call.match.route.pricing is Pricing.METERED:
            return await self._create(call, named)
        if call.quote_only:
            return Reply.of_json(200, {"vendor": vendor.name, "route": call.match.route.name, "price": "0.000000"})
        reply = await self._call(call, named)
        await self._answers.remember(call, reply)
        return reply

    async def _admit(self, call: AccountCall) -> tuple[AccountCall, Named]:
        """Return a call as it may leave, and what it names. Raises Problem, and Foreign for another's thing."""
        vendor, match = call.vendor, call.match
        vendor.check_input(match, call.body)
        _check_query(vendor, match, call.target)
        named = await named_things(self._store, vendor, call.account_id, match, call.target, call.body)
        target = outgoing_target(call.target, named)
        return replace(call, target=target, headers=_outgoing_headers(call)), named

    async def _bound(self, call: AccountCall) -> Bound:
        call, named = await self._admit(call)
        return await self._bounds.of(call, self._desks[call.vendor.name], named)

    async def _create(self, call: AccountCall, named: Named) -> Reply:
        try:
            return await self._orders.create(call, self._desks[call.vendor.name], named)
        except Problem as problem:
            if problem.code == "price_above_quote":  # the house pays for what was made, until it is gone
                self._answers.later(self._meters.end_now(call.vendor.name))
            raise

    # what the gateway answers itself

    async def _local(self, call: AccountCall) -> Reply:
        vendor = call.vendor
        vendor.check_input(call.match, call.body)
        own = await self._showing.own(call, vendor)
        answer = vendor.local(call.match, call.body, own)
        return Reply.of_json(answer.status, answer.document, vendor.own_headers(own))

    # plain calls

    async def _call(self, call: AccountCall, named: Named) -> Reply:
        vendor, route, desk = call.vendor, call.match.route, self._desks[call.vendor.name]
        if vendor.pager is not None and any(listing.paged for listing in route.listings):
            return await self._paged(call, desk)
        server, token = named.only("server"), self._meters.token_of(named)
        unmarked = server is not None and not token  # it has ended: there is no mark to keep in its name
        body = call.body if unmarked else vendor.marked(call.match, call.body, token)
        content = body if call.stream is None else call.stream
        headers = merged(call.headers, vendor.headers_for(call.match, call.request_id))
        request = UpstreamRequest(call.method, call.target, headers, content, BUFFER_BYTES)
        if route.name in vendor.resumes and server is not None:
            await self._meters.ready_to_run(server)
        how = Asking(call.account_id, route.priority, route.scope, route.retry, route.public)
        ending = server if route.ends else None
        try:
            answer = await desk.ask(request, how)
        except UpstreamError as error:
            if ending is not None and not isinstance(error, NotSent):
                # Its agent wants it gone, and nobody knows whether the vendor heard.
                await self._meters.end(ending, "its agent")
            raise unanswered(vendor.name, error) from error
        return await self._pass_on(call, named, answer, ending)

    async def _pass_on(
        self, call: AccountCall, named: Named, answer: UpstreamResponse, ending: Resource | None
    ) -> Reply:
        vendor, route = call.vendor, call.match.route
        told = vendor.read(call.match, answer)
        whole = answer.rest is None
        if answer.rest is not None and (route.listings or route.secret or told.problem is not None):
            await answer.rest.close()
        made = await self._note(call, named, told)
        accepted = told.delivery is Delivery.DELIVERED
        if ending is not None and (accepted or answer.status == NOT_FOUND or told.delivery is Delivery.UNKNOWN):
            await self._meters.end(ending, "its agent", accepted=accepted)
        if told.problem is not None:
            raise Problem(told.problem, f"{vendor.name} refuses this and did not do it")
        if not whole and (route.listings or route.secret):  # only a whole answer can be fenced
            raise Problem("vendor_answer_oversized", f"{vendor.name} answered more than {BUFFER_BYTES} bytes")
        shown = await self._showing.show(vendor, call.match, call.account_id, answer, told, made)
        return Reply(answer.status, shown.headers, shown.body, answer.rest)

    async def _note(self, call: AccountCall, named: Named, told: Told) -> list[Resource]:
        """Take over what an answer tells: what it made has an owner (P9), what it shows has a state."""
        now_ms, made = self._clock.now_ms(), list[Resource]()
        for thing in told.things:
            known = await self._store.resource(call.vendor.name, thing.ref)
            if known is None and thing.ref in told.created:
                await self._store.post(RecordResource(_resource(call, named, thing, now_ms), now_ms))
                known = await self._store.resource(call.vendor.name, thing.ref)
                if known is not None and known.account_id == call.account_id:  # else somebody else was quicker
                    made.append(known)
            elif known is not None and known.account_id == call.account_id and known.kind == thing.kind:
                await self._saw(known, thing, now_ms)
        return made

    async def _saw(self, known: Resource, thing: Thing, now_ms: int) -> None:
        if known.meter_id is not None:
            await self._meters.saw(known, thing)
        elif thing.state not in (UNKNOWN_STATE, known.state) or thing.expires_at_ms not in (None, known.expires_at_ms):
            state = None if thing.state == UNKNOWN_STATE else thing.state
            await self._store.post(UpdateResource(known.vendor, known.ref, state, thing.expires_at_ms, now_ms))

    async def _paged(self, call: AccountCall, desk: Desk) -> Reply:
        """A page of what the agent has: every page of the account is read, fenced, and cut anew."""
        vendor, items = call.vendor, list[Mapping[str, object]]()
        assert vendor.pager is not None, "only called for a vendor that pages"
        how = Asking(call.account_id, call.match.route.priority, call.match.route.scope, Retry.SAFE)
        for page in range(1, MAX_PAGES + 1):
            request = vendor.list_request(page)
            if request is None:
                break
            try:
                answer = await desk.ask(request, how)
            except UpstreamError as error:
                raise unanswered(vendor.name, error) from error
            if answer.rest is not None:
                await answer.rest.close()
                raise Problem("vendor_answer_oversized", f"{vendor.name} answered more than {BUFFER_BYTES} bytes")
            told, read = vendor.read(call.match, answer), vendor.read_list(answer)
            if not is_success(answer.status):
                headers, body = self._showing.refused(vendor, answer, call.account_id)
                return Reply(answer.status, headers, body)
            if told.delivery is not Delivery.DELIVERED or read is None:
                raise withheld(vendor)
            await self._note(call, Named({}), told)
            items += await self._showing.items(vendor, call.match, call.account_id, told)
            if not read[1]:
                break
        else:
            raise Problem("vendor_answer_oversized", f"{vendor.name} lists more than {MAX_PAGES} pages")
        cut = vendor.pager.cut(call.match, call.target.partition("?")[2], items)
        own = self._showing.figures(call.account_id, vendor)
        return Reply.of_json(cut.status, cut.document, vendor.own_headers(own))


def _check_query(vendor: AccountVendor, match: Match, target: str) -> None:
    """A query may hold only what the document names: what else it says may reach another agent's thing."""
    allowed = vendor.queries.get(match.route.name, _NO_PARAMETERS)
    for name, _ in parse_qsl(target.partition("?")[2], keep_blank_values=True):
        if name not in allowed:
            raise Problem("input_refused", f"{vendor.name} documents no query parameter of this name here", name[:40])


def _resource(call: AccountCall, named: Named, thing: Thing, now_ms: int) -> Resource:
    """Return the record of a thing that a call made and that is not charged: a backup, a key, a job."""
    source = named.only("server")
    return Resource(
        vendor=call.vendor.name,
        ref=thing.ref,
        account_id=call.account_id,
        payment_id="",
        kind=thing.kind,
        state=thing.state,
        surrogate_digest=None,
        sealed_secret=None,
        expires_at_ms=thing.expires_at_ms,
        as_of_ms=now_ms,
        label="" if source is None or thing.kind == "server" else source.label,
        plan=thing.plan or ("" if source is None else source.plan),
    )


def _missing(vendor: AccountVendor, foreign: Foreign) -> Reply:
    """Return what the vendor says of a thing that does not exist: to this agent, another's does not."""
    refusal = vendor.refusal(NOT_FOUND, f"{foreign.ref.kind} not found")
    return Reply.of_json(refusal.status, refusal.document)


def _outgoing_headers(call: AccountCall) -> tuple[tuple[str, str], ...]:
    """Return the agent's headers that mean nothing but what was checked."""
    dropped = _PARTIAL | _CODING if call.match.route.listings else _CODING
    return tuple((name, value) for name, value in call.headers if name.lower() not in dropped)

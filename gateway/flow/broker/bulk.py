"""A bulk call as the single calls that it is made of: checked, priced, claimed and answered one by one, and joined again.

Must not know how a single call is served.  Theory: each part is a purchase of its own, known by its bulk and its place in
it, so a bulk that is repeated after half of it was done repeats no part; all of them are answered when the agent has the
bulk's answer, and no sooner.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from gateway.account_ports import AccountVendor, Part, PartAnswer
from gateway.core.commands import key_used
from gateway.core.problems import Problem
from gateway.core.routes import Match, Pricing
from gateway.core.strict_json import JsonError, parse_json
from gateway.flow.answers import Answers
from gateway.flow.broker.bound import Bound, quote_reply, require_within
from gateway.flow.broker.fence import Foreign
from gateway.flow.broker.showing import Showing
from gateway.flow.call import AccountCall, Reply
from gateway.ports import Store

PARTS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class _Done:
    answer: PartAnswer
    reply: Reply | None = None


class Bulks:
    """Serves bulk calls. `serve` serves a single call; `bound` says what one may cost, without ordering anything."""

    def __init__(
        self,
        *,
        store: Store,
        answers: Answers,
        showing: Showing,
        serve: Callable[[AccountCall], Awaitable[Reply]],
        bound: Callable[[AccountCall], Awaitable[Bound]],
    ) -> None:
        self._store, self._answers, self._showing = store, answers, showing
        self._serve, self._bound = serve, bound

    async def run(self, call: AccountCall) -> Reply:
        """Serve one bulk call. Raises Problem for what is wrong with it as a whole; then nothing was done."""
        vendor, costs = call.vendor, call.match.route.pricing is Pricing.METERED
        parts = vendor.split(call.match, call.body)
        singles = [_single(call, part) for part in parts]
        if call.quote_only:
            return quote_reply(call, vendor, [await self._bound(each) for each in singles] if costs else ())
        await self._require_own_keys(singles)
        if costs and call.max_charge_base is not None:
            singles = await self._capped(call, singles)
        gate = asyncio.Semaphore(PARTS_AT_ONCE)

        async def one(part: Part, single: AccountCall) -> _Done:
            async with gate:
                return await self._part(vendor, part, single)

        done = await asyncio.gather(*(one(part, single) for part, single in zip(parts, singles, strict=True)))
        joined = vendor.join(call.match, tuple(each.answer for each in done))
        own = self._showing.figures(call.account_id, vendor)
        # Nothing is kept for the bulk itself: under its key each part is told again, and what failed is tried again.
        return _joined(Reply.of_json(joined.status, joined.document, vendor.own_headers(own)), done)

    async def _require_own_keys(self, singles: Sequence[AccountCall]) -> None:
        """Refuse a key that stands for another bulk before any part of this one is done."""
        for single in singles:
            if single.idempotency_key is None:
                return
            claimed = await self._store.claimed(single.account_id, single.idempotency_key)
            if claimed is not None and claimed.fingerprint != single.fingerprint:
                raise key_used()

    async def _capped(self, call: AccountCall, singles: Sequence[AccountCall]) -> list[AccountCall]:
        """X-Max-Charge caps the sum; each part is then capped by what it was counted with."""
        capped, total_base = list[AccountCall](), 0
        for single in singles:
            try:
                hold_base = (await self._bound(single)).hold_base
            except (Problem, Foreign):  # it is refused by itself, and costs nothing
                hold_base = 0
            total_base += hold_base
            capped.append(replace(single, max_charge_base=hold_base))
        require_within(call, total_base)
        return capped

    async def _part(self, vendor: AccountVendor, part: Part, single: AccountCall) -> _Done:
        try:
            reply = await self._answers.earlier(single) or await self._serve(single)
        except Problem as problem:
            refusal = vendor.refusal(problem.status, problem.detail)
            return _Done(PartAnswer(part.index, refusal.status, refusal.document, part.ref))
        if reply.rest is not None:
            await reply.rest.close()
            refusal = vendor.refusal(502, "the answer is too large to be one of several")
            return _Done(PartAnswer(part.index, refusal.status, refusal.document, part.ref))
        return _Done(PartAnswer(part.index, reply.status, _document(reply), part.ref), reply)


def _single(call: AccountCall, part: Part) -> AccountCall:
    match = call.vendor.match(part.method, part.target.partition("?")[0])
    if match is None or match.route.split:
        raise AssertionError(f"{call.vendor.name} splits a call into one that is not a single call of its own")
    ceilings = [each for each in (match.route.ceiling_base, call.match.route.ceiling_base) if each]
    if match.route.pricing is Pricing.METERED and ceilings:
        match = Match(replace(match.route, ceiling_base=min(ceilings)), match.parameters)
    # The first part has the bulk's own key, so that no other request may have it; none of an agent's holds a space.
    key = call.idempotency_key
    if key is not None and part.index:
        key = f"{key} {part.index + 1}"
    place = sha256(call.fingerprint + part.index.to_bytes(4, "big")).digest()
    return replace(
        call,
        match=match,
        method=part.method,
        target=part.target,
        body=part.body,
        idempotency_key=key,
        part=int.from_bytes(place[:8], "big") | 1,
    )


def _joined(reply: Reply, done: Sequence[_Done]) -> Reply:
    """Return the bulk's answer: it costs what its parts cost, and they are answered with it."""
    replies = [each.reply for each in done if each.reply is not None]
    charges = [each.charge_base for each in replies if each.charge_base is not None]
    owed = [each.delivered for each in replies if each.delivered is not None]

    async def delivered() -> None:
        for tell in owed:
            await tell()

    return replace(
        reply,
        charge_base=sum(charges) if charges else None,
        replayed=bool(replies) and all(each.replayed for each in replies),
        delivered=delivered if owed else None,
    )


def _document(reply: Reply) -> object:
    try:
        return parse_json(reply.body)
    except JsonError:
        return None

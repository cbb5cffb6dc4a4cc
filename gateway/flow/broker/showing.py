"""An account vendor's answer as its agent sees it: its own things, under its own names, with its own figures (P9).

Must not know how answers are got.  Theory: what a shared account's answer says of the account is never true of one agent,
so it is replaced or left out, and never passed on because nobody thought of it: documents pass the fence, headers an
allow-list.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from urllib.parse import parse_qsl

from gateway.account_ports import AccountVendor, Own, Told
from gateway.core.meter import tariff_of
from gateway.core.payment import Delivery
from gateway.core.problems import Problem
from gateway.core.records import MeterState, Resource
from gateway.core.routes import Match, Ownership
from gateway.core.strict_json import dump_json
from gateway.core.tariff import round_up
from gateway.flow.broker.fence import fit
from gateway.flow.call import AccountCall
from gateway.flow.pack import Headers
from gateway.http.headers import response_headers
from gateway.http.port import UpstreamResponse, is_success
from gateway.ports import Clock, Store

ENTRIES = 500
ENCODED = frozenset({"content-encoding", "content-length", "etag", "content-md5", "digest"})


@dataclass(frozen=True, slots=True)
class Shown:
    """Headers and body for the agent."""

    headers: Headers
    body: bytes


class Showing:
    """Shows answers of every account vendor."""

    def __init__(self, store: Store, business: Clock) -> None:
        self._store, self._business = store, business

    async def show(
        self,
        vendor: AccountVendor,
        match: Match,
        account_id: str,
        answer: UpstreamResponse,
        told: Told,
        new: Iterable[Resource] = (),
    ) -> Shown:
        """Return an answer with everything in it that is not the account's left out. `new` is what it has just got.

        Raises Problem("answer_withheld") for an answer of which nobody can tell whose things it shows.
        """
        route, headers = match.route, self._headers(vendor, answer, account_id)
        if route.listings and is_success(answer.status):
            unread = told.document is None and route.ownership is not Ownership.OWNER
            if unread or told.delivery is Delivery.UNKNOWN:
                raise withheld(vendor)
        if told.document is None:
            return Shown(headers, answer.body)
        own = {r.ref: r for r in (*await self._store.things(account_id, vendor.name), *new)}
        document = fit(told.document, route.listings, own, vendor.name_member, self._tokens(account_id, vendor.name))
        headers = tuple((name, value) for name, value in headers if name.lower() not in ENCODED)
        return Shown(headers, dump_json(document))

    async def items(
        self, vendor: AccountVendor, match: Match, account_id: str, told: Told
    ) -> list[Mapping[str, object]]:
        """Return the account's own things on a page of a list, as the vendor shows them but for their names."""
        own = {r.ref: r for r in await self._store.things(account_id, vendor.name)}
        tokens = self._tokens(account_id, vendor.name)
        document = fit(told.document, match.route.listings, own, vendor.name_member, tokens)
        members = [listing.member for listing in match.route.listings if listing.paged]
        found = document.get(members[0]) if isinstance(document, dict) and members else None
        return [item for item in found or [] if isinstance(item, dict)]

    def refused(self, vendor: AccountVendor, answer: UpstreamResponse, account_id: str) -> tuple[Headers, bytes]:
        """Return a refusal as the vendor wrote it."""
        return self._headers(vendor, answer, account_id), answer.body

    def _tokens(self, account_id: str, vendor_name: str) -> dict[str, str]:
        meters = self._store.view.meters.values()
        return {m.id: m.token for m in meters if (m.account_id, m.vendor) == (account_id, vendor_name)}

    def _headers(self, vendor: AccountVendor, answer: UpstreamResponse, account_id: str) -> Headers:
        passed = response_headers(answer.headers.items())
        ours = vendor.own_headers(self.figures(account_id, vendor))
        replaced = {name.lower() for name, _ in ours}
        return (*(pair for pair in passed if pair[0].lower() not in replaced), *ours)

    def figures(self, account_id: str, vendor: AccountVendor) -> Own:
        """Return an account's own figures, without its statement."""
        view = self._store.view
        balance, account = view.balances.get(account_id), view.agent_accounts[account_id]
        running = [
            m
            for m in view.meters.values()
            if (m.account_id, m.vendor) == (account_id, vendor.name)
            and m.state is MeterState.RUNNING
            and m.running_since_ms is not None
        ]
        return Own(
            account_id=account_id,
            name=account.name,
            available_base=0 if balance is None else balance.available_base,
            hourly_base=round_up(sum((tariff_of(m).hourly for m in running), Fraction(0))),
            email=f"{account_id.lower()}@agents.invalid",
            now_ms=self._business.now_ms(),
        )

    async def own(self, call: AccountCall, vendor: AccountVendor) -> Own:
        """Return the figures for a call that the gateway answers itself, with the statement at this vendor."""
        charged = await self._store.charges(call.account_id, vendor.name, ENTRIES)
        entries = tuple(
            {
                "id": p.id,
                "amount_base": p.captured_base,
                "at_ms": p.closed_at_ms or p.created_at_ms,
                "ref": p.resource_ref,
            }
            for p in charged
        )
        figures = self.figures(call.account_id, vendor)
        return replace(
            figures,
            email=call.email or figures.email,
            token=call.token,
            entries=entries,
            query=dict(parse_qsl(call.target.partition("?")[2], keep_blank_values=True)),
        )


def withheld(vendor: AccountVendor) -> Problem:
    """Return the problem for an answer that may be about others' things, for it is not what the vendor documents."""
    return Problem(
        "answer_withheld", f"{vendor.name} answered in a shape in which your things cannot be told from others'"
    )

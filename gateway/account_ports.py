"""The seam to vendors that know us by an account which all agents share: what a module tells the broker.

Must not know any vendor, store or client.  Theory: such a vendor sees one customer, so everything that keeps agents apart
(ownership, names, figures, charges) is the gateway's, driven by a module's data and pure functions; the flows that do it
have no branch that names a vendor.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from gateway.core.login import AccessToken, Credentials
from gateway.core.meaning import Meaning
from gateway.core.payment import Delivery, Fault
from gateway.core.rates import Rate
from gateway.core.routes import Match, Route
from gateway.core.tariff import Rule
from gateway.http.port import UpstreamRequest, UpstreamResponse


@dataclass(frozen=True, slots=True)
class AccountTerms:
    """What the operator decides for one vendor account: from configuration, parsed once.

    `ceiling_base` is the most that one thing may cost in a period. `rule` is the vendor's billing rule; None means that
    the operator has not set it, and creates stay off. A thing is warned of `warn_periods` before its account's balance
    ends it; then it is stopped for `grace_s` where the vendor can, and destroyed.
    """

    period_s: int
    ceiling_base: int
    rule: Rule | None
    warn_periods: int
    suspend_first: bool
    grace_s: int
    absent_after_s: int = 600  # two lists at least so far apart prove that a thing does not exist
    low_balance_base: int = 0
    noise_base: int = 100
    drift_base: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """What one kind of thing costs, in exact decimal USD: the bound that a create is held against."""

    kind: str
    hourly: str
    monthly: str | None = None
    traits: Mapping[str, int] | None = None  # vcpu, memory_mib, disk_gib: to find the kind that holds an order


@dataclass(frozen=True, slots=True)
class Order:
    """What a create asks for: `kind` as the price list names it, or sizes to find one by, and the agent's own name.

    Sizes are named as `Price.traits`. What the order itself does not say comes from `template`, where it names one:
    resolve it with `Template.fill` before anything is held.
    """

    kind: str | None
    name: str
    sizes: Mapping[str, int] | None = None
    from_ref: str | None = None  # a backup that is restored: as dear as what it was made of
    template: str | None = None  # a preset of the vendor's, as `read_templates` names it
    lives_s: int | None = None  # the vendor destroys it so long after its creation


@dataclass(frozen=True, slots=True)
class Template:
    """A preset of the vendor's: the sizes and the life of what is made from it, where an order states no other."""

    name: str
    sizes: Mapping[str, int]
    lives_s: int | None = None

    def fill(self, order: Order) -> Order:
        """Return an order of this template with everything stated: a kind that it names stands, its sizes go first."""
        lives_s = self.lives_s if order.lives_s is None else order.lives_s
        sizes = None if order.kind is not None else {**self.sizes, **(order.sizes or {})}
        return replace(order, sizes=sizes, lives_s=lives_s, template=None)


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing that an answer tells of. `charged` is None where the answer does not say whether it is charged now.

    `hourly` and `monthly` are its own prices where the answer states them. `gone`: the answer says that it does not
    exist any more.
    """

    ref: str
    kind: str  # server, backup, snapshot, key, job: as `Ref.kind` and `Listing.kind`
    state: str = "unknown"
    name: str = ""
    plan: str = ""
    charged: bool | None = None
    hourly: str | None = None
    monthly: str | None = None
    created_at_ms: int | None = None
    expires_at_ms: int | None = None
    gone: bool = False
    parent: str | None = None  # the thing that it was made of or belongs to


@dataclass(frozen=True, slots=True)
class Told:
    """What a module makes of an answer: what the vendor did, and the things that the answer shows.

    `document` is the answer as parse_json reads it (the broker filters and renames in it), None where the body is not
    JSON and passes as it is. `created` are the refs of things that this very answer made, or shows below a thing that
    the agent owns (jobs of its server): they are its own from then on; one that is another's stays another's.
    `problem` is the problem type that says what a refusal means, where a status alone does not.
    """

    delivery: Delivery
    fault: Fault
    document: Any | None
    things: tuple[Thing, ...] = ()
    created: tuple[str, ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Own:
    """The agent's own figures, in place of the shared account's (P9)."""

    account_id: str
    name: str
    available_base: int
    hourly_base: int  # what its running things at this vendor cost an hour now
    email: str  # under which it logged in; made up from the account where it did not
    now_ms: int
    # What it was charged at this vendor, newest first: `id`, `amount_base`, `at_ms`, `ref` (the vendor's id, or None).
    entries: tuple[Mapping[str, Any], ...] = ()
    query: Mapping[str, str] | None = None
    token: str | None = None  # a vendor-scoped token of ours: what a login hands out


@dataclass(frozen=True, slots=True)
class LocalAnswer:
    """What the gateway answers in the vendor's stead."""

    status: int
    document: Any


@dataclass(frozen=True, slots=True)
class Part:
    """One call that a bulk call is made of. `index` is its place in the bulk, `ref` the thing that it names, if any."""

    index: int
    method: str
    target: str
    body: bytes
    ref: str = ""


@dataclass(frozen=True, slots=True)
class PartAnswer:
    """What became of one part: the status that the single call would have had, and its document (a problem's too).

    `ref` is the part's.
    """

    index: int
    status: int
    document: Any
    ref: str = ""


class LoginPlan(Protocol):
    """How one vendor is logged in to: data and two pure functions of its module.

    `lives_s` is how long a token lives by the vendor's document, `refresh_after_s` when to get the next one.
    """

    lives_s: int
    refresh_after_s: int

    def request(self, credentials: Credentials) -> UpstreamRequest:
        """Return the request that logs in."""
        ...

    def read(self, answer: UpstreamResponse) -> AccessToken | None:
        """Return the token of a 2xx answer, None if it holds none. Never raises."""
        ...


class Pager(Protocol):
    """How a vendor pages its lists: what the broker needs to cut an agent's own things into pages like the vendor's."""

    def cut(self, match: Match, query: str, items: Sequence[Mapping[str, Any]]) -> LocalAnswer:
        """Return the page that a query asks for, of all that the agent has, its filters honoured.

        `items` are an answer's own documents in the vendor's order. A query that the vendor would refuse gets its refusal.
        """
        ...


class AccountVendor(Protocol):
    """One vendor that is paid from an account of the operator's. Pure: no I/O, no clock."""

    name: str
    origin: str
    account: AccountTerms
    routes: tuple[Route, ...]
    rates: tuple[Rate, ...]
    login: LoginPlan | None  # None: the configured token is the credential
    token_lives_s: int  # how long what a login of an agent's hands out lives, by the vendor's document
    prices: tuple[Price, ...]  # what needs no asking
    price_target: str | None  # the route (GET) that lists prices
    unit_s: int  # in which time is counted
    while_running: bool  # only running time is charged
    ends_on_accept: bool  # a destruction that was accepted ends the charges, before it is done
    name_member: str  # where things carry the name that the agent gave
    template_target: str | None  # the route (GET, with credentials) that lists templates; None: orders name none
    resumes: frozenset[str]  # routes after which a stopped thing may be charged again: only with money for a period
    speaks: frozenset[Meaning]  # what its 402 can mean, by its document: of the operator's account, never a challenge
    pager: Pager | None  # None: lists come whole
    queries: Mapping[str, frozenset[str]]  # by route, what its query may hold: more may name another agent's thing

    def match(self, method: str, raw_path: str) -> Match | None:
        """Return the declared route that a request matches."""
        ...

    def scrub(self, target: str) -> str:
        """Return the target without secrets, for records and logs."""
        ...

    def canonical(self, kind: str, name: str, owned: Collection[str]) -> str | None:
        """Return which of the agent's own things a request names: the ref to send in its place. None: none, or not one alone."""
        ...

    def check_input(self, match: Match, body: bytes) -> None:
        """Raise Problem("input_refused") for input that the vendor would refuse."""
        ...

    def order(self, match: Match, body: bytes) -> Order:
        """Return what a metered route is asked to make. Raises Problem("input_refused") naming the field."""
        ...

    def read_prices(self, answer: UpstreamResponse) -> tuple[Price, ...]:
        """Return the prices in an answer of `price_target`; nothing for one that cannot be read."""
        ...

    def read_templates(self, answer: UpstreamResponse) -> tuple[Template, ...]:
        """Return the templates in an answer of `template_target`; nothing for one that cannot be read."""
        ...

    def marked(self, match: Match, body: bytes, token: str) -> bytes:
        """Return the body with our mark in the name that the agent gave, within the vendor's grammar for names."""
        ...

    def headers_for(self, match: Match, key: str) -> tuple[tuple[str, str], ...]:
        """Return headers that the route needs besides the credential: the idempotency key (a UUID) where it takes one."""
        ...

    def split(self, match: Match, body: bytes) -> tuple[Part, ...]:
        """Take a bulk call apart. Raises Problem("input_refused")."""
        ...

    def join(self, match: Match, parts: tuple[PartAnswer, ...]) -> LocalAnswer:
        """Return the bulk call's answer in the vendor's shape: mixed results stay mixed (207)."""
        ...

    def local(self, match: Match, body: bytes, own: Own) -> LocalAnswer:
        """Answer a local route in the vendor's own shape, with the agent's own figures."""
        ...

    def password_in(self, match: Match, body: bytes) -> tuple[str, str] | None:
        """Return (email, password) of a login or a registration, None for any other route or body."""
        ...

    def refusal(self, status: int, detail: str) -> LocalAnswer:
        """Return a refusal in the vendor's own error shape (404 for foreign ids, 429, 503)."""
        ...

    def refuses_us(self, answer: UpstreamResponse) -> bool:
        """Say whether an answer refuses this gateway itself (an egress address, a suspended account), not the request."""
        ...

    def own_headers(self, own: Own) -> tuple[tuple[str, str], ...]:
        """Return the headers that speak of the account, with the agent's own figures in them."""
        ...

    def read(self, match: Match, answer: UpstreamResponse) -> Told:
        """Judge an answer and read the things in it. Never raises."""
        ...

    def list_request(self, page: int) -> UpstreamRequest | None:
        """Return the request for a page (from 1) of all servers; None past what a vendor without pages has."""
        ...

    def read_list(self, answer: UpstreamResponse) -> tuple[tuple[Thing, ...], bool] | None:
        """Return the servers on a page and whether more follow; None for an answer that proves nothing."""
        ...

    def show_request(self, ref: str) -> UpstreamRequest:
        """Return the request that shows one server."""
        ...

    def status_request(self, ref: str) -> UpstreamRequest | None:
        """Return the request for a server's present state, None where showing the server tells it."""
        ...

    def created_answer(self, match: Match, shown: UpstreamResponse) -> tuple[int, bytes] | None:
        """Return what the create would have answered, from an answer to `show_request`: for a create whose answer was lost."""
        ...

    def destroy_request(self, ref: str) -> UpstreamRequest:
        """Return the request that destroys a server."""
        ...

    def stop_request(self, ref: str) -> UpstreamRequest | None:
        """Return the request that stops a server so that it is charged no more, None where there is no such thing."""
        ...

    def balance_request(self) -> UpstreamRequest | None:
        """Return the request for the operator's balance, None where the vendor has none."""
        ...

    def read_balance(self, answer: UpstreamResponse) -> int | None:
        """Return the operator's balance (USD base units) from any answer that tells it, header or body."""
        ...

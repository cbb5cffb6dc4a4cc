"""VRTX Labs as the seam `AccountVendor` sees it: its data, its inputs and its answers in one place.

Must not know flows or records.  Theory: the vendor bills the operator by invoice and states no balance, so nothing here
reads one; what agents owe is counted by the gateway, from creation to deletion.
"""

# ruff: noqa: ARG002 - the seam passes what vendors with logins and bulk calls need; this one has neither

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final

from gateway.account_ports import (
    AccountTerms,
    LocalAnswer,
    LoginPlan,
    Order,
    Own,
    Pager,
    Part,
    PartAnswer,
    Price,
    Template,
    Thing,
    Told,
)
from gateway.core.meaning import Meaning
from gateway.core.problems import Problem
from gateway.core.routes import Match, match_route
from gateway.http.port import UpstreamRequest, UpstreamResponse
from gateway.vendors.account import JSON_HEADERS, SECRET_PARAMETERS, request_to, segment, with_ceilings
from gateway.vendors.capabilities import Capabilities
from gateway.vendors.overrides import RouteOverride, check_ceiling
from gateway.vendors.query import Scrubber
from gateway.vendors.vrtx import answers, inputs
from gateway.vendors.vrtx.local import Pages, refusal
from gateway.vendors.vrtx.routes import (
    CAPABILITIES,
    MAX_PER_PAGE,
    PRICE_TARGET,
    QUERIES,
    RATES,
    ROUTES,
    SERVERS_TARGET,
    UNIT_S,
)

__all__ = ["Vrtx"]

_NO_OVERRIDES: Final[Mapping[str, RouteOverride]] = MappingProxyType({})
_NOT_FOUND: Final = 404


class Vrtx:
    """The vendor's module; implements gateway.account_ports.AccountVendor."""

    rates = RATES
    prices: tuple[Price, ...] = ()  # "confirm with GET /plans": the document's own table is not to be relied on
    price_target: str | None = PRICE_TARGET
    template_target: str | None = None  # its templates are operating systems: they state no size
    login: LoginPlan | None = None
    token_lives_s = 3600  # the document has no login, so no route hands one out; were there one, it would be short
    unit_s = UNIT_S
    while_running = False
    ends_on_accept = False  # the document does not say when the bill stops
    resumes: frozenset[str] = frozenset()  # charged whatever the state, so no action begins it anew
    name_member = "name"
    queries = QUERIES
    speaks: frozenset[Meaning] = frozenset({Meaning.OVERDUE_INVOICE})
    capabilities: Capabilities = CAPABILITIES

    def __init__(
        self, name: str, origin: str, account: AccountTerms, overrides: Mapping[str, RouteOverride] = _NO_OVERRIDES
    ) -> None:
        """Build it for one configured account; a metered route's ceiling is the account's, or its override by route name.

        Raises ValueError naming a bad ceiling or override.
        """
        self.name = name
        self.origin = origin
        self.account = account
        self.routes = with_ceilings(ROUTES, overrides, check_ceiling(account.ceiling_base, name))
        self.pager: Pager | None = Pages()
        self._scrub = Scrubber(SECRET_PARAMETERS)

    def match(self, method: str, raw_path: str) -> Match | None:
        """Return the declared route that a request matches."""
        return match_route(self.routes, method, raw_path)

    def scrub(self, target: str) -> str:
        """Return the target with whatever is called like a credential as ***."""
        return self._scrub(target)

    def canonical(self, kind: str, name: str, owned: Collection[str]) -> str | None:
        """Return which of the agent's own servers a full or a short id names, None where it is not one alone."""
        return inputs.canonical(name, owned)

    def check_input(self, match: Match, body: bytes) -> None:
        """Raise Problem("input_refused") for a body that the document does not allow."""
        inputs.check_input(match, body)

    def order(self, match: Match, body: bytes) -> Order:
        """Return the plan and the name that a create asks for. Raises Problem("input_refused")."""
        return inputs.order(body)

    def read_prices(self, answer: UpstreamResponse) -> tuple[Price, ...]:
        """Return what the plans in an answer of GET /plans cost."""
        return answers.read_prices(answer)

    def read_templates(self, answer: UpstreamResponse) -> tuple[Template, ...]:
        """Return nothing: orders name operating systems, never sizes."""
        return ()

    def marked(self, match: Match, body: bytes, token: str) -> bytes:
        """Return a create's body with the mark in the first label of its host name; other bodies hold no name."""
        return inputs.marked(body, token) if match.route.name == "create" else body

    def headers_for(self, match: Match, key: str) -> tuple[tuple[str, str], ...]:
        """Return the media type of a body that we have read as JSON, and for a create the Idempotency-Key."""
        if match.route.name == "create":
            return (*JSON_HEADERS, ("Idempotency-Key", key))
        return JSON_HEADERS if match.route.name == "power" else ()

    def split(self, match: Match, body: bytes) -> tuple[Part, ...]:
        """Raise Problem("input_refused"): there are no bulk calls."""
        raise Problem("input_refused", "this vendor has no bulk calls", "body")

    def join(self, match: Match, parts: tuple[PartAnswer, ...]) -> LocalAnswer:
        """Return 404: there are no bulk calls."""
        return refusal(_NOT_FOUND, "Not found.")

    def local(self, match: Match, body: bytes, own: Own) -> LocalAnswer:
        """Return 404: no documented route speaks of the account itself."""
        return refusal(_NOT_FOUND, "Not found.")

    def password_in(self, match: Match, body: bytes) -> tuple[str, str] | None:
        """Return None: there is no login, the agent's key stands where the token would."""
        return None

    def refusal(self, status: int, detail: str) -> LocalAnswer:
        """Return a refusal in the document's error envelope."""
        return refusal(status, detail)

    def refuses_us(self, answer: UpstreamResponse) -> bool:
        """Say whether our egress address is not on the account's allow-list, or something before the vendor refuses it."""
        return answers.refuses_us(answer)

    def own_headers(self, own: Own) -> tuple[tuple[str, str], ...]:
        """Return none: the rate limit is the whole account's, and no agent has a part of it to be told."""
        return ()

    def read(self, match: Match, answer: UpstreamResponse) -> Told:
        """Judge an answer and read the servers in it. Never raises."""
        return answers.read(match, answer)

    def list_request(self, page: int) -> UpstreamRequest | None:
        """Return the request for a page of all servers, as large as the vendor makes them."""
        return request_to("GET", f"{SERVERS_TARGET}?page={page}&per_page={MAX_PER_PAGE}")

    def read_list(self, answer: UpstreamResponse) -> tuple[tuple[Thing, ...], bool] | None:
        """Return the servers on a page and whether more follow; None for an answer that proves nothing."""
        return answers.read_list(answer)

    def show_request(self, ref: str) -> UpstreamRequest:
        """Return the request that shows one server."""
        return request_to("GET", f"{SERVERS_TARGET}/{segment(ref)}")

    def status_request(self, ref: str) -> UpstreamRequest | None:
        """Return the request for the hypervisor's word on a server: showing it tells no `state`."""
        return request_to("GET", f"{SERVERS_TARGET}/{segment(ref)}/status")

    def created_answer(self, match: Match, shown: UpstreamResponse) -> tuple[int, bytes] | None:
        """Return the 201 of a create whose answer was lost, as the server looks now."""
        return answers.created_answer(shown)

    def destroy_request(self, ref: str) -> UpstreamRequest:
        """Return the request that destroys a server; it may be repeated until it answers 404."""
        return request_to("DELETE", f"{SERVERS_TARGET}/{segment(ref)}")

    def stop_request(self, ref: str) -> UpstreamRequest | None:
        """Return None: a server that is shut down is charged as before, as far as the document says."""
        return None

    def balance_request(self) -> UpstreamRequest | None:
        """Return None: the bill comes as an invoice, and no documented route tells of it."""
        return None

    def read_balance(self, answer: UpstreamResponse) -> int | None:
        """Return None: no answer tells a balance."""
        return None

"""LiteVPS as the seam `AccountVendor` sees it: routes, prices, login, inputs and answers in one place.

Must not know flows or records.  Theory: machines cost by the minute while they run, names need not be unique and creates
take no key, so a create is held for by its plan, marked in its name, and found again by that mark alone.
"""

# ruff: noqa: ARG002 - the seam passes what some vendor needs; a vendor without keys, pages or short ids uses less of it

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
from gateway.core.login import AccessToken, Credentials
from gateway.core.meaning import Meaning
from gateway.core.routes import Match, match_route
from gateway.http.port import UpstreamRequest, UpstreamResponse
from gateway.vendors.account import (
    JSON_HEADERS,
    SECRET_PARAMETERS,
    document_of,
    jwt_lives_s,
    request_to,
    segment,
    with_ceilings,
)
from gateway.vendors.capabilities import Capabilities
from gateway.vendors.litevps import answers, inputs, local
from gateway.vendors.litevps.routes import (
    CAPABILITIES,
    LOGIN_LIVES_S,
    LOGIN_REFRESH_AFTER_S,
    PRICE_TARGET,
    QUERIES,
    RATES,
    RESUMES,
    ROUTES,
    TEMPLATE_TARGET,
    UNIT_S,
)
from gateway.vendors.overrides import RouteOverride, check_ceiling
from gateway.vendors.query import Scrubber
from wallets.secret import Secret

__all__ = ["STANDING_TOKEN_PREFIX", "LiteVps", "LiteVpsLogin"]

STANDING_TOKEN_PREFIX: Final = "vtk_"  # noqa: S105 - how the vendor's long-lived tokens begin
_NO_OVERRIDES: Final[Mapping[str, RouteOverride]] = MappingProxyType({})


class LiteVpsLogin:
    """E-mail and password for a JWT of a day; implements gateway.account_ports.LoginPlan."""

    lives_s: int = LOGIN_LIVES_S
    refresh_after_s: int = LOGIN_REFRESH_AFTER_S

    def request(self, credentials: Credentials) -> UpstreamRequest:
        """Return the login; it holds a secret."""
        body = {"email": credentials.login, "password": credentials.secret.reveal()}
        return request_to("POST", "/api/auth/login", body)

    def read(self, answer: UpstreamResponse) -> AccessToken | None:
        """Return the token of a 2xx answer, None if it holds none. Never raises."""
        document = document_of(answer)
        token = document.get("token") if isinstance(document, dict) else None
        # It goes into a header: what is not printable would be a second header, or none.
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable() or " " in token:
            return None
        return AccessToken(Secret(token), jwt_lives_s(token))


class LiteVps:
    """The vendor's module; implements gateway.account_ports.AccountVendor."""

    token_lives_s: int = LOGIN_LIVES_S  # also where the operator's own credential is a token that needs no login
    speaks: frozenset[Meaning] = frozenset({Meaning.LOW_VENDOR_BALANCE})
    capabilities: Capabilities = CAPABILITIES

    def __init__(
        self,
        name: str,
        origin: str,
        account: AccountTerms,
        overrides: Mapping[str, RouteOverride] = _NO_OVERRIDES,
        *,
        standing_token: bool = False,
    ) -> None:
        """Build it for one configured account; `standing_token`: its credential is a `vtk_` token, which needs no login.

        A metered route's ceiling is the account's, or its override by route name. Raises ValueError naming a bad ceiling
        or override.
        """
        self.name = name
        self.origin = origin
        self.account = account
        self.routes = with_ceilings(ROUTES, overrides, check_ceiling(account.ceiling_base, name))
        self.rates = RATES
        self.login: LoginPlan | None = None if standing_token else LiteVpsLogin()
        self.prices: tuple[Price, ...] = ()  # every plan is listed, with a price that moves
        self.price_target: str | None = PRICE_TARGET
        self.template_target: str | None = TEMPLATE_TARGET
        self.unit_s = UNIT_S
        self.while_running = True
        self.ends_on_accept = True
        self.name_member = "name"
        self.resumes = RESUMES
        self.pager: Pager | None = None
        self.queries = QUERIES
        self._scrub = Scrubber(SECRET_PARAMETERS)

    def match(self, method: str, raw_path: str) -> Match | None:
        """Return the declared route that a request matches."""
        return match_route(self.routes, method, raw_path)

    def scrub(self, target: str) -> str:
        """Return the target with whatever is called like a credential as ***."""
        return self._scrub(target)

    def canonical(self, kind: str, name: str, owned: Collection[str]) -> str | None:
        """Return the id itself where it is the agent's own: this vendor knows no other spelling of one."""
        return name if name in owned else None

    def check_input(self, match: Match, body: bytes) -> None:
        """Raise Problem("input_refused") for a body that the document does not describe."""
        inputs.check_input(match, body)

    def order(self, match: Match, body: bytes) -> Order:
        """Return what a create asks for: a plan, or a template with sizes over it. Raises Problem("input_refused")."""
        return inputs.order(match, body)

    def read_prices(self, answer: UpstreamResponse) -> tuple[Price, ...]:
        """Return what the plans in an answer of GET /api/pricing cost."""
        return answers.read_prices(answer)

    def read_templates(self, answer: UpstreamResponse) -> tuple[Template, ...]:
        """Return the templates in an answer of GET /api/templates."""
        return answers.read_templates(answer)

    def marked(self, match: Match, body: bytes, token: str) -> bytes:
        """Return the body of a create or a renaming with our mark in the name."""
        return inputs.marked(match, body, token)

    def headers_for(self, match: Match, key: str) -> tuple[tuple[str, str], ...]:
        """Return the media type of a body that we have read as JSON; the vendor takes no idempotency key."""
        return JSON_HEADERS if match.route.name in inputs.JSON_BODIES else ()

    def split(self, match: Match, body: bytes) -> tuple[Part, ...]:
        """Return the single calls of a batch. Raises Problem("input_refused")."""
        return inputs.split(match, body)

    def join(self, match: Match, parts: tuple[PartAnswer, ...]) -> LocalAnswer:
        """Return the batch's 207 with a result for each item."""
        return answers.join(match, parts)

    def local(self, match: Match, body: bytes, own: Own) -> LocalAnswer:
        """Answer login, registration, profile, billing and tokens with the agent's own figures."""
        return local.local(match, own)

    def own_headers(self, own: Own) -> tuple[tuple[str, str], ...]:
        """Return X-Balance-Remaining with the agent's own balance."""
        return local.own_headers(own)

    def password_in(self, match: Match, body: bytes) -> tuple[str, str] | None:
        """Return (email, password) of a login or a registration, None for any other route or body."""
        return inputs.password_in(match, body)

    def refusal(self, status: int, detail: str) -> LocalAnswer:
        """Return a refusal in the vendor's error shape."""
        return local.refusal(status, detail)

    def refuses_us(self, answer: UpstreamResponse) -> bool:
        """Say whether an answer refuses the account that all agents share."""
        return answers.refuses_us(answer)

    def read(self, match: Match, answer: UpstreamResponse) -> Told:
        """Judge an answer and read the things in it. Never raises."""
        return answers.read(match, answer)

    def list_request(self, page: int) -> UpstreamRequest | None:
        """Return the request for all servers; None past the first page, for there are none."""
        return request_to("GET", "/api/vps") if page == 1 else None

    def read_list(self, answer: UpstreamResponse) -> tuple[tuple[Thing, ...], bool] | None:
        """Return all servers; None for an answer that proves nothing."""
        return answers.read_list(answer)

    def show_request(self, ref: str) -> UpstreamRequest:
        """Return the request that shows one server."""
        return request_to("GET", f"/api/vps/{segment(ref)}")

    def status_request(self, ref: str) -> UpstreamRequest | None:
        """Return None: a server that is shown is shown with its state."""
        return None

    def created_answer(self, match: Match, shown: UpstreamResponse) -> tuple[int, bytes] | None:
        """Return what a create would have answered, with the server as it is now."""
        return answers.created_answer(match, shown)

    def destroy_request(self, ref: str) -> UpstreamRequest:
        """Return the request that destroys a server."""
        return request_to("DELETE", f"/api/vps/{segment(ref)}")

    def stop_request(self, ref: str) -> UpstreamRequest | None:
        """Return the request that shuts a server down: it is charged until it has."""
        return request_to("POST", f"/api/vps/{segment(ref)}/stop")

    def balance_request(self) -> UpstreamRequest | None:
        """Return the request for the operator's balance; its header tells it, as every answer's does."""
        return request_to("GET", "/api/billing/balance")

    def read_balance(self, answer: UpstreamResponse) -> int | None:
        """Return the operator's balance from the header of any authenticated answer."""
        return answers.read_balance(answer)

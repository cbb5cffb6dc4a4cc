"""CryptoVPS as the seam `AccountVendor` sees it: routes, prices, login, inputs and answers in one place.

Must not know flows or records.  Theory: the vendor has no idempotency key and no endpoint for prices, so a create is
found again by the mark in its label, and is held for by the dearest that its plan can be.
"""

# ruff: noqa: ARG002 - the seam passes what some vendor needs; a vendor of static prices and no keys uses less of it

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
from gateway.core.rates import Rate
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
from gateway.vendors.cryptovps import answers, inputs, local
from gateway.vendors.cryptovps.routes import (
    CAPABILITIES,
    LOGIN_LIVES_S,
    LOGIN_REFRESH_AFTER_S,
    PRICES,
    RATES,
    ROUTES,
    UNIT_S,
)
from gateway.vendors.overrides import RouteOverride
from gateway.vendors.query import Scrubber
from wallets.secret import Secret

__all__ = ["CryptoVps", "CryptoVpsLogin"]

_NO_OVERRIDES: Final[Mapping[str, RouteOverride]] = MappingProxyType({})
_WITH_BODY: Final = frozenset({"create", "backup"})


class CryptoVpsLogin:
    """E-mail and password for a token of fifteen minutes; implements gateway.account_ports.LoginPlan."""

    lives_s = LOGIN_LIVES_S
    refresh_after_s = LOGIN_REFRESH_AFTER_S

    def request(self, credentials: Credentials) -> UpstreamRequest:
        """Return the login; it holds a secret."""
        body = {"email": credentials.login, "password": credentials.secret.reveal()}
        return request_to("POST", "/auth/login", body)

    def read(self, answer: UpstreamResponse) -> AccessToken | None:
        """Return the token of a 2xx answer, None if it holds none. Never raises."""
        document = document_of(answer)
        token = document.get("accessToken") if isinstance(document, dict) else None
        # It goes into a header: what is not printable would be a second header, or none.
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable() or " " in token:
            return None
        return AccessToken(Secret(token), jwt_lives_s(token))


class CryptoVps:
    """The vendor's module; implements gateway.account_ports.AccountVendor."""

    rates: tuple[Rate, ...] = RATES
    prices: tuple[Price, ...] = PRICES
    price_target: str | None = None  # the plans stand in the document alone
    unit_s = UNIT_S
    while_running = False
    ends_on_accept = True
    name_member = "label"
    template_target: str | None = None
    resumes: frozenset[str] = frozenset()
    token_lives_s = LOGIN_LIVES_S
    speaks: frozenset[Meaning] = frozenset({Meaning.LOW_VENDOR_BALANCE})
    pager: Pager | None = None
    queries: Mapping[str, frozenset[str]] = MappingProxyType({})  # the document has no query parameter at all
    capabilities: Capabilities = CAPABILITIES

    def __init__(
        self, name: str, origin: str, account: AccountTerms, overrides: Mapping[str, RouteOverride] = _NO_OVERRIDES
    ) -> None:
        """Build it for one configured account; `overrides` are ceilings by metered route.

        Raises ValueError naming a bad override.
        """
        self.name = name
        self.origin = origin
        self.account = account
        self.routes = with_ceilings(ROUTES, overrides)
        self.login: LoginPlan | None = CryptoVpsLogin()
        self._scrub = Scrubber(SECRET_PARAMETERS)

    def match(self, method: str, raw_path: str) -> Match | None:
        """Return the declared route that a request matches."""
        return match_route(self.routes, method, raw_path)

    def scrub(self, target: str) -> str:
        """Return the target with whatever is called like a credential as ***."""
        return self._scrub(target)

    def canonical(self, kind: str, name: str, owned: Collection[str]) -> str | None:
        """Return the name where it is one of the agent's ids: the vendor knows a thing by its id alone."""
        return name if name in owned else None

    def check_input(self, match: Match, body: bytes) -> None:
        """Raise Problem("input_refused") for a body that the document does not describe."""
        inputs.check_input(match, body)

    def order(self, match: Match, body: bytes) -> Order:
        """Return what a metered route is asked to make. Raises Problem("input_refused") naming the field."""
        return inputs.order(match, body)

    def read_prices(self, answer: UpstreamResponse) -> tuple[Price, ...]:
        """Return nothing: no route lists prices."""
        return ()

    def read_templates(self, answer: UpstreamResponse) -> tuple[Template, ...]:
        """Return nothing: the vendor has no templates."""
        return ()

    def marked(self, match: Match, body: bytes, token: str) -> bytes:
        """Return a create's body with our mark in its label. A restore takes no label and stays as it is."""
        return inputs.marked(match, body, token)

    def headers_for(self, match: Match, key: str) -> tuple[tuple[str, str], ...]:
        """Return the media type of a body that we have read as JSON; the vendor takes no idempotency key."""
        return JSON_HEADERS if match.route.name in _WITH_BODY else ()

    def split(self, match: Match, body: bytes) -> tuple[Part, ...]:
        """Return the single creates of a bulk order. Raises Problem("input_refused")."""
        return inputs.split(match, body)

    def join(self, match: Match, parts: tuple[PartAnswer, ...]) -> LocalAnswer:
        """Return the bulk's answer: 202 when all were made, the truth per item (207) when not."""
        return answers.join(parts)

    def local(self, match: Match, body: bytes, own: Own) -> LocalAnswer:
        """Answer login, registration, /auth/me and /billing with the agent's own figures."""
        return local.local(match, own)

    def password_in(self, match: Match, body: bytes) -> tuple[str, str] | None:
        """Return (e-mail, password) of a login or a registration, None for any other route or body."""
        return inputs.password_in(match, body)

    def refusal(self, status: int, detail: str) -> LocalAnswer:
        """Return a refusal in the vendor's own error shape."""
        return local.refusal(status, detail)

    def refuses_us(self, answer: UpstreamResponse) -> bool:
        """Say whether a 403 refuses the account as such, not one more server on it."""
        return answers.refuses_us(answer)

    def own_headers(self, own: Own) -> tuple[tuple[str, str], ...]:
        """Return nothing: no header of the vendor's speaks of the account."""
        return ()

    def read(self, match: Match, answer: UpstreamResponse) -> Told:
        """Judge an answer and read the things in it. Never raises."""
        return answers.read(match, answer)

    def list_request(self, page: int) -> UpstreamRequest | None:
        """Return the request for all servers; None past the first page, for there are none."""
        return request_to("GET", "/servers") if page == 1 else None

    def read_list(self, answer: UpstreamResponse) -> tuple[tuple[Thing, ...], bool] | None:
        """Return all servers that are not destroyed; None for an answer that proves nothing."""
        return answers.read_list(answer)

    def show_request(self, ref: str) -> UpstreamRequest:
        """Return the request that shows one server."""
        return request_to("GET", f"/servers/{segment(ref)}")

    def status_request(self, ref: str) -> UpstreamRequest | None:
        """Return None: a server that is shown is shown with its state."""
        return None

    def created_answer(self, match: Match, shown: UpstreamResponse) -> tuple[int, bytes] | None:
        """Return what a create would have answered, with the server as it is now."""
        return answers.created_answer(match, shown)

    def destroy_request(self, ref: str) -> UpstreamRequest:
        """Return the request that destroys a server; a second one is answered 409, which is as good."""
        return request_to("DELETE", f"/servers/{segment(ref)}")

    def stop_request(self, ref: str) -> UpstreamRequest | None:
        """Return None: a server is charged until it is destroyed."""
        return None

    def balance_request(self) -> UpstreamRequest | None:
        """Return the request for the operator's balance."""
        return request_to("GET", "/billing")

    def read_balance(self, answer: UpstreamResponse) -> int | None:
        """Return the operator's balance (USD base units) from an answer that tells it."""
        return answers.read_balance(answer)

"""VpsAgent as the seam `Vendor` sees it: its routes, its inputs, its tokens and its answers in one place.

Must not know flows or records.  Theory: ownership at this vendor is a token in the query, handed out once; the agent
gets a surrogate instead, which only this gateway can turn back, so every renewal passes through here.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from gateway.core.meaning import Meaning
from gateway.core.problems import Problem
from gateway.core.records import Resource
from gateway.core.routes import Match, Pricing, match_route
from gateway.http.port import UpstreamResponse
from gateway.ports import PricedItem, Reading, Shared, VendorTerms
from gateway.vendors.overrides import RouteOverride, with_overrides
from gateway.vendors.query import Scrubber, exchange, only_parameter
from gateway.vendors.vpsagent import answers, inputs
from gateway.vendors.vpsagent.routes import ROUTES, TOKEN_ROUTES
from wallets.secret import Secret

__all__ = ["VpsAgent"]

_PARAMETER: Final = "token"
_NO_OVERRIDES: Final[Mapping[str, RouteOverride]] = MappingProxyType({})


class VpsAgent:
    """The vendor's module; implements gateway.ports.Vendor."""

    def __init__(
        self, name: str, origin: str, terms: VendorTerms, overrides: Mapping[str, RouteOverride] = _NO_OVERRIDES
    ) -> None:
        """Build it for one configured vendor; `overrides` is by route name. Raises ValueError naming a bad override."""
        self.name = name
        self.origin = origin
        self.terms = terms
        self.speaks = frozenset({Meaning.X402_CHALLENGE, Meaning.PAYMENT_INVALID})
        self.routes = with_overrides(ROUTES, overrides)
        self.shared: Shared | None = None  # a rental is its token's, not its payer's
        self._scrub = Scrubber({_PARAMETER, "root_token"})

    def match(self, method: str, raw_path: str) -> Match | None:
        """Return the declared route that a request matches."""
        return match_route(self.routes, method, raw_path)

    def check_input(self, match: Match, body: bytes) -> None:
        """Raise Problem("input_refused") for a body that the document's schema does not allow."""
        inputs.check_input(match, body)

    def item(self, match: Match, body: bytes, resource: Resource | None) -> PricedItem | None:
        """Return what a priced call buys: the catalogue, a SKU, or periods of a rental's SKU."""
        return inputs.item(match, body, resource)

    def surrogate_in(self, match: Match, target: str) -> str | None:
        """Return the surrogate in the query parameter `token` of a route that takes one.

        Raises Problem("bad_request") for a query with two readings, and Problem("input_refused") for a priced call
        without a token: the vendor would refuse it, perhaps after being paid.
        """
        if match.route.name not in TOKEN_ROUTES:
            return None
        found = only_parameter(target, _PARAMETER)
        if found is not None and found.value:
            return found.value
        if match.route.pricing is not Pricing.FREE:
            raise Problem("input_refused", "the query must carry the rental's root_token as token", _PARAMETER)
        return None

    def outgoing_target(self, target: str, surrogate: str | None, real: Secret[str] | None) -> str:
        """Return the target with the surrogate replaced by the vendor's token; unchanged where either is None.

        The result holds a secret. Raises ValueError if the target does not carry this surrogate.
        """
        if surrogate is None or real is None:
            return target
        found = only_parameter(target, _PARAMETER)
        if found is None or found.value != surrogate:
            raise ValueError("the target does not carry this surrogate")
        return exchange(target, found, real.reveal())

    def scrub(self, target: str) -> str:
        """Return the target with every token as ***."""
        return self._scrub(target)

    def read(self, match: Match, answer: UpstreamResponse, surrogate: Callable[[str], str]) -> Reading:
        """Judge an answer; the body has the surrogate wherever the vendor's token stood. Never raises."""
        return answers.read(match, answer, surrogate)

"""dropmpp as the seams `Vendor` and `Shared` see it: its routes, its inputs and its answers in one place.

Must not know flows or records.  Theory: the paying wallet is the customer, so nothing in a request or an answer says
whose a thing is; the module says where things stand, and the gateway remembers whose they are.
"""

# ruff: noqa: ARG002 - the seam passes what a vendor with tokens of its own needs; here the wallet is the only credential

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from gateway.core.meaning import Meaning
from gateway.core.records import Resource
from gateway.core.routes import Match, match_route
from gateway.http.port import UpstreamResponse
from gateway.ports import PricedItem, Reading, Shared, VendorTerms
from gateway.vendors.account import SECRET_PARAMETERS
from gateway.vendors.capabilities import Capabilities
from gateway.vendors.dropmpp import answers, inputs
from gateway.vendors.dropmpp.routes import CAPABILITIES, ROUTES
from gateway.vendors.dropmpp.tenants import Tenants
from gateway.vendors.overrides import RouteOverride, with_overrides
from gateway.vendors.query import Scrubber
from wallets.secret import Secret

__all__ = ["DropMpp"]

_NO_OVERRIDES: Final[Mapping[str, RouteOverride]] = MappingProxyType({})


class DropMpp:
    """The vendor's module; implements gateway.ports.Vendor."""

    capabilities: Capabilities = CAPABILITIES
    speaks: frozenset[Meaning] = frozenset({Meaning.MPP_CHALLENGE, Meaning.IDENTITY_PROOF, Meaning.PAYMENT_INVALID})

    def __init__(
        self, name: str, origin: str, terms: VendorTerms, overrides: Mapping[str, RouteOverride] = _NO_OVERRIDES
    ) -> None:
        """Build it for one configured vendor; `overrides` is by route name. Raises ValueError naming a bad override."""
        self.name = name
        self.origin = origin
        self.terms = terms
        self.routes = with_overrides(ROUTES, overrides)
        self.shared: Shared | None = Tenants()
        self._scrub = Scrubber(SECRET_PARAMETERS)

    def match(self, method: str, raw_path: str) -> Match | None:
        """Return the declared route that a request matches."""
        return match_route(self.routes, method, raw_path)

    def check_input(self, match: Match, body: bytes) -> None:
        """Raise Problem("input_refused") for a body that the document does not allow."""
        inputs.check_input(match, body)

    def item(self, match: Match, body: bytes, resource: Resource | None) -> PricedItem | None:
        """Return what a priced call buys: a fee and hours, hours, gigabyte-days, or a flat charge."""
        return inputs.item(match, body, resource)

    def surrogate_in(self, match: Match, target: str) -> str | None:
        """Return None: nothing in a request is a credential."""
        return None

    def outgoing_target(self, target: str, surrogate: str | None, real: Secret[str] | None) -> str:
        """Return the target as it is."""
        return target

    def scrub(self, target: str) -> str:
        """Return the target with whatever is called like a credential as ***."""
        return self._scrub(target)

    def read(self, match: Match, answer: UpstreamResponse, surrogate: Callable[[str], str]) -> Reading:
        """Judge an answer; a root password in it is its owner's. Never raises."""
        return answers.read(match, answer)

"""The generic x402 vendor: nothing but a block of configuration, so nothing about it is taken for granted.

Must not know any vendor's document.  Theory: without a price list the operator's ceiling is the check, without routes
every path may ask for money, and without a document no credential is shown twice and no input can be judged.
"""

# ruff: noqa: ARG002 - the seam passes what a documented vendor needs; here most of it has no use

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from gateway.core.meaning import Meaning, meanings_of_rails
from gateway.core.records import Resource
from gateway.core.routes import Match, Pricing, Represent, Route, Window, match_route
from gateway.http.port import UpstreamResponse
from gateway.ports import PricedItem, Reading, Shared, VendorTerms
from gateway.vendors.judge import judge_stranger
from gateway.vendors.overrides import check_ceiling, check_window
from gateway.vendors.query import Scrubber
from wallets.secret import Secret

__all__ = ["DEFAULT_WINDOW", "METHODS", "GenericVendor", "PathRule"]

# Not TRACE and CONNECT: the one echoes credentials, the other is no request to this vendor.
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_REST: Final = "{rest*}"
DEFAULT_WINDOW: Final = Window(120, 120)  # settled inline, as the specification's own servers do

_SECRET_PARAMETERS: Final = frozenset(
    {
        "access_key",
        "access_token",
        "api-key",
        "api_key",
        "apikey",
        "auth",
        "authorization",
        "key",
        "passwd",
        "password",
        "secret",
        "signature",
        "sig",
        "token",
    }
)


@dataclass(frozen=True, slots=True)
class PathRule:
    """What differs below a path prefix such as "/v1/images": whole segments, compared decoded; None keeps the vendor's.

    The longest prefix wins. A rule refines: a spelling of the path that it does not match, and that the vendor takes
    for the same, meets the vendor's own ceiling.
    """

    prefix: str
    ceiling_base: int | None = None
    window: Window | None = None
    represent: Represent | None = None


class GenericVendor:
    """Any x402 seller, by configuration alone; implements gateway.ports.Vendor."""

    def __init__(
        self,
        name: str,
        origin: str,
        terms: VendorTerms,
        *,
        ceiling_base: int,
        window: Window = DEFAULT_WINDOW,
        represent: Represent = Represent.UNKNOWN,
        rules: tuple[PathRule, ...] = (),
    ) -> None:
        """Build it; `ceiling_base` is the most that one call may cost, in the token's base units.

        Raises ValueError, naming the rule's prefix, for a ceiling, window or prefix that cannot be meant.
        """
        self.name = name
        self.origin = origin
        self.terms = terms
        self.shared: Shared | None = None
        self.routes = _routes(
            Route(
                "any",
                METHODS,
                (_REST,),
                Pricing.MAYBE,
                ceiling_base=check_ceiling(ceiling_base, name),
                window=check_window(window, name),
                represent=represent,
            ),
            rules,
        )
        self._scrub = Scrubber(_SECRET_PARAMETERS)

    @property
    def speaks(self) -> frozenset[Meaning]:
        """What its 402 can mean: challenges of the configured rails, and a question who we are where a route may ask it."""
        return meanings_of_rails(self.terms.rails, proofs=any(route.proof for route in self.routes))

    def match(self, method: str, raw_path: str) -> Match | None:
        """Return the route of the longest rule that the path is below, or the route of everything."""
        return match_route(self.routes, method, raw_path)

    def check_input(self, match: Match, body: bytes) -> None:
        """Accept anything: there is no document to judge it by."""

    def item(self, match: Match, body: bytes, resource: Resource | None) -> PricedItem | None:
        """Return None: there is no price list, the ceiling is the check."""
        return None

    def surrogate_in(self, match: Match, target: str) -> str | None:
        """Return None: this vendor's credentials are not known."""
        return None

    def outgoing_target(self, target: str, surrogate: str | None, real: Secret[str] | None) -> str:
        """Return the target as it is."""
        return target

    def scrub(self, target: str) -> str:
        """Return the target with whatever is called like a credential as ***."""
        return self._scrub(target)

    def read(self, match: Match, answer: UpstreamResponse, surrogate: Callable[[str], str]) -> Reading:
        """Judge an answer by status and framing; the body is the vendor's own. Never raises."""
        verdict = judge_stranger(answer)
        return Reading(verdict.delivery, verdict.fault, answer.body)


def _routes(everything: Route, rules: tuple[PathRule, ...]) -> tuple[Route, ...]:
    ruled: dict[tuple[str, ...], tuple[Route, Route]] = {}
    for rule in rules:
        segments = _segments(rule.prefix)
        if segments in ruled:
            raise ValueError(f"{rule.prefix}: a second rule for this prefix")
        route = _refined(everything, rule, segments)
        ruled[segments] = route, replace(route, segments=(*segments, _REST))
    longest_first = sorted(ruled, key=len, reverse=True)
    return (*(route for segments in longest_first for route in ruled[segments]), everything)


def _refined(route: Route, rule: PathRule, segments: tuple[str, ...]) -> Route:
    refined = replace(route, name=rule.prefix, segments=segments)
    if rule.ceiling_base is not None:
        refined = replace(refined, ceiling_base=check_ceiling(rule.ceiling_base, rule.prefix))
    if rule.window is not None:
        refined = replace(refined, window=check_window(rule.window, rule.prefix))
    return refined if rule.represent is None else replace(refined, represent=rule.represent)


def _segments(prefix: str) -> tuple[str, ...]:
    segments = tuple(prefix[1:].split("/"))
    plain = all(segment and segment not in {".", ".."} and not set(segment) & set("{}*%?#\\") for segment in segments)
    if not prefix.startswith("/") or not plain or not prefix.isprintable():
        raise ValueError(f'{prefix!r}: write the prefix decoded, as "/v1/images", without a slash at its end')
    return segments

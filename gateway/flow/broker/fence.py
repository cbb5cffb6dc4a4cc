"""What keeps agents apart on a shared account: whose a named thing is, and which of the shown things are theirs (P9).

Must not know vendors or how they are asked.  Theory: a request may name only what its account owns, wherever the name
stands, and an answer shows only that; both are walks over the places that the route declares, so what must be kept apart
is data that a reviewer can read in one table.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol
from urllib.parse import parse_qsl, quote, unquote

from gateway.core.problems import Problem
from gateway.core.records import Resource
from gateway.core.routes import Listing, Match, Place, Ref
from gateway.core.strict_json import JsonError, parse_json
from gateway.ports import Store

MAX_REFS = 100
NO_TOKENS: Mapping[str, str] = MappingProxyType({})
UNCUT_CHARS = 40  # with a mark behind it, a name so long still stands whole at every vendor


class Fenced(Protocol):
    """What the fence needs of a vendor whose things all belong to one customer, however that is paid."""

    @property
    def name(self) -> str:
        """The vendor's name."""
        ...

    def canonical(self, kind: str, name: str, owned: Collection[str]) -> str | None:
        """Return which of the agent's own things a short form of an id means, None for none or several."""
        ...


class Foreign(Exception):  # noqa: N818 - a decision: for this agent the thing does not exist
    """A request names a thing that is not its account's."""

    def __init__(self, ref: Ref, value: str) -> None:
        super().__init__(f"{ref.kind} {value}")
        self.ref = ref


@dataclass(frozen=True, slots=True)
class Named:
    """What a request names: its account's things by the place that named them."""

    by_ref: Mapping[tuple[Ref, str], Resource]

    def only(self, kind: str) -> Resource | None:
        """Return the one thing of a kind that is named, None where there is none or there are several."""
        found = {r.ref: r for (ref, _), r in self.by_ref.items() if ref.kind == kind}
        return next(iter(found.values())) if len(found) == 1 else None


async def named_things(store: Store, vendor: Fenced, account_id: str, match: Match, target: str, body: bytes) -> Named:
    """Return the things that a request names. Raises Foreign for one of another account, Problem for bad input."""
    found: dict[tuple[Ref, str], Resource] = {}
    for ref in match.route.refs:
        for value in _values(ref, match, target, body):
            found[ref, value] = await _owned_thing(store, vendor, account_id, ref, value)
    return Named(found)


async def _owned_thing(store: Store, vendor: Fenced, account_id: str, ref: Ref, value: str) -> Resource:
    resource = await store.resource(vendor.name, value)
    if resource is None:  # a short form of an id means one of the account's own things, or nothing
        mine = {r.ref: r for r in await store.things(account_id, vendor.name) if r.kind == ref.kind}
        meant = vendor.canonical(ref.kind, value, mine.keys())
        resource = None if meant is None else mine.get(meant)
    if resource is None or resource.account_id != account_id or resource.kind != ref.kind:
        raise Foreign(ref, value)
    return resource


def outgoing_target(target: str, named: Named) -> str:
    """Return the target with short forms of ids in its path replaced by what they stand for."""
    path, mark, query = target.partition("?")
    segments = path.split("/")
    for (ref, value), resource in named.by_ref.items():
        if resource.ref == value:
            continue
        if ref.place is not Place.PATH:
            raise Foreign(ref, value)
        segments = [quote(resource.ref, safe="") if unquote(each) == value else each for each in segments]
    return "/".join(segments) + mark + query


def _values(ref: Ref, match: Match, target: str, body: bytes) -> tuple[str, ...]:
    if ref.place is Place.PATH:
        return (match.parameters[ref.name],)
    if ref.place is Place.QUERY:
        given = [
            value for name, value in parse_qsl(target.partition("?")[2], keep_blank_values=True) if name == ref.name
        ]
        if len(given) > 1:
            raise Problem("input_refused", f"the query names {ref.name} more than once", ref.name)
        return _present(ref, given[0] if given else None)
    return _body_values(ref, body)


def _body_values(ref: Ref, body: bytes) -> tuple[str, ...]:
    try:
        document = parse_json(body) if body else {}
    except JsonError as error:
        raise Problem("input_refused", f"the body is {error}", "body") from None
    value = document.get(ref.name) if isinstance(document, dict) else None
    if isinstance(value, list):
        if len(value) > MAX_REFS or not all(isinstance(each, str) for each in value):
            raise Problem("input_refused", f"{ref.name} must be a list of at most {MAX_REFS} ids", ref.name)
        return tuple(value)
    if value is not None and not isinstance(value, str):
        raise Problem("input_refused", f"{ref.name} must be an id", ref.name)
    return _present(ref, value)


def _present(ref: Ref, value: str | None) -> tuple[str, ...]:
    if value:
        return (value,)
    if ref.optional:
        return ()
    raise Problem("input_refused", f"{ref.name} must name a {ref.kind}", ref.name)


def fit(
    document: Any,  # noqa: ANN401 - JSON's own type
    listings: Iterable[Listing],
    own: Mapping[str, Resource],
    name_member: str,
    tokens: Mapping[str, str] = NO_TOKENS,
) -> Any:  # noqa: ANN401
    """Return a document with foreign things left out and own ones under the names that their agent gave.

    `own` holds the account's things by ref, `tokens` our marks in names by meter. A single thing that is not the
    account's makes the answer empty of it: its member becomes None. Of a document that lists things nothing is left but
    the lists: what stands beside them (totals, cursors) counts everybody's. The document is changed in place where it
    can be.
    """
    kept: dict[str, Any] = {}
    for listing in listings:
        if not listing.member:
            document = _fit_member(document, listing, own, name_member, tokens)
        elif isinstance(document, dict) and listing.member in document:
            found = document[listing.member]
            document[listing.member] = _fit_member(found, listing, own, name_member, tokens)
            if isinstance(found, list):
                kept[listing.member] = document[listing.member]
    return kept or document


def _fit_member(
    value: Any,  # noqa: ANN401
    listing: Listing,
    own: Mapping[str, Resource],
    name_member: str,
    tokens: Mapping[str, str],
) -> Any:  # noqa: ANN401
    if isinstance(value, list):
        return [_renamed(each, listing, own, name_member, tokens) for each in value if _owned(each, listing, own)]
    return _renamed(value, listing, own, name_member, tokens) if _owned(value, listing, own) else None


def _owned(value: Any, listing: Listing, own: Mapping[str, Resource]) -> bool:  # noqa: ANN401
    ref = value.get(listing.id) if isinstance(value, dict) else None
    return isinstance(ref, str) and ref in own and own[ref].kind == listing.kind


def _renamed(
    value: Any,  # noqa: ANN401
    listing: Listing,
    own: Mapping[str, Resource],
    name_member: str,
    tokens: Mapping[str, str],
) -> Any:  # noqa: ANN401
    resource = own[value[listing.id]]
    shown = value.get(name_member)
    if isinstance(shown, str) and resource.label:
        value[name_member] = own_name(shown, resource.label, tokens.get(resource.meter_id or "", ""))
    return value


def own_name(shown: str, label: str, token: str) -> str:
    """Return a thing's name as its agent knows it: the vendor's less our mark, in full where the mark had it cut.

    The vendor's word goes first, for the agent may have renamed the thing since it was made as `label`.
    """
    if not token or token not in shown:
        return label
    name = shown.replace(f"-{token}", "").replace(token, "")
    head, dot, rest = name.partition(".")
    whole = label.startswith(name) or (label.startswith(head) and label.endswith(dot + rest))
    return label if not name or (whole and len(label) > UNCUT_CHARS) else name

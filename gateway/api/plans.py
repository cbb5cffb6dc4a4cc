"""`/v1/plans`: every vendor's plans in one list, narrowed by what is needed and sorted.

Must not know where plans come from.  Theory: reading costs an agent nothing and never waits for a vendor that was read
before; what is old is said to be, and whoever orders is told the price of the moment.
"""

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any
from urllib.parse import quote, unquote

from gateway.api.asked import page_of, query_of
from gateway.api.catalogue_views import PLAN, STALE, stale_view
from gateway.api.deps import ApiDeps
from gateway.api.endpoint import PAGE, Endpoint, Told
from gateway.api.exchange import Exchange
from gateway.api.needs import NEED_MEMBERS, bad, parse_need
from gateway.api.schemas import FLAG, TEXT, Schema, choice, page, record, several
from gateway.core.apikeys import READ
from gateway.core.plan import Need, Plan
from gateway.core.plan_text import plan_document
from gateway.core.problems import Problem
from gateway.core.ranking import misfit
from gateway.flow.servers.neutral import Neutral
from gateway.server_ports import Feature

FILTERS = ("min_vcpu", "min_memory_mib", "min_disk_gib", "region", "image", "max_hourly")
QUERY = PAGE | {*FILTERS, "vendor", "feature", "sandbox", "sort"}
_COUNTS = frozenset({"min_vcpu", "min_memory_mib", "min_disk_gib"})
_NUMBER = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
_SORTS: Mapping[str, Callable[[Plan], Fraction | int | None]] = {
    "hourly": lambda plan: plan.rate,
    "vcpu": lambda plan: plan.vcpu,
    "memory": lambda plan: plan.memory_mib,
    "disk": lambda plan: plan.disk_gib,
}

QUERY_SCHEMAS: Mapping[str, Schema] = {
    **{name: NEED_MEMBERS[name] for name in FILTERS},
    "vendor": {**TEXT, "description": "one of GET /v1/vendors"},
    "feature": {**choice(*Feature), "description": "what its vendor must be able to do"},
    "sandbox": {**FLAG, "description": "show plans made for trying as well"},
    "sort": choice(*(f"{sign}{name}" for name in _SORTS for sign in ("", "-"))),
}


async def plans(deps: ApiDeps, exchange: Exchange) -> Told:
    """Answer with the plans that fit, the cheapest by the hour first where nothing else is asked. Raises Problem.

    A plan that is not to be had now is shown, and says so.
    """
    query = query_of(exchange.query, QUERY)
    asked, catalogue = page_of(query, deps.settings), neutral_of(deps).catalogue
    need, feature = _need(query, catalogue.servers), query.get("feature")
    able = {name for name, v in catalogue.servers.items() if feature is None or v.features.can(Feature(feature))}
    fits = [plan for plan in await catalogue.plans() if plan.vendor in able and misfit(need, plan) is None]
    fits = _sorted(fits, query.get("sort", "hourly"))
    if asked.after is not None:
        fits = fits[_place(fits, unquote(asked.after)) + 1 :]
    entries = [plan_document(plan) for plan in fits[: asked.limit]]
    more = quote(entries[-1]["id"], safe="/") if len(fits) > asked.limit else None
    stale = [stale_view(each) for each in catalogue.stale()]
    return Told({"entries": entries, "next": more, "stale": stale})


def neutral_of(deps: ApiDeps) -> Neutral:
    """Return the use cases of the neutral API. Raises Problem where this gateway has none."""
    if deps.neutral is None:
        raise Problem("not_found", "this gateway serves vendors' own APIs only; see GET /v1/vendors")
    return deps.neutral


def _need(query: Mapping[str, str], vendors: Mapping[str, object]) -> Need:
    said: dict[str, Any] = {}
    for name in FILTERS:
        if name in query:
            number = name in _COUNTS and _NUMBER.fullmatch(query[name])
            said[name] = int(query[name]) if number else query[name]
    if "vendor" in query:
        if query["vendor"] not in vendors:
            raise bad("vendor is one of GET /v1/vendors that has features", "vendor")
        said["vendors"] = [query["vendor"]]
    if "feature" in query and query["feature"] not in set(Feature):
        raise bad(f"feature is one of {', '.join(Feature)}", "feature")
    if query.get("sandbox", "false") not in {"true", "false"}:
        raise bad("sandbox is true or false", "sandbox")
    return parse_need({**said, "sandbox": query.get("sandbox") == "true"}, "")


def _sorted(found: list[Plan], sort: str) -> list[Plan]:
    """Sort by a figure, downwards after "-"; ties by id, and what a vendor does not state comes last."""
    figure = _SORTS.get(sort.removeprefix("-"))
    if figure is None:
        names = ", ".join(f"{name}, -{name}" for name in _SORTS)
        raise bad(f"sort is one of {names}", "sort")
    sign = -1 if sort.startswith("-") else 1

    def place(plan: Plan) -> tuple[bool, Fraction | int, str]:
        value = figure(plan)
        return value is None, 0 if value is None else sign * value, plan.key

    return sorted(found, key=place)


def _place(found: list[Plan], key: str) -> int:
    place = next((n for n, plan in enumerate(found) if plan.key == key), None)
    if place is None:
        raise bad("after is the `next` of an earlier page of this list, which has changed; begin again", "after")
    return place


_PAGE = page(PLAN)
ENDPOINTS = (
    Endpoint(
        "GET",
        "/v1/plans",
        "What servers can be had, at which vendor and price",
        plans,
        record(**_PAGE["properties"], stale=several(STALE)),
        scope=READ,
        query=QUERY,
        query_schemas=QUERY_SCHEMAS,
        problems=("bad_request",),
    ),
)

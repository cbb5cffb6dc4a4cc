"""docs/servers.md against the code: what each vendor can do, the states, the words of renewals, the routes that it names."""

import re
from pathlib import Path

import pytest

from gateway.api import incoming, refunds, topups
from gateway.api.endpoint import Table
from gateway.core.events import RECORDS, TOLD
from gateway.core.renewal import Why
from gateway.core.server import FINAL, ServerState
from gateway.core.webhook import ATTEMPTS_MAX, PAUSES_S, WHSEC
from gateway.server_ports import Feature
from tests.unit.gateway.api.bed import Bed
from tests.unit.gateway.api.test_api_guide import SERVERS

PAGE = (Path(__file__).parents[4] / "docs" / "servers.md").read_text(encoding="utf-8")


def _rows(header: str) -> list[list[str]]:
    lines = PAGE[PAGE.index(header) :].splitlines()[2:]
    table = lines[: next(n for n, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_the_capabilities_are_the_vendors_own() -> None:
    """Each vendor's column is its features, and none is missing."""
    header = "| capability | " + " | ".join(sorted(SERVERS)) + " |"
    told = {row[0].strip("`*"): row[1:] for row in _rows(header)}
    vendors = [vendor for _, vendor in sorted(SERVERS.items())]
    made = {feature.value: [vendor.features.does[feature] for vendor in vendors] for feature in Feature}
    assert told == made | {"billing": [f"`{vendor.features.billing.value}`" for vendor in vendors]}


def test_every_state_is_explained() -> None:
    """Once; those that end stand together."""
    rows = [set(re.findall(r"`([a-z_]+)`", row[0])) for row in _rows("| state | |")]
    assert set().union(*rows) == set(ServerState)
    assert sum(map(len, rows)) == len(ServerState)
    assert FINAL in rows


@pytest.mark.parametrize("why", list(Why))
def test_every_reason_of_an_end_is_named(why: Why) -> None:
    """The word that a warning says is on the page."""
    assert f"`{why}`" in PAGE


def test_the_events_that_it_names_are_told() -> None:
    """Families and types of balances and payments are those of the code."""
    families = {kind.partition(".")[0] for kind, _ in TOLD.values()} | set(RECORDS)
    assert all(f"`{family}.*`" in PAGE for family in families)
    payments = {kind.partition(".")[2] for kind, _ in TOLD.values() if kind.startswith(("payment.", "balance."))}
    assert all(f"`{word}`" in PAGE for word in payments)


def test_what_it_says_of_webhooks_is_so() -> None:
    """How often an event is tried, for how long, and what a secret begins with."""
    assert ATTEMPTS_MAX == 10
    assert "tried ten times over about three days" in PAGE
    assert 3 * 86_400 <= sum(PAUSES_S) <= 4 * 86_400
    assert f"`{WHSEC}`" in PAGE


async def test_every_route_that_it_names_is_served(bed: Bed) -> None:
    """With its method, also those that are served only where credit can be bought."""
    table = Table((*bed.server.api.table.endpoints, *topups.ENDPOINTS, *refunds.ENDPOINTS, *incoming.ENDPOINTS))
    named = re.findall(r"`(GET|POST|PUT|PATCH|DELETE)\s+(/v1/[^\s`?]*)", PAGE)
    assert len(named) > 10
    for method, path in named:
        found = table.find(path)
        assert found is not None, path
        assert method in found.by_method, path

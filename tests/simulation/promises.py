"""The promises of design 3, checked after a run against the facts. Each says in words what is broken.

Theory: nothing here trusts a flow, a machine or a balance of the gateway; its rows are compared with what the chain, the
vendors, the agents and the operator know by themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.facts import Facts
from tests.simulation.promises_ends import (
    answers_stand,
    p4_one_collection,
    p5_p6_evidence,
    p12_answers_found,
    p12_quarantine,
    quiet,
)
from tests.simulation.promises_money import (
    balances_explained,
    p1_conserved,
    p2_no_overdraft,
    p7_exposure,
    p13_one_fact_one_row,
    wallet_agrees,
)
from tests.simulation.promises_rights import p8_approved, p9_tenancy, p10_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.simulation.world import World

__all__ = ["PROMISES", "broken_promises"]


PROMISES: tuple[Callable[[World, Facts], Iterator[str]], ...] = (
    p1_conserved,
    p2_no_overdraft,
    p4_one_collection,
    p5_p6_evidence,
    p7_exposure,
    p8_approved,
    p9_tenancy,
    p12_answers_found,
    p12_quarantine,
    p13_one_fact_one_row,
    wallet_agrees,
    balances_explained,
    answers_stand,
    quiet,
)


def broken_promises(world: World, logs: list[str]) -> list[str]:
    """Return every broken promise of a finished run, the ones that it noticed itself first."""
    facts = Facts(world)
    found = [*world.violations, *world.disappointments()]
    for promise in PROMISES:
        found += [f"{promise.__name__}: {broken}" for broken in promise(world, facts)]
    found += [f"p10_secrets: {broken}" for broken in p10_secrets(world, facts, logs)]
    return found

"""Fleets that an older version stored: what their agents asked for holds, and one that nobody can read costs nothing."""

import json
from pathlib import Path

import pytest

from gateway.core.server import Fleet, FleetState
from gateway.flow.servers.fleets import SPEC
from tests.unit.gateway.flow.servers.catalogue_bed import Home, started

ARM64 = '{"need":{"min_vcpu":1,"arch":"arm64"},"ssh_keys":[],"user_data":"","minutes":null,"snapshot":""}'
"""As the version before `arch` was taken from the API wrote it."""
UNREADABLE = '{"need":{"colour":"red"},"ssh_keys":[],"user_data":"","minutes":null,"snapshot":""}'
DAY_S = 86_400


async def kept(home: Home, spec: str) -> str:
    """Keep a fleet of one server for a day with this spec; return its id."""
    keeping, fleet_id = home.gateway.neutral.keeping, "flt_01K0000000000000000000000A"
    fleet = Fleet(
        id=fleet_id,
        account_id=home.who.account_id,
        key_id=home.who.key.id,
        name="old",
        client_token="old",
        fingerprint=b"f" * 32,
        sealed_spec=keeping.seal(SPEC, fleet_id, json.loads(spec)),
        count=1,
        until_ms=home.clock.ms + DAY_S * 1000,
        budget_base=50_000_000,
        created_at_ms=home.clock.ms,
    )
    return await keeping.place(fleet, "created")


async def test_an_architecture_that_was_asked_for_is_still_refused_by_every_plan(tmp_path: Path) -> None:
    """Nobody states one, so nothing fits, as before: dropped, it would buy what the agent did not ask for."""
    async with started(tmp_path) as home:
        fleets, fleet_id = home.gateway.neutral.fleets, await kept(home, ARM64)
        for _ in range(3):
            await fleets.sweep()
            await fleets.drain(5.0)
            home.pass_s(3_600)
        sight = await fleets.see(await fleets.fleet("acc_1", fleet_id))
        assert (sight.fleet.state, sight.servers) == (FleetState.EXHAUSTED, ())
        assert (sight.spec.need.arch, sight.spec.need.min_vcpu) == ("arm64", 1)


async def test_a_fleet_that_cannot_be_read_commits_nothing(tmp_path: Path) -> None:
    """It is told at each sweep and numbers no order, or every sweep would write to the journal for ever."""
    async with started(tmp_path) as home:
        fleets, fleet_id = home.gateway.neutral.fleets, await kept(home, UNREADABLE)
        for _ in range(3):
            with pytest.raises(TypeError, match="colour"):
                await fleets.sweep()
        fleet = await fleets.fleet("acc_1", fleet_id)
        assert (fleet.made, fleet.version) == (0, 1)

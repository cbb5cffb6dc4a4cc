"""What the agent does with the vendor-neutral API: a server from a need, at whichever vendor wins, kept alive and ended.

Must not know how anything was started. It speaks through the typed client, as an agent's own program would.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway_client import GatewayClient, Server
from sandbox.demo.checks import DemoFailure, expect
from sandbox.demo.stage import PATIENCE_S, Stage
from sandbox.demo.units import units, usd

NEED = {"min_vcpu": 1, "min_memory_mib": 512, "for_s": 3600, "features": ["destroy"]}
MINUTES = 30
PAUSE_S = 0.25
ENDED = frozenset({"destroyed", "lapsed", "failed", "lost"})


def servers(stage: Stage) -> None:
    """Quote, rent, follow, renew and end by need; then a vendor is lost and a fleet goes on elsewhere."""
    asyncio.run(_play(stage))


async def _play(stage: Stage) -> None:
    async with GatewayClient(stage.world.gateway.base_url, stage.world.key) as agent:
        await _whole_life(stage, agent)
        await _renewed(stage, agent)
        await _fleet(stage, agent)


async def _whole_life(stage: Stage, agent: GatewayClient) -> None:
    screen = stage.screen
    plans = (await agent.plans(sort="hourly", sandbox=True))["entries"]
    vendors = sorted({plan["vendor"] for plan in plans})
    cheapest = ", ".join(f"{plan['id']} {plan['price']['hourly']}" for plan in plans[:3])
    screen.step(f"GET /v1/plans -> {len(plans)} plans of {', '.join(vendors)}; cheapest an hour: {cheapest}")
    quote = await agent.quote(need=NEED)  # type: ignore[arg-type]
    screen.step(
        f"POST /v1/quotes -> {quote['plan']['id']}, first charge {quote['first_charge']}, {quote['refundable']}"
    )
    for lost in quote["candidates_lost"][:3]:
        screen.step(f"         {lost['plan']} lost: {lost['reason']}")
    ends = _time(hours=2)
    server = await agent.create_server(name="box-1", quote=quote["id"], keep_until=ends, max_total="5")
    screen.step(
        f"POST /v1/servers -> {server['id']}, {server['state']}, kept until {ends}, for at most {server['max_total']}"
    )
    server = await _follow(stage, agent, server, "running")
    first_base = units(server["held"]) + units(server["spent"])
    if first_base > units(quote["first_charge"]):
        raise DemoFailure("the first charge", f"at most the quote's {quote['first_charge']}", usd(first_base))
    screen.good(f"running at {server['address'] or server['vendor']}, within the quote")
    await _used(stage, agent, server)
    await agent.destroy_server(server["id"])
    server = await _ended(stage, agent, server)
    screen.good(f"{server['state']}; it cost {server['spent']}, nothing is held for it: {server['held']}")


async def _used(stage: Stage, agent: GatewayClient, server: Server) -> None:
    """Do what this vendor can."""
    (vendor,) = [each for each in await agent.vendors() if each["name"] == server["vendor"]]
    if vendor["features"]["exec"] == "yes":
        job = await agent.run(server["id"], "uname -a")
        expect("the command's exit code", 0, job["exit_code"])
        stage.screen.step(f"POST …/exec uname -a -> {job['stdout'].strip()[:60]}")
    elif vendor["features"]["credentials"] == "yes":
        ways = await agent.credentials(server["id"])
        stage.screen.step(f"GET …/credentials -> {', '.join(sorted(ways))}")


async def _renewed(stage: Stage, agent: GatewayClient) -> None:
    """Time that is bought in advance, bought again."""
    screen = stage.screen
    need = {"min_memory_mib": 512, "features": ["renew", "destroy"]}
    server = await agent.create_server(name="box-2", need=need, minutes=MINUTES, wait="running", timeout_s=60)  # type: ignore[arg-type]
    expect("the state", "running", server["state"])
    before = server["expires_at"]
    screen.step(f"a need with `renew` -> {server['plan']}, paid until {before}, {server['spent']} spent")
    await agent.renew(server["id"], units=MINUTES)
    last: dict[str, Any] = {}

    async def moved() -> bool:
        last.update(await agent.server(server["id"]))
        return bool(last["expires_at"] != before)

    await _until("its paid time moves", moved, lambda: last.get("expires_at"))
    screen.good(f"renewed by {MINUTES} minutes: paid until {last['expires_at']}, {last['spent']} spent")
    await agent.destroy_server(server["id"])
    await _ended(stage, agent, server)


async def _fleet(stage: Stage, agent: GatewayClient) -> None:
    """One of something, whatever becomes of the vendor that has it."""
    screen = stage.screen
    fleet = await agent.create_fleet(name="one", count=1, need=NEED, until=_time(hours=1), budget="5")  # type: ignore[arg-type]
    screen.step(f"POST /v1/fleets -> {fleet['id']}: one server until {fleet['until']} for at most {fleet['budget']}")
    first = await _member(stage, agent, fleet["id"], frozenset())
    screen.step(f"its server runs at {first['vendor']}")
    lost = stage.world.vendor(first["vendor"]).staff
    lost.must("POST", "/admin/faults", {"kind": "status", "route": "create", "status": 503, "times": None})
    lost.must("POST", "/admin/faults", {"kind": "state", "of": first["ref"], "value": _broken(first), "times": None})
    screen.step(f"{first['vendor']} loses it, and makes no more")
    second = await _member(stage, agent, fleet["id"], frozenset({first["id"]}))
    if second["vendor"] == first["vendor"]:
        raise DemoFailure("the second server's vendor", f"another than {first['vendor']}", second["vendor"])
    screen.good(f"the fleet goes on at {second['vendor']}: {second['id']}")
    lost.must("DELETE", "/admin/faults")
    await agent.end_fleet(fleet["id"])
    for server in (first, second):
        await _ended(stage, agent, server)
    state = (await agent.fleet(fleet["id"]))["state"]
    screen.step(f"the fleet is {state}")


async def _member(stage: Stage, agent: GatewayClient, fleet_id: str, before: frozenset[str]) -> Server:
    found: list[Server] = []

    async def running() -> bool:
        members = (await agent.servers(fleet=fleet_id, open=True))["entries"]
        found[:] = [each for each in members if each["id"] not in before and each["state"] == "running"]
        stage.screen.progress(", ".join(f"{each['vendor']} {each['state']}" for each in members))
        return bool(found)

    await _until("a server of the fleet runs", running, lambda: found)
    return found[0]


async def _follow(stage: Stage, agent: GatewayClient, server: Server, wanted: str) -> Server:
    """Follow the server's own events until it is in a state."""
    last = "no event"
    try:
        async with asyncio.timeout(PATIENCE_S):
            async for event in agent.follow(f"/v1/servers/{server['id']}"):
                last = event["type"]
                stage.screen.step(f"event    {last}")
                if last == f"server.{wanted}":
                    break
    except TimeoutError:
        raise DemoFailure(f"event server.{wanted}", f"within {PATIENCE_S} s", last) from None
    return await agent.server(server["id"], wait=wanted, timeout_s=PATIENCE_S)


async def _ended(stage: Stage, agent: GatewayClient, server: Server) -> Server:
    last = server

    async def ended() -> bool:
        nonlocal last
        last = await agent.server(server["id"], wait="destroyed", timeout_s=5)
        stage.screen.progress(f"{last['id']} is {last['state']}, {last['held']} held")
        return last["state"] in ENDED and units(last["held"]) == 0

    await _until(f"{server['id']} has ended", ended, lambda: (last["state"], last["held"]))
    return last


async def _until(what: str, done: Callable[[], Awaitable[bool]], found: Callable[[], object]) -> None:
    """`wait_for`, for what must be awaited."""
    for _ in range(round(2 * PATIENCE_S / PAUSE_S)):
        if await done():
            return
        await asyncio.sleep(PAUSE_S)
    raise DemoFailure(what, "soon", found())


def _broken(server: Server) -> str:
    return {"cryptovps": "ERROR", "litevps": "error"}.get(server["vendor"], "error")


def _time(**ahead: float) -> str:
    return (datetime.now(UTC) + timedelta(**ahead)).strftime("%Y-%m-%dT%H:%M:%SZ")

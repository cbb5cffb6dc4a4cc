"""One hour of a mixed fleet: what two agents order at five vendors, what happens to it minute by minute, and what is left.

It only plays and writes down; `test_servers_hour` judges. Roles name servers: each stands for one way in which a server is
kept, or ends.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hour_world import Owner, World, every, until

from gateway_client import GatewayProblem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hour_vendors import Bill

    from gateway_client import Need

HOUR = 62  # minutes that are gone through one by one: a little more than an hour, for what ends with it
KILLED_AT, DEAD_MINUTES = 34, 2
LATER, END = 5, 122  # then, in steps of so many minutes, until the last term is over
POOR_CREDIT, RICH_CREDIT = "0.055", "20"
FLEET_SIZE = 2
PLANS_AT_LEAST = 5


@dataclass(slots=True)
class Books:
    """What an account's own routes say at the end."""

    balance: Any
    statement: list[Any]
    payments: list[Any]
    servers: list[Any]
    events: list[Any]


@dataclass(slots=True)
class Hour:
    """All that is left of it. `servers` is by role, as they are at the end; `lost` and `replacement` are fleet members."""

    rich: Owner
    poor: Owner
    ids: dict[str, str] = field(default_factory=dict)
    servers: dict[str, Any] = field(default_factory=dict)
    fleet: Any = None
    lost: str = ""
    books: dict[str, Books] = field(default_factory=dict)
    bills: dict[tuple[str, str], Bill] = field(default_factory=dict)
    renewals: list[Any] = field(default_factory=list)  # of the prepaid server
    killed_at_s: float = 0.0
    let_go_at_ms: int = 0
    tasks: list[Any] = field(default_factory=list)


class Story:
    """Plays the hour in one world."""

    def __init__(self, world: World, rich: Owner, poor: Owner) -> None:
        self._world, self._hour, self._began_ms = world, Hour(rich, poor), 0

    async def play(self) -> Hour:
        """Order everything, let the hour pass with all that happens in it, and write down what is left."""
        await until("plans of every vendor", self._plans, within_s=120)
        self._began_ms = self._world.now_ms() // 1000 * 1000
        await self._order_all()
        acts = self._acts()
        minute = 0
        while minute < HOUR:
            minute += 1
            if minute == KILLED_AT:
                await self._kill()
                minute += DEAD_MINUTES
            else:
                await self._world.step_to(self._at_ms(minute))
            if minute in acts:
                await acts[minute]()
        for minute in range(HOUR + LATER, END + 1, LATER):
            await self._world.step_to(self._at_ms(minute))
        await self._close()
        return self._hour

    def _at_ms(self, minute: int) -> int:
        return self._began_ms + minute * 60_000

    def _at(self, minute: int) -> str:
        """Return a minute of the hour as the API takes times."""
        return datetime.fromtimestamp(self._at_ms(minute) / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _acts(self) -> dict[int, Callable[[], Awaitable[object]]]:
        """What the agents do, by minute. Everything else happens by itself."""
        return {
            12: self._lose_member,
            18: lambda: self._extend(48),
            38: lambda: self._extend(53),
            50: lambda: self._extend(61),
            61: self._let_go,
            62: self._look_for_template,
        }

    # the orders

    async def _plans(self) -> bool:
        plans = await self._world.client(self._hour.rich).plans(sandbox=True, limit=200)
        return len({plan["vendor"] for plan in plans["entries"]}) >= PLANS_AT_LEAST

    async def _order_all(self) -> None:
        rich, poor, at = self._hour.rich, self._hour.poor, self._at
        box: Need = {"vendors": ["vpsagent"], "sandbox": True, "for_s": 3600}
        await asyncio.gather(
            self._order(rich, "extended", _from("dropmpp", 4096), minutes=15, keep_until=at(25)),
            self._order(rich, "by_minute", _from("litevps", 512)),
            self._order(rich, "by_hour", _from("cryptovps", 512)),
            self._order(rich, "by_hour_until", _from("vrtx", 512), keep_until=at(35)),
            self._order(rich, "by_minute_until", _from("litevps", 1024), keep_until=at(25)),
            self._order(rich, "term", box),
            self._order(rich, "term_renewed", box, keep_until=at(90)),
            self._order(rich, "capped", _from("litevps", 8192), max_total="0.03"),
            self._order(rich, "template", _from("litevps", 512), image="agent-sandbox"),
            self._order(poor, "poor_by_minute", _from("litevps", 4096)),
            self._order(poor, "poor_by_hour", _from("cryptovps", 512)),
            self._order(poor, "poor_prepaid", _from("dropmpp", 512), minutes=50, auto_renew=True),
        )
        self._hour.fleet = await self._world.client(rich).create_fleet(
            name="pair",
            count=FLEET_SIZE,
            need={"vendors": ["litevps", "vrtx"], "min_memory_mib": 512},
            until=at(45),
            budget="1",
        )
        await until("the fleet runs", self._fleet_runs)

    async def _order(self, owner: Owner, role: str, need: Need, **spec: Any) -> None:
        name = role.replace("_", "-")
        client = self._world.client(owner)
        server = await client.create_server(name=name, need=need, wait="running", timeout_s=90, **spec)
        assert server["state"] == "running", (role, server)
        self._hour.ids[role] = server["id"]

    async def _members(self) -> list[Any]:
        client = self._world.client(self._hour.rich)
        return await every(client.servers, fleet=self._hour.fleet["id"], open=True)

    async def _fleet_runs(self) -> bool:
        members = [each for each in await self._members() if each["id"] != self._hour.lost]
        return [each["state"] for each in members] == ["running"] * FLEET_SIZE

    # what happens

    async def _lose_member(self) -> None:
        """A member breaks at its vendor; its agent, which uses it, is the first to see that."""
        vendors, client = self._world.vendors, self._world.client(self._hour.rich)
        member = next(each for each in await self._members() if each["vendor"] == "litevps")
        self._hour.lost = member["id"]
        fault = {"kind": "state", "of": member["ref"], "value": "error", "times": None}
        await asyncio.to_thread(vendors.admin, "litevps", "POST", "/admin/faults", fault)
        await client.call("GET", member["links"]["proxy"])
        await until("the fleet is whole again", self._fleet_runs)
        await asyncio.to_thread(vendors.admin, "litevps", "DELETE", "/admin/faults")

    async def _extend(self, until_minute: int) -> None:
        """The agent wants its prepaid server for longer than it had said."""
        client, server_id = self._world.client(self._hour.rich), self._hour.ids["extended"]
        await client.change_server(server_id, keep_until=self._at(until_minute))

    async def _let_go(self) -> None:
        """What nobody had ended is ended by its agent."""
        client, self._hour.let_go_at_ms = self._world.client(self._hour.rich), self._world.now_ms()
        for role in ("by_minute", "by_hour"):
            await client.destroy_server(self._hour.ids[role])

    async def _look_for_template(self) -> None:
        """The agent looks for what has destroyed itself. Two lists without it end its charges: those take real seconds."""
        client = self._world.client(self._hour.rich)
        template = await client.server(self._hour.ids["template"])
        with pytest.raises(GatewayProblem):
            await client.call("GET", template["links"]["proxy"])

        async def charged_no_more() -> bool:
            things = (await client.balance())["running"]["things"]
            return all(thing["ref"] != template["ref"] for thing in things)

        await until("the end of the template's charges", charged_no_more)

    async def _kill(self) -> None:
        """The gateway dies in the middle of a minute, and time goes on without it."""
        await self._world.push_to(self._at_ms(KILLED_AT))
        self._hour.killed_at_s = await self._world.kill()
        await self._world.push_to(self._at_ms(KILLED_AT + DEAD_MINUTES))
        await self._world.restart()
        await self._world.swept()
        await self._world.swept()

    # what is left

    async def _close(self) -> None:
        hour, world = self._hour, self._world
        await until("the end of every hold", self._all_closed, within_s=120)
        for owner in (hour.rich, hour.poor):
            client = world.client(owner)
            hour.books[owner.account_id] = Books(
                balance=await client.balance(),
                statement=await every(client.statement),
                payments=await every(client.payments),
                servers=await every(client.servers),
                events=await every(client.events, owner.events_from),
            )
        by_id = {server["id"]: server for books in hour.books.values() for server in books.servers}
        hour.servers = {role: by_id[server_id] for role, server_id in hour.ids.items()}
        hour.fleet = await world.client(hour.rich).fleet(hour.fleet["id"])
        hour.renewals = (await world.client(hour.rich).renewals(hour.ids["extended"]))["entries"]
        await until("the delivery of every event", self._all_told, within_s=120)
        hour.bills = await asyncio.to_thread(world.vendors.bills)
        hour.tasks = (await asyncio.to_thread(world.gateway.operate, "tasks_list"))["tasks"]

    async def _all_closed(self) -> bool:
        for owner in (self._hour.rich, self._hour.poor):
            client = self._world.client(owner)
            servers = await every(client.servers, open=True)
            if servers or (await client.balance())["held"] != "0.000000":
                return False
        return True

    async def _all_told(self) -> bool:
        owners = (self._hour.rich, self._hour.poor)
        return all(
            {event["data"]["id"] for event in self._hour.books[owner.account_id].events} <= owner.endpoint.ids()
            for owner in owners
        )


def _from(vendor: str, memory_mib: int) -> Need:
    return {"vendors": [vendor], "min_memory_mib": memory_mib}

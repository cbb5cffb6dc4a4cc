"""The written story: one of each thing that an agent can live through, short enough to be killed at every single point.

A catalogue paid inline, a box that comes up, one that never does, one whose answer is dropped, a renewal, a purchase at a
plain seller that fails and settles all the same, a look at somebody else's box; each asked for until its answer is final.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from tests.simulation.agents import Order
from tests.simulation.plan import Plan
from tests.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.agents import Intent

__all__ = ["STORY", "Story"]

STORY = Plan(
    agents=2,
    downtime_s=2.0,
    operator=False,
    faults={
        ("box", "acc0.dead"): ["never"],
        ("reply", "acc0.cut"): ["dropped"],
        ("settle", "acc0.cut"): ["near_deadline"],
        ("payment", "acc1.fails"): ["fail_and_settle"],
    },
)


class Story(World):
    """The world in which the story happens."""

    async def story(self) -> None:
        """Play it."""
        first, second = self.agents
        patient: dict[str, Any] = {"attempts": 12, "pause_s": 2.0}
        await asyncio.sleep(3)  # the chain's first block must be final
        good, *_ = await asyncio.gather(
            first.want(first.rent("sandbox_1h", "acc0.good", **patient), "acc0.good"),
            first.want(first.rent("sandbox_6h", "acc0.dead", **patient), "acc0.dead"),
            first.want(first.rent("sandbox_1h", "acc0.cut", with_key=False, **patient), "acc0.cut"),
            second.want(Order("vpsagent", "GET", "/catalog?i=acc1.list", **patient), "acc1.list"),
            second.want(Order("seller", "GET", "/goods/small?i=acc1.goods", **patient), "acc1.goods"),
            second.want(Order("seller", "POST", "/goods/large?i=acc1.fails", attempts=2), "acc1.fails"),
        )
        await self._renew(good)

    async def _renew(self, good: Intent) -> None:
        first, second = self.agents
        boxes = [
            box for box in first.boxes() if good.final is not None and box["rental_id"].encode() in good.final.body
        ]
        if not boxes:
            return
        box = boxes[0]
        await self.until(lambda: self.vpsagent.rentals[box["rental_id"]].status != "pending_settlement")
        how: dict[str, Any] = {"attempts": 12, "pause_s": 2.0}
        await first.want(first.renew(box["rental_id"], box["root_token"], "acc0.more", **how), "acc0.more")
        foreign = Order("vpsagent", "GET", f"/instance/{box['rental_id']}?token={box['root_token']}", with_key=False)
        await second.want(foreign, "acc1.foreign")

    def disappointments(self) -> Iterator[str]:
        """What these people did not get, and should have, wherever the process was killed."""
        intents = {intent.name: intent for agent in self.agents for intent in agent.intents}
        for name in ("acc0.good", "acc0.dead", "acc0.cut", "acc0.more"):
            final = intents[name].final if name in intents else None
            if final is None or final.status != HTTPStatus.OK:
                yield f"{name} never got its answer"
        for row in self.rows(
            "SELECT charge, count(*) AS times FROM payments WHERE account_id = 'acc0' GROUP BY charge"
        ):
            if {"captured": 3, "voided": 1}.get(row["charge"]) != row["times"]:
                yield f"{row['times']} payments of acc0 ended {row['charge']}"
        foreign = intents.get("acc1.foreign")
        if foreign is None or any(heard.delivered for heard in foreign.heard):
            yield "acc1.foreign saw another account's box"

"""The order of those that wait, and the times that the limits give them."""

from gateway.core.rates import CALLS, Lane, Rate, Windows
from gateway.core.routes import Priority
from gateway.flow.lineup import Place, line_up, plan

FAR = 10**9


def place(number: int, agent: str, arrived_s: float, priority: Priority = Priority.CALL, deadline: int = FAR) -> Place:
    """A place in the queue."""
    return Place(number, CALLS, priority, agent, round(arrived_s * 1000), deadline)


def numbers(places: list[Place]) -> list[int]:
    """Who they are."""
    return [one.number for one in places]


def test_agents_in_turn_the_one_that_went_longest_ago_first() -> None:
    """First requests before second ones; among equals the agent that never went, then the one that went earlier."""
    waiting = [place(1, "a", 0), place(2, "a", 0), place(3, "b", 1), place(4, "c", 2), place(5, "b", 3)]
    assert numbers(line_up(waiting, {"a": 9, "b": 4})) == [4, 3, 1, 5, 2]


def test_age_counts_for_a_whole_priority() -> None:
    """An old poll lifts its priority above a new renewal, also where another agent's newer poll is before it in turn."""
    old, new = place(1, "went", 0, Priority.POLL), place(2, "never", 30, Priority.POLL)
    renewals = [place(3, "r", 19.9, Priority.RENEW), place(4, "r", 21, Priority.RENEW)]
    assert numbers(line_up([old, new, *renewals], {"went": 1})) == [3, 2, 1, 4]


def test_a_plan_gives_no_room_to_what_would_be_late() -> None:
    """One a second: the one whose deadline is before its turn is planned late, and the next takes that turn."""
    order = [place(1, "a", 0), place(2, "b", 0, deadline=500), place(3, "c", 0)]
    times = plan(order, Windows([Rate(1, 1)], 0), 0)
    assert [(at, one.number) for at, one in times] == [(0, 1), (1_000, 2), (1_000, 3)]


def test_a_plan_changes_nothing() -> None:
    """It is made on a copy: what may leave now still may."""
    windows = Windows([Rate(1, 1)], 0)
    plan([place(1, "a", 0)], windows, 0)
    assert windows.ready_ms(Lane(CALLS, urgent=False), 0) == 0

"""Lines of calls under one Idempotency-Key, one served at a time: a repeat that comes while the first is under way waits.

Must not know vendors, money or HTTP.  Theory: what a request has done is written down when it is done, so a repeat that
is faster than that would do it once more; and clients repeat just then, when an answer is slow.  Who waits holds a body
and a connection and is counted by nothing else, so lines are short.
"""

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field

from gateway.core.commands import key_used
from gateway.core.problems import Problem

WAITING_PER_KEY = 8  # behind the one that has the turn; a client that gives up before it repeats needs a place or two
WAITING_PER_ACCOUNT = 32  # over all its keys: bodies in memory are at most so many times `max_paid_body_bytes`


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """One call's place in a line. `turn` is done once everybody before it has left."""

    account_id: str
    key: str
    turn: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class _Line:
    """Who stands under one key, all for the same request; the first has the turn."""

    fingerprint: bytes
    places: deque[Place] = field(default_factory=deque)


class Turns:
    """One object for every call of an event loop."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str], _Line] = {}
        self._waiting: Counter[str] = Counter()

    def join(self, account_id: str, key: str, fingerprint: bytes) -> Place:
        """Return a place at the end of a key's line, to be given to `leave` once, whether its turn has come or not.

        Raises Problem: idempotency_conflict where those in line ask for something else, too_many_calls.
        """
        place = Place(account_id, key, asyncio.get_running_loop().create_future())
        line = self._lines.get((account_id, key))
        if line is None:
            self._lines[account_id, key] = line = _Line(fingerprint)
            place.turn.set_result(None)
        else:
            if line.fingerprint != fingerprint:
                raise key_used()
            self._require_room(account_id, line)
            self._waiting[account_id] += 1
        line.places.append(place)
        return place

    def leave(self, place: Place) -> None:
        """Give a place up; the next in line has its turn where this one had it."""
        line = self._lines[place.account_id, place.key]
        line.places.remove(place)
        if not line.places:
            del self._lines[place.account_id, place.key]
            return
        # Either this one waited, or the next has stopped to wait.
        self._waiting[place.account_id] -= 1
        if not self._waiting[place.account_id]:
            del self._waiting[place.account_id]
        first = line.places[0]
        if not first.turn.done():
            first.turn.set_result(None)

    def _require_room(self, account_id: str, line: _Line) -> None:
        if len(line.places) > WAITING_PER_KEY:
            raise Problem("too_many_calls", f"{WAITING_PER_KEY} calls wait under this Idempotency-Key already")
        if self._waiting[account_id] >= WAITING_PER_ACCOUNT:
            raise Problem("too_many_calls", f"{WAITING_PER_ACCOUNT} calls of this account wait for their turn already")

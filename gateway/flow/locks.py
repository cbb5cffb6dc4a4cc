"""Locks by name: what must happen one after another for one thing, and side by side for different ones.

Must not know what is locked.  Theory: a lock is forgotten with its last holder, so names may be as many as requests.
"""

import asyncio
from collections.abc import Hashable
from weakref import WeakValueDictionary

__all__ = ["Locks"]


class Locks:
    """One lock for each name, for as long as somebody holds or waits for it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    def of(self, *name: Hashable) -> asyncio.Lock:
        """Return the lock of a name. Keep what is returned for as long as the lock is needed."""
        return self._locks.setdefault(name, asyncio.Lock())

"""Ctrl-C, SIGTERM and SIGHUP: the first one ends the demo in order, later ones are ignored while it cleans up.

Must not know what is under way. Theory: an interrupt between starting a process and noting it down would leave it behind,
so such a stretch holds interrupts back; Python runs handlers in the main thread, whichever thread the signal hit.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Interrupts:
    def __init__(self) -> None:
        self.held, self.waiting, self.raised = 0, False, False

    def arrive(self, _number: int, _frame: FrameType | None) -> None:
        self.waiting = True
        self.deliver()

    def deliver(self) -> None:
        if self.waiting and not self.held and not self.raised:
            self.raised = True
            raise KeyboardInterrupt


_interrupts = _Interrupts()


def install() -> None:
    """Take the signals over; call it in the main thread."""
    for number in _SIGNALS:
        signal.signal(number, _interrupts.arrive)


@contextmanager
def held_back() -> Iterator[None]:
    """Let no interrupt come between the statements of a block; one that came is raised at its end."""
    _interrupts.held += 1
    try:
        yield
    finally:
        _interrupts.held -= 1
    _interrupts.deliver()

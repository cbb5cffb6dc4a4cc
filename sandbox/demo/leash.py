"""Runs a command that the kernel ends together with its parent: `python -m sandbox.demo.leash COMMAND...`.

A gateway that outlived the demo would go on signing for a chain that is gone. The command replaces this process, so its
process id is the one that was started, and `kill -9` of that id hits the command itself.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent where the kernel can (Linux), then become the command."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call above
            raise SystemExit(1)
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()

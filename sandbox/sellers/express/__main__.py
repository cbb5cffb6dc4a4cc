"""Runs the shop: `python -m sandbox.sellers.express --config FILE|JSON|-`, the same command line as the other sellers'.

It becomes Node, in this very process, so that whoever started it holds the server itself.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

_MAIN = Path(__file__).with_name("main.mjs")


def main() -> None:
    """Become Node; ends with a message when there is none."""
    node = os.environ.get("SANDBOX_NODE") or shutil.which("node")
    if node is None:
        raise SystemExit("node is missing: these sellers are npm's @x402/express and mppx")
    os.execv(node, [node, str(_MAIN), *sys.argv[1:]])


if __name__ == "__main__":
    main()

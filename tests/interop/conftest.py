"""Where this directory finds what it shares with another."""

import sys
from pathlib import Path

# The gateway as a process and its agents are those of the end-to-end suite.
sys.path.append(str(Path(__file__).parent.parent / "e2e"))

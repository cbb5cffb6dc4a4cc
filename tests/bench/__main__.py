"""`python -m tests.bench [--section T1] [--rounds N] [--quick]`: prints the tables and writes .build/bench.json."""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable

from tests.bench import committing, facilitating, gas, ledger, memory, paying, proxying, signing
from tests.bench.figures import Section
from tests.bench.processes import LOAD_CORE, ROOT, TEST_CORE

SECTIONS: dict[str, Callable[[int, float], Section]] = {
    "T1": proxying.measure,
    "T2": paying.measure,
    "T3": signing.measure,
    "T4": facilitating.measure_verify,
    "T5": facilitating.measure_settle,
    "T6": gas.measure,
    "T7": ledger.measure,
    "T10": committing.measure,
    "RSS": memory.measure,
}
QUICK = 0.25


def main() -> None:
    """Run the sections that were asked for."""
    parser = argparse.ArgumentParser(
        prog="make bench ARGS=...", description="Ratios, measured side by side in one run."
    )
    parser.add_argument("--section", action="append", choices=SECTIONS, help="only this one; may be repeated")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds of each comparison (5)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK:g} of the load: to see that it runs")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    found: dict[str, object] = {}
    for name in options.section or SECTIONS:
        began = time.monotonic()
        section = SECTIONS[name](options.rounds, QUICK if options.quick else 1.0)
        found[name] = section.document()
        print(section.text(), f"  ({time.monotonic() - began:.0f} s)\n", sep="\n", flush=True)
    out = ROOT / ".build" / "bench.json"
    out.parent.mkdir(exist_ok=True)
    document = {"machine": _machine(), "rounds": options.rounds, "quick": options.quick, "sections": found}
    out.write_text(json.dumps(document, indent=1) + "\n")
    print(f"written to {out.relative_to(ROOT)}")


def _machine() -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "core_under_test": TEST_CORE,
        "core_of_the_load": LOAD_CORE,
    }


if __name__ == "__main__":
    main()

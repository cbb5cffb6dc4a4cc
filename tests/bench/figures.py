"""Rounds into medians, medians into a table.

Must not know what was measured.  Theory: a shared machine changes its speed from minute to minute, so contestants take
turns (A B A B ...), a ratio is made within each round, and only the median of those ratios is stated.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Self

Measure = Callable[[int], Mapping[str, float]]
"""Runs one round (its number is handed in, warm-up is 0) and returns its figures by name."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """One figure of one contestant against another's, with the target it is held against, if there is one."""

    name: str
    value: float
    target: float | None = None
    at_most: bool = True

    @property
    def verdict(self) -> str:
        """Whether the target is met, in words."""
        if self.target is None:
            return ""
        met = self.value <= self.target if self.at_most else self.value >= self.target
        return f"target {'<=' if self.at_most else '>='} {self.target:g}: {'met' if met else 'MISSED'}"


@dataclass(slots=True)
class Section:
    """What one section found."""

    name: str
    title: str
    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    ratios: list[Ratio] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Return it for the JSON file."""
        ratios = [{"name": r.name, "value": r.value, "target": r.target, "verdict": r.verdict} for r in self.ratios]
        return {"title": self.title, "rows": self.rows, "ratios": ratios, "notes": self.notes}

    def text(self) -> str:
        """Return it as a table."""
        columns = list(dict.fromkeys(name for row in self.rows.values() for name in row))
        width = max((len(name) for name in self.rows), default=0)
        lines = [f"== {self.name}  {self.title}", f"  {'':{width}} " + "".join(f"{name:>16}" for name in columns)]
        for name, row in self.rows.items():
            lines.append(f"  {name:{width}} " + "".join(f"{_shown(row.get(column)):>16}" for column in columns))
        lines += [f"  -> {ratio.name}: {_shown(ratio.value)}   {ratio.verdict}".rstrip() for ratio in self.ratios]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


class Contest:
    """Contestants that take turns for some rounds."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._measures: dict[str, Measure] = {}
        self.found: dict[str, list[Mapping[str, float]]] = {}

    def add(self, name: str, measure: Measure) -> None:
        """Enter a contestant."""
        self._measures[name] = measure

    def run(self) -> None:
        """Warm everybody up once, then let them take turns."""
        for measure in self._measures.values():
            measure(0)
        for number in range(1, self._rounds + 1):
            for name, measure in self._measures.items():
                self.found.setdefault(name, []).append(measure(number))

    def rows(self) -> dict[str, dict[str, float]]:
        """Return each contestant's medians."""
        return {name: {k: median(r[k] for r in rounds) for k in rounds[0]} for name, rounds in self.found.items()}

    def ratio(self, ours: str, theirs: str, figure: str) -> float:
        """Return the median of the rounds' own ratios."""
        pairs = zip(self.found[ours], self.found[theirs], strict=True)
        return median(a[figure] / b[figure] for a, b in pairs)


@dataclass(slots=True)
class Run:
    """So many operations, how long they took together, and each of them (at least one)."""

    count: int
    seconds: float
    each_us: list[float]

    def figures(self, cpu_s: float) -> dict[str, float]:
        """Return the figures that every section states; `cpu_s` is the CPU time of what was under test."""
        return {
            "per s": self.count / self.seconds,
            "p50 us": median(self.each_us),
            "CPU us each": cpu_s / self.count * 1e6,
        }


class Stopwatch:
    """Times a block: `seconds` by the wall, `cpu_s` of this process with all its threads."""

    def __enter__(self) -> Self:
        self._cpu, self._began = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._began
        self.cpu_s = time.process_time() - self._cpu


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

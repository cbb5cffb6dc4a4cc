"""Counts for Prometheus, in its text format, by hand: a dozen lines need no library.

Must not know accounts, keys or amounts.  Theory (P10): every label comes from configuration or from a closed list, so no
secret and no agent can ever be one, and their number is bounded.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable

from gateway.core.records import Payment
from gateway.core.view import View
from gateway.flow.heads import Heads
from gateway.jobs.loops import LoopState

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class RequestCounts:
    """How many requests each route answered, by class of status, and how long they took."""

    def __init__(self) -> None:
        self._answers: Counter[tuple[str, int]] = Counter()
        self._seconds: dict[str, float] = {}
        self._buckets: dict[str, list[int]] = {}

    def count(self, route: str, status: int, seconds: float) -> None:
        """Take one answered request in."""
        self._answers[route, status // 100] += 1
        buckets = self._buckets.get(route)
        if buckets is None:
            buckets = self._buckets[route] = [0] * (len(BOUNDS_S) + 1)
            self._seconds[route] = 0.0
        buckets[bisect_left(BOUNDS_S, seconds)] += 1
        self._seconds[route] += seconds

    def lines(self) -> Iterable[str]:
        """Yield both families."""
        yield "# TYPE gateway_requests_total counter"
        for (route, status_class), count in sorted(self._answers.items()):
            yield f'gateway_requests_total{{route="{_label(route)}",status="{status_class}xx"}} {count}'
        yield "# TYPE gateway_request_duration_seconds histogram"
        name = "gateway_request_duration_seconds"
        for route, buckets in sorted(self._buckets.items()):
            label, total = _label(route), 0
            for bound, count in zip(BOUNDS_S, buckets, strict=False):
                total += count
                yield f'{name}_bucket{{route="{label}",le="{bound:g}"}} {total}'
            total += buckets[-1]
            yield f'{name}_bucket{{route="{label}",le="+Inf"}} {total}'
            yield f'{name}_sum{{route="{label}"}} {self._seconds[route]:.6f}'
            yield f'{name}_count{{route="{label}"}} {total}'


def state_lines(view: View, heads: Heads, chain_ids: Iterable[int], in_flight: int, open_tasks: int) -> Iterable[str]:
    """Yield what is the case now: open payments, freezes, tasks, the journal's height, how far the chains are."""
    yield "# TYPE gateway_payments_open gauge"
    for (vendor, delivery, transfer), count in sorted(_open(view.open_payments.values()).items()):
        labels = f'vendor="{_label(vendor)}",delivery="{delivery}",transfer="{transfer}"'
        yield f"gateway_payments_open{{{labels}}} {count}"
    for name, value in (
        ("gateway_requests_in_flight", in_flight),
        ("gateway_freezes", len(view.freezes)),
        ("gateway_tasks_open", open_tasks),
        ("gateway_journal_seq", view.journal_seq),
    ):
        yield f"# TYPE {name} gauge"
        yield f"{name} {value}"
    yield "# TYPE gateway_chain_block gauge"
    for chain_id in sorted(chain_ids):
        for which, block in (("head", heads.get(chain_id)), ("final", heads.final(chain_id))):
            if block is not None:
                yield f'gateway_chain_block{{chain_id="{chain_id}",which="{which}"}} {block.number}'


def loop_lines(loops: Iterable[LoopState]) -> Iterable[str]:
    """Yield how the background work is: one that stopped succeeding is an alert, a dead tracker above all."""
    states = sorted(loops, key=lambda state: state.name)
    yield "# TYPE gateway_loop_healthy gauge"
    for state in states:
        yield f'gateway_loop_healthy{{loop="{_label(state.name)}"}} {int(state.healthy)}'
    yield "# TYPE gateway_loop_last_success_age_seconds gauge"
    for state in states:
        yield f'gateway_loop_last_success_age_seconds{{loop="{_label(state.name)}"}} {state.success_age_s:.3f}'


def _open(payments: Iterable[Payment]) -> Counter[tuple[str, str, str]]:
    return Counter((p.vendor, p.axes.delivery.value, p.axes.transfer.value) for p in payments)


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

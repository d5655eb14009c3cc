"""One figure of one run: what was driven how, how fast it went, and who used the processors meanwhile."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Load:
    """How something is driven."""

    in_flight: int
    hot: bool = False
    """Everybody pays one account, as customers pay a merchant; else both parties are drawn from all."""

    def __str__(self) -> str:
        return f"{self.in_flight} in flight{', one hot account' if self.hot else ''}"


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one run measured. Latencies in milliseconds, processors as how many were kept busy."""

    per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    errors: dict[str, int] = field(default_factory=dict)
    processors: dict[str, float] = field(default_factory=dict)

    def micros_each(self, who: str) -> float:
        """Processor time of one party for each transfer, in microseconds."""
        return self.processors.get(who, 0.0) / self.per_second * 1e6 if self.per_second else 0.0


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest rank, as the load generator takes it."""
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)] if ordered else 0.0


def median(runs: Sequence[Measurement]) -> Measurement:
    """The medians of several runs, figure by figure; errors are added, for none may be overlooked."""
    parties = {name for run in runs for name in run.processors}
    errors: dict[str, int] = {}
    for run in runs:
        for reason, count in run.errors.items():
            errors[reason] = errors.get(reason, 0) + count
    return Measurement(
        per_second=statistics.median(run.per_second for run in runs),
        p50_ms=statistics.median(run.p50_ms for run in runs),
        p95_ms=statistics.median(run.p95_ms for run in runs),
        p99_ms=statistics.median(run.p99_ms for run in runs),
        max_ms=statistics.median(run.max_ms for run in runs),
        errors=errors,
        processors={name: statistics.median(run.processors.get(name, 0.0) for run in runs) for name in sorted(parties)},
    )

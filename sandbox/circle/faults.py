"""What goes wrong with requests, by order of the admin port.

The one that matters most is `silence` after the effect: the request was carried out, and nobody is told.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

FaultKind = Literal["latency", "error", "reset", "silence", "rate_limit"]
# Before the request has any effect, or after it had all of it.
When = Literal["before", "after"]


@dataclass
class Fault:
    kind: FaultKind
    when: When = "before"
    # Which requests: a method, and a regular expression found in the path.
    method: str = ""
    path: str = ""
    # How many of them pass first, and how many it then concerns; None until it is taken away.
    skip: int = 0
    times: int | None = 1
    status: int = 503
    code: int = -1
    message: str = "Something went wrong"
    seconds: float = 0
    retry_after: int = 1
    id: int = 0
    hits: int = 0

    def concerns(self, method: str, path: str) -> bool:
        return (not self.method or self.method.upper() == method) and re.search(self.path, path) is not None


class Faults:
    def __init__(self) -> None:
        self._armed: list[Fault] = []
        self._ids = itertools.count(1)

    def arm(self, fault: Fault) -> Fault:
        fault.id = next(self._ids)
        self._armed.append(fault)
        return fault

    def armed(self) -> list[dict[str, Any]]:
        return [asdict(fault) for fault in self._armed]

    def clear(self, fault_id: int | None = None) -> None:
        self._armed = [fault for fault in self._armed if fault_id not in (None, fault.id)]

    def hitting(self, method: str, path: str) -> list[Fault]:
        """The faults of this request, counted: latency first, since it may come with another."""
        hits = [fault for fault in self._armed if fault.concerns(method, path) and self._count(fault)]
        return sorted(hits, key=lambda fault: fault.kind != "latency")

    def _count(self, fault: Fault) -> bool:
        if fault.skip:
            fault.skip -= 1
            return False
        if fault.times == 0:
            return False
        if fault.times is not None:
            fault.times -= 1
        fault.hits += 1
        return True

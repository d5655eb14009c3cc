"""Who uses the processors: the time of a process and everything below it, read from /proc.

On one machine the server, the database and the load share the processors, so no figure means anything without knowing
how they shared them.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """A process and its command line, the arguments with blanks between."""

    pid: int
    command: str

    def resident_bytes(self) -> int:
        """What it keeps in memory now; 0 when it is gone."""
        try:
            pages = int(Path("/proc", str(self.pid), "statm").read_text().split()[1])
        except OSError:
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")


def descendants(root: int) -> list[Process]:
    """All processes below this one."""
    children, _ = _table()
    found, waiting = [], list(children[root])
    while waiting:
        pid = waiting.pop()
        waiting += children[pid]
        try:
            command = Path("/proc", str(pid), "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ")
        except OSError:
            continue  # it ended while we looked
        found.append(Process(pid, command.decode(errors="replace")))
    return found


def cpu_seconds(root: int) -> float:
    """What the process and all below it have used so far, those that have ended included."""
    children, used = _table()
    total, waiting = 0, [root]
    while waiting:
        process = waiting.pop()
        total += used.get(process, 0)
        waiting += children[process]
    return total / _TICKS


def _table() -> tuple[dict[int, list[int]], dict[int, int]]:
    """The children of each process, and its own ticks with those of its children that have ended."""
    children: dict[int, list[int]] = defaultdict(list)
    used: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The name of the program may hold spaces and brackets; what follows its last bracket does not.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended while we looked
        children[int(fields[1])].append(int(entry.name))
        used[int(entry.name)] = sum(int(field) for field in fields[11:15])
    return children, used


def busy_processors(roots: Mapping[str, int], *, seconds: float) -> dict[str, float]:
    """Wait so long, and say how many processors each of the named processes kept busy meanwhile."""
    started, before = time.monotonic(), _read(roots)
    time.sleep(seconds)
    elapsed, after = time.monotonic() - started, _read(roots)
    return {name: (after[name] - before[name]) / elapsed for name in roots}


def _read(roots: Mapping[str, int]) -> dict[str, float]:
    return {name: cpu_seconds(root) for name, root in roots.items()}

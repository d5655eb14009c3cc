"""What a statement costs in blocks read, which says the same on every machine and on every day."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import event

from storage.database import Engine


@dataclass
class Plans:
    """How the statements of a block were executed."""

    found: list[dict[str, Any]] = field(default_factory=list)

    @property
    def blocks(self) -> int:
        """Blocks touched by all statements together."""
        return sum(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] for plan in self.found)

    @property
    def scans_tables(self) -> bool:
        """Whether any table was read from end to end."""
        return "Seq Scan" in json.dumps(self.found)


@contextmanager
def explained(engine: Engine) -> Iterator[Plans]:
    """Explain every statement the engine sends in this block, just before it is sent."""
    plans = Plans()

    def explain(_connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters)
        ((document,),) = cursor.fetchall()
        plans.found.append(document[0]["Plan"])

    event.listen(engine.sync_engine, "before_cursor_execute", explain)
    try:
        yield plans
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", explain)

"""Schema migrations (Alembic): expand first, contract a release later, so that old and new servers can run together."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from storage.database import Engine, Tx


async def obstacle(engine: Engine) -> str | None:
    """Why this code cannot work on that database, in one sentence; None when it can."""
    try:
        async with engine.connect() as tx:
            lacks = await missing(tx)
    except (DBAPIError, OSError, TimeoutError) as error:
        cause = str(getattr(error, "orig", error)).strip().splitlines()
        return f"The database cannot be reached: {cause[0] if cause else type(error).__name__}"
    if lacks:
        return f"The database is not migrated, {lacks}: run `make migrate` (python -m storage.migrations upgrade)."
    return None


async def missing(tx: Tx) -> str | None:
    """What the schema lacks for this code to run on it, in words; None when nothing.

    A schema that is ahead of the code is fine: it is a newer release's, which only added to it.
    """
    try:
        row = (await tx.execute(text("SELECT version_num FROM alembic_version"))).first()
    except ProgrammingError:
        return "no migration was ever applied"
    known, newest = _revisions()
    if row is None or (row[0] in known and row[0] != newest):
        return f"it is at {row[0] if row else 'the beginning'} and needs {newest}"
    return None


@cache
def _revisions() -> tuple[frozenset[str], str]:
    """All revisions of this code, and the newest: their files' names begin with them, so Alembic is not needed here."""
    known = sorted(path.name.partition("_")[0] for path in (Path(__file__).parent / "versions").glob("[0-9]*_*.py"))
    return frozenset(known), known[-1]

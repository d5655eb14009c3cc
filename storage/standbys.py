"""Whether a commit is on two machines before it counts (money rule 15).

"Persisted before broadcast" is worth the durability of a commit: a signed transaction whose record is lost with a disk
can still land, and nobody would know of it.
"""

from __future__ import annotations

from sqlalchemy import text

from storage.database import Tx

# What makes a commit wait for nothing but this machine, or not even for that.
_LOCAL = frozenset({"off", "local"})


async def synchronous(tx: Tx) -> bool:
    """Whether commits wait for a standby. With names set and no standby there, they wait until one is."""
    names = (await tx.execute(text("SHOW synchronous_standby_names"))).scalar_one()
    commit = (await tx.execute(text("SHOW synchronous_commit"))).scalar_one()
    return bool(names.strip()) and commit not in _LOCAL

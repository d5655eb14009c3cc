"""The ledger's two round trips: lock and read what decides, then write what was decided.

Each is a handful of set-based statements, arrays through `unnest`. Both run on a committer's own connection
(`storage/committer.py`).
"""

from storage.ledger.reads import held_wallets, load
from storage.ledger.writes import write

__all__ = ["held_wallets", "load", "write"]

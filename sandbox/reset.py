"""`make reset`: forget the development wallet. Database, chain and keys go together, never one alone.

A ledger without its chain, or a chain without its ledger, is money lost or found: the server would rightly refuse both.
"""

from __future__ import annotations

import shutil
import sys

from sandbox.component import Refused
from sandbox.endpoints import Endpoints, data_folder
from sandbox.postgres import Postgres


def main() -> int:
    """Remove everything under .data, unless it is in use."""
    folder = data_folder()
    try:
        running = Endpoints.read()
    except Refused:
        running = None
    if running:
        print(f"make reset: the wallet runs (process {running.pid}); stop it first.", file=sys.stderr)
        return 1
    if (folder / "postgres-18").exists():
        postgres = Postgres(folder / "postgres-18", port=0)
        postgres.claim()
        postgres.erase()
        postgres.stop()
    shutil.rmtree(folder, ignore_errors=True)
    print(f"Removed {folder}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

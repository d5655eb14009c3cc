"""Part of `make check`: the migrations, applied to an empty database, give exactly `storage/schema`."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from sandbox.component import free_port
from sandbox.endpoints import ROOT
from sandbox.postgres import Postgres


def main() -> int:
    """Migrate a throw-away database and compare; Alembic's exit code."""
    with tempfile.TemporaryDirectory(prefix="monay-schema-") as folder:
        # As root, Postgres runs as another user, who has to get in.
        Path(folder).chmod(0o755)
        postgres = Postgres(Path(folder) / "postgres", port=free_port())
        postgres.start()
        try:
            postgres.wait_ready()
            postgres.create_database("schema")
            environment = {**os.environ, "DATABASE_OWNER_URL": postgres.database_url("schema")}
            for action in ("upgrade", "check"):
                done = subprocess.run([sys.executable, "-m", "storage.migrations", action], cwd=ROOT, env=environment)
                if done.returncode != 0:
                    return done.returncode
        finally:
            postgres.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

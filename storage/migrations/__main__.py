"""`python -m storage.migrations upgrade | current | check | new MESSAGE`.

Runs as the owner of the schema: `DATABASE_OWNER_URL`, or `DATABASE_URL` where both are one. Where they are not, an
upgrade ends with granting the role of `DATABASE_URL` what the service needs (`storage/privileges.py`).

An upgrade may run while the service works: a migration that does not get its locks at once lets everybody pass and is
tried again.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg.errors import LockNotAvailable
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from storage import privileges

FOLDER = Path(__file__).parent

# A minute of trying: on a busy table the locks are free many times a second.
_TRIES = 120
_PAUSE_SECONDS = 0.5


def configuration(database_url: str) -> Config:
    """Alembic's settings, without a file of its own."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    url = make_url(database_url).set(drivername="postgresql+psycopg")
    config.attributes["url"] = url
    return config


def _next_number(config: Config) -> str:
    """Migrations are numbered: 0002 follows 0001."""
    newest = ScriptDirectory.from_config(config).get_current_head()
    return f"{int(newest or 0) + 1:04}"


def upgrade(config: Config) -> None:
    """Bring the database to the newest revision, also while the service works."""
    for left in reversed(range(_TRIES)):
        try:
            command.upgrade(config, "head")
        except OperationalError as error:
            # Each migration commits by itself, so the next try begins with the one that did not get its locks.
            if not isinstance(error.orig, LockNotAvailable) or not left:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def _upgrade(config: Config, service_url: str | None) -> None:
    upgrade(config)
    owner_url = config.attributes["url"]
    service = make_url(service_url).username if service_url else None
    if service is None or service == owner_url.username:
        return
    engine = create_engine(owner_url, connect_args={"connect_timeout": 10})
    with engine.begin() as connection:
        privileges.grant(connection, service)
    engine.dispose()


def main() -> int:
    """Run one of Alembic's commands."""
    parser = argparse.ArgumentParser(prog="python -m storage.migrations", description=__doc__)
    parser.add_argument("action", choices=("upgrade", "current", "check", "new"))
    parser.add_argument("message", nargs="?", default="")
    arguments = parser.parse_args()
    database_url = os.environ.get("DATABASE_OWNER_URL") or os.environ.get("DATABASE_URL")
    if not database_url:
        sys.stderr.write("Set DATABASE_OWNER_URL (or DATABASE_URL) to the database to migrate.\n")
        return 2
    config = configuration(database_url)
    actions: dict[str, Callable[[], object]] = {
        "upgrade": lambda: _upgrade(config, os.environ.get("DATABASE_URL")),
        "current": lambda: command.current(config),
        "check": lambda: command.check(config),
        "new": lambda: command.revision(config, arguments.message, autogenerate=True, rev_id=_next_number(config)),
    }
    try:
        actions[arguments.action]()
    except OperationalError as error:
        fault = "is too busy to be migrated" if isinstance(error.orig, LockNotAvailable) else "cannot be reached"
        sys.stderr.write(f"The database {fault}: {error.orig}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

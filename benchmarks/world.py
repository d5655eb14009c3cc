"""What is measured: Postgres and Valkey as `make run` starts them, API processes on one port, thousands of accounts.

Everything stands in a temporary folder and is gone afterwards. There is no worker process: settlement is measured by
itself, and here it would compete for the same processors.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks import accounts, yardsticks
from sandbox.component import Refused, free_port, require_free
from sandbox.endpoints import ROOT
from sandbox.keys import DevelopmentKeys
from sandbox.listen import Listen
from sandbox.postgres import Postgres
from sandbox.token import ALL_SERVICE_SCOPES, Claims, development_token
from sandbox.valkey import Valkey
from sandbox.wallet_server import WalletServer

# Only this differs from `make run`: the yardsticks open a connection for each transfer in flight.
_POSTGRES_SETTINGS = {"max_connections": "400"}
_TOKEN_SECONDS = 6 * 3600


@dataclass(frozen=True, slots=True)
class World:
    """Where everything is, and the numbers of its processes."""

    database_url: str
    account_count: int
    grpc: str
    token_file: Path
    accounts_file: Path
    ca_file: Path | None
    processes: Mapping[str, int]
    second: str = ""
    """The address of another server on the same database, where one was asked for."""


class ApiServer(WalletServer):
    """API processes under their supervisor, without the worker process."""

    role = "api"

    def __init__(self, folder: Path, *, source: Path, grpc_listen: Listen, settings: Mapping[str, str], workers: int):
        super().__init__(folder, grpc_listen=grpc_listen, settings=settings, workers=workers)
        self._source = source

    @property
    def working_folder(self) -> Path:
        """Python looks for modules there first, so this decides whose server it is."""
        return self._source

    def ready(self) -> bool:
        """Whether all of them serve: connections made earlier would all stay with the first."""
        return self._listening() == self.workers and super().ready()

    def _listening(self) -> int:
        """Sockets that listen on the shared port: one for each process. gRPC speaks IPv4 over IPv6 sockets, too."""
        tables = [Path("/proc/net", name).read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
        sockets = [line.split()[1:4] for table in tables for line in table]
        return sum(local.endswith(f":{self.port:04X}") and state == "0A" for local, _, state in sockets)


@contextlib.contextmanager
def running(*, account_count: int, workers: int, source: Path = ROOT, second: bool = False) -> Iterator[World]:
    """Start everything, with the server and the schema of that source tree; end everything afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="monay-bench-"))
    # As root, Postgres runs as another user, who has to get in.
    folder.chmod(0o755)
    postgres = Postgres(folder / "postgres", port=free_port(), settings=_POSTGRES_SETTINGS)
    valkey = Valkey(folder / "valkey", port=free_port())
    keys = DevelopmentKeys(folder / "keys")
    settings = _settings(source, keys)
    servers: list[ApiServer] = []
    try:
        for part in (postgres, valkey):
            part.start()
        for part in (postgres, valkey):
            part.wait_ready()
        settings |= {"DATABASE_URL": postgres.url, "DATABASE_OWNER_URL": postgres.url, "REDIS_URL": valkey.url}
        _migrate(settings, source)
        _fill(postgres.url, account_count)
        for number in range(2 if second else 1):
            servers.append(_server(folder / f"server-{number}", source, settings, workers=workers))
            servers[-1].start()
            servers[-1].wait_ready()
        yield _world(folder, postgres, servers, keys, account_count)
    finally:
        for component in (*servers, valkey, postgres):
            component.stop()
        postgres.erase()
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count: int) -> int:
    """The first of so many free ports in a row: API process i serves its figures on the i-th.

    From below those that the system gives to outgoing connections: it takes seconds until the last one is bound.
    """
    while True:
        first = random.randrange(20_000, 32_000)
        with contextlib.suppress(Refused):
            for port in range(first, first + count):
                require_free(f"127.0.0.1:{port}", what="The HTTP server", setting="HTTP_LISTEN")
            return first


def _server(folder: Path, source: Path, settings: Mapping[str, str], *, workers: int) -> ApiServer:
    listen = Listen("The gRPC server", "GRPC_LISTEN", "127.0.0.1", free_port())
    own = {"GRPC_LISTEN": str(listen), "HTTP_LISTEN": f"127.0.0.1:{_free_ports(workers)}"}
    return ApiServer(folder, source=source, grpc_listen=listen, settings={**settings, **own}, workers=workers)


def _settings(source: Path, keys: DevelopmentKeys) -> dict[str, str]:
    return {
        "PYTHONPATH": str(source / "clients" / "python" / "src"),
        "PATH": os.environ.get("PATH", ""),
        "JWT_PUBLIC_KEY": keys.jwt_public,
        "SEALING_KEYS_FILE": str(keys.sealing_keys_file),
    }


def _migrate(settings: Mapping[str, str], source: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "storage.migrations", "upgrade"], cwd=source, env=dict(settings))
    if done.returncode != 0:
        raise Refused("The database could not be brought to the newest schema; the reason is above.")


def _fill(database_url: str, count: int) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(yardsticks.TABLES.read_bytes())
        accounts.fill(connection, count)
        connection.execute("VACUUM ANALYZE")


def _world(folder: Path, postgres: Postgres, servers: Sequence[ApiServer], keys: DevelopmentKeys, count: int) -> World:
    server, *others = servers
    token_file, accounts_file = folder / "token", folder / "accounts"
    claims = Claims(accounts.CALLER.removeprefix("service:"), "service", ALL_SERVICE_SCOPES, seconds=_TOKEN_SECONDS)
    token_file.write_text(development_token(keys, claims))
    accounts_file.write_text("\n".join(map(str, accounts.consumer_ids(count))))
    assert postgres.process is not None
    assert server.process is not None
    processes = {"server": server.process.pid, "Postgres": postgres.process.pid}
    second = others[0].address if others else ""
    return World(postgres.url, count, server.address, token_file, accounts_file, None, processes, second)

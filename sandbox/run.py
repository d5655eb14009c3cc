"""`make run`: a whole wallet on this machine, everything real, stopped by Ctrl-C.

Starts Postgres, Valkey, the Tempo development chain, the Circle simulator and the server, each unless its URL is given
in the environment (DATABASE_URL, REDIS_URL, TEMPO_RPC_URL, CIRCLE_BASE_URL; with TEMPO_MOCK_MODE=true there is no chain
at all), and the gateway before it, and watches them. If one ends, all are stopped: half a wallet would only look like
one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from sandbox import greeting
from sandbox.circle.component import CircleSimulator, circle_credentials, client_settings
from sandbox.component import Component, Refused
from sandbox.endpoints import ROOT, Endpoints, data_folder
from sandbox.gateway import Gateway
from sandbox.keys import DevelopmentKeys
from sandbox.listen import Listen, listen_addresses
from sandbox.postgres import Postgres
from sandbox.tempo_node import TempoNode
from sandbox.token import ALL_SERVICE_SCOPES, Claims, development_token
from sandbox.valkey import Valkey
from sandbox.wallet_server import WalletServer

WATCH_SECONDS = 0.2
Settings = dict[str, str]


def run(folder: Path, *, workers: int) -> None:
    """Start everything in order, say where it is, and watch until a signal comes or something ends."""
    started = time.monotonic()
    listen = listen_addresses(os.environ)
    keys = DevelopmentKeys(folder / "keys")
    settings = development_settings(keys, listen)
    settings.setdefault("TEMPO_MOCK_FILE", str(folder / "tempo-mock.json"))
    parts = missing_parts(folder, listen, keys)
    if "CIRCLE_LISTEN" in parts:
        settings = {**client_settings(keys, listen, workers=workers), **settings}
    server = WalletServer(folder / "server", grpc_listen=listen["GRPC_LISTEN"], settings=settings, workers=workers)
    faces: dict[str, Component] = {"GRPC_LISTEN": server, **gateway(folder, listen, keys)}
    everything = [*parts.values(), *faces.values()]
    with stopping(everything):
        for component in everything:
            component.claim()
        admin = ["CIRCLE_ADMIN_LISTEN"] if "CIRCLE_LISTEN" in parts else []
        for setting in (*parts, *faces, *admin, "HTTP_LISTEN"):
            listen[setting].require_free()
        start_all(list(parts.values()))
        settings.update({URL_SETTINGS[setting]: part.url for setting, part in parts.items()})
        separate_roles(settings, parts)
        with migrating(settings):
            settings.update(token_settings(settings))
        start_all(list(faces.values()))
        endpoints = published(
            settings,
            gateway=faces["GATEWAY_LISTEN"].url if "GATEWAY_LISTEN" in faces else "",
            circle_admin=f"http://{listen['CIRCLE_ADMIN_LISTEN']}" if admin else "",
            tempo_node=parts.get("TEMPO_LISTEN"),
        )
        greeting.show(endpoints, keys, seconds=time.monotonic() - started)
        watch(everything)


def separate_roles(settings: Settings, parts: dict[str, Component]) -> None:
    """Migrations own the database of ours and the service does not; a database that was given has the roles it has."""
    settings.setdefault("DATABASE_OWNER_URL", settings["DATABASE_URL"])
    postgres = parts.get("POSTGRES_LISTEN")
    if isinstance(postgres, Postgres):
        settings["DATABASE_URL"] = postgres.service_url()


# The part that listens there, and the setting that its URL fills.
URL_SETTINGS = {
    "POSTGRES_LISTEN": "DATABASE_URL",
    "VALKEY_LISTEN": "REDIS_URL",
    "TEMPO_LISTEN": "TEMPO_RPC_URL",
    "CIRCLE_LISTEN": "CIRCLE_BASE_URL",
}


def missing_parts(folder: Path, listen: dict[str, Listen], keys: DevelopmentKeys) -> dict[str, Component]:
    """The parts whose URL nobody gave, by the setting of their address, in the order of their start."""
    parts: dict[str, Component] = {
        # The version is in the name: another major version cannot read these files.
        "POSTGRES_LISTEN": Postgres(folder / "postgres-18", port=listen["POSTGRES_LISTEN"].port),
        "VALKEY_LISTEN": Valkey(folder / "valkey", port=listen["VALKEY_LISTEN"].port),
        "TEMPO_LISTEN": TempoNode(folder / "tempo", port=listen["TEMPO_LISTEN"].port),
        "CIRCLE_LISTEN": CircleSimulator(
            folder / "circle",
            port=listen["CIRCLE_LISTEN"].port,
            admin_port=listen["CIRCLE_ADMIN_LISTEN"].port,
            credentials=circle_credentials(keys),
        ),
    }
    if mock_mode():
        del parts["TEMPO_LISTEN"]
    if os.environ.get("CIRCLE_API_KEY"):
        # A key of one's own is for Circle's sandbox, or for a simulator that was given.
        del parts["CIRCLE_LISTEN"]
    return {setting: part for setting, part in parts.items() if not os.environ.get(URL_SETTINGS[setting])}


def gateway(folder: Path, listen: dict[str, Listen], keys: DevelopmentKeys) -> dict[str, Component]:
    """The HTTP face, where Envoy is installed. The greeting says so where it is not."""
    if not Gateway.installed():
        return {}
    token = development_token(keys, Claims(subject="gateway", token_use="service", scope=ALL_SERVICE_SCOPES))
    where = listen["GATEWAY_LISTEN"]
    return {"GATEWAY_LISTEN": Gateway(folder / "gateway", listen=where, wallet=listen["GRPC_LISTEN"], token=token)}


def development_settings(keys: DevelopmentKeys, listen: dict[str, Listen]) -> Settings:
    """The server's environment: our own, with the development wallet's keys where none are given."""
    made = {
        "ENVIRONMENT": "development",
        "SANDBOX_ENABLED": "true",
        "TEMPO_PRIVATE_KEY": keys.operator,
        "TEMPO_FEE_PAYER_KEY": keys.fee_payer,
        "TEMPO_SEED": keys.seed,
        "SEALING_KEYS_FILE": str(keys.sealing_keys_file),
    }
    if not any(os.environ.get(name) for name in ("JWT_JWKS_URL", "JWT_PUBLIC_KEY", "JWT_SECRET")):
        made["JWT_PUBLIC_KEY"] = keys.jwt_public
    given = {name: value for name, value in os.environ.items() if value}
    # The offset is in the addresses now; nobody may add it a second time.
    given.pop("PORT_OFFSET", None)
    return {**made, **given, "GRPC_LISTEN": str(listen["GRPC_LISTEN"]), "HTTP_LISTEN": str(listen["HTTP_LISTEN"])}


def token_settings(settings: Settings) -> Settings:
    """Create our stablecoins on a development chain that lacks them, and tell the server where they are."""
    if mock_mode() or settings.get("TEMPO_TOKENS"):
        return {}
    # Only here, because it costs a second: web3 and everything below it.
    from sandbox.tempo_tokens import seed

    url = settings["TEMPO_RPC_URL"].split(",")[0].strip()
    seeded = asyncio.run(
        seed(
            url,
            operator_key=bytes.fromhex(settings["TEMPO_PRIVATE_KEY"].removeprefix("0x")),
            fee_payer_key=bytes.fromhex(settings["TEMPO_FEE_PAYER_KEY"].removeprefix("0x")),
        )
    )
    return {
        "TEMPO_TOKENS": ",".join(f"{asset}={address}" for asset, address in seeded.tokens.items()),
        "TEMPO_CHAIN_ID": str(seeded.chain_id),
        "TEMPO_FAUCET_KEY": f"0x{seeded.outside_key.hex()}",
    }


@contextlib.contextmanager
def migrating(settings: Settings) -> Iterator[None]:
    """Meanwhile, bring the database to the newest schema, by the command of a deployment."""
    migration = subprocess.Popen([sys.executable, "-m", "storage.migrations", "upgrade"], cwd=ROOT, env=settings)
    try:
        yield
    finally:
        code = migration.wait()
    if code != 0:
        raise Refused("The database could not be brought to the newest schema; the reason is above.")


def start_all(components: Sequence[Component]) -> None:
    """Start them beside each other, then wait for all."""
    for component in components:
        component.start()
    for component in components:
        component.wait_ready()


@contextlib.contextmanager
def stopping(components: Sequence[Component]) -> Iterator[None]:
    """Whatever happens, end all of them, the last one first; signals no longer interrupt that."""
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        Endpoints.withdraw()
        for component in reversed(components):
            component.stop()


def watch(components: Sequence[Component]) -> None:
    """Return never; leave by a signal, or because one of them ended."""
    while True:
        for component in components:
            if component.exit_code is not None:
                raise Refused(f"{component.name} ended while the wallet ran, {component.ending()}")
        time.sleep(WATCH_SECONDS)


def published(settings: Settings, *, gateway: str, circle_admin: str, tempo_node: Component | None = None) -> Endpoints:
    """Write down where everything is, for `make demo`, `make token` and the like."""
    endpoints = Endpoints(
        grpc=settings["GRPC_LISTEN"],
        http=settings["HTTP_LISTEN"],
        database_url=settings["DATABASE_OWNER_URL"],
        redis_url=settings["REDIS_URL"],
        tempo_rpc_url="" if mock_mode() else settings["TEMPO_RPC_URL"],
        tempo_tokens=dict(pair.split("=") for pair in settings.get("TEMPO_TOKENS", "").split(",") if pair),
        pid=os.getpid(),
        gateway=gateway,
        circle_url=settings.get("CIRCLE_BASE_URL", ""),
        circle_admin_url=circle_admin,
        tempo_pid=tempo_node.process.pid if tempo_node is not None and tempo_node.process is not None else 0,
    )
    endpoints.write()
    return endpoints


def mock_mode() -> bool:
    """Whether the rails are simulated and there is no chain."""
    return os.environ.get("TEMPO_MOCK_MODE", "").strip().lower() in ("true", "1", "yes")


def main() -> int:
    """Exit code 0 after a signal, 1 with one sentence after anything that went wrong."""
    parser = argparse.ArgumentParser(prog="make run", description="Run a whole wallet on this machine.")
    parser.add_argument("--workers", type=int, default=1, help="API processes of the server")
    options = parser.parse_args()
    # As Ctrl-C does: an exception here, in the middle of whatever is being started.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        run(data_folder(), workers=options.workers)
    except KeyboardInterrupt:
        print("\nStopped.")
        return 0
    except Refused as refused:
        print(f"make run: {refused}", file=sys.stderr)
    except OSError as error:
        print(f"make run: {error.filename or 'something'} cannot be used: {error.strerror}.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())

"""Run the simulator: `python -m sandbox.circle FOLDER --listen host:port --admin host:port`.

The client's credentials come from the environment: CIRCLE_API_KEY, CIRCLE_MINT_API_KEY, CIRCLE_ENTITY_SECRET and
CIRCLE_ENTITY_ID, by the names under which the server reads them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from sandbox.circle.admin import Admin
from sandbox.circle.api import Api
from sandbox.circle.money import micros
from sandbox.circle.network import ReachableProtocol
from sandbox.circle.operations import register_steps
from sandbox.circle.seeds import Seeds, sow
from sandbox.circle.simulator import Credentials, Simulator, open_simulator
from sandbox.component import Refused, listen_address


def options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox.circle", description="Circle's sandbox, on this machine.")
    parser.add_argument("folder", type=Path, help="where its state is kept")
    parser.add_argument("--listen", default="127.0.0.1:58080", help="where Circle's API is served")
    parser.add_argument("--admin", default="127.0.0.1:58081", help="where it is given orders")
    parser.add_argument("--keys", type=Path, help="where its keys are kept; in its folder, unless said")
    parser.add_argument("--sns-url", help="where its webhooks say that Amazon SNS is; its own, unless said")
    parser.add_argument("--float", default="100000", help="USDC and EURC of the operator, each, at the first start")
    parser.add_argument("--mint", default="100000", help="USD and EUR at Mint, each, at the first start")
    parser.add_argument("--record", action="store_true", help="keep every exchange, for tests that judge them")
    return parser.parse_args(arguments)


def credentials(environment: Mapping[str, str]) -> Credentials:
    """All four, of the sandbox; and never where production is."""
    if "production" in (environment.get("CIRCLE_ENV"), environment.get("ENVIRONMENT")):
        raise Refused("The Circle simulator does not start where CIRCLE_ENV or ENVIRONMENT says production.")
    names = ("CIRCLE_API_KEY", "CIRCLE_MINT_API_KEY", "CIRCLE_ENTITY_SECRET", "CIRCLE_ENTITY_ID")
    if missing := [name for name in names if not environment.get(name)]:
        raise Refused(f"The Circle simulator needs {', '.join(missing)}.")
    wallets_key, mint_key, entity_secret, entity_id = (environment[name] for name in names)
    if not wallets_key.startswith("TEST_API_KEY:") or not mint_key.startswith("SAND_API_KEY:"):
        raise Refused("The Circle simulator takes keys of the sandbox only: TEST_API_KEY:… and SAND_API_KEY:…")
    try:
        secret = bytes.fromhex(entity_secret)
    except ValueError:
        secret = b""
    if len(secret) != 32:
        raise Refused("CIRCLE_ENTITY_SECRET is not 32 bytes in hexadecimal digits.")
    return Credentials(wallets_key=wallets_key, mint_key=mint_key, entity_secret=secret, entity_id=entity_id)


async def serve(chosen: argparse.Namespace) -> None:
    """Until a signal comes."""
    known = credentials(os.environ)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    simulator = open_simulator(
        chosen.folder,
        keys_folder=chosen.keys or chosen.folder / "keys",
        credentials=known,
        sns_url=chosen.sns_url or f"http://{chosen.listen}/sns",
    )
    register_steps(simulator)
    seeds = Seeds(float_micros=micros(chosen.float) or 0, mint_micros=micros(chosen.mint) or 0)
    sow(simulator, seeds)
    api = Api(simulator, record=chosen.record)
    try:
        admin = Admin(simulator, api.app, seeds)
        await _run(simulator, [_server(api.app, chosen.listen), _server(admin.app, chosen.admin)])
    finally:
        await simulator.close()


async def _run(simulator: Simulator, servers: list[uvicorn.Server]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as tasks:
        serving = [tasks.create_task(server.serve()) for server in servers]
        background = [tasks.create_task(simulator.schedule.run()), tasks.create_task(simulator.webhooks.run())]
        await stop.wait()
        for server in servers:
            server.should_exit = True
        await asyncio.wait(serving)
        for task in background:
            task.cancel()


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: two servers share this process."""
        yield


def _server(app: ASGIApp, listen: str) -> uvicorn.Server:
    host, port = listen_address(listen, setting="--listen or --admin")
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=ReachableProtocol,
        lifespan="off",
        access_log=False,
        log_level="warning",
        # A client that waits for an answer that is withheld must not keep the process.
        timeout_graceful_shutdown=1,
    )
    return _Uvicorn(config)


def main() -> int:
    try:
        asyncio.run(serve(options(sys.argv[1:])))
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`server all`: several API processes on one port and one worker process, started and stopped together.

`server api --workers N` is the same without the worker process: for machines that only answer calls.

The port is bound here first, exclusively, and only then opened to the children: gRPC would otherwise share a port that
somebody else uses without any error, and lose half its calls to them. The children's lives hang on a pipe from here:
when this process is gone, however it went, they drain and end by themselves.

There is no restarting. A child that dies without being told to is a fault worth seeing; the rest is stopped in order,
and whoever runs the service starts it again as a whole.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass

import structlog

from server.process import StartRefused
from server.settings import WORKER_SECRETS, Settings

log = structlog.get_logger()

# Beyond the grace that a child gives to its own calls: time to close connections and write its last line.
KILL_AFTER_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Child:
    """One process of ours."""

    name: str
    process: Process


class Supervisor:
    """Starts the children, watches them, stops them."""

    def __init__(self, settings: Settings, *, api_processes: int, worker_process: bool) -> None:
        self._settings = settings
        self._api_processes = api_processes
        self._worker_process = worker_process
        self._children: list[Child] = []

    async def run(self, stop: asyncio.Event) -> int:
        """Supervise until `stop` is set or a child dies; the exit code."""
        held = self._hold_ports()
        try:
            await self._start({name: listen_address(port) for name, port in held.items()})
            died = await self._first_death(stop)
            if died is not None:
                log.error("supervisor.child_died", child=died.name, exit_code=died.process.returncode)
            clean = await self._stop()
        finally:
            for port in held.values():
                port.close()
        return 0 if died is None and clean else 1

    def _hold_ports(self) -> dict[str, socket.socket]:
        """The ports that the API processes share, by their settings."""
        held = {"GRPC_LISTEN": hold_port("GRPC_LISTEN", self._settings.grpc_listen)}
        if self._settings.mtls_listen is not None:
            held["MTLS_LISTEN"] = hold_port("MTLS_LISTEN", self._settings.mtls_listen)
        return held

    async def _start(self, listen: dict[str, str]) -> None:
        everything = {**os.environ, **listen}
        # What signs has no business in a process that strangers talk to.
        without_keys = {name: value for name, value in everything.items() if name.upper() not in WORKER_SECRETS}
        for number in range(self._api_processes):
            await self._spawn(f"api-{number}", "api", number, without_keys)
        if self._worker_process:
            await self._spawn("workers", "workers", self._api_processes, everything)
        log.info("supervisor.started", grpc=listen["GRPC_LISTEN"], api_processes=self._api_processes)

    async def _spawn(self, name: str, role: str, number: int, environment: dict[str, str]) -> None:
        command = (sys.executable, "-m", "server", role, "--supervised", "--number", str(number))
        # A group of its own: Ctrl-C at a terminal reaches us alone, and we stop everything in order.
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, env=environment, process_group=0)
        self._children.append(Child(name, process))

    async def _first_death(self, stop: asyncio.Event) -> Child | None:
        """Wait for the end: None when we were told to stop, or the child that ended by itself."""
        stopped = asyncio.ensure_future(stop.wait())
        waits = {asyncio.ensure_future(child.process.wait()): child for child in self._children}
        done, pending = await asyncio.wait({stopped, *waits}, return_when=asyncio.FIRST_COMPLETED)
        for waiting in pending:
            waiting.cancel()
        return None if stopped in done else next(waits[wait] for wait in done)

    async def _stop(self) -> bool:
        """Tell all of them, wait for all of them; whether each ended as it should."""
        for child in self._children:
            if child.process.returncode is None:
                child.process.send_signal(signal.SIGTERM)
        ends = await asyncio.gather(*(self._ended(child) for child in self._children))
        return all(ends)

    async def _ended(self, child: Child) -> bool:
        try:
            async with asyncio.timeout(self._settings.grace_seconds + KILL_AFTER_SECONDS):
                code = await child.process.wait()
        except TimeoutError:
            log.error("supervisor.child_killed", child=child.name)
            child.process.kill()
            code = await child.process.wait()
        log.info("supervisor.child_ended", child=child.name, exit_code=code)
        # Killed by our signal before it had a handler for it: it had not begun anything either.
        return code in (0, -signal.SIGTERM)


def hold_port(setting: str, address: str) -> socket.socket:
    """Take the port for us alone, then let our children share it."""
    host, _, port = address.rpartition(":")
    held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        # The last run's closed connections may linger for a minute; somebody who listens still makes the bind fail.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((host.strip("[]"), int(port)))
        # Linux compares this flag of both sockets at the second one's bind, so the first may raise it late. The socket
        # never listens, so no connection ever lands here.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError as error:
        held.close()
        raise StartRefused(f"gRPC cannot listen on {address} ({setting}): {error.strerror}.") from error
    return held


def listen_address(held: socket.socket) -> str:
    """The address of a held port, with the number that the system chose where port 0 was asked for."""
    host, port = held.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

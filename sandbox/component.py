"""One program of the sandbox: started in its own folder, watched, stopped, and never left behind.

`Component` is what Postgres, Valkey, the Tempo node and the server have in common. Starting returns at once;
`wait_ready` waits. Expected failures are `Refused`, whose text is one sentence for the person at the terminal.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

LAST_LINES = 15
TIED = Path(__file__).with_name("tied.py")


class Refused(Exception):
    """An expected failure, told in one sentence."""


def listen_address(listen: str, *, setting: str) -> tuple[str, int]:
    """`host:port` in its two parts."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise Refused(f"{setting}={listen} is not an address of the form host:port.")
    return host.strip("[]"), int(port)


def require_free(listen: str, *, what: str, setting: str) -> None:
    """Refuse a taken port before anything is started.

    Without SO_REUSEPORT: a second gRPC server would otherwise share a used port silently, and take half its calls.
    """
    host, port = listen_address(listen, setting=setting)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            why = "the port is taken" if error.errno == errno.EADDRINUSE else os.strerror(error.errno or 0).lower()
            raise Refused(
                f"{what} cannot listen on {listen}, {why}: stop what uses it, or set {setting} or PORT_OFFSET."
            ) from None


# Below the ports that Linux gives to outgoing connections: one of those could be gone before its server binds it.
_FREE_PORTS = range(20_000, 32_000)


def free_port(*, following: int = 0) -> int:
    """A port of the loopback interface that nobody uses at this moment, and neither the `following` ones after it."""
    while True:
        first = random.SystemRandom().choice(_FREE_PORTS)
        if all(_is_free(port) for port in range(first, first + following + 1)):
            return first


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class Component:
    """A child process with a folder of its own, which is also its working directory."""

    name = "component"
    program_name = "program"
    stop_signal = signal.SIGTERM
    stop_seconds = 15.0
    start_seconds = 30.0

    def __init__(self, folder: Path, *, port: int) -> None:
        self.folder = folder
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._log_start = 0

    @property
    def url(self) -> str:
        raise NotImplementedError

    @property
    def working_folder(self) -> Path:
        """Where the program runs. A process found there without its starter was left behind."""
        return self.folder

    @property
    def log_file(self) -> Path:
        return self.folder / "log.txt"

    def claim(self) -> None:
        """Own the folder until `stop`, and end what an earlier run left behind there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = self._lock or self._own_folder()
        self._stop_left_behind()

    def start(self) -> None:
        """Start the program; `wait_ready` tells when it serves."""
        try:
            self.claim()
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        raise NotImplementedError

    def ready(self) -> bool:
        """Whether the program serves at this moment."""
        raise NotImplementedError

    def wait_ready(self) -> None:
        deadline = time.monotonic() + self.start_seconds
        while not self.ready():
            if self.exit_code is not None:
                raise Refused(f"{self.name} ended at its start, {self.ending()}")
            if time.monotonic() > deadline:
                raise Refused(f"{self.name} was not ready after {self.start_seconds:.0f} seconds; see {self.log_file}.")
            time.sleep(0.01)

    @property
    def exit_code(self) -> int | None:
        """How the program ended; None while it runs, or before it was started."""
        return self.process.poll() if self.process else None

    def ending(self) -> str:
        """How it ended, for a person: the exit code or signal, and what it said since its start."""
        code = self.exit_code or 0
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        with contextlib.suppress(OSError):
            said = self.log_file.read_bytes()[self._log_start :].decode(errors="replace").strip().splitlines()
            return "\n  ".join([f"{how}; its last words in {self.log_file}:", *said[-LAST_LINES:]])
        return f"{how}; see {self.log_file}."

    def stop(self) -> None:
        """End the program as it likes to be ended, then whatever is left of its process group."""
        if self.process:
            if self.process.poll() is None:
                self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(self.stop_seconds)
            except subprocess.TimeoutExpired:
                pass
            finally:
                self._kill_group()
                self.process = None
        if self._lock:
            self._lock.close()
            self._lock = None

    def kill(self) -> None:
        """End it as a crash would (tests)."""
        if self.process:
            self._kill_group()
            self.process = None

    def _stop_left_behind(self) -> None:
        """Its starter is gone, or we would not hold the folder's lock."""
        pids = self._left_behind()
        if not pids:
            return
        print(
            f"{self.name}: stopping what an earlier run left behind (process {', '.join(map(str, pids))})", flush=True
        )
        signal_all(pids, signal.SIGCONT)
        signal_all(pids, self.stop_signal)
        if not self._left_behind_end(self.stop_seconds):
            signal_all(self._left_behind(), signal.SIGKILL)
            if not self._left_behind_end(5.0):
                raise Refused(f"{self.name}: process {self._left_behind()[0]} of an earlier run does not end; kill it.")

    def _left_behind(self) -> list[int]:
        return processes_in(self.working_folder, name=self.program_name)

    def _left_behind_end(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self._left_behind():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def _spawn(
        self, program: list[str], *, user: str = "-", env: dict[str, str] | None = None, stdin: bytes = b""
    ) -> None:
        """Start the program in the working folder, tied to the life of this process."""
        tie = [sys.executable, "-I", "-S", str(TIED), str(os.getpid()), str(int(self.stop_signal)), user]
        with self.log_file.open("ab") as log:
            self._log_start = log.tell()
            self.process = subprocess.Popen(
                [*tie, *program],
                cwd=self.working_folder,
                env=env,
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A group of its own: Ctrl-C at the terminal reaches only us, and we stop everything in order.
                start_new_session=True,
            )
        if stdin and self.process.stdin:
            self.process.stdin.write(stdin)
            self.process.stdin.close()

    def _own_folder(self) -> IO[str]:
        lock = (self.folder / ".lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            owner = lock.read().strip()
            lock.close()
            raise Refused(f"{self.name} is already run from {self.folder} by process {owner}.") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        return lock

    def _kill_group(self) -> None:
        assert self.process
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def processes_in(folder: Path, *, name: str) -> list[int]:
    """The programs of that name that run in this folder. Unlike a number kept in a file, that is never out of date."""
    where = os.path.realpath(folder)
    found = []
    for process in filter(lambda entry: entry.name.isdigit(), Path("/proc").iterdir()):
        try:
            if os.readlink(process / "cwd") == where and (process / "comm").read_text().strip() == name:
                found.append(int(process.name))
        except OSError:
            continue  # it ended while we looked, or is another user's
    return found


def signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)

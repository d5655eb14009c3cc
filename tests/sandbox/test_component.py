"""The programs around the server start on a clean folder, say what is wrong, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from sandbox.component import Component, Refused, free_port, processes_in, require_free
from sandbox.postgres import Postgres
from sandbox.tempo_node import TempoNode
from sandbox.valkey import Valkey

# Starts one component and then does nothing: the parent that tests kill.
PARENT = """
import sys, time
from pathlib import Path
from sandbox.{module} import {kind}
server = {kind}(Path(sys.argv[1]), port=int(sys.argv[2]))
server.start(); server.wait_ready(); print(server.process.pid, flush=True); time.sleep(60)
"""

KINDS = [
    pytest.param(lambda folder: Postgres(folder, port=free_port()), id="Postgres"),
    pytest.param(lambda folder: Valkey(folder, port=free_port()), id="Valkey"),
    pytest.param(lambda folder: TempoNode(folder, port=free_port()), id="TempoNode"),
]


@pytest.fixture
def open_folder(sandbox_folder: Path) -> Path:
    """A fresh folder that other users may enter."""
    folder = sandbox_folder / f"component-{time.monotonic_ns()}"
    folder.mkdir(mode=0o755)
    return folder


@pytest.mark.parametrize("make", KINDS)
def test_a_component_starts_twice_in_its_folder_and_stops_without_a_trace(
    make: Callable[[Path], Component], open_folder: Path
) -> None:
    """The second start finds what the first one left in order: state survives, locks and processes do not."""
    component = make(open_folder / "it")
    for _ in range(2):
        component.start()
        component.wait_ready()
        assert processes_in(component.working_folder, name=component.program_name)
        component.stop()
        assert processes_in(component.working_folder, name=component.program_name) == []


@pytest.mark.parametrize(
    ("module", "kind"), [("postgres", "Postgres"), ("valkey", "Valkey"), ("tempo_node", "TempoNode")]
)
def test_a_component_ends_with_the_process_that_started_it(module: str, kind: str, open_folder: Path) -> None:
    """Also when that process is killed and can stop nothing itself: no stray database may hold a port for ever."""
    parent = start_parent(module, kind, open_folder)
    assert parent.stdout
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    assert ends(pid, seconds=20)


def test_a_second_owner_of_a_folder_is_refused(open_folder: Path) -> None:
    """Two Postgres on one data folder would destroy it, so the folder is locked and the sentence names the owner."""
    first = Valkey(open_folder, port=free_port())
    first.start()
    try:
        with pytest.raises(Refused, match=f"already run from .* by process {os.getpid()}"):
            Valkey(open_folder, port=free_port()).start()
    finally:
        first.stop()


def test_a_postgres_left_behind_is_stopped_and_its_data_kept(
    open_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Frozen while its starter was killed, it did not hear the kernel's signal; the next start ends it."""
    parent = start_parent("postgres", "Postgres", open_folder)
    assert parent.stdout
    pid = int(parent.stdout.readline())
    os.kill(pid, signal.SIGSTOP)
    parent.kill()
    parent.wait()
    server = Postgres(open_folder, port=free_port())
    server.start()
    try:
        server.wait_ready()
        assert "left behind" in capfd.readouterr().out
        assert ends(pid, seconds=1)
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        server.stop()


def test_postgres_starts_after_it_was_killed_although_its_pid_file_names_a_living_process(open_folder: Path) -> None:
    """After a crash the number in postmaster.pid may be another process's by now; Postgres alone would not start."""
    server = Postgres(open_folder, port=free_port())
    server.start()
    server.wait_ready()
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    server.kill()
    pid_file = server.working_folder / "postmaster.pid"
    pid_file.write_text("\n".join([str(os.getpid()), *pid_file.read_text().splitlines()[1:]]) + "\n")
    server.start()
    try:
        server.wait_ready()
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    finally:
        server.stop()


def test_postgres_keeps_its_promises_of_durability(postgres: Postgres) -> None:
    """The tests and `make run` judge crash safety, which means nothing without fsync."""
    with psycopg.connect(postgres.url) as connection:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            assert connection.execute("SELECT current_setting(%s)", (name,)).fetchone() == ("on",)


def test_the_database_password_is_for_its_owner_only(postgres: Postgres) -> None:
    """Whoever may read it owns every balance of the development wallet."""
    assert (postgres.folder / "password").stat().st_mode & 0o077 == 0
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.url.replace("monay:", "monay:not-"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_components_run_for_an_ordinary_user(sandbox_folder: Path) -> None:
    """Developers are not root; then Postgres runs as the developer."""
    folder = sandbox_folder / "ordinary"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    parent = start_parent("postgres", "Postgres", folder, user="nobody")
    assert parent.stdout
    pid = int(parent.stdout.readline())
    assert Path(f"/proc/{pid}").stat().st_uid == 65534
    assert (folder / "data").stat().st_uid == 65534
    parent.terminate()
    parent.wait()
    assert ends(pid, seconds=20)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as another user")
def test_root_keeps_the_data_where_the_database_user_can_reach_it(tmp_path: Path) -> None:
    """A project in root's home is closed to the user Postgres runs as, and stays closed."""
    tmp_path.chmod(0o700)
    server = Postgres(tmp_path / "postgres", port=free_port())
    server.start()
    try:
        server.wait_ready()
        assert tmp_path not in server.working_folder.parents
        assert tmp_path.stat().st_mode & 0o777 == 0o700
    finally:
        server.stop()
        server.erase()
    assert not server.working_folder.parent.exists()


def test_a_taken_port_is_one_sentence_that_names_the_way_out() -> None:
    """Otherwise a second gRPC server would share the port silently, or Postgres would fail in its own log."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Refused, match=f"The server cannot listen on {listen}, the port is taken: .*GRPC_LISTEN"):
            require_free(listen, what="The server", setting="GRPC_LISTEN")


def test_a_program_that_ends_at_its_start_is_reported_with_its_last_words(open_folder: Path) -> None:
    """The reason stands in its log; nobody should have to look for it."""
    server = Postgres(open_folder, port=free_port(), settings={"shared_buffers": "nonsense"})
    server.start()
    try:
        with pytest.raises(Refused, match=r"(?s)Postgres ended at its start, with exit code 1.*nonsense"):
            server.wait_ready()
    finally:
        server.stop()


def start_parent(module: str, kind: str, folder: Path, *, user: str | None = None) -> subprocess.Popen[str]:
    code = PARENT.format(module=module, kind=kind)
    return subprocess.Popen(
        [interpreter_for(user), "-c", code, str(folder), str(free_port())],
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        user=user,
        group=user and "nogroup",
        extra_groups=[] if user else None,
    )


def interpreter_for(user: str | None) -> str:
    """A Python of our version that this user can run: ours may stand in root's home."""
    for path in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        if user is None or subprocess.run(["test", "-x", path], user=user, extra_groups=[]).returncode == 0:
            return path
    pytest.skip(f"{user} can run no Python of this version")


def ends(pid: int, *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def alive(pid: int) -> bool:
    """Whether it runs. An ended orphan may wait a while for the machine's first process to take note of it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False

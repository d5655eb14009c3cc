"""`make run` starts a whole wallet, says where it is, and takes everything with it when it goes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from monay.wallet.v1.consumer_wallet_service_pb2_grpc import ConsumerWalletServiceStub
from monay.wallet.v1.money_pb2 import GetBalanceRequest
from sandbox.listen import PARTS
from tests.sandbox.wallet_run import Run, alice, command, new_run

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def run(sandbox_folder: Path) -> Iterator[Run]:
    """A wallet that a test starts itself."""
    yield from new_run(sandbox_folder)


@pytest.fixture(scope="module")
def running(sandbox_folder: Path) -> Iterator[Run]:
    """A wallet that runs already, for tests that leave it as it is."""
    for run in new_run(sandbox_folder):
        run.start(TEMPO_MOCK_MODE="true")
        run.wait_greeting()
        yield run


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.system)])
def test_a_signal_stops_everything_and_leaves_no_process(run: Run, number: signal.Signals) -> None:
    """Ctrl-C at a terminal, SIGTERM from a script: an orderly end, so exit code 0."""
    process = run.start(TEMPO_MOCK_MODE="true")
    run.wait_greeting()
    assert run.left()
    process.send_signal(number)
    assert run.ends() == 0, run.said
    assert run.left() == []
    assert not (run.folder / "endpoints.json").exists()


def test_the_endpoints_are_published_for_the_other_commands(running: Run) -> None:
    """`make demo` and `make token` find the wallet by this file, which also holds its secrets."""
    published = running.folder / "endpoints.json"
    assert json.loads(published.read_text())["grpc"] == running.addresses["GRPC_LISTEN"]
    assert published.stat().st_mode & 0o077 == 0


@pytest.mark.system
@pytest.mark.parametrize("part", ["postgres", "valkey-server", "anvil", "-m sandbox.circle", "-m server"])
def test_if_one_part_ends_all_end_and_it_is_named(run: Run, part: str) -> None:
    """Half a wallet would only look like one."""
    names = {"postgres": "Postgres", "valkey-server": "Valkey", "anvil": "Tempo", "-m sandbox.circle": "Circle"}
    names["-m server"] = "wallet server"
    process = run.start()
    run.wait_greeting()
    os.kill(child_of(process.pid, part), signal.SIGKILL)
    assert run.ends() == 1
    assert names[part] in run.said.splitlines()[-1] or f"{names[part]} ended while the wallet ran" in run.said
    assert run.left() == []


@pytest.mark.system
async def test_state_survives_a_restart(run: Run) -> None:
    """Alice keeps her id and her money, and is not paid a second time."""
    run.start()
    run.wait_greeting()
    before = alice(run.said), await balance(run)
    assert run.process
    run.process.terminate()
    assert run.ends() == 0
    run.start()
    run.wait_greeting()
    await asyncio.sleep(3)
    assert (alice(run.said), await balance(run)) == before


@pytest.mark.system
def test_after_it_was_killed_it_starts_again(run: Run) -> None:
    """kill -9 leaves it no time to stop anything; the kernel and the next start see to that."""
    process = run.start()
    run.wait_greeting()
    process.kill()
    run.ends()
    run.start()
    run.wait_greeting()


@pytest.mark.parametrize("setting", sorted(PARTS))
def test_a_taken_port_is_one_sentence(run: Run, setting: str) -> None:
    """Whatever part it belongs to, and before anything was started."""
    host, port = run.addresses[setting].split(":")
    with socket.create_server((host, int(port))):
        run.start()
        assert run.ends() == 1
    assert run.said.startswith("make run: ")
    assert f"cannot listen on {run.addresses[setting]}, the port is taken" in run.said
    assert setting in run.said
    assert len(run.said.splitlines()) == 1
    assert run.left() == []


def test_a_second_run_on_the_same_folder_is_refused_and_harms_nothing(running: Run) -> None:
    """Two servers on one ledger are fine; two Postgres on one data folder are not."""
    before = sorted(running.left())
    second = Run(running.folder.with_name("second"))
    second.folder.mkdir(exist_ok=True)
    second.start(TEMPO_MOCK_MODE="true", DATA_DIR=str(running.folder))
    assert second.ends() == 1
    assert "already run from" in second.said
    assert (running.folder / "endpoints.json").exists()
    assert sorted(running.left()) == before


async def test_printed_tokens_are_accepted_for_what_they_say(running: Run) -> None:
    """`make token` signs with the key that the server trusts, and the server holds each token to its words."""
    request = GetBalanceRequest(consumer_id=alice(running.said))
    async with grpc.aio.insecure_channel(running.addresses["GRPC_LISTEN"]) as channel:
        stub = ConsumerWalletServiceStub(channel)
        hers = metadata(running, "--consumer", alice(running.said))
        assert len((await stub.GetBalance(request, metadata=hers)).balances) == 5
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.GetBalance(request, metadata=metadata(running, "--operator", "olga"))
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_reset_is_refused_while_the_wallet_runs(running: Run) -> None:
    """It would take the database away from under the server."""
    done = command(running, "sandbox.reset")
    assert done.returncode == 1
    assert "the wallet runs" in done.stderr
    assert (running.folder / "keys" / "seed").exists()


@pytest.mark.system
def test_reset_removes_database_chain_and_keys_together(run: Run) -> None:
    """One without the others would be money lost or found."""
    run.start()
    run.wait_greeting()
    before = alice(run.said)
    assert run.process
    run.process.terminate()
    run.ends()
    assert command(run, "sandbox.reset").returncode == 0
    assert not run.folder.exists()
    run.folder.mkdir(mode=0o755)
    run.start()
    run.wait_greeting()
    assert alice(run.said) != before


async def balance(run: Run) -> int:
    """What Alice has, in micros of USDC."""
    async with grpc.aio.insecure_channel(run.addresses["GRPC_LISTEN"]) as channel:
        request = GetBalanceRequest(consumer_id=alice(run.said), asset="USDC")
        answer = await ConsumerWalletServiceStub(channel).GetBalance(request, metadata=metadata(run))
        return answer.balances[0].available_micros


def metadata(run: Run, *whose: str) -> grpc.aio.Metadata:
    token = command(run, "sandbox.token", *whose).stdout.strip()
    return grpc.aio.Metadata(("authorization", f"Bearer {token}"))


def child_of(parent: int, command: str) -> int:
    """The direct child with this in its command line."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return next(int(pid) for pid in children if command in command_line(pid))


def command_line(pid: str) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()

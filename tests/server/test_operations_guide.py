"""docs/operations.md, run: each command of the guide is given to a shell, and each answer has to be what it shows.

Ids, times and hashes differ from run to run, so they are compared by their form. `UPDATE_GUIDE=1` writes the answers of
the run into the guide.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from domain.clock import SystemClock, SystemEntropy
from domain.identity import ConsumerId
from domain.settlement import ItemState
from monay.wallet.v1 import consumer_pb2 as pb
from monay.wallet.v1 import operations_service_pb2
from server.workers.audit_chain import AuditChain
from storage import provider_health
from storage.provider_health import ProviderHealthRow
from storage.sealing import KeyRing
from tests.providers.worlds import ManualClock
from tests.workers.house import UNIT
from tests.workers.simulated import SimulatedHouse, simulated_house
from tests.workers.simulated_bank import SimulatedBank, SimulatedBranch

from .conftest import Wallet, consumer, operator, service, serving, wallet_settings
from .people import transfer

GUIDE = Path(__file__).parents[2] / "docs" / "operations.md"

_BLOCK = re.compile(r"(?P<notes>(?:<!-- [^\n]* -->\n)*)```console\n(?P<lines>.*?)```\n", re.DOTALL)
_NOTE = re.compile(r"<!-- (?P<name>\w+): (?P<value>\S+) -->")


# --- the guide --------------------------------------------------------------------------------------------------------


@dataclass
class Step:
    """One command with the answer that the guide shows. Notes before it say what the test does around it."""

    command: str
    answer: str
    place: tuple[int, int]
    before: list[str] = field(default_factory=list)
    keeps: dict[str, str] = field(default_factory=dict)


def steps_of(text: str) -> list[Step]:
    found = []
    for block in _BLOCK.finditer(text):
        lines = block["lines"].splitlines(keepends=True)
        # The method is what a command ends with.
        count = next(number for number, line in enumerate(lines, 1) if "OperationsService/" in line)
        command = "".join(lines[:count]).removeprefix("$ ").rstrip("\n")
        step = Step(command, "".join(lines[count:]), (block.start("lines") + len("".join(lines[:count])), block.end()))
        for note in _NOTE.finditer(block["notes"]):
            if note["name"] == "before":
                step.before.append(note["value"])
            else:
                step.keeps[note["name"]] = note["value"]
        found.append(step)
    return found


# Longer forms first: a hash is not to be taken for a number, nor an id within a longer text for a word.
_FORMS = (
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "<id>"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.0-9]*(Z|\+00:00)"), "<time>"),
    (re.compile(r"\b(0x)?[0-9a-fA-F]{64}\b"), "<hash>"),
    (re.compile(r"\b0x[0-9a-fA-F]{40}\b"), "<address>"),
    (re.compile(r"\bipv4:[0-9.]+:\d+"), "<peer>"),
    (re.compile(r'"\d+(\.\d+)?s"'), '"<duration>"'),
    (re.compile(r"\b[0-9a-f]{12}-\d+\b"), "<call>"),
    (re.compile(r'(?<="nextPageToken": )"[\w-]+"'), '"<token>"'),
)


def form_of(answer: str) -> Any:
    """An answer without what differs from run to run, as JSON where it is JSON."""
    for pattern, form in _FORMS:
        answer = pattern.sub(form, answer)
    try:
        return json.loads(answer)
    except ValueError:
        return [" ".join(line.split()) for line in answer.splitlines()]


def looked_up(answer: str, path: str) -> str:
    """A value in an answer: `items.0.settlement.itemId`."""
    value = json.loads(answer)
    for part in path.split("."):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return str(value)


# --- the world it runs in ---------------------------------------------------------------------------------------------


class BehindClock(ManualClock):
    """Begins a quarter of an hour ago, so that what is simulated is over when the guide is run."""

    def __init__(self) -> None:
        super().__init__()
        self.advance((datetime.now(UTC) - self.now() - timedelta(minutes=15)).total_seconds())


@dataclass
class World:
    """A wallet on a simulated chain, with what the guide's operator finds there."""

    wallet: Wallet
    house: SimulatedHouse
    people: dict[str, uuid.UUID] = field(default_factory=dict)

    async def onboard(self, name: str, number: int) -> uuid.UUID:
        request = pb.OnboardRequest(email=f"{name}@example.com", phone=f"+141555500{number:02}", full_name=name.title())
        answer = await self.wallet.consumers.Onboard(request, metadata=service())
        self.people[name] = uuid.UUID(answer.consumer.id)
        return self.people[name]

    async def pay(self, sender: str, recipient: str, micros: int) -> None:
        request = transfer(self.people[recipient], micros)
        await self.wallet.consumers.Transfer(request, metadata=consumer(self.people[sender]))

    async def furnish(self) -> None:
        """Alice has been paid and pays Bob; later the chain's policy turns against Bob, and then the chain stops."""
        alice, bob, _carol = [await self.onboard(name, number) for number, name in enumerate(("alice", "bob", "carol"))]
        for person in (alice, bob):
            await self.house.house.fund(person, 100 * UNIT)
        await self.house.block()
        await self.house.activate(alice, bob)
        await self.pay("alice", "bob", 5 * UNIT)
        await self.house.work(2)
        self.house.chain.state.forbidden.add((await self.house.house.address(bob)).address)
        await self.pay("alice", "bob", 7 * UNIT)
        await self.house.work(2)
        await self.report("tempo")
        await self.house.house.prove()
        await self.chain_audit()

    async def report(self, provider: str) -> None:
        row = ProviderHealthRow(provider, True, "closed", 12, 1_000_000, "", datetime.now(UTC))
        async with self.house.house.engine.begin() as tx:
            await provider_health.record(tx, row)

    async def chain_audit(self) -> None:
        worker = AuditChain(engine=self.house.house.engine, clock=SystemClock())
        while await worker.extend(timedelta(hours=1)):
            pass

    async def stop_the_chain(self) -> None:
        """A payment goes out and the chain stands still beyond its expiry: nothing can be proven."""
        await self.pay("bob", "alice", 2 * UNIT)
        self.house.chain.state.forbidden.clear()
        await self.house.house.settlement.settle_round()
        self.house.clock.advance(60)
        await self.house.house.settlement.chores()

    async def lose_payout(self) -> None:
        """Alice has money paid out to her bank, and for more than a day nobody can learn whether it was."""
        house, entropy = self.house.house, self.house.house.entropy
        bank = SimulatedBank(house.clock, standing=1_000 * UNIT)
        ring = KeyRing.read(self.wallet.settings.sealing_keys(), entropy=entropy)
        branch, alice = SimulatedBranch(self.house, bank, ring), ConsumerId(self.people["alice"])
        account = await branch.link(alice)
        for _ in range(2):
            await branch.jobs.step()
            await branch.worker.step()
            bank.accept_links()
            self.house.clock.advance(10)
        bank.faults.lose_orders = 1
        await branch.withdraw(alice, account, 40 * UNIT)
        await branch.worker.step()
        await house.execute("UPDATE bank_payouts SET ordered_at = ordered_at - interval '25 hours'")
        self.house.clock.advance(60)
        await branch.worker.step()
        await house.execute("DELETE FROM provider_health WHERE provider = 'circle'")

    async def open_case(self) -> None:
        kinds = (pb.KYC_EVIDENCE_KIND_IDENTITY_DOCUMENT, pb.KYC_EVIDENCE_KIND_SELFIE)
        evidence = [pb.KycEvidence(kind=kind, reference=f"idv_{number}") for number, kind in enumerate(kinds, 7001)]
        request = pb.UpgradeKycRequest(kyc_level=2, evidence=evidence)
        await self.wallet.consumers.UpgradeKyc(request, metadata=consumer(self.people["alice"]))


@asynccontextmanager
async def world_on(database: str, folder: Path) -> AsyncIterator[World]:
    clock = BehindClock()
    entropy: Any = SystemEntropy(clock)
    settings = wallet_settings(database, folder, sandbox_enabled=False, proof_max_age_seconds=3_600)
    async with simulated_house(database, clock=clock, entropy=entropy) as house:
        while await house.house.pool.fill():
            pass
        async with serving(settings) as wallet:
            world = World(wallet, house)
            await world.furnish()
            yield world


# --- running it -------------------------------------------------------------------------------------------------------


async def run(command: str, environment: dict[str, str]) -> str:
    """What the shell prints, errors included."""
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        command,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), timeout=30)
    return output.decode()


async def test_the_guide_shows_what_the_commands_answer(
    database: str, tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    """An operator at night pastes from this page; a wrong line in it is a fault like one in the code."""
    grpcurl = require_program("grpcurl")
    text = GUIDE.read_text()
    steps, answers = steps_of(text), list[str]()
    async with world_on(database, tmp_path) as world:
        environment = {
            "PATH": f"{Path(grpcurl).parent}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "WALLET": world.wallet.settings.grpc_listen,
            "MARIA": operator("maria")[0][1].removeprefix("Bearer "),
            "CHRIS": operator("chris")[0][1].removeprefix("Bearer "),
            **{name.upper(): str(person) for name, person in world.people.items()},
        }
        happenings: dict[str, Callable[[], Awaitable[None]]] = {
            "stop_the_chain": world.stop_the_chain,
            "lose_payout": world.lose_payout,
            "open_case": world.open_case,
            "chain_audit": world.chain_audit,
        }
        for step in steps:
            for happening in step.before:
                await happenings[happening]()
            answer = await run(step.command, environment)
            answers.append(answer)
            environment |= {name: looked_up(answer, path) for name, path in step.keeps.items()}
    if os.environ.get("UPDATE_GUIDE") == "1":
        GUIDE.write_text(written(text, steps, answers))
        return
    for step, answer in zip(steps, answers, strict=True):
        assert form_of(answer) == form_of(step.answer), f"{step.command}\n\nanswered now:\n{answer}"


def written(text: str, steps: list[Step], answers: list[str]) -> str:
    """The guide with these answers in it."""
    for step, answer in reversed(list(zip(steps, answers, strict=True))):
        start, end = step.place
        text = f"{text[:start]}{answer.rstrip()}\n```\n{text[end:]}"
    return text


def test_the_guide_has_every_call_of_operations() -> None:
    """A new rpc without its place in the guide fails here."""
    methods = operations_service_pb2.DESCRIPTOR.services_by_name["OperationsService"].methods
    commands = "\n".join(step.command for step in steps_of(GUIDE.read_text()))
    missing = [method.name for method in methods if f"OperationsService/{method.name}" not in commands]
    assert missing == []


def test_states_in_the_guide_are_states_of_items() -> None:
    """The table of states names each of them once."""
    text = GUIDE.read_text()
    rows = re.findall(r"^\| `([A-Z]+)` \|", text, re.MULTILINE)
    assert sorted(rows) == sorted(state for state in ItemState)


@pytest.mark.parametrize("answer", ['{"age": "12.5s"}', "ERROR:\n  Code: NotFound\n"])
def test_answers_are_compared_by_their_form(answer: str) -> None:
    assert form_of(answer) == form_of(answer.replace("12.5", "7"))

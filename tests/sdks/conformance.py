"""Plays the scenarios of scenarios.json: one SDK, the live wallet, and a proxy between them that fails on demand."""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.sdks.driver import Driver, Json
from tests.sdks.fault_proxy import FaultProxy, fault_proxy
from tests.sdks.stand_in import StandIn, standing_in

SCENARIOS: dict[str, list[Json]] = {
    one["name"]: one["steps"] for one in json.loads(Path(__file__).with_name("scenarios.json").read_text())["scenarios"]
}
# For what the wallet does in its own time: a deposit, a message on a stream. Never waited for in full unless it fails.
PATIENCE_SECONDS = 45
CALL_SECONDS = 20
PLACEHOLDER = re.compile(r"\{(?:(\w+):)?(\w+)\}")


@dataclass
class Play:
    """One scenario, under way."""

    driver: Driver
    proxy: FaultProxy
    stand_in: StandIn
    token: Callable[[str], str]
    saved: dict[str, str] = field(default_factory=dict)

    async def step(self, step: Json) -> None:
        """Do one step, and see that it came out as it says."""
        filled: Json = self._filled(step)
        answer = await getattr(self, f"_{step['do']}")(filled)
        if "expect_error" in filled:
            assert "error" in answer, f"{step}\nwas answered: {answer}"
            compare(answer["error"], filled["expect_error"], step)
        elif step["do"] in ("call", "each"):
            assert "error" not in answer, f"{step}\nwas refused: {answer['error']}"
        if "expect" in filled:
            compare(answer.get("answer", answer), filled["expect"], step)
        for name, path in filled.get("save", {}).items():
            self.saved[name] = str(found(answer["answer"], path))

    async def _connect(self, step: Json) -> Json:
        tokens = [self.token(kind) for kind in step["tokens"]]
        target = step.get("target", self.proxy.target)
        return await self.driver.do(
            do="connect", client=step["client"], target=target, tokens=tokens, timeout=CALL_SECONDS
        )

    async def _call(self, step: Json) -> Json:
        command = {key: step[key] for key in ("do", "rpc", "request", "timeout") if key in step}
        requests, calls = self.proxy.requests, self.stand_in.calls
        answer = await self.driver.do(client=step.get("client", "backend"), **command)
        if "requests" in step:
            assert self.proxy.requests - requests == step["requests"], f"{step}\nsent {self.proxy.requests - requests}"
        if "calls" in step:
            assert self.stand_in.calls - calls == step["calls"], f"{step}\nsent {self.stand_in.calls - calls}"
        return answer

    async def _each(self, step: Json) -> Json:
        answer = await self._call(step)
        assert len(answer.get("items", [])) == step["count"], f"{step}\ngave {answer}"
        return answer

    async def _until(self, step: Json) -> Json:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            answer = await self._call({**step, "do": "call"})
            if all(found(answer["answer"], path) == value for path, value in step["expect"].items()):
                return answer
            assert time.monotonic() < deadline, f"{step}\ngave at last {answer}"
            await asyncio.sleep(0.1)

    async def _people(self, step: Json) -> Json:
        for name in step["names"]:
            contact = {"email": self._value("email", name), "phone": self._value("phone", name)}
            answer = await self._call({"do": "call", "rpc": "Onboard", "request": contact})
            self.saved[name] = answer["answer"]["consumer"]["id"]
        for name, micros in step.get("fund", {}).items():
            whose = {"consumerId": self.saved[name]}
            gift = {**whose, "amount": {"asset": "USDC", "micros": micros}}
            await self._call({"do": "call", "rpc": "Faucet", "request": gift})
            balance = {"balances.0.availableMicros": micros}
            await self._until({"rpc": "GetBalance", "request": {**whose, "asset": "USDC"}, "expect": balance})
        return {}

    async def _repeat(self, step: Json) -> Json:
        for _ in range(step["times"]):
            await self.step(step["step"])
        return {}

    async def _watch(self, step: Json) -> Json:
        command = {key: step[key] for key in ("do", "watch", "rpc", "request", "failAt") if key in step}
        return await self.driver.do(client=step.get("client", "backend"), **command)

    async def _seen(self, step: Json) -> Json:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            answer = await self.driver.do(do="seen", watch=step["watch"])
            if enough(answer, step):
                return answer
            assert time.monotonic() < deadline, f"{step}\nsaw at last {answer}"
            await asyncio.sleep(0.1)

    async def _unwatch(self, step: Json) -> Json:
        return await self.driver.do(do="unwatch", watch=step["watch"])

    async def _parse(self, step: Json) -> Json:
        return await self.driver.do(do="parse", asset="USDC", amount=step["amount"])

    async def _format(self, step: Json) -> Json:
        return await self.driver.do(do="format", micros=step["micros"])

    async def _fault(self, step: Json) -> Json:
        arguments = {key: step[key] for key in ("seconds",) if key in step}
        getattr(self.proxy, step["fault"])(**arguments)
        return {}

    async def _stand_in(self, step: Json) -> Json:
        self.stand_in.refusals = list(step["refusals"])
        return await self._connect({"client": "stand_in", "tokens": ["service"], "target": self.stand_in.target})

    def _filled(self, value: Any) -> Any:
        """The step with a value for every placeholder. What is repeated is filled anew each time."""
        if isinstance(value, dict):
            return {key: one if key == "step" else self._filled(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self._filled(one) for one in value]
        if isinstance(value, str):
            return PLACEHOLDER.sub(lambda match: self._value(match[1] or "", match[2]), value)
        return value

    def _value(self, kind: str, name: str) -> str:
        if not kind:
            return self.saved[name]
        made = uuid.uuid4()
        makers = {
            "uuid": lambda: str(made),
            "email": lambda: f"{name}-{made.hex[:12]}@example.com",
            "phone": lambda: f"+1415{made.int % 10**7:07}",
        }
        return self.saved.setdefault(f"{kind}:{name}", makers[kind]())


def enough(answer: Json, step: Json) -> bool:
    """Whether a watch has seen what the step waits for. More than that is a fault, and does not wait."""
    if "transactions" in step:
        amounts = [event["transaction"]["amount"]["micros"] for event in answer["events"] if "transaction" in event]
        assert amounts == step["transactions"][: len(amounts)], f"{step}\nsaw {amounts}"
        return len(amounts) == len(step["transactions"])
    if "count" in step:
        assert len(answer["events"]) <= step["count"], f"{step}\nsaw {answer}"
        return len(answer["events"]) >= int(step["count"])
    return answer["error"] is not None


def compare(answer: Json, expected: Json, step: Json) -> None:
    for path, value in expected.items():
        assert found(answer, path) == value, f"{step}\n{path} is {found(answer, path)!r} in {answer}"


def found(answer: Any, path: str) -> Any:
    """What a path of keys and indexes leads to. A key that itself has a dot is not in the contract."""
    for part in path.split("."):
        if answer is None:
            return None
        if isinstance(answer, list):
            answer = answer[int(part)] if int(part) < len(answer) else None
        else:
            answer = answer.get(part)
    return answer


async def play(name: str, driver: Driver, wallet: str, token: Callable[[str], str]) -> None:
    """One scenario with one SDK."""
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(fault_proxy(wallet))
        stand_in = await stack.enter_async_context(standing_in())
        under_way = Play(driver, proxy, stand_in, token)
        await under_way.step({"do": "connect", "client": "backend", "tokens": ["service"]})
        for step in SCENARIOS[name]:
            await under_way.step(step)

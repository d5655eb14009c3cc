"""Makes the calls and judges what comes back: whatever was sent, no fault of ours and no money out of nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

import grpc
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from monay.wallet.v1 import access_pb2
from tests.fuzzing.messages import message, spoilt
from tests.fuzzing.values import Values

# What is answered where something of ours failed. Everything else is a decision, or the deadline of the caller.
FAULTS = frozenset({grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS})
# Decided by gRPC before or instead of us, so without our details.
_WITHOUT_REASON = frozenset({grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody with a token: of which `token_use`, and with which wallet, if it is a consumer."""

    use: int
    metadata: Metadata
    consumer_id: str = ""


@dataclass(frozen=True, slots=True)
class Sent:
    """One call, as it has to be known to be made again."""

    number: int
    method: MethodDescriptor
    body: bytes
    metadata: Metadata
    timeout: float

    def __str__(self) -> str:
        return f"call {self.number}, {self.method.full_name} with {self.body[:400]!r} ({len(self.body)} bytes)"


@dataclass
class Score:
    """What was tried, how it ended, and what should not have happened."""

    calls: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    answered: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)

    def table(self) -> str:
        """For the terminal."""
        lines = [f"{sum(self.calls.values())} calls of {len(self.calls)} rpcs, {len(self.answered)} of which answered"]
        lines += [f"  {count:7}  {ending}" for ending, count in self.endings.most_common()]
        never = sorted(name.rpartition(".")[2] for name in self.calls.keys() - self.answered)
        return "\n".join([*lines, f"  never answered: {', '.join(never)}"])


class Player:
    """Plays calls of all methods, in a random order that its seed decides."""

    def __init__(
        self, channel: grpc.aio.Channel, methods: list[MethodDescriptor], callers: list[Caller], *, seed: int
    ) -> None:
        self._channel = channel
        self._methods = methods
        self._callers = callers
        self._random = Random(seed)
        self.values = Values(self._random, known=[])
        self.expendable = ""
        """Who is frozen in everybody's place: of frozen wallets nothing is learned but that they are frozen."""
        self.score = Score()

    async def play(self, calls: int, *, at_once: int = 8) -> Score:
        """Make so many calls, some at a time, every rpc as often as every other."""
        numbers = iter(range(calls))

        async def caller() -> None:
            for number in numbers:
                await self._send(self._made_up(number))

        await asyncio.gather(*(caller() for _ in range(at_once)))
        return self.score

    def _made_up(self, number: int) -> Sent:
        method = self._methods[number % len(self._methods)]
        caller = self._caller(method)
        request: Any = message(method.input_type, self.values)
        if "consumer_id" in method.input_type.fields_by_name and self._random.random() < 0.85:
            request.consumer_id = caller.consumer_id or self._random.choice(self.values.known)
        if method.name == "FreezeConsumer":
            request.consumer_id = self.expendable
        body = request.SerializeToString()
        if self._random.random() < 0.2:
            body = spoilt(body, self._random)
        timeout = self._random.choices((3.0, 0.02, 0.0001, 0.0), (90, 5, 3, 2))[0]
        return Sent(number, method, body[:3_900_000], self._metadata(caller), timeout)

    def _caller(self, method: MethodDescriptor) -> Caller:
        """Mostly one whom the rpc lets in."""
        welcome = set(method.GetOptions().Extensions[access_pb2.access].callers)
        fitting = [caller for caller in self._callers if caller.use in welcome]
        return self._random.choice(fitting if fitting and self._random.random() < 0.9 else self._callers)

    def _metadata(self, caller: Caller) -> Metadata:
        chance, own = self._random.random(), caller.metadata
        if chance < 0.03:
            return (("authorization", "Bearer " + "".join(self._random.choices("aB0.-_", k=200))),)
        if chance < 0.06:
            return (*own, ("x-request-id", self._random.choice(("a b", "x" * 500, "%00"))), *own)
        if chance < 0.09:
            return (*own, ("x-forwarded-for", "::1, not-an-address"), ("x-trace-bin", b"\xff\x00"))  # type: ignore[arg-type]
        return own

    async def _send(self, sent: Sent) -> None:
        self.score.calls[sent.method.full_name] += 1
        path = f"/{sent.method.containing_service.full_name}/{sent.method.name}"
        options: dict[str, Any] = {"metadata": sent.metadata, "timeout": sent.timeout}
        try:
            if sent.method.server_streaming:
                watch: Any = self._channel.unary_stream(path)
                answer = await self._first_of(watch(sent.body, **options))
            else:
                ask: Any = self._channel.unary_unary(path)
                answer = await ask(sent.body, **options)
        except grpc.aio.AioRpcError as error:
            self._judge(sent, error)
        else:
            self.score.endings["OK"] += 1
            self.score.answered.add(sent.method.full_name)
            if answer:
                self._learn(GetMessageClass(sent.method.output_type).FromString(answer))

    async def _first_of(self, call: Any) -> bytes:
        """The first message of a stream, if one comes soon; then the client goes away."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                async for first in call:
                    call.cancel()
                    return bytes(first)
                return b""
        call.cancel()
        return b""

    def _judge(self, sent: Sent, error: grpc.aio.AioRpcError) -> None:
        code, reason = error.code(), _reason(error)
        self.score.endings[f"{code.name} {reason}".strip()] += 1
        if code in FAULTS:
            self.score.faults.append(f"{sent} ended in {code.name}: {error.details()}")
        elif not reason and code not in _WITHOUT_REASON:
            self.score.faults.append(f"{sent} ended in {code.name} without a reason: {error.details()}")

    def _learn(self, answer: Message) -> None:
        """Texts of an answer lead further: ids, page tokens, cursors."""
        for each, value in answer.ListFields():
            if each.type == FieldDescriptor.TYPE_STRING and not each.is_repeated:
                self.values.remember(answer.DESCRIPTOR.name, each.name, value)
            elif each.message_type is not None and not each.message_type.GetOptions().map_entry:
                for one in list(value)[:3] if each.is_repeated else [value]:
                    self._learn(one)


def _reason(error: grpc.aio.AioRpcError) -> str:
    trailers: dict[str, Any] = dict(error.trailing_metadata() or ())
    packed = trailers.get("grpc-status-details-bin")
    info = error_details_pb2.ErrorInfo()
    for detail in status_pb2.Status.FromString(packed).details if packed else ():
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
    return str(info.reason)

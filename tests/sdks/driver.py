"""An SDK under test: a small program of its language that does one command a line, as JSON, and answers on the next.

connect  client, target, tokens, timeout     a client; its token source gives the tokens one after the other
call     client, rpc, request, timeout       -> answer | error {code, reason, facts, definite, requestId, violations}
each     client, rpc, request                -> items | error, by the SDK's iterator over all pages
watch    watch, client, rpc, request, failAt   in the background; the handler fails at its n-th event, once, and the
                                             watch is then begun again at the cursor that was saved
seen     watch                               -> events so far, cursor, and the error if the watch ended
unwatch  watch
parse    asset, amount                       -> micros | refused
format   micros                              -> amount
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sandbox.endpoints import ROOT

# A JVM's first call on a busy machine takes its time.
ANSWER_SECONDS = 60
# A statement of everything a scenario did is one line.
LINE_BYTES = 4_000_000

Json = dict[str, Any]


class Driver:
    """One such program, running."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def do(self, **command: Any) -> Json:
        """One command and its answer. Whatever the driver itself cannot do ends the test."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        line = await asyncio.wait_for(self._process.stdout.readline(), ANSWER_SECONDS)
        assert line, f"the driver ended at {command}"
        answer: Json = json.loads(line)
        assert "fault" not in answer, f"{command}: {answer['fault']}"
        return answer


@asynccontextmanager
async def driving(command: list[str]) -> AsyncIterator[Driver]:
    """Run a driver until the block ends. It leaves when its input ends."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_BYTES
    )
    try:
        yield Driver(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 15)
        except TimeoutError:
            process.kill()
            await process.wait()

"""`python -m server workers`, with a step at which the process kills itself: the only place where such a thing exists.

CRASH_AT names the step. The kill is the real one, SIGKILL: no handler runs, nothing is flushed, connections just end.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from domain.commands import Command
from providers.tempo.keys import LocalSigner
from providers.tempo.provider import TempoProvider
from server.main import main
from server.workers.attempts import Attempts
from server.workers.watcher import Watcher


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _before(owner: type, name: str, condition: Callable[..., bool] = lambda *_: True) -> None:
    original = getattr(owner, name)

    async def dying(*arguments: Any, **named: Any) -> Any:
        if condition(*arguments):
            die()
        return await original(*arguments, **named)

    setattr(owner, name, dying)


def _after(owner: type, name: str, condition: Callable[..., bool] = lambda *_: True) -> None:
    original = getattr(owner, name)

    async def dying(*arguments: Any, **named: Any) -> Any:
        answer = await original(*arguments, **named)
        if condition(*arguments):
            die()
        return answer

    setattr(owner, name, dying)


def _confirms(_: Watcher, command: Command) -> bool:
    return bool(command.transitions)


STEPS: dict[str, Callable[[], None]] = {
    "before_sign": lambda: _before(LocalSigner, "sign_transfers"),
    "after_sign": lambda: _after(LocalSigner, "sign_transfers"),
    "before_persist": lambda: _before(Attempts, "carry_out", lambda _, prepared, *__: bool(prepared)),
    "after_persist": lambda: _before(TempoProvider, "submit"),
    "after_broadcast": lambda: _after(TempoProvider, "submit"),
    "after_noting_it": lambda: _after(Attempts, "send"),
    "before_confirm": lambda: _before(Watcher, "_submit", _confirms),
    "after_confirm": lambda: _after(Watcher, "_submit", _confirms),
}

if __name__ == "__main__":
    if step := os.environ.get("CRASH_AT"):
        STEPS[step]()
    sys.exit(main(["workers"]))

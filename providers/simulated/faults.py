"""What can go wrong on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Step(StrEnum):
    """The moments at which a process may be made to die."""

    SIGN = "sign"
    SUBMIT = "submit"
    SUBMITTED = "submitted"


def _carry_on(step: Step) -> None:
    """Nothing happens at any step."""


@dataclass(slots=True)
class Faults:
    """Switches, read whenever the chain or its adapter is used. Counters go down as they are used up.

    `drop_broadcasts`: so many submissions are answered with a hash and forgotten, as nodes do.
    `lose_answers`: so many submissions take effect, and their answer never arrives.
    `late_blocks`: what is submitted now waits this many more blocks.
    `lag_blocks`: reads show a chain this much shorter. `halted`: no more blocks. `unreachable`: no answers at all.
    `at_step` is called at each step; raising there is the crash.
    """

    drop_broadcasts: int = 0
    lose_answers: int = 0
    late_blocks: int = 0
    lag_blocks: int = 0
    halted: bool = False
    unreachable: bool = False
    at_step: Callable[[Step], None] = _carry_on

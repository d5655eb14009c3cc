"""When a call may be sent again, and after which pause: decided here, for both faces of the client."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from monay.wallet.errors import WalletError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient a client is. Pauses double and are drawn at random, so that many clients do not return at once."""

    attempts: int = 5
    """Of one call, the first included. A watched stream connects anew for as long as it is watched."""
    first_pause: float = 0.2
    longest_pause: float = 5.0
    stream_pause: float = 30.0
    """The longest pause of a watched stream whose server stays away."""


@dataclass(slots=True)
class Tries:
    """The tries of one call: how long the next may take, and whether there is a next one."""

    policy: RetryPolicy
    timeout: float
    repeatable: bool
    clock: Callable[[], float] = time.monotonic
    draw: Callable[[], float] = random.random
    _made: int = 0
    _deadline: float = field(init=False)

    def __post_init__(self) -> None:
        self._deadline = self.clock() + self.timeout

    def remaining(self) -> float:
        """What is left of the call's time; all its tries share it."""
        return max(self._deadline - self.clock(), 0.001)

    def pause_after(self, error: WalletError) -> float | None:
        """How long to wait before the next try; None where the error is the answer."""
        self._made += 1
        if not (self.repeatable and error.passing) or self._made >= self.policy.attempts:
            return None
        pause = backoff(self._made, self.policy.first_pause, self.policy.longest_pause, self.draw)
        if error.retry_after is not None:
            # The server knows when there is room; a little chance on top keeps the crowd apart.
            pause = error.retry_after.total_seconds() * (1 + self.draw() / 4)
        return pause if pause < self.remaining() else None


def backoff(failures: int, first: float, longest: float, draw: Callable[[], float] = random.random) -> float:
    """The pause after so many failures in a row: between half and all of a doubling span."""
    span = min(first * 2.0 ** min(failures - 1, 20), longest)
    return span * (0.5 + draw() / 2)

"""Rate limits: so many requests a second of each key, counted apart for reading and writing.

In real time, whatever the simulator's clock says: a client that is too fast is too fast.
"""

from __future__ import annotations

import math
import time

from sandbox.circle.refusals import Refusal

READS_PER_SECOND = 20
WRITES_PER_SECOND = 5
# A few writes that Circle allows more of.
GENEROUS_PER_SECOND = 10


class Limits:
    def __init__(self) -> None:
        self.enabled = True
        self._tokens: dict[tuple[str, int], tuple[float, float]] = {}

    def take(self, key: str, *, per_second: int) -> None:
        """Spend one request of this key, or refuse with the seconds to wait."""
        if not self.enabled:
            return
        now = time.monotonic()
        left, since = self._tokens.get((key, per_second), (float(per_second), now))
        left = min(float(per_second), left + (now - since) * per_second)
        if left < 1:
            self._tokens[key, per_second] = left, now
            raise limit_exceeded(math.ceil((1 - left) / per_second))
        self._tokens[key, per_second] = left - 1, now


def limit_exceeded(retry_after: int) -> Refusal:
    return Refusal(429, 429, "Limit exceeded", retry_after=retry_after)

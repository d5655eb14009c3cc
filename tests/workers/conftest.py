"""Houses on the simulated chain."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.providers.worlds import ManualClock, SeededEntropy
from tests.workers.simulated import SimulatedHouse, simulated_house


@pytest.fixture
async def house(database: str) -> AsyncIterator[SimulatedHouse]:
    """Empty books over a simulated chain with the operator's float on it; nothing moves but by the test."""
    async with simulated_house(database, clock=ManualClock(), entropy=SeededEntropy(1)) as house:
        yield house

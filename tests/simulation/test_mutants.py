"""The simulation finds the bugs that it is there to find: each is planted, and played until a seed breaks."""

from __future__ import annotations

import pytest

from tests.simulation.mutants import MUTANTS, planted
from tests.simulation.stage import Stage

SEEDS = 200


@pytest.mark.system
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", sorted(MUTANTS))
async def test_a_planted_bug_is_caught(stage: Stage, name: str) -> None:
    """Whatever rule the bug breaks, some history shows it; without it the same histories pass."""
    with planted(name):
        for seed in range(SEEDS):
            if (await stage.play(seed)).failure:
                break
        else:
            pytest.fail(f"{SEEDS} histories passed with {name} in the code")

"""A rail in memory: the same protocols as Tempo's over a chain whose clock, chance and faults the caller owns.

It plays two parts: the chain of `TEMPO_MOCK_MODE`, and the chain of the seeded simulation of settlement. A custodian in
memory stands beside it in the simulation.
"""

from providers.simulated.chain import SimulatedChain
from providers.simulated.custodian import SimulatedCustodian
from providers.simulated.faults import Faults, Step
from providers.simulated.rail import SimulatedConfig, SimulatedRail, connect

__all__ = ["Faults", "SimulatedChain", "SimulatedConfig", "SimulatedCustodian", "SimulatedRail", "Step", "connect"]

"""The one place where the parts of the simulated rail are put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from domain.clock import Clock, Entropy
from domain.money import MICROS_PER_UNIT, Asset
from providers.base import Holding
from providers.simulated.chain import SimulatedChain
from providers.simulated.exchange import SimulatedExchange
from providers.simulated.keys import SimulatedSigner
from providers.simulated.provider import SimulatedProvider
from providers.simulated.reader import SimulatedReader
from providers.simulated.state import OUTSIDE_ADDRESS
from providers.simulated.transactions import SimulatedTransaction, TransferCall, reference_of


@dataclass(frozen=True, slots=True)
class SimulatedConfig:
    """How the chain begins, and how it goes on.

    `name` is the provider it plays: "tempo" in mock mode. `block_seconds=None` leaves mining to the caller, and `path`
    keeps the chain in a file.
    """

    seed: bytes
    name: str = "simulated"
    operator_float_micros: Mapping[Asset, int] = field(
        default_factory=lambda: dict.fromkeys(Asset, 10_000_000 * MICROS_PER_UNIT)
    )
    fee_payer_micros: int = 1_000_000 * MICROS_PER_UNIT
    block_seconds: float | None = None
    path: Path | None = None
    window: timedelta = timedelta(seconds=25)
    max_head_drift: timedelta = timedelta(seconds=3)


@dataclass(frozen=True, slots=True)
class SimulatedFaucet:
    """Everybody else's money, without end."""

    chain: SimulatedChain
    clock: Clock
    entropy: Entropy

    async def fund(self, address: str, asset: Asset, micros: int) -> str:
        """Pay the address in the next block."""
        transaction = SimulatedTransaction(
            sender=OUTSIDE_ADDRESS,
            fee_payer=None,
            valid_before=self.clock.now() + timedelta(hours=1),
            transfers=(TransferCall(asset, OUTSIDE_ADDRESS, address, micros),),
            # Equal payments are different payments.
            salt=self.entropy.token_bytes(8).hex(),
        )
        payload = transaction.encode()
        self.chain.submit(payload)
        return reference_of(payload)


@dataclass(frozen=True, slots=True)
class SimulatedRail:
    """The rail, ready to work."""

    chain: SimulatedChain
    provider: SimulatedProvider
    reader: SimulatedReader
    exchange: SimulatedExchange
    signer: SimulatedSigner
    faucet: SimulatedFaucet

    async def close(self) -> None:
        """Nothing is open."""


def connect(config: SimulatedConfig, *, clock: Clock, entropy: Entropy) -> SimulatedRail:
    """Build the rail over a new chain, or over the one its file remembers."""
    signer = SimulatedSigner(config.seed)
    chain = SimulatedChain(
        clock=clock,
        entropy=entropy,
        genesis=_genesis(config, signer),
        block_seconds=config.block_seconds,
        path=config.path,
    )
    reader = SimulatedReader(chain)
    provider = SimulatedProvider(
        chain,
        reader,
        signer,
        clock=clock,
        name=config.name,
        window=config.window,
        max_head_drift=config.max_head_drift,
    )
    faucet = SimulatedFaucet(chain, clock, entropy)
    return SimulatedRail(chain, provider, reader, SimulatedExchange(reader), signer, faucet)


def _genesis(config: SimulatedConfig, signer: SimulatedSigner) -> dict[Holding, int]:
    floats = {Holding(signer.operator_address, asset): micros for asset, micros in config.operator_float_micros.items()}
    return {**floats, Holding(signer.fee_payer_address, Asset.USDC): config.fee_payer_micros}

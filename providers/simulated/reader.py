"""What the simulated chain shows. Its faults decide how much of that can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from domain.money import Asset
from providers.base import Block, DeathEvidence, Head, Holding, ProviderUnavailable, Receipt
from providers.simulated.chain import CHAIN_ID, SimulatedChain

ENDPOINT: Final = "simulated"


class SimulatedReader:
    """Reads of one simulated chain."""

    def __init__(self, chain: SimulatedChain) -> None:
        self._chain = chain

    async def chain_id(self) -> int:
        return CHAIN_ID

    async def finalized(self, *, endpoint: str | None = None) -> Head:
        return self._head(self._height())

    async def blocks(self, first: int, last: int, *, endpoint: str | None = None) -> list[Block]:
        self._expect(last)
        return [self._chain.block(number) for number in range(first, last + 1)]

    async def receipts(self, references: Sequence[str]) -> dict[str, Receipt]:
        found = {reference: self._receipt(reference) for reference in references}
        return {reference: receipt for reference, receipt in found.items() if receipt is not None}

    async def balances(self, holders: Sequence[str], asset: Asset, *, at_block: int) -> dict[str, int]:
        self._expect(at_block)
        return {holder: self._chain.state.balances.at(Holding(holder, asset), at_block) for holder in holders}

    async def allowances(self, holders: Sequence[str], asset: Asset, *, at_block: int | None = None) -> dict[str, int]:
        block = self._height() if at_block is None else at_block
        self._expect(block)
        return {holder: self._chain.state.allowances.at(Holding(holder, asset), block) for holder in holders}

    async def may_receive(self, addresses: Sequence[str], asset: Asset) -> dict[str, bool]:
        self._height()
        return {address: address not in self._chain.state.forbidden for address in addresses}

    async def evidence_of_death(
        self, reference: str, *, holdings: Sequence[Holding], at_block: int | None = None
    ) -> DeathEvidence:
        finalized = self._head(self._height())
        number = finalized.number if at_block is None else at_block
        self._expect(number)
        balances = {holding: self._chain.state.balances.at(holding, number) for holding in holdings}
        return DeathEvidence(finalized, self._head(number), self._receipt(reference), balances)

    def _height(self) -> int:
        if self._chain.faults.unreachable:
            raise ProviderUnavailable("the simulated chain is unreachable")
        return max(0, self._chain.height - self._chain.faults.lag_blocks)

    def _expect(self, number: int) -> None:
        if number > self._height():
            raise ProviderUnavailable(f"block {number} is not finalized yet")

    def _head(self, number: int) -> Head:
        return Head(ENDPOINT, number, self._chain.hash_of(number), self._chain.time_of(number))

    def _receipt(self, reference: str) -> Receipt | None:
        height, receipt = self._height(), self._chain.receipt(reference)
        return receipt if receipt is not None and receipt.block_number <= height else None

"""The whole way out and in on a real Tempo node: API process, worker process, and the chain's own word at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from domain.clock import SystemClock
from domain.money import Asset
from monay.wallet.v1 import transaction_pb2
from monay.wallet.v1.consumer_pb2 import OnboardRequest
from monay.wallet.v1.money_pb2 import GetBalanceRequest, Money
from monay.wallet.v1.operations_service_pb2 import GetLedgerProofRequest
from monay.wallet.v1.sandbox_service_pb2 import FaucetRequest
from monay.wallet.v1.transaction_pb2 import GetTransactionRequest, Transaction
from monay.wallet.v1.transfer_pb2 import DEPOSIT_SOURCE_CHAIN, DepositRequest, DepositResponse, WithdrawRequest
from providers.tempo import TempoConfig, TempoRail, connect
from sandbox import tempo_tokens
from sandbox.tempo_node import TempoNode
from sandbox.tempo_tokens import SeededTokens
from server.process import Arguments
from server.settings import Role, Settings
from server.worker_process import run_workers
from tests.books import DOLLAR, ENTROPY, FEE

from .conftest import Metadata, Wallet, consumer, operator, refused, service, serving, wallet_settings

OPERATOR_KEY, FEE_PAYER_KEY = b"\xb1" * 32, b"\xb2" * 32
SEED = b"\xb3" * 32
PATIENCE_SECONDS = 60


@dataclass
class Chain:
    """The node as the books do not see it."""

    rail: TempoRail
    tokens: dict[Asset, str]

    async def balance(self, address: str, asset: Asset = Asset.USDC) -> int:
        head = await self.rail.reader.finalized()
        return (await self.rail.reader.balances([address.lower()], asset, at_block=head.number))[address.lower()]


@pytest.fixture
async def seeded(tempo_node: TempoNode) -> SeededTokens:
    return await tempo_tokens.seed(tempo_node.url, operator_key=OPERATOR_KEY, fee_payer_key=FEE_PAYER_KEY)


@pytest.fixture
async def chain(tempo_node: TempoNode, seeded: SeededTokens) -> AsyncIterator[Chain]:
    config = TempoConfig(
        rpc_urls=(tempo_node.url,),
        chain_id=seeded.chain_id,
        tokens=seeded.tokens,
        operator_key=OPERATOR_KEY,
        fee_payer_key=FEE_PAYER_KEY,
        seed=SEED,
    )
    rail = connect(config, clock=SystemClock())
    yield Chain(rail, seeded.tokens)
    await rail.close()


@pytest.fixture
def settings(database: str, tmp_path: Path, tempo_node: TempoNode, seeded: SeededTokens) -> Settings:
    return wallet_settings(
        database,
        tmp_path,
        tempo_rpc_url=(tempo_node.url,),
        tempo_chain_id=seeded.chain_id,
        tempo_tokens=seeded.tokens,
        tempo_private_key=OPERATOR_KEY.hex(),
        tempo_fee_payer_key=FEE_PAYER_KEY.hex(),
        tempo_seed=SEED.hex(),
        tempo_faucet_key=seeded.outside_key.hex(),
        address_pool_size=4,
        proof_interval_seconds=600,
    )


@pytest.fixture
async def wallet(settings: Settings) -> AsyncIterator[Wallet]:
    """Both processes of a deployment, in this one's event loop."""
    stop = asyncio.Event()
    working = asyncio.create_task(run_workers(Arguments(Role.WORKERS, 1, 0, False), settings, stop))
    try:
        async with serving(settings) as wallet:
            yield wallet
    finally:
        stop.set()
        await working


async def onboard(wallet: Wallet, name: str) -> Metadata:
    """As soon as the workers have derived addresses, there is one for everybody."""
    request = OnboardRequest(email=f"{name}@example.com", phone=f"+1415555{abs(hash(name)) % 10_000:04}")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                answer = await wallet.consumers.Onboard(request, metadata=service())
            except Exception:  # the pool is still empty
                await asyncio.sleep(0.2)
            else:
                return consumer(answer.consumer.id)


async def funded(wallet: Wallet, token: Metadata, micros: int) -> None:
    """Money from outside, credited once its block is final."""
    amount = Money(asset="USDC", micros=micros)
    await wallet.sandbox.Faucet(FaucetRequest(amount=amount), metadata=token)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await usdc(wallet, token)).available_micros < micros:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def usdc(wallet: Wallet, token: Metadata) -> Any:
    return (await wallet.consumers.GetBalance(GetBalanceRequest(asset="USDC"), metadata=token)).balances[0]


async def ended(wallet: Wallet, token: Metadata, transaction_id: str) -> Transaction:
    """The withdrawal when its hold has ended."""
    request = GetTransactionRequest(transaction_id=transaction_id)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            found: Transaction = (await wallet.consumers.GetTransaction(request, metadata=token)).transaction
            if found.state != transaction_pb2.TRANSACTION_STATE_PENDING:
                return found
            await asyncio.sleep(0.1)


def withdrawal(micros: int, address: str, *, asset: str = "USDC") -> WithdrawRequest:
    amount = Money(asset=asset, micros=micros)
    return WithdrawRequest(request_id=str(ENTROPY.uuid7()), amount=amount, address=address)


async def test_a_withdrawal_arrives_at_its_destination_on_the_chain(wallet: Wallet, chain: Chain) -> None:
    """From Deposit's instructions to `balanceOf` of a stranger: the receipt names the block, the books are clean."""
    ann = await onboard(wallet, "ann")
    instructions = await deposit_instructions(wallet, ann)
    assert instructions.chain.token_address.lower() == chain.tokens[Asset.USDC]
    await funded(wallet, ann, 100 * DOLLAR)
    assert await chain.balance(instructions.chain.address) == 100 * DOLLAR

    stranger = "0x" + ENTROPY.token_bytes(20).hex()
    answer = await wallet.consumers.Withdraw(withdrawal(30 * DOLLAR, stranger), metadata=ann)
    assert answer.transaction.state == transaction_pb2.TRANSACTION_STATE_PENDING
    done = await ended(wallet, ann, answer.transaction.id)

    assert done.state == transaction_pb2.TRANSACTION_STATE_COMPLETED
    assert done.settlement_state == transaction_pb2.SETTLEMENT_STATE_CONFIRMED
    [settlement] = done.settlements
    receipts = await chain.rail.reader.receipts([settlement.chain_transaction_hash])
    assert receipts[settlement.chain_transaction_hash].block_number == settlement.block_number
    assert await chain.balance(stranger) == 30 * DOLLAR
    assert await chain.balance(instructions.chain.address) == 70 * DOLLAR
    balance = await usdc(wallet, ann)
    assert (balance.available_micros, balance.held_micros) == (70 * DOLLAR - FEE, 0)

    proof = await wallet.operations.GetLedgerProof(GetLedgerProofRequest(refresh=True), metadata=operator())
    assert proof.clean, proof


async def test_an_address_that_the_chain_forbids_is_known_before_anything_is_held(wallet: Wallet, chain: Chain) -> None:
    """The worker asks the token's policy on the chain; a token contract is refused without asking anybody."""
    ann = await onboard(wallet, "ann")
    await funded(wallet, ann, 10 * DOLLAR)
    refusal = await refused(wallet.consumers.Withdraw(withdrawal(DOLLAR, chain.tokens[Asset.USDT]), metadata=ann))
    assert (refusal.reason, refusal.metadata["cause"]) == ("DESTINATION_REFUSED", "token_policy")
    assert (await usdc(wallet, ann)).held_micros == 0


async def deposit_instructions(wallet: Wallet, token: Metadata) -> DepositResponse:
    """How to bring money in; the provider has to be seen healthy once."""
    request = DepositRequest(request_id=str(ENTROPY.uuid7()), amount=Money(asset="USDC"), source=DEPOSIT_SOURCE_CHAIN)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                answer: DepositResponse = await wallet.consumers.Deposit(request, metadata=token)
            except Exception:  # no probe yet
                await asyncio.sleep(0.2)
            else:
                return answer

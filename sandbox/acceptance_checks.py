"""What `make acceptance` checks, criterion by criterion, in the words of the deployment guide."""

from __future__ import annotations

import asyncio
import statistics
import time
from uuid import uuid4

from monay.wallet.v1.consumer_pb2 import GetLimitsRequest, KycEvidence, UpgradeKycRequest
from monay.wallet.v1.money_pb2 import GetPortfolioRequest
from monay.wallet.v1.operations_service_pb2 import PauseProviderRequest, ResumeProviderRequest
from monay.wallet.v1.provider_pb2 import GetHealthRequest, GetProviderStatusRequest, RouteReason, Speed
from monay.wallet.v1.transaction_pb2 import ListTransactionsRequest, SettlementState
from monay.wallet.v1.transfer_pb2 import (
    BatchTransferItem,
    BatchTransferRequest,
    DepositRequest,
    QuoteSwapRequest,
    Recipient,
    SwapRequest,
    WithdrawRequest,
)
from sandbox.acceptance_client import Client, order
from sandbox.acceptance_table import Table
from sandbox.narrator import UNIT, usdc

LIMITS_USD = {1: 1_000, 2: 50_000, 3: 250_000}
FEE_MICROS = 100


class Checks:
    """Plays with a handful of new consumers, and writes down what it sees."""

    def __init__(self, client: Client, table: Table) -> None:
        self._client = client
        self._table = table
        self._people: list[str] = []
        self._sent: dict[str, set[str]] = {}
        """The transactions that were acknowledged, by their sender."""

    async def all(self, *, transfers: int, concurrency: int, failover: bool) -> None:
        """Every criterion."""
        await self._connectivity()
        await self._onboarding()
        await self._kyc_levels()
        await self._deposit_routes()
        await self._transfers(transfers, concurrency)
        await self._batch()
        await self._portfolio_and_swap()
        await self._withdrawal()
        await self._failover(wanted=failover)
        await self._zero_loss()
        self._success_rate()

    # --- verification tasks -------------------------------------------------------------------------------------------

    async def _connectivity(self) -> None:
        # A wallet that has just started has yet to look at its providers.
        for _ in range(60):
            status = await self._client.ask("GetProviderStatus", GetProviderStatusRequest())
            if status.providers and all(provider.healthy for provider in status.providers):
                break
            await asyncio.sleep(0.5)
        tempo = next((p for p in status.providers if p.provider == "tempo"), None)
        health = await self._client.ask("GetHealth", GetHealthRequest())
        self._table.add(
            "Tempo connectivity, provider health monitoring",
            met=tempo is not None and tempo.healthy,
            measured=f"{health.status}; " + ", ".join(f"{p.provider} {p.latency} ms" for p in status.providers),
            production="latency of the public network",
        )

    async def _onboarding(self) -> None:
        began = time.monotonic()
        self._people = [await self._client.join() for _ in range(5)]
        each = (time.monotonic() - began) / len(self._people) * 1000
        seconds = await self._client.fund(self._people[0], 70_000 * UNIT)
        for person in self._people[1:]:
            await self._client.fund(person, 200 * UNIT)
        self._table.add("Consumer onboarding", met=True, measured=f"5 consumers, {each:.0f} ms each")
        self._table.add(
            "Deposits",
            met=True,
            measured=f"on-chain deposit spendable after {seconds:.1f} s",
            production="finality of the public network; bank deposits",
        )

    async def _kyc_levels(self) -> None:
        consumer, friend = self._people[:2]
        told = []
        met = True
        for level, limit in LIMITS_USD.items():
            if level > 1:
                await self._upgrade(consumer, level)
            limits = await self._client.ask("GetLimits", GetLimitsRequest(consumer_id=consumer))
            right = (limits.kyc_level, limits.daily_limit_usd_micros) == (level, limit * UNIT)
            refused = await self._client.reason("Transfer", order(consumer, friend, (limit + 1) * UNIT))
            met &= right and refused == "LIMIT_EXCEEDED"
            told.append(f"level {level}: ${limit:,}, one more is {refused}")
        # More than level 2 may send in a day, so it shows that level 3 may.
        answer = await self._client.transfer(consumer, friend, 51_000 * UNIT)
        self._sent.setdefault(consumer, set()).add(answer.transaction.id)
        self._table.add(
            "All KYC levels, limits enforced", met=met, measured="; ".join(told), production="the verifier's decisions"
        )

    async def _upgrade(self, consumer: str, level: int) -> None:
        """Ask for the next level with the evidence it wants, and wait for the verifier."""
        limits = await self._client.ask("GetLimits", GetLimitsRequest(consumer_id=consumer))
        kinds = next(tier.required_evidence for tier in limits.tiers if tier.kyc_level == level)
        evidence = [KycEvidence(kind=kind, reference=f"acceptance_{uuid4().hex[:8]}") for kind in kinds]
        await self._client.ask(
            "UpgradeKyc", UpgradeKycRequest(consumer_id=consumer, kyc_level=level, evidence=evidence)
        )
        for _ in range(200):
            found = await self._client.ask("GetLimits", GetLimitsRequest(consumer_id=consumer))
            if found.kyc_level == level:
                return
            await asyncio.sleep(0.1)

    async def _deposit_routes(self) -> None:
        """A small one that is urgent, and a large one that can wait: each gets a route, with its reasons."""
        told = []
        wishes = (("$25, fast", 25, Speed.SPEED_FAST), ("$20,000, standard", 20_000, Speed.SPEED_STANDARD))
        for what, dollars, speed in wishes:
            request = DepositRequest(
                consumer_id=self._people[0],
                request_id=str(uuid4()),
                amount=usdc(dollars * UNIT),
                speed=speed,
                validate_only=True,
            )
            route = (await self._client.ask("Deposit", request)).route
            reasons = [RouteReason.Name(reason).removeprefix("ROUTE_REASON_").lower() for reason in route.reasons]
            told.append(f"{what}: {route.provider} in {route.eta.ToTimedelta()} ({', '.join(reasons)})")
        self._table.add(
            "Smart deposit routing by amount and urgency",
            met=all(": " in one and "()" not in one for one in told),
            measured="; ".join(told),
            production="bank wires",
        )

    # --- money --------------------------------------------------------------------------------------------------------

    async def _transfers(self, count: int, concurrency: int) -> None:
        """Everybody pays the next one, again and again."""
        self._client.seconds.clear()
        orders = iter(range(count))

        async def pay() -> None:
            for number in orders:
                sender = self._people[number % len(self._people)]
                answer = await self._client.transfer(sender, self._people[(number + 1) % len(self._people)], 10_000)
                self._sent.setdefault(sender, set()).add(answer.transaction.id)

        began = time.monotonic()
        await asyncio.gather(*(pay() for _ in range(concurrency)))
        took = time.monotonic() - began
        milliseconds = sorted(1000 * seconds for seconds in self._client.seconds)
        average, last = statistics.fmean(milliseconds), milliseconds[int(len(milliseconds) * 0.99) - 1]
        self._table.add(
            "1,000+ transactions processed",
            met=count >= 1_000 or None,
            measured=f"{count:,} transfers in {took:.1f} s ({count / took:,.0f}/s, {concurrency} at once)",
            production="the load of real consumers",
        )
        self._table.add(
            "P2P transfers and average transaction time < 100 ms",
            met=average < 100,
            measured=f"average {average:.1f} ms, median {statistics.median(milliseconds):.1f}, p99 {last:.1f}",
            production="the network between consumers and the service",
        )

    async def _batch(self) -> None:
        sender, *others = self._people
        items = [BatchTransferItem(recipient=Recipient(consumer_id=o), amount=usdc(UNIT)) for o in others * 5]
        answer = await self._client.ask(
            "BatchTransfer", BatchTransferRequest(consumer_id=sender, request_id=str(uuid4()), items=items)
        )
        self._sent.setdefault(sender, set()).update(transaction.id for transaction in answer.transactions)
        self._table.add(
            "Batch transfers, a single fee",
            met=answer.fee.micros == FEE_MICROS and len(answer.transactions) == len(items),
            measured=f"{len(items)} recipients, fee ${answer.fee.micros / UNIT:.4f} in all",
        )

    async def _portfolio_and_swap(self) -> None:
        consumer = self._people[0]
        portfolio = await self._client.ask("GetPortfolio", GetPortfolioRequest(consumer_id=consumer))
        assets = sorted(held.balance.asset for held in portfolio.assets)
        self._table.add("Multi-stablecoin balances and portfolio", met=len(assets) == 5, measured=", ".join(assets))
        wanted = QuoteSwapRequest(consumer_id=consumer, sell=usdc(20 * UNIT), buy_asset="EURC")
        began = time.monotonic()
        quote = (await self._client.ask("QuoteSwap", wanted)).quote
        await self._client.ask("Swap", SwapRequest(consumer_id=consumer, request_id=str(uuid4()), quote_id=quote.id))
        took = 1000 * (time.monotonic() - began)
        got = await self._client.available(consumer, "EURC")
        self._table.add(
            "Instant swaps",
            met=got == quote.buy.micros,
            measured=f"20 USDC → {got / UNIT:.6f} EURC as quoted, {took:.0f} ms for quote and swap",
            production="prices of a deep market",
        )

    async def _withdrawal(self) -> None:
        consumer = self._people[0]
        outside = f"0x{uuid4().hex}{uuid4().hex[:8]}"
        request = WithdrawRequest(consumer_id=consumer, request_id=str(uuid4()), amount=usdc(5 * UNIT), address=outside)
        began = time.monotonic()
        answer = await self._client.ask("Withdraw", request)
        answered = 1000 * (time.monotonic() - began)
        done = await self._client.completed(consumer, answer.transaction.id)
        self._table.add(
            "Instant withdrawals",
            met=done,
            measured=f"accepted in {answered:.0f} ms, paid on the chain after {time.monotonic() - began:.1f} s",
            production="payouts by a bank",
        )

    # --- trouble ------------------------------------------------------------------------------------------------------

    async def _failover(self, *, wanted: bool) -> None:
        name, production = "Provider failover, Circle fallback", "a failure of the real network; Circle's own speed"
        status = await self._client.ask("GetProviderStatus", GetProviderStatusRequest())
        circle = next((p for p in status.providers if p.provider == "circle"), None)
        if not wanted or circle is None or not circle.healthy:
            why = "not asked for" if not wanted else "no Circle at this wallet" if circle is None else "Circle is away"
            self._table.add(name, met=None, measured=why, production=production)
            return
        sender, recipient = self._people[1:3]
        began = time.monotonic()
        await self._client.operate("PauseProvider", PauseProviderRequest(provider="tempo", reason="acceptance"))
        try:
            answer = await self._client.transfer(sender, recipient, 30_000)
            self._sent.setdefault(sender, set()).add(answer.transaction.id)
            settlement = await self._client.settled(sender, answer.transaction.id)
        finally:
            await self._client.operate("ResumeProvider", ResumeProviderRequest(provider="tempo", reason="acceptance"))
        done = settlement.state == SettlementState.SETTLEMENT_STATE_CONFIRMED and settlement.provider == "circle"
        state = SettlementState.Name(settlement.state).removeprefix("SETTLEMENT_STATE_").lower()
        took = time.monotonic() - began
        measured = f"Tempo paused: the transfer is {state}, by {settlement.provider or 'nobody'}, after {took:.1f} s"
        self._table.add(name, met=done, measured=measured, production=production)

    async def _zero_loss(self) -> None:
        """What was acknowledged is in the history, once; and the books are proven."""
        lost = 0
        for sender, acknowledged in self._sent.items():
            lost += len(acknowledged - await self._history(sender))
        proof = await self._client.proof()
        acknowledged_count = sum(map(len, self._sent.values()))
        rails = "equal" if all(rail.expected == rail.found for rail in proof.rails) else "DIFFERENT"
        self._table.add(
            "Zero data loss",
            met=not lost and proof.clean and not proof.breaks,
            measured=f"{acknowledged_count:,} acknowledged, {lost} missing; proof clean: {str(proof.clean).lower()}, "
            f"{len(proof.breaks)} breaks, books and rails {rails}",
            production="a failure of a whole machine (docs/runbook.md)",
        )

    async def _history(self, consumer: str) -> set[str]:
        found: set[str] = set()
        token = ""
        while True:
            request = ListTransactionsRequest(consumer_id=consumer, page_size=100, page_token=token)
            page = await self._client.ask("ListTransactions", request)
            found.update(transaction.id for transaction in page.transactions)
            token = page.next_page_token
            if not token:
                return found

    def _success_rate(self) -> None:
        calls, faults = self._client.calls, self._client.faults
        rate = 100 * (calls - faults) / calls
        self._table.add(
            "Success rate > 99.5 %",
            met=rate > 99.5,
            measured=f"{rate:.2f} % of {calls:,} calls; refusals that are right do not count as failures",
        )
        self._table.add(
            "99.9 % uptime in the first 24 hours",
            met=None,
            measured="it answered throughout this run, and test-system restarts it under load without a failed call",
            production="24 hours: alert WalletAvailability",
        )

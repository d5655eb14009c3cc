"""A process that answers calls: the nouns of the contract, each with its service, behind one edge."""

from __future__ import annotations

import asyncio
import gc
from datetime import timedelta

from prometheus_client import CollectorRegistry

from domain.clock import Clock, Entropy, SystemClock, SystemEntropy
from server.api.access import CallerKind
from server.api.adjustments import Adjustments
from server.api.audit import Audit
from server.api.balances import Balances
from server.api.bank_accounts import BankAccountsNoun
from server.api.bank_transfers import BankTransfers
from server.api.batch_transfers import BatchTransfers
from server.api.consumers import Consumers
from server.api.deposits import Deposits
from server.api.edge import Edge
from server.api.gate import Gate
from server.api.health import Health
from server.api.kyc import Kyc
from server.api.limits import Limits
from server.api.operations import Operations
from server.api.pauses import Pauses
from server.api.payment_requests import PaymentRequests
from server.api.portfolios import Portfolios
from server.api.preferences import PreferencesNoun
from server.api.proofs import Proofs
from server.api.providers import Providers
from server.api.rate_limits import RateLimits
from server.api.refunds import Refunds
from server.api.sandbox import Sandbox
from server.api.scheduled_transfers import ScheduledTransfers
from server.api.server import GrpcServer, disabled_names, service_names
from server.api.settlements import Settlements
from server.api.statements import Statements
from server.api.submitted_transfers import SubmittedTransfers
from server.api.swaps import Swaps
from server.api.tokens import TokenVerifier
from server.api.transaction_streams import TransactionStreams
from server.api.transactions import Transactions
from server.api.transfers import Transfers
from server.api.withdrawals import Withdrawals
from server.balance_feed import BalanceFeed
from server.balance_reader import BalanceReader
from server.figures import ProcessFigures
from server.http import HttpServer
from server.ledger_writer import LedgerWriter
from server.observed import ledger_writer, tracing_of
from server.origins import Origins
from server.parts import kyc_service, probes
from server.process import Arguments, StartRefused, require_database, require_standby
from server.services.acts import Acts
from server.services.adjustments import AdjustmentService
from server.services.bank_accounts import BankAccountService
from server.services.batch_transfers import BatchTransferService
from server.services.deposits import ChainTerms, DepositService
from server.services.destinations import Destinations
from server.services.erasures import ErasureService
from server.services.freezes import FreezeService
from server.services.handles import HandleService
from server.services.onboarding import OnboardingService
from server.services.pauses import PauseService
from server.services.payment_requests import PaymentRequestService
from server.services.payouts import PayoutService
from server.services.preferences import PreferencesService
from server.services.provider_jobs import ProviderJobs
from server.services.rates import ReferenceRates
from server.services.recipients import Recipients
from server.services.reference_rates import ReferenceRateService
from server.services.refunds import RefundService
from server.services.retries import RetryService
from server.services.routing import Routing
from server.services.scheduled_transfers import ScheduledTransferService
from server.services.swap_prices import SwapPrices
from server.services.swaps import SwapService
from server.services.transfers import TransferService
from server.services.withdrawals import WithdrawalService
from server.settings import Settings, revealed
from server.settlement_feed import SettlementFeed
from server.telemetry import RpcMetrics
from server.token_keys import ConfiguredKey, KeysUnavailable, PublishedKeys
from storage.bank_accounts import BankAccounts
from storage.cache import Cache
from storage.consumers import Directory
from storage.database import Engine, create_engine
from storage.hints import BalanceHints
from storage.rate_counters import RateCounters
from storage.sealing import KeyRing


async def run_api(arguments: Arguments, settings: Settings, stop: asyncio.Event) -> None:
    """Answer calls until `stop` is set, then let those in flight finish."""
    clock, registry = SystemClock(), CollectorRegistry()
    entropy = SystemEntropy(clock)
    database_url = settings.database_url.get_secret_value()
    engine = create_engine(database_url, pool_size=settings.database_pool_size)
    await require_database(engine, production=settings.production)
    if settings.wants_standby:
        await require_standby(engine)
    cache = Cache(revealed(settings.redis_url))
    reader = BalanceReader(database_url=database_url)
    feed = BalanceFeed(engine=engine, reader=reader, hints=BalanceHints(cache, entropy=entropy), clock=clock)
    settlements = SettlementFeed(engine=engine, clock=clock)
    tracing = tracing_of(settings, process=arguments.name)
    writer = ledger_writer(
        tracing,
        database_url=database_url,
        clock=clock,
        entropy=entropy,
        on_commit=feed.on_commit,
        committers=settings.ledger_committers,
        queue_limit=settings.ledger_queue_limit,
    )
    keys = await _token_keys(settings, clock)
    tokens = TokenVerifier(
        keys,
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
        leeway_seconds=settings.jwt_leeway_seconds,
        clock=clock,
    )
    limits = RateLimits(
        {
            CallerKind.CONSUMER: settings.consumer_rate_limit,
            CallerKind.SERVICE: settings.service_rate_limit,
            CallerKind.OPERATOR: settings.operator_rate_limit,
        },
        counters=RateCounters(cache),
        clock=clock,
    )
    gate = Gate(
        origins=Origins(allowed=settings.ip_allow_list, proxies=settings.trusted_proxies),
        limits=limits,
        services_need_certificate=settings.mtls_listen is not None,
    )
    edge = Edge(
        tokens=tokens,
        gate=gate,
        metrics=RpcMetrics(registry),
        clock=clock,
        entropy=entropy,
        default_deadline_seconds=settings.default_deadline_seconds,
        longest_deadline_seconds=settings.longest_deadline_seconds,
    )
    health = Health(
        engine=engine,
        cache=cache.answers,
        services=service_names(settings),
        disabled=disabled_names(settings),
        clock=clock,
        provider_max_age=timedelta(seconds=settings.provider_health_max_age_seconds),
    )
    ring = KeyRing.read(settings.sealing_keys(), entropy=entropy)
    directory, bank_accounts = Directory(ring), BankAccounts(ring)
    jobs = ProviderJobs(engine=engine, clock=clock, entropy=entropy)
    rates = ReferenceRates(engine=engine, clock=clock, max_age=timedelta(seconds=settings.fx_max_age))
    routing = Routing(engine=engine, fees=settings.fees, policy=settings.routing, bank=settings.bank, clock=clock)
    deposits = DepositService(
        engine=engine,
        writer=writer,
        bank_accounts=bank_accounts,
        routing=routing,
        terms=ChainTerms(settings.tempo_chain_id, settings.tempo_tokens),
        clock=clock,
        entropy=entropy,
    )
    withdrawals = WithdrawalService(
        engine=engine,
        writer=writer,
        destinations=Destinations(engine=engine, jobs=jobs, clock=clock),
        bank_accounts=bank_accounts,
        routing=routing,
        rates=rates,
        fees=settings.fees,
        clock=clock,
        entropy=entropy,
    )
    swaps = SwapService(
        engine=engine,
        writer=writer,
        prices=SwapPrices(engine=engine, rates=rates, policy=settings.swaps, clock=clock),
        policy=settings.swaps,
        clock=clock,
        entropy=entropy,
    )
    nouns = [
        Consumers(
            engine=engine,
            directory=directory,
            onboarding=OnboardingService(engine=engine, directory=directory, clock=clock),
            handles=HandleService(engine=engine, directory=directory, clock=clock),
            tempo_chain_id=settings.tempo_chain_id,
        ),
        Limits(engine=engine),
        PreferencesNoun(engine=engine, service=PreferencesService(engine=engine, clock=clock)),
        BankAccountsNoun(
            engine=engine,
            accounts=bank_accounts,
            service=BankAccountService(
                engine=engine, writer=writer, accounts=bank_accounts, clock=clock, entropy=entropy
            ),
        ),
        *_transfers(
            settings, engine=engine, writer=writer, directory=directory, rates=rates, clock=clock, entropy=entropy
        ),
        Deposits(deposits),
        Withdrawals(withdrawals),
        Swaps(swaps),
        Balances(reader=reader, feed=feed, clock=clock),
        Portfolios(engine=engine, reader=reader, rates=rates, clock=clock),
        Transactions(engine=engine, directory=directory),
        Statements(engine=engine, directory=directory),
        TransactionStreams(engine=engine, directory=directory, feed=feed, settlements=settlements, clock=clock),
        Providers(engine=engine, health=health, routing=routing),
        Proofs(
            engine=engine,
            jobs=jobs,
            max_age=timedelta(seconds=settings.proof_max_age_seconds),
            clock=clock,
            entropy=entropy,
        ),
        Sandbox(engine=engine, jobs=jobs, entropy=entropy),
        *_operations(settings, engine=engine, writer=writer, directory=directory, clock=clock, entropy=entropy),
    ]
    server = GrpcServer(
        settings,
        edge=edge,
        nouns=nouns,
        health=health,
        shares_port=arguments.supervised,
        tracing=tracing,
    )
    ProcessFigures(registry, writer=writer, engine=engine, open_streams=lambda: edge.open_streams)
    metrics = HttpServer(settings.http_listen, offset=arguments.number, registry=registry)
    # What was built so far stays as long as the process. Taken out of the collector's sight, it is not walked through
    # again and again while calls are answered, which cost a sixth of the process.
    gc.collect()
    gc.freeze()
    # What calls in flight need goes on until the last of them has its answer.
    answered = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        parts = (writer, reader, feed, settlements, keys, limits, health, metrics)
        for part in (*parts, *probes(arguments, settings, health)):
            tasks.create_task(part.run(answered))
        try:
            await server.run(stop)
        finally:
            answered.set()
    await cache.close()
    await engine.dispose()
    if tracing is not None:
        tracing.close()


def _transfers(
    settings: Settings,
    *,
    engine: Engine,
    writer: LedgerWriter,
    directory: Directory,
    rates: ReferenceRates,
    clock: Clock,
    entropy: Entropy,
) -> list[object]:
    """The nouns of money between consumers."""
    recipients, fees = Recipients(engine=engine, directory=directory), settings.fees
    transfers = TransferService(
        engine=engine, writer=writer, recipients=recipients, rates=rates, fees=fees, entropy=entropy
    )
    batches = BatchTransferService(
        engine=engine,
        writer=writer,
        recipients=recipients,
        rates=rates,
        fees=fees,
        clock=clock,
        entropy=entropy,
        batch_limit=settings.consumer_batch_limit,
    )
    payment_requests = PaymentRequestService(
        engine=engine, writer=writer, recipients=recipients, rates=rates, fees=fees, clock=clock, entropy=entropy
    )
    schedules = ScheduledTransferService(
        engine=engine, writer=writer, recipients=recipients, clock=clock, entropy=entropy
    )
    return [
        Transfers(transfers),
        BatchTransfers(batches),
        SubmittedTransfers(transfers),
        Refunds(RefundService(engine=engine, writer=writer, entropy=entropy)),
        PaymentRequests(engine=engine, directory=directory, service=payment_requests, clock=clock),
        ScheduledTransfers(engine=engine, service=schedules, fees=fees),
    ]


def _operations(
    settings: Settings, *, engine: Engine, writer: LedgerWriter, directory: Directory, clock: Clock, entropy: Entropy
) -> list[object]:
    """The nouns of operators, each of whose acts is audited."""
    acts = Acts(engine=engine, clock=clock, entropy=entropy)
    return [
        Kyc(engine=engine, kyc=kyc_service(settings, engine=engine, clock=clock, entropy=entropy)),
        Operations(
            freezes=FreezeService(acts=acts, directory=directory),
            erasures=ErasureService(acts=acts, directory=directory),
            rates=ReferenceRateService(acts=acts),
            tempo_chain_id=settings.tempo_chain_id,
        ),
        Pauses(engine=engine, pauses=PauseService(acts=acts)),
        BankTransfers(engine=engine, payouts=PayoutService(acts=acts), clock=clock),
        Settlements(engine=engine, retries=RetryService(acts=acts), clock=clock),
        Adjustments(service=AdjustmentService(engine=engine, writer=writer, clock=clock, entropy=entropy), clock=clock),
        Audit(engine=engine),
    ]


async def _token_keys(settings: Settings, clock: Clock) -> ConfiguredKey | PublishedKeys:
    if settings.jwt_public_key is not None:
        return ConfiguredKey.public(settings.jwt_public_key)
    if settings.jwt_secret is not None:
        return ConfiguredKey.secret(settings.jwt_secret.get_secret_value())
    assert settings.jwt_jwks_url is not None, "settings name exactly one source of keys"
    keys = PublishedKeys(settings.jwt_jwks_url, clock=clock)
    try:
        # They have to be there at the start; later the issuer may be away for a while.
        await keys.load()
    except KeysUnavailable as error:
        raise StartRefused(f"The keys at JWT_JWKS_URL cannot be read: {error}.") from error
    return keys

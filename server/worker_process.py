"""A process that settles, watches and reconciles: the workers, around one writer and one rail for each provider."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from prometheus_client import CollectorRegistry

from domain.clock import SystemClock, SystemEntropy
from domain.identity import FEE_PAYER, OPERATOR
from domain.settlement import Rail
from providers.health import ProviderHealth
from server.balance_feed import BalanceFeed
from server.balance_reader import BalanceReader
from server.figures import ProcessFigures
from server.http import HttpServer
from server.observed import ledger_writer, tracing_of
from server.parts import kyc_service, probes
from server.process import Arguments, Part, keep_running, require_database, require_standby
from server.services.bank_accounts import LINK_JOB
from server.services.destinations import CHECK_JOB
from server.services.rates import ReferenceRates
from server.settings import Settings, revealed
from server.workers.audit_chain import AuditChain
from server.workers.bank_links import sandbox_link_handler
from server.workers.chores import AddressPool, FeeSweeper, RollUp
from server.workers.dex_prices import DexPrices, ExpiredQuotes
from server.workers.figures import WalletFigures
from server.workers.jobs import JobWorker, destination_handler, faucet_handler, proof_handler
from server.workers.kyc_review import KycReview
from server.workers.provider_probe import ProviderProbe, chain_look
from server.workers.reconciliation import Reconciliation
from server.workers.schedules import ScheduleWorker
from server.workers.settlement import CHAIN, SettlementPace, SettlementWorker
from server.workers.watcher import Watcher
from storage import addresses
from storage.bank_accounts import BankAccounts
from storage.cache import Cache
from storage.database import create_engine, writing
from storage.hints import BalanceHints
from storage.sealing import KeyRing


async def run_workers(arguments: Arguments, settings: Settings, stop: asyncio.Event) -> None:
    """Settle, watch and reconcile until `stop` is set; each worker leaves at a clean point."""
    clock, registry = SystemClock(), CollectorRegistry()
    entropy = SystemEntropy(clock)
    database_url = settings.database_url.get_secret_value()
    engine = create_engine(database_url, pool_size=settings.database_pool_size)
    await require_database(engine, production=settings.production)
    if settings.wants_standby:
        await require_standby(engine)
    # Imported only here: web3, and all below it, would cost an API process a second and memory it never uses.
    from server import circle, rails, treasury
    from server.signer.composition import reach_signer

    signer = await reach_signer(settings, clock=clock, stop=stop)
    if signer is None and settings.signer_address is not None:
        return
    rail = rails.connect(settings, clock=clock, entropy=entropy, signer=signer)
    await rails.require_chain(rail, settings, clock=clock, stop=stop)
    async with writing(engine) as tx:
        await addresses.add_operator(tx, OPERATOR, rail.signer.operator_address, now=clock.now())
        await addresses.add_operator(tx, FEE_PAYER, rail.signer.fee_payer_address, now=clock.now())
    # Nobody watches balances here, but what is credited here is watched elsewhere.
    cache = Cache(revealed(settings.redis_url))
    reader = BalanceReader(database_url=database_url)
    feed = BalanceFeed(engine=engine, reader=reader, hints=BalanceHints(cache, entropy=entropy), clock=clock)
    tracing = tracing_of(settings, process=arguments.name)
    writer = ledger_writer(tracing, database_url=database_url, clock=clock, entropy=entropy, on_commit=feed.on_commit)
    health = ProviderHealth(clock)
    settlement = SettlementWorker(
        engine=engine,
        writer=writer,
        provider=rail.provider,
        reader=rail.reader,
        operator_address=rail.signer.operator_address,
        clock=clock,
        entropy=entropy,
        pace=SettlementPace(lease=timedelta(seconds=settings.settlement_lease_seconds)),
    )
    woken = asyncio.Event()
    watcher = Watcher(
        engine=engine,
        writer=writer,
        reader=rail.reader,
        rail=Rail.TEMPO,
        chain=CHAIN,
        clock=clock,
        entropy=entropy,
        start_block=settings.tempo_start_block,
        woken=woken,
    )
    reconciliation = Reconciliation(
        engine=engine,
        writer=writer,
        reader=rail.reader,
        chain=CHAIN,
        clock=clock,
        entropy=entropy,
        interval_seconds=settings.proof_interval_seconds,
    )
    handlers = {
        "proof": proof_handler(reconciliation),
        CHECK_JOB: destination_handler(engine, rail.reader, clock),
    }
    if settings.sandbox and rail.faucet is not None:
        handlers["faucet"] = faucet_handler(rail.faucet)
    bank_accounts = None
    if settings.sealing_keys_file is not None:
        bank_accounts = BankAccounts(KeyRing.read(settings.sealing_keys_file, entropy=entropy))
    if settings.sandbox and bank_accounts is not None:
        handlers[LINK_JOB] = sandbox_link_handler(engine=engine, accounts=bank_accounts, clock=clock)
    custodian = rails.connect_circle(settings, clock=clock)
    parts = circle.Parts()
    if custodian is not None:
        parts = circle.parts_of(
            custodian,
            settings,
            engine=engine,
            writer=writer,
            accounts=bank_accounts,
            registry=registry,
            clock=clock,
            entropy=entropy,
        )
        handlers |= parts.handlers
    workers: list[Part] = [
        settlement,
        watcher,
        *rails.heads(settings, wake=woken, clock=clock),
        reconciliation,
        AddressPool(engine=engine, signer=rail.signer, clock=clock, entropy=entropy, target=settings.address_pool_size),
        RollUp(engine=engine, clock=clock),
        FeeSweeper(
            engine=engine,
            writer=writer,
            clock=clock,
            entropy=entropy,
            threshold_micros=settings.fee_sweep_threshold_micros,
        ),
        ScheduleWorker(
            engine=engine,
            writer=writer,
            rates=ReferenceRates(engine=engine, clock=clock, max_age=timedelta(seconds=settings.fx_max_age)),
            fees=settings.fees,
            clock=clock,
            entropy=entropy,
        ),
        ProviderProbe(
            engine=engine, name=rail.provider.name, look=chain_look(rail.provider), health=health, clock=clock
        ),
        DexPrices(engine=engine, exchange=rail.exchange, clock=clock),
        *treasury.desks(rail, settings, engine=engine, clock=clock, entropy=entropy),
        ExpiredQuotes(engine=engine, clock=clock),
        JobWorker(engine=engine, handlers=handlers, clock=clock, postponed={LINK_JOB} - handlers.keys()),
        KycReview(engine=engine, kyc=kyc_service(settings, engine=engine, clock=clock, entropy=entropy), clock=clock),
        AuditChain(engine=engine, clock=clock),
        WalletFigures(registry, engine=engine, clock=clock),
        *parts.workers,
    ]
    ProcessFigures(registry, writer=writer, engine=engine)
    metrics = HttpServer(settings.http_listen, offset=arguments.number, registry=registry, routes=parts.routes)
    finished = asyncio.Event()
    async with asyncio.TaskGroup() as services:
        around: list[Part] = [writer, reader, feed, metrics, *probes(arguments, settings)]
        for part in around:
            services.create_task(part.run(finished))
        try:
            async with asyncio.TaskGroup() as tasks:
                for worker in workers:
                    tasks.create_task(keep_running(worker, stop, clock))
        finally:
            finished.set()
    await rail.close()
    if signer is not None:
        await signer.close()
    if custodian is not None:
        await custodian.close()
    await cache.close()
    await engine.dispose()
    if tracing is not None:
        tracing.close()

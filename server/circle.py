"""What the worker process runs beside the chain when there is Circle: wallets, bank, webhooks, and a probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry
from starlette.routing import BaseRoute

from domain.clock import Clock, Entropy
from domain.routing import known_routes
from providers.circle import CircleRail
from providers.events import EventVerifier
from providers.health import ProviderHealth
from server.ledger_writer import LedgerWriter
from server.process import Part
from server.services.bank_accounts import LINK_JOB
from server.settings import Settings
from server.webhooks import Webhooks
from server.workers.bank_links import link_handler
from server.workers.bank_rail import BankRailWorker
from server.workers.circle_transactions import CircleTransactions
from server.workers.circle_wallets import CircleWalletPool
from server.workers.custodian_comparison import CustodianComparison
from server.workers.custodian_float import CustodianFloat
from server.workers.failover import Failover
from server.workers.inbox import InboxWorker, Look
from server.workers.jobs import Handler
from server.workers.orders import Orders
from server.workers.provider_probe import ProviderProbe
from server.workers.repatriation import Repatriation, RepatriationPace
from server.workers.transfer_sweep import TransferSweep
from server.workers.webhook_subscriptions import WebhookSubscriptions
from storage.bank_accounts import BankAccounts
from storage.database import Engine

WALLETS_PATH, MINT_PATH = "circle/wallets", "circle/mint"
BANK_SUBJECTS = ("bank_link", "deposit", "payout")


@dataclass(frozen=True, slots=True)
class Parts:
    """Workers, the jobs they do for others, and the endpoints that the process serves. Without Circle, nothing."""

    workers: Sequence[Part] = ()
    handlers: Mapping[str, Handler] = field(default_factory=dict)
    routes: Sequence[BaseRoute] = ()


def parts_of(
    rail: CircleRail,
    settings: Settings,
    *,
    engine: Engine,
    writer: LedgerWriter,
    accounts: BankAccounts | None,
    registry: CollectorRegistry,
    clock: Clock,
    entropy: Entropy,
) -> Parts:
    """Everything that Circle makes possible."""
    handlers: dict[str, Handler] = {}
    second_rail = _second_rail(rail, settings, engine=engine, writer=writer, clock=clock, entropy=entropy)
    transactions = CircleTransactions(
        engine=engine,
        writer=writer,
        rail=rail.wallets,
        entropy=entropy,
        look_at_order=second_rail.orders.look_at,
        book_float=second_rail.float_books.book_incoming,
    )
    looks: dict[str, Look] = {"transaction": transactions.look, "subscription_confirmation": _confirmation(rail)}
    workers: list[Part] = [
        ProviderProbe(engine=engine, name=rail.name, look=rail.check, health=ProviderHealth(clock), clock=clock),
        CircleWalletPool(
            engine=engine, rail=rail.wallets, clock=clock, entropy=entropy, target=settings.circle_wallet_pool_size
        ),
        *second_rail.workers,
        TransferSweep(engine=engine, rail=rail.wallets, clock=clock),
        InboxWorker(engine=engine, looks=looks, clock=clock, registry=registry),
    ]
    if rail.mint is not None and accounts is not None:
        bank = BankRailWorker(
            engine=engine,
            writer=writer,
            bank=rail.mint,
            accounts=accounts,
            clock=clock,
            entropy=entropy,
            poll_seconds=settings.bank_poll_seconds,
        )
        workers.append(bank)
        looks |= dict.fromkeys(BANK_SUBJECTS, _waking(bank))
        handlers[LINK_JOB] = link_handler(engine=engine, accounts=accounts, clock=clock, entropy=entropy)
    if settings.circle_webhook_url is not None:
        workers.append(_subscriptions(rail, settings.circle_webhook_url.rstrip("/"), clock=clock))
    verifiers: dict[str, EventVerifier] = {WALLETS_PATH: rail.events.wallets, MINT_PATH: rail.events.mint}
    webhooks = Webhooks(engine=engine, verifiers=verifiers, clock=clock, registry=registry)
    return Parts(workers, handlers, webhooks.routes)


@dataclass(frozen=True, slots=True)
class _SecondRail:
    """The workers that settle through Circle what Tempo cannot."""

    orders: Orders
    float_books: CustodianFloat
    failover: Failover
    repatriation: Repatriation
    comparison: CustodianComparison

    @property
    def workers(self) -> Sequence[Part]:
        return self.orders, self.float_books, self.failover, self.repatriation, self.comparison


def _second_rail(
    rail: CircleRail, settings: Settings, *, engine: Engine, writer: LedgerWriter, clock: Clock, entropy: Entropy
) -> _SecondRail:
    wallets = rail.wallets
    orders = Orders(engine=engine, writer=writer, rail=wallets, clock=clock, entropy=entropy)
    pace = RepatriationPace(health_max_age=settings.routing.health_max_age)
    return _SecondRail(
        orders=orders,
        float_books=CustodianFloat(engine=engine, writer=writer, rail=wallets, clock=clock, entropy=entropy),
        failover=Failover(
            engine=engine,
            rail=wallets,
            routes=known_routes(settings.fees),
            policy=settings.routing,
            clock=clock,
            entropy=entropy,
        ),
        repatriation=Repatriation(engine=engine, rail=wallets, clock=clock, entropy=entropy, pace=pace),
        comparison=CustodianComparison(engine=engine, writer=writer, rail=wallets, clock=clock, entropy=entropy),
    )


def _confirmation(rail: CircleRail) -> Look:
    async def confirm(url: str) -> bool:
        await rail.events.mint.confirm(url)
        return True

    return confirm


def _waking(bank: BankRailWorker) -> Look:
    """The bank rail's worker reads everything anew in each of its rounds; an event makes the next one come at once."""

    async def wake(_reference: str) -> bool:
        bank.wake()
        return True

    return wake


def _subscriptions(rail: CircleRail, base_url: str, *, clock: Clock) -> WebhookSubscriptions:
    async def ensure() -> None:
        await rail.subscriptions.ensure(
            wallets_endpoint=f"{base_url}/webhooks/{WALLETS_PATH}",
            mint_endpoint=f"{base_url}/webhooks/{MINT_PATH}",
        )

    return WebhookSubscriptions(ensure, clock=clock)

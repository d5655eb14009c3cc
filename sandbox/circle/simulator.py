"""The parts of the simulator, put together once; whatever answers a request or moves a state gets this."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from sandbox.circle.clock import Clock
from sandbox.circle.faults import Faults
from sandbox.circle.keys import Keys
from sandbox.circle.limits import Limits
from sandbox.circle.outcomes import Outcomes
from sandbox.circle.schedule import Schedule
from sandbox.circle.sns import Sns
from sandbox.circle.store import Store
from sandbox.circle.webhooks import Webhooks

# Mint's one wallet of this business; its documentation's examples have it, too.
MASTER_WALLET_ID = "1000038499"


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What a client of the simulator has to know."""

    wallets_key: str
    mint_key: str
    entity_secret: bytes
    entity_id: str


@dataclass
class Pace:
    """How long things take that Circle promises nothing about; in seconds, changed by the admin port."""

    wire_verification: float = 1
    # Circle's own sandbox takes up to fifteen minutes, because it works in batches.
    wire_arrival: float = 2
    deposit: float = 1
    payout: float = 2
    payout_return: float = 2
    transfer_step: float = 0.5


@dataclass
class Simulator:
    store: Store
    clock: Clock
    keys: Keys
    schedule: Schedule
    webhooks: Webhooks
    sns: Sns
    credentials: Credentials
    limits: Limits = field(default_factory=Limits)
    faults: Faults = field(default_factory=Faults)
    outcomes: Outcomes = field(default_factory=Outcomes)
    pace: Pace = field(default_factory=Pace)
    # Charged by Mint beside the amount of a payout.
    payout_fee_micros: int = 0

    @property
    def app_id(self) -> str:
        return str(uuid5(NAMESPACE_URL, f"app:{self.credentials.entity_id}"))

    def reset(self) -> None:
        """As it was before it ever ran, but for its keys."""
        with self.store.transaction():
            self.store.forget_everything()
        self.clock.reset()
        self.faults.clear()
        self.webhooks.faults.clear()
        self.outcomes.clear()
        self.limits, self.pace, self.payout_fee_micros = Limits(), Pace(), 0
        self.sns.signature_version = "1"

    async def close(self) -> None:
        await self.webhooks.close()
        self.store.close()


def open_simulator(folder: Path, *, keys_folder: Path, credentials: Credentials, sns_url: str) -> Simulator:
    """The simulator of that folder, as it was left."""
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder / "circle.sqlite")
    clock, keys = Clock(store), Keys(keys_folder)
    sns = Sns(clock, keys, url=sns_url)
    webhooks = Webhooks(store, clock, keys, sns, client_id=credentials.entity_id)
    # The order to hold events back was not kept, so nobody would let them go.
    webhooks.faults.clear()
    return Simulator(store, clock, keys, Schedule(store, clock), webhooks, sns, credentials)

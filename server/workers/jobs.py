"""Provider jobs: what API processes asked for, done by the process that may talk to providers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import timedelta
from typing import Any

import structlog

from domain.clock import Clock
from domain.money import Asset
from providers.base import ChainReader, Faucet, ProviderUnavailable
from server.services.destinations import CHECK_JOB
from server.workers.reconciliation import Reconciliation
from storage import destination_checks, provider_jobs
from storage.database import Engine
from storage.destination_checks import DestinationCheck

log = structlog.get_logger()

# Who asked has long gone on; the answer itself is kept with the destination.
_CHECKS_KEPT = timedelta(hours=1)

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class JobWorker:
    """Takes one job after the other. A job whose worker died is taken again once its lease is over."""

    def __init__(
        self,
        *,
        engine: Engine,
        handlers: Mapping[str, Handler],
        clock: Clock,
        postponed: Collection[str] = (),
        lease: timedelta = timedelta(seconds=30),
        poll_seconds: float = 0.1,
    ) -> None:
        """Jobs of a `postponed` kind wait for a deployment that has a provider for them."""
        self._engine = engine
        self._handlers = handlers
        self._postponed = postponed
        self._clock = clock
        self._lease = lease
        self._poll_seconds = poll_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set."""
        while not stop.is_set():
            if not await self.step():
                await self._clock.sleep(self._poll_seconds)

    async def step(self) -> bool:
        """Do the oldest waiting job, if there is one."""
        async with self._engine.begin() as tx:
            job = await provider_jobs.take(tx, now=self._clock.now(), lease=self._lease, postponed=self._postponed)
        if job is None:
            return False
        handler = self._handlers.get(job.kind)
        if handler is None:
            await self._finish(job, {"error": f"nobody here does {job.kind}"}, succeeded=False)
            return True
        try:
            answer = await handler(job.body)
        except ProviderUnavailable as fault:
            log.warning("jobs.postponed", kind=job.kind, detail=str(fault)[:200])
            await self._put_back(job, str(fault)[:200])
        else:
            await self._finish(job, answer, succeeded=True)
        return True

    async def _finish(self, job: provider_jobs.ProviderJob, answer: dict[str, Any], *, succeeded: bool) -> None:
        async with self._engine.begin() as tx:
            await provider_jobs.finish(tx, job.id, answer=answer, succeeded=succeeded, now=self._clock.now())

    async def _put_back(self, job: provider_jobs.ProviderJob, reason: str) -> None:
        async with self._engine.begin() as tx:
            await provider_jobs.put_back(tx, job.id, reason=reason, now=self._clock.now())


def faucet_handler(faucet: Faucet) -> Handler:
    """Development only: pay an address from an account outside the books. A job done twice pays twice."""

    async def pay(body: dict[str, Any]) -> dict[str, Any]:
        reference = await faucet.fund(body["address"], Asset(body["asset"]), int(body["micros"]))
        return {"reference": reference}

    return pay


def destination_handler(engine: Engine, reader: ChainReader, clock: Clock) -> Handler:
    """Whether a token's policy lets an address receive: read from the chain, and kept for the next who asks."""

    async def look_up(body: dict[str, Any]) -> dict[str, Any]:
        asset, address = Asset(body["asset"]), body["address"]
        allowed = (await reader.may_receive([address], asset))[address]
        now = clock.now()
        async with engine.begin() as tx:
            await destination_checks.record(tx, asset, address, DestinationCheck(allowed, now))
            await provider_jobs.forget(tx, CHECK_JOB, finished_before=now - _CHECKS_KEPT)
        return {"allowed": allowed}

    return look_up


def proof_handler(reconciliation: Reconciliation) -> Handler:
    """A fresh proof of the books."""

    async def prove(_: dict[str, Any]) -> dict[str, Any]:
        proof = await reconciliation.prove()
        return {"proof_id": str(proof.id), "clean": proof.clean}

    return prove

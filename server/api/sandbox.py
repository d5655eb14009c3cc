"""What only a sandbox has: money for nothing."""

from __future__ import annotations

from domain.clock import Entropy
from domain.errors import ConsumerNotFound, ProviderUnavailable
from monay.wallet.v1.sandbox_service_pb2 import FaucetRequest, FaucetResponse
from server.api.access import Call
from server.api.convert import checksummed
from server.services.provider_jobs import ProviderJobs
from storage import custody
from storage.database import Engine, reading


class Sandbox:
    """Faucet."""

    def __init__(self, *, engine: Engine, jobs: ProviderJobs, entropy: Entropy) -> None:
        self._engine = engine
        self._jobs = jobs
        self._entropy = entropy

    async def faucet(self, request: FaucetRequest, call: Call) -> FaucetResponse:
        async with reading(self._engine) as tx:
            found = await custody.addresses_of(tx, [call.consumer_id])
        if call.consumer_id not in found:
            raise ConsumerNotFound(call.consumer_id)
        address = found[call.consumer_id].address
        body = {"address": address, "asset": request.amount.asset, "micros": request.amount.micros}
        request_id = request.request_id.lower() or str(self._entropy.uuid7())
        job = await self._jobs.ask("faucet", body, key=f"{call.consumer_id}/{request_id}", deadline=call.deadline)
        if job.state == "failed":
            raise ProviderUnavailable("tempo")
        answer = job.answer or {}
        return FaucetResponse(
            # Without a hash the payment is still on its way; the balance will show it.
            address=checksummed(address),
            chain_transaction_hash=answer.get("reference", ""),
            block_number=answer.get("block_number", 0),
        )

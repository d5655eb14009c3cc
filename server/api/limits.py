"""Limits: what may still go out today, and what a higher KYC level would take."""

from __future__ import annotations

from domain.errors import ConsumerNotFound
from domain.limits import DAILY_LIMIT_MICROS, REQUIRED_EVIDENCE, reset_time
from monay.wallet.v1 import consumer_pb2 as pb
from server.api.access import Call
from server.api.convert import timestamp
from server.api.kyc import EVIDENCE, kyc_case
from storage import kyc_cases, limits
from storage.database import Engine, reading


class Limits:
    """GetLimits."""

    def __init__(self, *, engine: Engine) -> None:
        self._engine = engine

    async def get_limits(self, _request: pb.GetLimitsRequest, call: Call) -> pb.GetLimitsResponse:
        async with reading(self._engine) as tx:
            usage = await limits.usage(tx, call.consumer_id)
            open_case = await kyc_cases.open_of(tx, call.consumer_id)
        if usage is None:
            raise ConsumerNotFound(call.consumer_id)
        limit = DAILY_LIMIT_MICROS[usage.kyc_level]
        return pb.GetLimitsResponse(
            kyc_level=usage.kyc_level,
            daily_limit_usd_micros=limit,
            used_usd_micros=usage.used_usd_micros,
            remaining_usd_micros=max(0, limit - usage.used_usd_micros),
            reset_time=timestamp(reset_time(usage.day)),
            tiers=[_tier(level) for level in sorted(DAILY_LIMIT_MICROS)],
            open_case=kyc_case(open_case) if open_case is not None else None,
        )


def _tier(level: int) -> pb.KycTier:
    return pb.KycTier(
        kyc_level=level,
        daily_limit_usd_micros=DAILY_LIMIT_MICROS[level],
        required_evidence=[EVIDENCE[kind] for kind in REQUIRED_EVIDENCE[level]],
    )

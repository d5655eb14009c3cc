"""The proof of the books, as workers last made it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration

from domain.clock import Clock, Entropy
from domain.errors import ProofTooOld
from domain.money import Asset, Money
from monay.wallet.v1.operations_service_pb2 import (
    Break,
    Equation,
    EquationCheck,
    GetLedgerProofRequest,
    GetLedgerProofResponse,
    LedgerTotal,
    ProofBlock,
    RailTotal,
)
from server.api.access import Call
from server.api.convert import money, timestamp
from server.services.provider_jobs import ProviderJobs
from storage import proofs
from storage.database import Engine, reading
from storage.proofs import StoredProof

MAX_BREAKS = 1_000
RAIL = "tempo"


class Proofs:
    """GetLedgerProof."""

    def __init__(
        self, *, engine: Engine, jobs: ProviderJobs, max_age: timedelta, clock: Clock, entropy: Entropy
    ) -> None:
        self._engine = engine
        self._jobs = jobs
        self._max_age = max_age
        self._clock = clock
        self._entropy = entropy

    async def get_ledger_proof(self, request: GetLedgerProofRequest, call: Call) -> GetLedgerProofResponse:
        asked_at = self._clock.now()
        if request.refresh:
            await self._jobs.ask("proof", {}, key=str(self._entropy.uuid7()), deadline=call.deadline)
        async with reading(self._engine) as tx:
            proof = await proofs.latest(tx)
            if proof is None:
                raise ProofTooOld()
            oldest = asked_at if request.refresh else asked_at - self._max_age
            if proof.created_at < oldest:
                raise ProofTooOld(proof.created_at)
            found = list(_breaks(proof.report))[:MAX_BREAKS]
            seen = await proofs.first_seen(tx, {subject for _, subject, _ in found})
        for name, subject, shown in found:
            shown.create_time.CopyFrom(timestamp(seen.get((name, subject), proof.created_at)))
        return _response(proof, [shown for _, _, shown in found], age=self._clock.now() - proof.created_at)


def _response(proof: StoredProof, breaks: list[Break], *, age: timedelta) -> GetLedgerProofResponse:
    report = proof.report
    compared = report["block_number"] is not None and not report["chain_note"]
    shown = Duration()
    shown.FromTimedelta(max(age, timedelta()))
    return GetLedgerProofResponse(
        clean=proof.clean,
        proof_time=timestamp(proof.created_at),
        age=shown,
        # A proof without a block is one whose positions could not be compared, and therefore not clean.
        block=_block(report) if compared else None,
        rails=[*(_rail(report, asset) for asset in Asset), *map(_custodian, report.get("custodians", ()))],
        ledger=[_ledger(report, asset) for asset in Asset],
        equations=[_equation(equation) for equation in report["equations"]],
        breaks=breaks,
    )


def _block(report: dict[str, Any]) -> ProofBlock:
    time = timestamp(datetime.fromisoformat(report["block_time"]))
    return ProofBlock(number=report["block_number"], hash=report["block_hash"], time=time)


def _rail(report: dict[str, Any], asset: Asset) -> RailTotal:
    expected, found = (Money(asset, report[name].get(asset, 0)) for name in ("standing", "on_chain"))
    return RailTotal(rail=RAIL, expected=money(expected), found=money(found))


def _custodian(one: dict[str, Any]) -> RailTotal:
    """A rail where only the operator has an account of ours to compare."""
    expected, found = (Money(Asset(one["asset"]), one[name]) for name in ("expected", "found"))
    return RailTotal(rail=one["rail"], expected=money(expected), found=money(found))


def _ledger(report: dict[str, Any], asset: Asset) -> LedgerTotal:
    return LedgerTotal(
        asset=asset,
        sum_micros=report["ledger_sums"].get(asset, 0),
        consumers_micros=report["owed"].get(asset, 0),
        in_settlement_micros=report["in_settlement"].get(asset, 0),
    )


def _equation(equation: dict[str, Any]) -> EquationCheck:
    return EquationCheck(
        equation=_named(equation["name"]),
        holders_checked=equation["checked"],
        break_count=len(equation["differences"]),
    )


def _named(name: str) -> Equation.ValueType:
    return Equation.Value(f"EQUATION_{name.upper()}")


def _breaks(report: dict[str, Any]) -> Any:
    """Each difference as (equation's name, subject, message): the first two are the key of its row in `breaks`."""
    for equation in report["equations"]:
        name = equation["name"]
        for difference in equation["differences"]:
            rail = difference.get("rail", "")
            shown = Break(
                equation=_named(name),
                holder_id=difference["holder"],
                rail=(rail or RAIL) if name == "position_on_rail" else "",
                asset=difference["asset"],
                expected_micros=difference["expected"],
                found_micros=difference["found"],
            )
            yield name, _subject(difference["holder"], difference["asset"], rail), shown


def _subject(holder: str, asset: str, rail: str) -> str:
    """The key of its row in `breaks`, as reconciliation writes it."""
    return f"{holder}:{asset}:{rail}" if rail else f"{holder}:{asset}"

"""KYC: a consumer climbs one level at a time, and the next transfer is judged by the level that holds then."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
import pytest_asyncio

from domain.clock import SystemClock, SystemEntropy
from domain.limits import DAILY_LIMIT_MICROS
from monay.wallet.v1 import consumer_pb2 as pb
from monay.wallet.v1 import operations_service_pb2 as operations
from sandbox.postgres import Postgres
from server.services.acts import Acts
from server.services.kyc import KycService
from server.services.kyc_verifiers import MOMENT, AutomaticReview
from server.workers.kyc_review import KycReview
from tests.books import DOLLAR

from .conftest import consumer, refused, service
from .operators import CHECKER, MAKER, actions_on, acts_on
from .people import Person, Town, new_town

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAPERS = (pb.KYC_EVIDENCE_KIND_IDENTITY_DOCUMENT, pb.KYC_EVIDENCE_KIND_SELFIE)
MORE_PAPERS = (pb.KYC_EVIDENCE_KIND_PROOF_OF_ADDRESS, pb.KYC_EVIDENCE_KIND_SOURCE_OF_FUNDS)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(
    postgres: Postgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Town]:
    """As in production, people decide."""
    folder = tmp_path_factory.mktemp("town")
    async with new_town(postgres, migrated_template, folder, sandbox_enabled=False) as town:
        yield town


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox(
    postgres: Postgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Town]:
    """A machine decides."""
    async with new_town(postgres, migrated_template, tmp_path_factory.mktemp("sandbox")) as town:
        yield town


@pytest_asyncio.fixture(loop_scope="module")
async def ann(town: Town) -> Person:
    return await town.settle_in("ann", usdc=60_000 * DOLLAR)


def wish(
    level: int = 2, kinds: tuple[pb.KycEvidenceKind.ValueType, ...] = PAPERS, reference: str = "doc-1", **fields: Any
) -> pb.UpgradeKycRequest:
    evidence = [pb.KycEvidence(kind=kind, reference=reference) for kind in kinds]
    return pb.UpgradeKycRequest(kyc_level=level, evidence=evidence, **fields)


async def climb(town: Town, person: Person, request: pb.UpgradeKycRequest) -> pb.UpgradeKycResponse:
    answer: pb.UpgradeKycResponse = await town.wallet.consumers.UpgradeKyc(request, metadata=person.token)
    return answer


async def decide(
    town: Town, case: pb.KycCase, decision: operations.KycDecision.ValueType, *, by: Any = MAKER
) -> pb.KycCase:
    request = operations.DecideKycRequest(kyc_case_id=case.id, decision=decision, reason="looked at it")
    answer = await town.wallet.operations.DecideKyc(request, metadata=by)
    decided: pb.KycCase = answer.kyc_case
    return decided


async def limits(town: Town, person: Person) -> pb.GetLimitsResponse:
    answer: pb.GetLimitsResponse = await town.wallet.consumers.GetLimits(pb.GetLimitsRequest(), metadata=person.token)
    return answer


async def test_a_case_waits_with_its_evidence_and_is_shown_beside_the_limits(town: Town, ann: Person) -> None:
    """An app shows in one screen what holds, what the next level needs, and that somebody is looking at it."""
    answer = await climb(town, ann, wish())
    assert answer.kyc_level == 1
    assert answer.kyc_case.state == pb.KYC_CASE_STATE_PENDING
    assert [(one.kind, one.reference) for one in answer.kyc_case.evidence] == [(kind, "doc-1") for kind in PAPERS]

    shown = await limits(town, ann)
    assert shown.open_case == answer.kyc_case
    assert (shown.kyc_level, shown.daily_limit_usd_micros) == (1, DAILY_LIMIT_MICROS[1])
    assert shown.reset_time.ToDatetime(UTC).date() > datetime.now(UTC).date()
    needs = {tier.kyc_level: (tier.daily_limit_usd_micros, tuple(tier.required_evidence)) for tier in shown.tiers}
    assert needs == {
        1: (1_000 * DOLLAR, ()),
        2: (50_000 * DOLLAR, PAPERS),
        3: (250_000 * DOLLAR, MORE_PAPERS),
    }


async def test_asking_again_answers_the_open_case(town: Town, ann: Person) -> None:
    """A repeat after a lost answer must not queue the same person twice."""
    first = await climb(town, ann, wish())
    again = await climb(town, ann, wish(reference="another"))
    assert again.kyc_case == first.kyc_case


async def test_two_apps_that_ask_at_once_open_one_case(town: Town, ann: Person) -> None:
    answers = await asyncio.gather(*(climb(town, ann, wish()) for _ in range(8)))
    assert len({answer.kyc_case.id for answer in answers}) == 1


@pytest.mark.parametrize(("level", "allowed"), [(1, "2"), (3, "2")])
async def test_a_level_is_neither_skipped_nor_asked_for_twice(
    town: Town, ann: Person, level: int, allowed: str
) -> None:
    refusal = await refused(climb(town, ann, wish(level, (*PAPERS, *MORE_PAPERS))))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "KYC_LEVEL_NOT_ALLOWED")
    assert refusal.metadata == {"kyc_level": str(level), "allowed_kyc_level": allowed}
    assert not (await limits(town, ann)).HasField("open_case")


async def test_above_the_highest_level_there_is_none(town: Town, ann: Person) -> None:
    """Whoever was brought to the top by hand is told that there is nothing to climb, not to try level 4."""
    await town.books.execute("UPDATE wallets SET kyc_level = 3 WHERE consumer_id = :id", id=ann.id)
    refusal = await refused(climb(town, ann, wish(3, MORE_PAPERS)))
    assert refusal.reason == "KYC_LEVEL_NOT_ALLOWED"
    assert refusal.metadata == {"kyc_level": "3"}


async def test_missing_evidence_is_named(town: Town, ann: Person) -> None:
    refusal = await refused(climb(town, ann, wish(kinds=PAPERS[:1])))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "KYC_EVIDENCE_MISSING")
    assert refusal.metadata == {"required_evidence": "SELFIE"}
    assert not (await limits(town, ann)).HasField("open_case")


async def test_a_frozen_wallet_opens_no_case(town: Town, ann: Person) -> None:
    await town.books.execute("UPDATE wallets SET frozen = true WHERE consumer_id = :id", id=ann.id)
    refusal = await refused(climb(town, ann, wish()))
    assert refusal.reason == "CONSUMER_FROZEN"
    assert not (await limits(town, ann)).HasField("open_case")


async def test_a_service_asks_for_a_consumer_that_exists_and_a_consumer_only_for_itself(
    town: Town, ann: Person
) -> None:
    asked = await town.wallet.consumers.UpgradeKyc(wish(consumer_id=str(ann.id)), metadata=service())
    assert asked.kyc_case.consumer_id == str(ann.id)
    nobody = wish(consumer_id=str(uuid.uuid4()))
    assert (await refused(town.wallet.consumers.UpgradeKyc(nobody, metadata=service()))).reason == "CONSUMER_NOT_FOUND"
    other = await town.settle_in("bob")
    stranger = town.wallet.consumers.UpgradeKyc(wish(consumer_id=str(ann.id)), metadata=other.token)
    assert (await refused(stranger)).reason == "NOT_YOUR_WALLET"


async def test_approval_raises_the_level_and_the_limit_from_the_next_transfer_on(town: Town, ann: Person) -> None:
    """The level changes in the commit of the decision: there is no moment in which only one of them holds."""
    bob = await town.settle_in("bob")
    too_much = 1_001 * DOLLAR
    assert (await refused(town.pay(ann, bob, too_much))).reason == "LIMIT_EXCEEDED"

    case = (await climb(town, ann, wish())).kyc_case
    decided = await decide(town, case, operations.KYC_DECISION_APPROVE)
    assert decided.state == pb.KYC_CASE_STATE_APPROVED
    assert decided.HasField("decide_time")
    assert decided.reason == ""

    await town.pay(ann, bob, too_much)
    shown = await limits(town, ann)
    assert (shown.kyc_level, shown.used_usd_micros) == (2, too_much)
    assert shown.remaining_usd_micros == DAILY_LIMIT_MICROS[2] - too_much
    assert not shown.HasField("open_case")


async def test_rejection_leaves_the_level_tells_why_and_lets_the_consumer_try_again(town: Town, ann: Person) -> None:
    case = (await climb(town, ann, wish())).kyc_case
    decided = await decide(town, case, operations.KYC_DECISION_REJECT)
    assert (decided.state, decided.reason) == (pb.KYC_CASE_STATE_REJECTED, "looked at it")
    again = await climb(town, ann, wish())
    assert again.kyc_case.id != case.id
    assert again.kyc_level == 1


async def test_a_case_is_decided_once_and_the_same_decision_again_is_answered(town: Town, ann: Person) -> None:
    case = (await climb(town, ann, wish())).kyc_case
    first = await decide(town, case, operations.KYC_DECISION_APPROVE)
    assert await decide(town, case, operations.KYC_DECISION_APPROVE, by=CHECKER) == first
    refusal = await refused(decide(town, case, operations.KYC_DECISION_REJECT))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "KYC_CASE_DECIDED")
    assert refusal.metadata == {"state": "APPROVED"}
    assert await actions_on(town, case.id) == ["kyc.approve"]


async def test_of_operators_who_disagree_at_the_same_moment_one_decides(town: Town, ann: Person) -> None:
    """Both decisions take the wallet's lock, so the level and the case always say the same."""
    case = (await climb(town, ann, wish())).kyc_case
    wishes = [operations.KYC_DECISION_APPROVE, operations.KYC_DECISION_REJECT] * 4
    answers = await asyncio.gather(*(decide(town, case, one) for one in wishes), return_exceptions=True)
    states = {answer.state for answer in answers if isinstance(answer, pb.KycCase)}
    assert len(states) == 1
    assert sum(isinstance(answer, grpc.aio.AioRpcError) for answer in answers) == 4
    approved = states == {pb.KYC_CASE_STATE_APPROVED}
    assert (await limits(town, ann)).kyc_level == (2 if approved else 1)
    assert await actions_on(town, case.id) == ["kyc.approve" if approved else "kyc.reject"]


async def test_a_decision_says_who_from_where_and_by_which_call(town: Town, ann: Person) -> None:
    case = (await climb(town, ann, wish())).kyc_case
    request = operations.DecideKycRequest(
        kyc_case_id=case.id, decision=operations.KYC_DECISION_APPROVE, reason="papers are genuine"
    )
    await town.wallet.operations.DecideKyc(request, metadata=(*MAKER, ("x-request-id", "ticket-4711")))
    (act,) = await acts_on(town, case.id)
    assert (act.actor, act.role, act.request_id, act.consumer_id) == ("maria", "operator", "ticket-4711", ann.id)
    assert act.peer.startswith("ipv4:127.0.0.1:")
    assert act.facts == {"kyc_level": "2", "reason": "papers are genuine"}


async def test_a_case_that_is_not_there_is_not_decided(town: Town) -> None:
    nothing = pb.KycCase(id=str(uuid.uuid4()))
    assert (await refused(decide(town, nothing, operations.KYC_DECISION_APPROVE))).reason == "KYC_CASE_NOT_FOUND"


async def test_an_approval_that_would_skip_a_level_is_refused(town: Town, ann: Person) -> None:
    """However the level came to differ from what the case was opened for, nobody jumps."""
    case = (await climb(town, ann, wish())).kyc_case
    await town.books.execute("UPDATE wallets SET kyc_level = 3 WHERE consumer_id = :id", id=ann.id)
    refusal = await refused(decide(town, case, operations.KYC_DECISION_APPROVE))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "STATE_CONFLICT")
    assert await actions_on(town, case.id) == []


async def test_operators_page_through_waiting_cases_oldest_first(town: Town) -> None:
    """The one that waits longest is on top, and no case is shown twice or left out."""
    await town.books.execute("DELETE FROM kyc_cases")
    people = [await town.settle_in("queue") for _ in range(5)]
    for person in people:
        await climb(town, person, wish())
    shown, token = [], ""
    while True:
        request = operations.ListKycCasesRequest(page_size=2, page_token=token)
        answer = await town.wallet.operations.ListKycCases(request, metadata=MAKER)
        shown += [case.consumer_id for case in answer.kyc_cases]
        token = answer.next_page_token
        if not token:
            break
    assert shown == [str(person.id) for person in people]

    one = operations.ListKycCasesRequest(consumer_id=str(people[3].id))
    answer = await town.wallet.operations.ListKycCases(one, metadata=MAKER)
    assert [case.consumer_id for case in answer.kyc_cases] == [str(people[3].id)]
    decided = operations.ListKycCasesRequest(state=pb.KYC_CASE_STATE_APPROVED)
    assert not (await town.wallet.operations.ListKycCases(decided, metadata=MAKER)).kyc_cases


async def test_a_page_token_of_other_filters_is_refused(town: Town) -> None:
    for person in [await town.settle_in("token") for _ in range(2)]:
        await climb(town, person, wish())
    first = await town.wallet.operations.ListKycCases(operations.ListKycCasesRequest(page_size=1), metadata=MAKER)
    assert first.next_page_token
    for request in (
        operations.ListKycCasesRequest(page_token=first.next_page_token, state=pb.KYC_CASE_STATE_REJECTED),
        operations.ListKycCasesRequest(page_token="bm9uc2Vuc2U"),
    ):
        refusal = await refused(town.wallet.operations.ListKycCases(request, metadata=MAKER))
        assert refusal.reason == "PAGE_TOKEN_INVALID"


async def test_consumers_decide_nothing(town: Town, ann: Person) -> None:
    case = (await climb(town, ann, wish())).kyc_case
    for token in (ann.token, service(), consumer(ann.id)):
        assert (await refused(decide(town, case, operations.KYC_DECISION_APPROVE, by=token))).reason == (
            "CALLER_NOT_ALLOWED"
        )
    assert (await limits(town, ann)).kyc_level == 1


async def test_the_sandbox_approves_at_once_and_a_repeat_answers_the_same(sandbox: Town) -> None:
    """Who lost the answer and asks again learns that it worked, instead of being told that the level is not next."""
    person = await sandbox.settle_in("cleo")
    answer = await climb(sandbox, person, wish())
    assert (answer.kyc_level, answer.kyc_case.state) == (2, pb.KYC_CASE_STATE_APPROVED)
    assert await climb(sandbox, person, wish()) == answer
    higher = await climb(sandbox, person, wish(3, MORE_PAPERS))
    assert higher.kyc_level == 3
    (act,) = await acts_on(sandbox, answer.kyc_case.id)
    assert (act.actor, act.role) == ("automatic_review", "worker")


async def test_the_sandbox_rejects_magic_evidence(sandbox: Town) -> None:
    person = await sandbox.settle_in("dora")
    answer = await climb(sandbox, person, wish(reference="reject-blurred"))
    assert (answer.kyc_level, answer.kyc_case.state) == (1, pb.KYC_CASE_STATE_REJECTED)
    assert "reject" in answer.kyc_case.reason


async def test_the_sandbox_takes_a_moment_when_asked_and_leaves_to_operators_what_it_is_told_to(
    sandbox: Town,
) -> None:
    """The worker asks again about what was left open, until somebody has decided."""
    slow, manual = await sandbox.settle_in("emil"), await sandbox.settle_in("frida")
    waiting = await climb(sandbox, slow, wish(reference="later-1"))
    left = await climb(sandbox, manual, wish(reference="manual-1"))
    assert waiting.kyc_case.state == left.kyc_case.state == pb.KYC_CASE_STATE_PENDING

    review = reviewer(sandbox)
    assert await review.step() == 0
    await sandbox.books.execute(
        "UPDATE kyc_cases SET created_at = created_at - :moment WHERE consumer_id = :id", moment=MOMENT, id=slow.id
    )
    assert await review.step() == 1
    assert (await limits(sandbox, slow)).kyc_level == 2
    assert (await limits(sandbox, manual)).kyc_level == 1
    assert (await decide(sandbox, left.kyc_case, operations.KYC_DECISION_APPROVE)).state == pb.KYC_CASE_STATE_APPROVED


def reviewer(town: Town) -> KycReview:
    """The worker, as the process of the workers runs it."""
    clock, engine = SystemClock(), town.books.engine
    entropy = SystemEntropy(clock)
    acts = Acts(engine=engine, clock=clock, entropy=entropy)
    kyc = KycService(engine=engine, acts=acts, verifier=AutomaticReview(clock), clock=clock, entropy=entropy)
    return KycReview(engine=engine, kyc=kyc, clock=clock)

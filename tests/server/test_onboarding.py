"""Onboarding: a person becomes a consumer once, in one commit, with an address from the pool."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from google.rpc import error_details_pb2

from monay.wallet.v1.consumer_pb2 import CONSUMER_STATE_ACTIVE, GetConsumerRequest, OnboardRequest

from .conftest import ENTROPY, Wallet, consumer, fill_pool, refused, service, serving, wallet_settings


def request(**changes: Any) -> OnboardRequest:
    values: dict[str, Any] = {
        "email": "ann@example.com",
        "phone": "+14155550100",
        "kyc_level": 1,
        "full_name": "Ann Lee",
        **changes,
    }
    return OnboardRequest(**values)


def rows(wallet: Wallet, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(wallet.settings.database_url.get_secret_value()) as connection:
        return connection.execute(statement).fetchall()


async def test_a_consumer_has_a_wallet_with_an_address_at_once(wallet: Wallet) -> None:
    answer = await wallet.consumers.Onboard(request(), metadata=service())
    made = answer.consumer
    assert (made.email, made.phone, made.full_name) == ("ann@example.com", "+14155550100", "Ann Lee")
    assert (made.kyc_level, made.state) == (1, CONSUMER_STATE_ACTIVE)
    assert [address.rail for address in made.addresses] == ["tempo"]
    assert not answer.replayed
    assert rows(wallet, "SELECT count(*) FROM stablecoin_balances WHERE available_micros = 0") == [(5,)]
    assert rows(wallet, "SELECT address, holder_id::text FROM tempo_addresses WHERE state = 'assigned'") == [
        (made.addresses[0].address.lower(), made.id)
    ]
    found = await wallet.consumers.GetConsumer(GetConsumerRequest(), metadata=consumer(made.id))
    assert found.consumer == made


async def test_level_zero_means_the_first(wallet: Wallet) -> None:
    answer = await wallet.consumers.Onboard(request(kyc_level=0), metadata=service())
    assert answer.consumer.kyc_level == 1


@pytest.mark.parametrize("level", [2, 3])
async def test_nobody_starts_at_a_higher_level(wallet: Wallet, level: int) -> None:
    refusal = await refused(wallet.consumers.Onboard(request(kyc_level=level), metadata=service()))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "KYC_LEVEL_NOT_ALLOWED")
    assert refusal.metadata == {"kyc_level": str(level), "allowed_kyc_level": "1"}


@pytest.mark.parametrize(
    ("email", "phone", "reason"),
    [
        ("ann@example.com", "+14155550111", "EMAIL_TAKEN"),
        ("ANN@EXAMPLE.COM", "+14155550111", "EMAIL_TAKEN"),
        ("bob@example.com", "+1 (415) 555-0100", "PHONE_TAKEN"),
        ("bob@example.com", "+1.415.555.0100", "PHONE_TAKEN"),
    ],
)
async def test_the_same_person_is_found_in_any_spelling(wallet: Wallet, email: str, phone: str, reason: str) -> None:
    """Two wallets of one person would be two limits."""
    await wallet.consumers.Onboard(request(), metadata=service())
    refusal = await refused(wallet.consumers.Onboard(request(email=email, phone=phone), metadata=service()))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, reason)


async def test_a_refused_onboarding_gives_its_address_back(wallet: Wallet) -> None:
    await wallet.consumers.Onboard(request(), metadata=service())
    for _ in range(3):
        await refused(wallet.consumers.Onboard(request(), metadata=service()))
    assert rows(wallet, "SELECT count(*) FROM tempo_addresses WHERE state = 'assigned'") == [(1,)]


@pytest.mark.parametrize(
    ("email", "phone", "field"),
    [
        ("ann@localhost", "+14155550100", "email"),
        ("ann@", "+14155550100", "email"),
        ("ann@example.com", "+1415", "phone"),
        ("ann@example.com", "+999 999 999 999", "phone"),
        ("ann@example.com", "4155550100", "phone"),
    ],
)
async def test_what_cannot_be_reached_is_named_by_its_field(wallet: Wallet, email: str, phone: str, field: str) -> None:
    refusal = await refused(wallet.consumers.Onboard(request(email=email, phone=phone), metadata=service()))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED")
    violations = refusal.detail(error_details_pb2.BadRequest).field_violations
    assert [violation.field for violation in violations] == [field]


async def test_the_same_request_id_answers_the_same(wallet: Wallet) -> None:
    """A caller that lost the answer asks again, and must not be told that somebody else has the email."""
    request_id = str(ENTROPY.uuid7())
    first = await wallet.consumers.Onboard(request(request_id=request_id), metadata=service())
    again = await wallet.consumers.Onboard(request(request_id=request_id.upper()), metadata=service())
    assert again.replayed
    assert again.consumer == first.consumer


async def test_a_request_id_is_for_one_intent(wallet: Wallet) -> None:
    request_id = str(ENTROPY.uuid7())
    await wallet.consumers.Onboard(request(request_id=request_id), metadata=service())
    other = request(request_id=request_id, email="bob@example.com", phone="+14155550111")
    refusal = await refused(wallet.consumers.Onboard(other, metadata=service()))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_KEY_REUSED")


async def test_request_ids_of_two_services_have_nothing_to_do_with_each_other(wallet: Wallet) -> None:
    request_id = str(ENTROPY.uuid7())
    first = await wallet.consumers.Onboard(request(request_id=request_id), metadata=service("one"))
    other = request(request_id=request_id, email="bob@example.com", phone="+14155550111")
    second = await wallet.consumers.Onboard(other, metadata=service("two"))
    assert second.consumer.id != first.consumer.id


async def test_many_at_once_with_one_request_id_make_one_consumer(wallet: Wallet) -> None:
    request_id = str(ENTROPY.uuid7())
    calls = [wallet.consumers.Onboard(request(request_id=request_id), metadata=service()) for _ in range(12)]
    answers = await asyncio.gather(*calls)
    assert len({answer.consumer.id for answer in answers}) == 1
    assert sum(not answer.replayed for answer in answers) == 1


async def test_many_at_once_with_one_email_make_one_consumer(wallet: Wallet) -> None:
    calls = [
        wallet.consumers.Onboard(request(phone=f"+141555501{number:02}"), metadata=service()) for number in range(12)
    ]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    refusals = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert len(refusals) == 11
    assert {refusal.code() for refusal in refusals} == {grpc.StatusCode.ALREADY_EXISTS}


async def test_strangers_at_once_never_share_an_address(wallet: Wallet) -> None:
    calls = [
        wallet.consumers.Onboard(
            request(email=f"p{number}@example.com", phone=f"+141555501{number:02}"), metadata=service()
        )
        for number in range(20)
    ]
    answers = await asyncio.gather(*calls)
    assert len({answer.consumer.addresses[0].address for answer in answers}) == 20


async def test_an_empty_pool_is_a_pause_and_not_a_key_in_this_process(database: str, tmp_path: Path) -> None:
    """UNAVAILABLE is repeated by SDKs, and workers derive more within seconds."""
    settings = wallet_settings(database, tmp_path)
    async with serving(settings) as wallet:
        request_id = str(ENTROPY.uuid7())
        refusal = await refused(wallet.consumers.Onboard(request(request_id=request_id), metadata=service()))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "ADDRESS_POOL_EMPTY")
        await fill_pool(settings, 1)
        answer = await wallet.consumers.Onboard(request(request_id=request_id), metadata=service())
        assert not answer.replayed


async def test_consumers_and_operators_do_not_onboard(wallet: Wallet) -> None:
    refusal = await refused(wallet.consumers.Onboard(request(), metadata=consumer(ENTROPY.uuid7())))
    assert refusal.reason == "CALLER_NOT_ALLOWED"


async def test_personal_data_stands_nowhere_in_the_clear(wallet: Wallet) -> None:
    """Who steals a backup learns nobody's name."""
    planted = request(
        email="planted.secret@example.com", full_name="Planted Secretname", request_id=str(ENTROPY.uuid7())
    )
    await wallet.consumers.Onboard(planted, metadata=service())
    tables = [name for (name,) in rows(wallet, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    dump = "".join(str(row) for table in tables for row in rows(wallet, f"SELECT * FROM {table}"))
    assert dump
    for secret in ("planted.secret", "Secretname", "4155550100"):
        assert secret not in dump


async def test_an_unknown_consumer_is_not_found(wallet: Wallet) -> None:
    unknown = GetConsumerRequest(consumer_id=str(ENTROPY.uuid7()))
    refusal = await refused(wallet.consumers.GetConsumer(unknown, metadata=service()))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "CONSUMER_NOT_FOUND")

"""Where calls come from: allow lists, and proxies whose word counts."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest

from domain.errors import AddressNotAllowed
from monay.wallet.v1 import operations_service_pb2 as operations
from monay.wallet.v1.consumer_pb2 import GetConsumerRequest, OnboardRequest
from monay.wallet.v1.provider_pb2 import GetHealthRequest
from server.origins import Origins, networks

from .conftest import fill_pool, operator, refused, service, serving, wallet_settings


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        ("ipv4:10.1.2.3:50000", True),
        ("ipv4:11.1.2.3:50000", False),
        ("ipv6:%5B2001:db8::7%5D:50000", True),
        ("ipv6:[2001:db9::7]:50000", False),
        ("ipv6:%5B::ffff:10.1.2.3%5D:50000", True),
        ("ipv6:%5Bfe80::1%25eth0%5D:50000", False),
        ("unix:/run/wallet.sock", False),
        ("unknown:10.1.2.3", False),
        ("", False),
    ],
)
def test_only_listed_networks_are_allowed(peer: str, allowed: bool) -> None:
    origins = Origins(allowed=networks("10.0.0.0/8, 2001:db8::/32"))
    for _ in range(2):
        if allowed:
            origins.require_allowed(peer)
        else:
            with pytest.raises(AddressNotAllowed):
                origins.require_allowed(peer)


def test_without_a_list_everybody_is_allowed() -> None:
    Origins().require_allowed("unix:/run/wallet.sock")


PROXIES = networks("10.0.0.0/24, ::1/128")


@pytest.mark.parametrize(
    ("peer", "forwarded", "origin"),
    [
        # A stranger writes what he likes; nobody reads it.
        ("ipv4:203.0.113.9:1", ["10.0.0.1"], "ipv4:203.0.113.9:1"),
        ("ipv4:10.0.0.1:1", ["198.51.100.7"], "ipv4:198.51.100.7:0"),
        ("ipv6:%5B::1%5D:1", ["2001:db8::9"], "ipv6:[2001:db8::9]:0"),
        # Of two proxies in a row, both are passed.
        ("ipv4:10.0.0.1:1", ["198.51.100.7, 10.0.0.2"], "ipv4:198.51.100.7:0"),
        ("ipv4:10.0.0.1:1", ["198.51.100.7", "10.0.0.2"], "ipv4:198.51.100.7:0"),
        # What the client put in front of what the proxy added is not believed.
        ("ipv4:10.0.0.1:1", ["127.0.0.1, 198.51.100.7"], "ipv4:198.51.100.7:0"),
        ("ipv4:10.0.0.1:1", ["198.51.100.7:4711"], "ipv4:198.51.100.7:4711"),
        ("ipv4:10.0.0.1:1", ["[2001:db8::9]:4711"], "ipv6:[2001:db8::9]:0"),
        ("ipv4:10.0.0.1:1", ["nonsense"], "unknown:nonsense"),
        ("ipv4:10.0.0.1:1", [], "ipv4:10.0.0.1:1"),
    ],
)
def test_a_forwarded_address_counts_as_far_as_proxies_of_ours_vouch_for_it(
    peer: str, forwarded: list[str], origin: str
) -> None:
    assert Origins(proxies=PROXIES).origin(peer, forwarded) == origin


def test_without_proxies_a_forwarded_address_is_nothing() -> None:
    assert Origins().origin("ipv4:10.0.0.1:1", ["198.51.100.7"]) == "ipv4:10.0.0.1:1"


@pytest.mark.parametrize("text", ["10.0.0.1/8", "everywhere", "10.0.0.0/33"])
def test_a_network_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=text.partition("/")[0]):
        networks(text)


async def test_a_stranger_is_turned_away_before_the_token_is_read(database: str, tmp_path: Path) -> None:
    settings = wallet_settings(database, tmp_path, ip_allow_list=networks("192.0.2.0/24"))
    async with serving(settings) as wallet:
        for metadata in (service(), (("authorization", "Bearer nonsense"),), None):
            refusal = await refused(wallet.consumers.GetConsumer(GetConsumerRequest(), metadata=metadata))
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ADDRESS_NOT_ALLOWED")
        assert (await refused(wallet.consumers.GetHealth(GetHealthRequest()))).reason == "ADDRESS_NOT_ALLOWED"
        # Balancers and orchestrators are on nobody's list.
        await wallet.health.Check(HealthCheckRequest())


async def test_behind_a_proxy_the_callers_own_address_is_judged_and_written_down(database: str, tmp_path: Path) -> None:
    lists = {"ip_allow_list": networks("192.0.2.0/24"), "trusted_proxies": networks("127.0.0.0/8")}
    settings = wallet_settings(database, tmp_path, **lists)
    await fill_pool(settings)
    async with serving(settings) as wallet:
        inside, outside = (("x-forwarded-for", "192.0.2.7"),), (("x-forwarded-for", "192.0.2.7, 203.0.113.9"),)
        onboard = OnboardRequest(email="ann@example.com", phone="+14155550100")
        answer = await wallet.consumers.Onboard(onboard, metadata=(*service(), *inside))
        refusal = await refused(wallet.consumers.Onboard(onboard, metadata=(*service(), *outside)))
        assert refusal.reason == "ADDRESS_NOT_ALLOWED"

        freeze = operations.FreezeConsumerRequest(consumer_id=answer.consumer.id, reason="asked for it")
        await wallet.operations.FreezeConsumer(freeze, metadata=(*operator(), *inside))
        log = await wallet.operations.ListAudit(operations.ListAuditRequest(), metadata=(*operator(), *inside))
        assert [record.peer for record in log.records] == ["ipv4:192.0.2.7:0"]

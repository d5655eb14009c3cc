"""Several nodes behind one adapter: some sick, some behind, some lying, and the wallet still right."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest

from domain.clock import SystemClock
from domain.money import Asset
from providers.base import (
    Accepted,
    ChainChanged,
    Holding,
    Movement,
    OutcomeUnknown,
    Party,
    Preparation,
    ProviderUnavailable,
    Retryable,
)
from providers.tempo import TempoRail, connect
from sandbox.tempo_tokens import open_endpoint
from tests.providers.stand_in import StandIn, stand_in
from tests.providers.worlds import (
    OUTSIDER,
    SHORT_WINDOW,
    UNIT,
    TempoChain,
    TempoWorld,
    attempt_of,
    balance,
    consumers,
    movement,
    operator,
    receipt_of,
    settle,
)


@asynccontextmanager
async def rail_over(chain: TempoChain, *nodes: StandIn, api_key: str | None = None) -> AsyncIterator[TempoRail]:
    rail = connect(chain.config(*(node.url for node in nodes), api_key=api_key), clock=SystemClock())
    try:
        yield rail
    finally:
        await rail.close()


@pytest.fixture
async def nodes(tempo_chain: TempoChain) -> AsyncIterator[tuple[StandIn, StandIn]]:
    async with AsyncExitStack() as stack:
        yield (
            await stack.enter_async_context(stand_in(tempo_chain.url)),
            await stack.enter_async_context(stand_in(tempo_chain.url)),
        )


def from_operator(rail: TempoRail) -> Movement:
    return movement(Party.operator(rail.signer.operator_address), OUTSIDER, UNIT)


async def finalized_header(chain: TempoChain) -> dict[str, Any]:
    async with open_endpoint(chain.url) as endpoint:
        header: dict[str, Any] = await endpoint.call("eth_getBlockByNumber", ["finalized", False])
    return header


async def test_connections_are_kept_and_the_api_key_goes_along(
    tempo_chain: TempoChain, nodes: tuple[StandIn, StandIn]
) -> None:
    """A new connection for each call would cost more than the call, and web3 makes one unless it is stopped."""
    async with rail_over(tempo_chain, nodes[0], api_key="tempo:sk:test") as rail:
        for _ in range(10):
            await rail.reader.finalized()
    assert len(nodes[0].connections) == 1
    assert nodes[0].headers["Authorization"] == "Bearer tempo:sk:test"


async def test_without_a_key_no_header_is_sent(tempo_chain: TempoChain, nodes: tuple[StandIn, StandIn]) -> None:
    """An empty bearer would be refused where none is needed."""
    async with rail_over(tempo_chain, nodes[0]) as rail:
        await rail.reader.chain_id()
    assert "Authorization" not in nodes[0].headers


async def test_batches_are_bounded(tempo_chain: TempoChain, nodes: tuple[StandIn, StandIn]) -> None:
    """Hosted nodes refuse large batches; reconciliation asks for thousands of balances."""
    holders = [f"0x{number:040x}" for number in range(1, 251)]
    async with rail_over(tempo_chain, nodes[0]) as rail:
        head = await rail.reader.finalized()
        balances = await rail.reader.balances(holders, Asset.USDC, at_block=head.number)
    assert balances == dict.fromkeys(holders, 0)
    assert nodes[0].largest_batch == 100
    assert nodes[0].posts == 4


@pytest.mark.parametrize("fault", ["failing", "silent"])
async def test_a_sick_endpoint_is_passed_over(
    tempo_chain: TempoChain, nodes: tuple[StandIn, StandIn], fault: str
) -> None:
    """One bad node in the list must cost one timeout, not every request."""
    sick, well = nodes
    setattr(sick, fault, True)
    async with rail_over(tempo_chain, sick, well) as rail:
        first = await rail.reader.finalized()
        posts = sick.posts
        for _ in range(3):
            assert (await rail.reader.finalized()).endpoint == first.endpoint
    assert first.endpoint in well.url
    assert sick.posts == posts, "a sick endpoint is left alone for a while"


async def test_an_endpoint_behind_the_others_is_passed_over(
    tempo_chain: TempoChain, nodes: tuple[StandIn, StandIn]
) -> None:
    """Its receipts are null and its logs are empty, which would look like news. Here only the other head shows it."""
    lagging, well = nodes
    async with rail_over(tempo_chain, lagging, well) as rail:
        well_name = (await rail.reader.finalized(endpoint=well.url.removeprefix("http://"))).endpoint
        await rail.reader.finalized()
        header = await finalized_header(tempo_chain)
        lagging.freeze_head(header | {"number": hex(int(header["number"], 16) - 20)})
        for _ in range(3):
            assert (await rail.reader.finalized()).endpoint == well_name
    heads = [request for request in lagging.requests if request["params"] == ["finalized", False]]
    assert len(heads) == 2, "once to be current, once to be found behind, and then left alone"


async def test_an_endpoint_behind_the_clock_is_passed_over(
    tempo_chain: TempoChain, nodes: tuple[StandIn, StandIn]
) -> None:
    """A node that stopped importing blocks is found even before another one is asked."""
    lagging, well = nodes
    header = await finalized_header(tempo_chain)
    old = int(header["timestamp"], 16) - 5
    lagging.freeze_head(header | {"timestamp": hex(old), "timestampMillis": hex(old * 1000)})
    async with rail_over(tempo_chain, lagging, well) as rail:
        assert (await rail.reader.finalized()).endpoint in well.url
        assert isinstance(await rail.provider.prepare([from_operator(rail)]), Preparation)


async def test_nothing_is_signed_on_an_old_head(tempo_chain: TempoChain, nodes: tuple[StandIn, StandIn]) -> None:
    """Money rule 5: a head more than 3 s from the wall clock means that one of the clocks is wrong."""
    header = await finalized_header(tempo_chain)
    old = int(header["timestamp"], 16) - 5
    nodes[0].freeze_head(header | {"timestamp": hex(old), "timestampMillis": hex(old * 1000)})
    async with rail_over(tempo_chain, nodes[0]) as rail:
        preparation = await rail.provider.prepare([from_operator(rail)])
        assert isinstance(preparation, Retryable)
        assert "clock skew" in preparation.reason
        assert isinstance(await rail.provider.probe(), Retryable)
        assert (await rail.reader.finalized()).number == int(header["number"], 16), "a halted chain can still be read"
    assert not [request for request in nodes[0].requests if request["method"] == "eth_sendRawTransaction"]


async def test_nothing_is_signed_on_a_head_below_one_seen_before(
    tempo_chain: TempoChain, nodes: tuple[StandIn, StandIn]
) -> None:
    """Money rule 14: a chain that got shorter is not the chain the books know, and the watcher may not know it yet."""
    async with rail_over(tempo_chain, nodes[0]) as rail:
        assert isinstance(await rail.provider.prepare([from_operator(rail)]), Preparation)
        header = await finalized_header(tempo_chain)
        nodes[0].freeze_head(header | {"number": hex(int(header["number"], 16) - 20)})
        preparation = await rail.provider.prepare([from_operator(rail)])
        assert isinstance(preparation, Retryable)
        assert "lower than one seen before" in preparation.reason
        assert (await rail.reader.finalized()).number == int(header["number"], 16) - 20, "the watcher has to see it"


async def test_a_clock_that_is_ahead_signs_nothing_either(tempo_chain: TempoChain) -> None:
    """Money rule 5 from the other side: the machine's own clock is the wrong one."""
    rail = connect(tempo_chain.config(), clock=_FastClock())
    try:
        preparation = await rail.provider.prepare([from_operator(rail)])
    finally:
        await rail.close()
    assert isinstance(preparation, Retryable)
    assert "clock skew" in preparation.reason


async def test_a_lagging_endpoint_gives_neither_blocks_nor_evidence(
    tempo: TempoWorld, tempo_chain: TempoChain, nodes: tuple[StandIn, StandIn]
) -> None:
    """Money rule 3: its null receipt and its empty logs must not bury what was mined."""
    [recipient] = await consumers(tempo, 1)
    header = await finalized_header(tempo_chain)
    nodes[0].freeze_head(header)
    receipt = await settle(tempo, [movement(operator(tempo), recipient, UNIT)])
    await tempo.pass_time(SHORT_WINDOW.total_seconds() + 1)
    cursor = await tempo.reader.finalized()
    holdings = [Holding(tempo.signer.operator_address, Asset.USDC)]
    async with rail_over(tempo_chain, nodes[0]) as rail:
        with pytest.raises(ProviderUnavailable):
            await rail.reader.evidence_of_death(receipt.reference, holdings=holdings, at_block=cursor.number)
        with pytest.raises(ProviderUnavailable):
            await rail.reader.blocks(receipt.block_number, receipt.block_number)
        evidence = await rail.reader.evidence_of_death(receipt.reference, holdings=holdings)
        assert evidence.receipt is None
        assert not evidence.shows_expiry(cursor.time)


async def test_a_block_with_another_parent_is_a_changed_chain(
    tempo: TempoWorld, tempo_chain: TempoChain, nodes: tuple[StandIn, StandIn]
) -> None:
    """Money rule 14: what does not join is not read on."""
    await tempo.next_block()
    head = await tempo.reader.finalized()
    number = hex(head.number)

    def another_parent(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if request["params"][:1] != [number]:
            return answer
        return {**answer, "result": {**answer["result"], "parentHash": "0x" + "77" * 32}}

    nodes[0].spoil = another_parent
    async with rail_over(tempo_chain, nodes[0]) as rail:
        with pytest.raises(ChainChanged):
            await rail.reader.blocks(head.number - 1, head.number)


async def test_a_broadcast_goes_to_the_next_endpoint_when_one_is_down(
    tempo: TempoWorld, tempo_chain: TempoChain, nodes: tuple[StandIn, StandIn]
) -> None:
    """Handing over is idempotent, so trying the next node costs nothing and may save the attempt."""
    [recipient] = await consumers(tempo, 1)
    attempt = attempt_of(await tempo.provider.prepare([movement(operator(tempo), recipient, UNIT)]))
    nodes[0].failing = True
    async with rail_over(tempo_chain, *nodes) as rail:
        assert await rail.provider.submit(attempt.payload) == Accepted(attempt.reference)
    assert (await receipt_of(tempo, attempt.reference)).succeeded


async def test_a_lost_answer_is_unknown_and_handing_over_again_settles_once(
    tempo: TempoWorld, tempo_chain: TempoChain, nodes: tuple[StandIn, StandIn]
) -> None:
    """The broadcast took effect and nobody heard of it: the answer is unknown, never no."""
    [recipient] = await consumers(tempo, 1)
    attempt = attempt_of(await tempo.provider.prepare([movement(operator(tempo), recipient, UNIT)]))
    nodes[0].losing_answers = True
    async with rail_over(tempo_chain, nodes[0]) as rail:
        assert isinstance(await rail.provider.submit(attempt.payload), OutcomeUnknown)
        nodes[0].losing_answers = False
        assert isinstance(await rail.provider.submit(attempt.payload), Accepted)
    await receipt_of(tempo, attempt.reference)
    await tempo.next_block()
    assert await balance(tempo, recipient) == UNIT


async def test_a_nodes_refusal_is_unknown_too(tempo: TempoWorld) -> None:
    """Another node may hold the transaction that this one refuses."""
    [recipient] = await consumers(tempo, 1)
    attempt = attempt_of(await tempo.provider.prepare([movement(operator(tempo), recipient, UNIT)]))
    await tempo.pass_time(SHORT_WINDOW.total_seconds() + 1)
    assert isinstance(await tempo.provider.submit(attempt.payload), OutcomeUnknown)


async def test_no_endpoint_at_all_is_unavailable_and_unknown(
    tempo_chain: TempoChain, nodes: tuple[StandIn, StandIn]
) -> None:
    """Reads say so; a broadcast says that it does not know."""
    for node in nodes:
        node.failing = True
    async with rail_over(tempo_chain, *nodes) as rail:
        with pytest.raises(ProviderUnavailable):
            await rail.reader.finalized()
        preparation = await rail.provider.prepare([from_operator(rail)])
        assert isinstance(preparation, Retryable)
        assert isinstance(await rail.provider.submit(b"\x76"), OutcomeUnknown)


class _FastClock(SystemClock):
    def now(self) -> datetime:
        return super().now() + timedelta(seconds=10)

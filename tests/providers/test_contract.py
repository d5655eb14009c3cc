"""What every provider must do, run on each of them: the simulated rail and Tempo on a real node."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from domain.money import Asset
from domain.settlement import AttemptKind
from providers.base import (
    Accepted,
    Holding,
    Movement,
    Party,
    Preparation,
    Probe,
    ProviderUnavailable,
    Refusal,
    RefusalReason,
    SigningRefused,
    item_of,
    memo_of,
)
from tests.providers.worlds import (
    OUTSIDER,
    UNIT,
    World,
    active_consumers,
    attempt_of,
    balance,
    block_of,
    consumers,
    item_id,
    movement,
    operator,
    receipt_of,
    settle,
)


async def test_a_movement_between_consumers_arrives_and_its_event_names_the_item(world: World) -> None:
    """Money rule 12: item, token, sender, recipient and amount are all in the event that settles the item."""
    sender, recipient = await active_consumers(world, 2, micros=10 * UNIT)
    moved = movement(sender, recipient, 3 * UNIT)
    receipt = await settle(world, [moved])
    block = await block_of(world, receipt)
    logs = [log for log in block.transfers if log.item_id == moved.item_id]
    assert len(logs) == 1, "two events of one transfer are one movement"
    [log] = logs
    assert (log.asset, log.sender, log.recipient) == (Asset.USDC, sender.address, recipient.address)
    assert (log.micros, log.transaction_hash) == (3 * UNIT, receipt.reference)
    assert (log.block_number, log.block_hash, log.block_time) == (block.number, block.hash, block.time)
    assert await balance(world, sender) == 7 * UNIT
    assert await balance(world, recipient) == 13 * UNIT


async def test_every_kind_of_movement_settles(world: World) -> None:
    """Between consumers, the operator and outside, all that the ledger knows comes down to these."""
    first, second = await active_consumers(world, 2, micros=10 * UNIT)
    before = await balance(world, OUTSIDER)
    await settle(
        world,
        [
            movement(operator(world), first, UNIT),
            movement(first, second, 2 * UNIT),
            movement(second, operator(world), 3 * UNIT),
            movement(first, OUTSIDER, 4 * UNIT),
            movement(operator(world), OUTSIDER, 5 * UNIT),
        ],
    )
    assert await balance(world, first) == 5 * UNIT
    assert await balance(world, second) == 9 * UNIT
    assert await balance(world, OUTSIDER) - before == 9 * UNIT


async def test_an_earlier_movement_of_the_same_attempt_covers_a_later_one(world: World) -> None:
    """Money rule 8: a credit counts when it is an earlier call of the same chain transaction."""
    rich, passing, last = await active_consumers(world, 3, micros=UNIT)
    await settle(world, [movement(rich, passing, UNIT), movement(passing, last, 2 * UNIT)])
    assert [await balance(world, party) for party in (rich, passing, last)] == [0, 0, 3 * UNIT]


async def test_the_reference_is_known_before_anything_is_sent(world: World) -> None:
    """Money rule 2: what is persisted before the broadcast must be enough to find the transaction for ever."""
    [recipient] = await consumers(world, 1)
    attempt = attempt_of(await world.provider.prepare([movement(operator(world), recipient, UNIT)]))
    assert attempt.kind is AttemptKind.TRANSFER
    await world.next_block()
    await world.next_block()
    assert await world.reader.receipts([attempt.reference]) == {}, "preparing sends nothing"
    outcome = await world.provider.submit(attempt.payload)
    assert outcome == Accepted(attempt.reference)
    assert (await receipt_of(world, attempt.reference)).reference == attempt.reference


async def test_handing_the_same_payload_over_again_has_one_effect(world: World) -> None:
    """After a crash nobody knows whether the broadcast happened; doing it again must be safe, early and late."""
    [recipient] = await consumers(world, 1)
    attempt = attempt_of(await world.provider.prepare([movement(operator(world), recipient, UNIT)]))
    for _ in range(3):
        assert isinstance(await world.provider.submit(attempt.payload), Accepted)
    await receipt_of(world, attempt.reference)
    await world.provider.submit(attempt.payload)
    await world.next_block()
    await world.next_block()
    assert await balance(world, recipient) == UNIT


async def test_equal_movements_of_different_items_are_different_attempts(world: World) -> None:
    """Money rule 12: without the item in the payload, two equal payments in one second would be one."""
    [recipient] = await consumers(world, 1)
    attempts = [attempt_of(await world.provider.prepare([movement(operator(world), recipient, UNIT)])) for _ in "ab"]
    assert attempts[0].reference != attempts[1].reference
    for attempt in attempts:
        await world.provider.submit(attempt.payload)
    for attempt in attempts:
        assert (await receipt_of(world, attempt.reference)).succeeded
    assert await balance(world, recipient) == 2 * UNIT


async def test_valid_before_is_stamped_from_the_finalized_head(world: World) -> None:
    """Money rule 5: our clock alone does not decide when a signed transaction is dead."""
    [recipient] = await consumers(world, 1)
    before = await world.reader.finalized()
    attempt = attempt_of(await world.provider.prepare([movement(operator(world), recipient, UNIT)]))
    after = await world.reader.finalized()
    window = world.provider.limits.window
    assert _whole_seconds(before.time) + window <= attempt.valid_before <= _whole_seconds(after.time) + window
    assert before.number <= attempt.signed_at_block <= after.number


async def test_an_expired_attempt_is_provably_dead_and_stays_so(world: World) -> None:
    """Money rule 3: a finalized block at or after `valid_before`, no receipt, and nothing gone from the sender."""
    sender, recipient = await active_consumers(world, 2, micros=5 * UNIT)
    attempt = attempt_of(await world.provider.prepare([movement(sender, recipient, UNIT)]))
    holding = Holding(sender.address, Asset.USDC)

    early = await world.reader.evidence_of_death(attempt.reference, holdings=[holding])
    assert not early.shows_expiry(attempt.valid_before), "a null receipt alone proves nothing"

    await world.pass_time(world.provider.limits.window.total_seconds() + 1)
    late = await world.reader.evidence_of_death(attempt.reference, holdings=[holding])
    assert late.shows_expiry(attempt.valid_before)
    assert late.balances == {holding: 5 * UNIT}

    await world.provider.submit(attempt.payload)
    await world.next_block()
    await world.next_block()
    assert await world.reader.receipts([attempt.reference]) == {}
    assert await balance(world, recipient) == 5 * UNIT


async def test_what_was_mined_is_never_shown_as_dead(world: World) -> None:
    """The other half of rule 3: with a receipt there is no death, however late it is."""
    sender, recipient = await active_consumers(world, 2, micros=5 * UNIT)
    attempt = attempt_of(await world.provider.prepare([movement(sender, recipient, UNIT)]))
    await world.provider.submit(attempt.payload)
    await receipt_of(world, attempt.reference)
    await world.pass_time(world.provider.limits.window.total_seconds() + 1)
    evidence = await world.reader.evidence_of_death(attempt.reference, holdings=[Holding(sender.address, Asset.USDC)])
    assert evidence.block.time >= attempt.valid_before
    assert not evidence.shows_expiry(attempt.valid_before)
    assert evidence.receipt is not None
    assert evidence.receipt.succeeded


async def test_evidence_can_be_judged_at_the_watchers_block(world: World) -> None:
    """Money rule 3 compares the sender's balance with custody at the block the watcher has reached, not later."""
    sender, recipient = await active_consumers(world, 2, micros=5 * UNIT)
    cursor = await world.reader.finalized()
    receipt = await settle(world, [movement(sender, recipient, UNIT)])
    holding = Holding(sender.address, Asset.USDC)
    evidence = await world.reader.evidence_of_death(receipt.reference, holdings=[holding], at_block=cursor.number)
    assert (evidence.block.number, evidence.block.hash) == (cursor.number, cursor.hash)
    assert evidence.balances == {holding: 5 * UNIT}
    assert evidence.finalized.number >= receipt.block_number


async def test_a_forbidden_recipient_is_isolated_and_the_rest_settles(world: World) -> None:
    """Money rule 10: one offender must not stop thirty-one others, and rule 10 has to know whose end is blocked."""
    sender, other, blocked = await active_consumers(world, 3, micros=5 * UNIT, asset=Asset.USDB)
    await world.forbid(blocked.address)
    offender = movement(sender, blocked, UNIT, Asset.USDB)
    behind = movement(sender, other, UNIT, Asset.USDB)
    innocent = movement(other, sender, UNIT, Asset.USDB)
    preparation = await world.provider.prepare([offender, behind, innocent])
    assert isinstance(preparation, Preparation)
    assert attempt_of(preparation).movements == (innocent,)
    assert preparation.deferred == (behind.item_id,), "a later item of the same consumer keeps its place (rule 7)"
    [refusal] = preparation.refusals
    assert (refusal.item_id, refusal.reason) == (offender.item_id, RefusalReason.POLICY_FORBIDS)
    assert refusal.permanent
    assert refusal.blocked == "destination"

    [other_way] = (await _prepared(world, movement(blocked, sender, UNIT, Asset.USDB))).refusals
    assert other_way.permanent
    assert other_way.blocked == "source"


async def test_a_policy_is_known_before_anything_is_held(world: World) -> None:
    """A withdrawal to a forbidden address is refused at once, before money is held for what can never be paid."""
    allowed, forbidden = await consumers(world, 2)
    await world.forbid(forbidden.address)
    await world.next_block()
    found = await world.reader.may_receive([allowed.address, forbidden.address], Asset.USDB)
    assert found == {allowed.address: True, forbidden.address: False}
    assert await world.reader.may_receive([OUTSIDER.address], Asset.USDC) == {OUTSIDER.address: True}


async def test_want_of_cover_is_refused_for_now_only(world: World) -> None:
    """Money rule 10: all but the closed list of reasons waits."""
    sender, recipient = await active_consumers(world, 2, micros=UNIT)
    [refusal] = (await _prepared(world, movement(sender, recipient, 2 * UNIT))).refusals
    assert (refusal.reason, refusal.permanent) == (RefusalReason.INSUFFICIENT_BALANCE, False)


async def test_a_paused_token_waits_and_settles_afterwards(world: World) -> None:
    """Money rule 10: a pause is not an end."""
    [recipient] = await consumers(world, 1)
    moved = movement(operator(world), recipient, UNIT, Asset.PYUSD)
    await world.pause(Asset.PYUSD, paused=True)
    try:
        [refusal] = (await _prepared(world, moved)).refusals
        assert (refusal.reason, refusal.permanent) == (RefusalReason.CONTRACT_PAUSED, False)
    finally:
        await world.pause(Asset.PYUSD, paused=False)
    await settle(world, [moved])


async def test_a_consumer_needs_activation_once(world: World) -> None:
    """Without the allowance the item waits for it; with it, it settles. Rule 6 judges by the allowance itself."""
    sender, recipient = await consumers(world, 2)
    await settle(world, [movement(operator(world), sender, UNIT)])
    [refusal] = (await _prepared(world, movement(sender, recipient, UNIT))).refusals
    assert (refusal.reason, refusal.permanent) == (RefusalReason.INSUFFICIENT_ALLOWANCE, False)
    assert await world.reader.allowances([sender.address], Asset.USDC) == {sender.address: 0}

    attempt = attempt_of(await world.provider.prepare_activation(sender, [Asset.USDC, Asset.USDT]))
    assert (attempt.kind, attempt.activates, attempt.assets) == (
        AttemptKind.ACTIVATION,
        sender,
        (Asset.USDC, Asset.USDT),
    )
    await world.provider.submit(attempt.payload)
    assert (await receipt_of(world, attempt.reference)).succeeded
    for asset in (Asset.USDC, Asset.USDT):
        assert (await world.reader.allowances([sender.address], asset))[sender.address] > 2**64
    await settle(world, [movement(sender, recipient, UNIT)])
    assert await balance(world, sender) == 0, "the fee of an activation is not the consumer's"


async def test_a_batch_that_reverts_moves_nothing_and_says_so(world: World) -> None:
    """Two attempts over the same cover: expiring nonces give no order, one of them fails whole, and its fee is paid."""
    sender, recipient, other = await active_consumers(world, 3, micros=UNIT)
    attempts = [
        attempt_of(await world.provider.prepare([movement(other, recipient, 1), movement(sender, recipient, UNIT)]))
        for _ in "ab"
    ]
    for attempt in attempts:
        await world.provider.submit(attempt.payload)
    receipts = [await receipt_of(world, attempt.reference) for attempt in attempts]
    assert sorted(receipt.succeeded for receipt in receipts) == [False, True]
    [failed] = [receipt for receipt in receipts if not receipt.succeeded]
    assert not [log for log in (await block_of(world, failed)).transfers if log.transaction_hash == failed.reference]
    assert await balance(world, recipient) == 2 * UNIT + 1
    assert await balance(world, other) == UNIT - 1
    assert failed.fee is not None
    assert failed.fee.micros > 0


async def test_fees_are_the_fee_payers_and_are_shown_in_the_block(world: World) -> None:
    """Money rules 17 and 19: each receipt's fee has to be booked, and it never comes out of the float."""
    [recipient] = await consumers(world, 1)
    float_before = await balance(world, operator(world))
    receipt = await settle(world, [movement(operator(world), recipient, UNIT)])
    assert await balance(world, operator(world)) == float_before - UNIT
    assert receipt.fee is not None
    assert receipt.fee.payer == world.signer.fee_payer_address
    assert receipt.fee.asset is Asset.USDC
    assert receipt.fee.micros > 0
    block = await block_of(world, receipt)
    assert [fee for fee in block.fees if fee.transaction_hash == receipt.reference] == [receipt.fee]
    assert all(log.micros == UNIT for log in block.transfers if log.transaction_hash == receipt.reference)


async def test_money_from_outside_is_seen_without_being_announced(world: World) -> None:
    """Money rule 13: a log of nobody's item into an address of ours is a deposit."""
    [recipient] = await consumers(world, 1)
    reference = await world.faucet.fund(recipient.address, Asset.EURC, 7 * UNIT)
    block = await block_of(world, await receipt_of(world, reference))
    [log] = [log for log in block.transfers if log.transaction_hash == reference]
    assert (log.recipient, log.asset, log.micros) == (recipient.address, Asset.EURC, 7 * UNIT)
    assert log.item_id is None


async def test_equal_payments_from_outside_are_two(world: World) -> None:
    """A faucet used twice in one second pays twice."""
    [recipient] = await consumers(world, 1)
    references = await asyncio.gather(*(world.faucet.fund(recipient.address, Asset.USDC, UNIT) for _ in "ab"))
    for reference in references:
        await receipt_of(world, reference)
    assert await balance(world, recipient) == 2 * UNIT


async def test_blocks_join_and_reach_no_further_than_the_finalized_head(world: World) -> None:
    """Money rule 3: beyond a node's head there is no answer, which is not the same as an empty one."""
    for _ in range(3):
        await world.next_block()
    head = await world.reader.finalized()
    blocks = await world.reader.blocks(head.number - 2, head.number)
    assert [block.number for block in blocks] == [head.number - 2, head.number - 1, head.number]
    assert [block.parent_hash for block in blocks[1:]] == [block.hash for block in blocks[:-1]]
    assert blocks[-1].hash == head.hash
    with pytest.raises(ProviderUnavailable):
        await world.reader.blocks(head.number, head.number + 1_000)
    with pytest.raises(ProviderUnavailable):
        await world.reader.balances([OUTSIDER.address], Asset.USDC, at_block=head.number + 1_000)


async def test_balances_are_those_of_the_block_asked_for(world: World) -> None:
    """Money rule 14: custody at a block is compared with the chain at exactly that block."""
    [party] = await consumers(world, 1)
    first = await settle(world, [movement(operator(world), party, UNIT)])
    second = await settle(world, [movement(operator(world), party, UNIT)])
    numbers = (first.block_number - 1, first.block_number, second.block_number)
    balances = [await world.reader.balances([party.address], Asset.USDC, at_block=number) for number in numbers]
    assert [found[party.address] for found in balances] == [0, UNIT, 2 * UNIT]


async def test_the_signer_recomputes_addresses(world: World) -> None:
    """Money rule 27: whoever can write to our database must not be able to redirect a payment."""
    first, second = await consumers(world, 2)
    swapped = replace(first, address=second.address)
    with pytest.raises(SigningRefused):
        await world.provider.prepare([movement(operator(world), swapped, UNIT)])
    false_operator = Party.operator(second.address)
    with pytest.raises(SigningRefused):
        await world.provider.prepare([movement(operator(world), false_operator, UNIT)])
    with pytest.raises(SigningRefused):
        await world.provider.prepare_activation(swapped, [Asset.USDC])


async def test_more_than_the_limits_allow_is_refused_by_us(world: World) -> None:
    """The dev chain would take four hundred calls; the real one drops more than thirty-two."""
    [recipient] = await consumers(world, 1)
    too_many = [movement(operator(world), recipient, 1) for _ in range(world.provider.limits.max_movements + 1)]
    with pytest.raises(AssertionError):
        await world.provider.prepare(too_many)


async def test_a_full_attempt_is_one_transaction(world: World) -> None:
    """As many movements as the limit allows settle together, or none does."""
    recipients = await consumers(world, world.provider.limits.max_movements)
    receipt = await settle(world, [movement(operator(world), recipient, UNIT) for recipient in recipients])
    block = await block_of(world, receipt)
    logs = [log for log in block.transfers if log.transaction_hash == receipt.reference]
    assert [log.recipient for log in logs] == [recipient.address for recipient in recipients]
    assert sorted({log.log_index for log in logs}) == [log.log_index for log in logs]


async def test_a_probe_shows_a_moving_head(world: World) -> None:
    """Money rule 5: what decides whether a provider is back is a read."""
    before = await world.provider.probe()
    await world.next_block()
    after = await world.provider.probe()
    assert isinstance(before, Probe)
    assert isinstance(after, Probe)
    assert after.head.number > before.head.number
    assert before.latency < timedelta(seconds=1)


def test_a_memo_names_its_item_and_no_other_text_does() -> None:
    """Money rule 12: one function each way; a stranger's memo is not an item."""
    item = item_id()
    assert item_of(memo_of(item)) == item
    assert len(memo_of(item)) == 32
    assert item_of(b"invoice 4711".ljust(32, b"\0")) is None
    assert item_of(bytes(32)) is None
    assert item_of(item.bytes) is None
    assert item_of(memo_of(UUID(int=1))) == UUID(int=1)


def test_a_permanent_reason_without_its_end_waits() -> None:
    """Money rule 10 goes one way for a blocked sender and another for a recipient: not knowing which, nobody acts."""
    refusal = Refusal(item_id(), RefusalReason.POLICY_FORBIDS, at_block=1)
    assert not refusal.permanent
    assert replace(refusal, blocked="source").permanent


async def _prepared(world: World, *movements: Movement) -> Preparation:
    preparation = await world.provider.prepare(movements)
    assert isinstance(preparation, Preparation), preparation
    assert preparation.attempt is None
    return preparation


def _whole_seconds(time: datetime) -> datetime:
    return time.replace(microsecond=0)

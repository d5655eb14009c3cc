"""One range of blocks as one command: pure, given the blocks and what the books know of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from domain.chain_events import LogOrigin, log_origin_of
from domain.clock import SystemClock, SystemEntropy
from domain.commands import Command
from domain.identity import FEE_PAYER, OPERATOR, AttemptId, HolderId, ItemId
from domain.money import Asset, Money
from domain.postings import AccountKind, available, operator_account
from domain.settlement import AttemptState, Candidate, ItemState, Rail
from domain.treasury import StoredSale
from providers.base import Block, FeeLog, Receipt, TransferLog, memo_of
from server.workers.block_range import BlockRange, Known
from storage.cursors import Cursor
from storage.custody import TempoAddress
from storage.settlements import StoredItem

ANN, BOB = UUID(int=1_001), UUID(int=1_002)
ADDRESSES: dict[HolderId, str] = {
    ANN: "0x" + "a1" * 20,
    BOB: "0x" + "b0" * 20,
    OPERATOR: "0x" + "01" * 20,
    FEE_PAYER: "0x" + "02" * 20,
}
STRANGER = "0x" + "5a" * 20
FIRST, SECOND = "0x" + "11" * 32, "0x" + "22" * 32
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CURSOR = Cursor("tempo", 9, "0x09", NOON)


def item(number: int, micros: int = 5, *, state: ItemState = ItemState.BROADCAST, failures: int = 0) -> StoredItem:
    candidate = Candidate(ItemId(UUID(int=number)), ANN, BOB, Asset.USDC, micros, failures=failures)
    return StoredItem(candidate, state, True, AttemptId(UUID(int=77)), None)


def log(
    index: int, sender: str, recipient: str, micros: int, *, of: str = FIRST, memo: int | None = None
) -> TransferLog:
    return TransferLog(
        block_number=10,
        block_hash="0x10",
        block_time=NOON,
        transaction_hash=of,
        log_index=index,
        asset=Asset.USDC,
        sender=sender,
        recipient=recipient,
        micros=micros,
        memo=memo_of(UUID(int=memo)) if memo else None,
    )


def fee(index: int, micros: int, *, of: str = FIRST, payer: HolderId = FEE_PAYER) -> FeeLog:
    return FeeLog(10, of, index, ADDRESSES[payer], "0xusdc", Asset.USDC, micros)


def block(transfers: Sequence[TransferLog], fees: Sequence[FeeLog] = ()) -> Block:
    return Block(10, "0x10", "0x09", NOON, tuple(transfers), tuple(fees))


def known(*items: StoredItem, range_: Block) -> Known:
    holders = {address: TempoAddress(holder, address, 1) for holder, address in ADDRESSES.items()}
    attempt = AttemptId(UUID(int=77))
    return Known(
        holders=holders,
        attempts={FIRST: attempt} if items else {},
        items={one.candidate.item_id: one for one in items},
        carried={attempt: list(items)} if items else {},
        blocks={range_.number: range_},
    )


def command_of(range_: Block, *items: StoredItem, failed: Sequence[Receipt] = ()) -> Command:
    draft = BlockRange("tempo", Rail.TEMPO, SystemEntropy(SystemClock()), known(*items, range_=range_), NOON)
    for transfer in range_.transfers:
        draft.add_transfer(transfer)
    draft.add_fees(range_.fees)
    for receipt in failed:
        draft.add_failure(receipt)
    return draft.command(CURSOR, range_)


def moved(command: Command) -> dict[HolderId, tuple[int, int]]:
    total: dict[HolderId, tuple[int, int]] = {}
    for change in command.custody:
        micros, reserved = total.get(change.holder, (0, 0))
        total[change.holder] = (micros + change.micros, reserved + change.reserved_micros)
    return total


def test_rule_12_a_settlement_moves_custody_and_frees_its_cover_and_touches_no_ledger_account() -> None:
    """The ledger moved the money long ago; only where it stands changes."""
    command = command_of(block([log(0, ADDRESSES[ANN], ADDRESSES[BOB], 5, memo=1)]), item(1))
    assert moved(command) == {ANN: (-5, -5), BOB: (5, 0)}
    assert command.postings == ()
    [transition] = command.transitions
    assert (transition.state, transition.transaction_hash, transition.log_index) == (ItemState.CONFIRMED, FIRST, 0)
    assert [outcome.state for outcome in command.attempts] == [AttemptState.CONFIRMED]


def test_rule_12_a_second_log_with_the_same_memo_settles_nothing_more() -> None:
    """One item, one log, even within one transaction."""
    same = [log(index, ADDRESSES[ANN], ADDRESSES[BOB], 5, memo=1) for index in (0, 2)]
    command = command_of(block(same), item(1))
    assert len(command.transitions) == 1
    assert [found.kind for found in command.breaks] == ["unexpected_transfer"]
    assert [(consumed.log_index, consumed.meaning) for consumed in command.logs] == [(0, "settlement"), (2, "break")]


def test_rule_13_a_deposit_is_credited_in_the_commit_in_which_custody_grows() -> None:
    """Neither without the other."""
    command = command_of(block([log(0, STRANGER, ADDRESSES[BOB], 7)]))
    assert moved(command) == {BOB: (7, 0)}
    [[posting]] = command.postings
    assert (posting.source.kind, posting.target, posting.micros) == (AccountKind.EXTERNAL_TEMPO, available(BOB), 7)
    assert log_origin_of(command.transactions[0]) == LogOrigin(FIRST, 0, STRANGER)


def test_rule_17_fees_of_a_range_are_one_expense_of_their_payer() -> None:
    """Whatever they were for; a stranger's fee is none of ours."""
    fees = [fee(1, 3), fee(2, 4, of=SECOND), FeeLog(10, SECOND, 9, STRANGER, "0xusdc", Asset.USDC, 99)]
    command = command_of(block([], fees))
    assert moved(command) == {FEE_PAYER: (-7, 0)}
    [[posting]] = command.postings
    assert (posting.source.kind, posting.micros) == (AccountKind.NETWORK_FEES, 7)


def test_rule_17_a_fee_in_a_token_that_is_none_of_ours_changes_nothing_here() -> None:
    """Development accounts pay in pathUSD, which the books do not carry."""
    foreign = FeeLog(10, FIRST, 1, ADDRESSES[OPERATOR], "0xpath", None, 3)
    assert command_of(block([], [foreign])).custody == ()


def test_rule_01_a_status_0_receipt_frees_its_items_for_later_and_keeps_its_fee() -> None:
    """They keep the reverted attempt, which marks them as suspects, and wait the longer the more often they failed."""
    paid = fee(1, 3)
    receipt = Receipt(FIRST, succeeded=False, block_number=10, block_hash="0x10", gas_used=1, fee=paid)
    command = command_of(block([], [paid]), item(1), item(2, failures=1), failed=[receipt])
    assert moved(command) == {ANN: (0, -10), FEE_PAYER: (-3, 0)}
    first, second = command.transitions
    assert (first.state, first.failed, first.not_before) == (ItemState.PENDING, True, NOON + timedelta(seconds=1))
    assert second.not_before == NOON + timedelta(seconds=2)
    [outcome] = command.attempts
    assert (outcome.state, outcome.fee_micros) == (AttemptState.FAILED, 3)


def test_rule_14_the_command_moves_the_cursor_from_where_it_was_read() -> None:
    """Of two watchers with the same range only one can apply it."""
    move = command_of(block([])).cursor
    assert move is not None
    assert (move.expected_number, move.expected_hash, move.number, move.hash) == (9, "0x09", 10, "0x10")


def test_an_attempt_that_paid_and_settled_nothing_is_asked_about() -> None:
    """Its receipt says whether it reverted; one that settled something, or is none of ours, needs no question."""
    paid = [fee(1, 3), fee(2, 3, of=SECOND)]
    draft = BlockRange("tempo", Rail.TEMPO, SystemEntropy(SystemClock()), known(item(1), range_=block([], paid)), NOON)
    assert draft.silent_attempts({FIRST, SECOND}) == [FIRST]
    draft.add_transfer(log(0, ADDRESSES[ANN], ADDRESSES[BOB], 5, memo=1))
    assert draft.silent_attempts({FIRST, SECOND}) == []


# --- the treasury's sales ---------------------------------------------------------------------------------------------

EXCHANGE = "0xdec0000000000000000000000000000000000000"


def sale_range(*logs: TransferLog) -> Command:
    """A range with a sale of a hundred USDC for at least ninety-nine USDT in it."""
    attempt = AttemptId(UUID(int=88))
    sale = StoredSale(
        id=UUID(int=99),
        attempt_id=attempt,
        sell=Money(Asset.USDC, 100),
        buy_asset=Asset.USDT,
        least_micros=99,
    )
    holders = {address: TempoAddress(holder, address, None) for holder, address in ADDRESSES.items()}
    known = Known(holders=holders, attempts={FIRST: attempt}, carried={attempt: []}, sales={FIRST: sale})
    draft = BlockRange("tempo", Rail.TEMPO, SystemEntropy(SystemClock()), known, NOON)
    for one in logs:
        draft.add_transfer(one)
    block = Block(10, "0x10", "0x09", NOON, tuple(logs), ())
    return draft.command(CURSOR, block)


def test_rule_17_both_sides_of_a_sale_are_booked_by_way_of_the_exchange() -> None:
    """Sold to external:dex, bought from there, and what was reserved is gone with what was sold."""
    sold = log(1, ADDRESSES[OPERATOR], EXCHANGE, 100)
    bought = replace(log(2, EXCHANGE, ADDRESSES[OPERATOR], 99), asset=Asset.USDT)
    command = sale_range(sold, bought)
    treasury, exchange = operator_account(AccountKind.TREASURY), operator_account(AccountKind.EXTERNAL_DEX)
    assert [(p.source, p.target, p.asset, p.micros) for [p] in command.postings] == [
        (treasury, exchange, Asset.USDC, 100),
        (exchange, treasury, Asset.USDT, 99),
    ]
    changes = [(c.asset, c.micros, c.reserved_micros) for c in command.custody]
    assert changes == [(Asset.USDC, -100, -100), (Asset.USDT, 99, 0)]
    [ended] = command.record_transitions
    assert (ended.state, ended.values["bought_micros"]) == ("CONFIRMED", 99)
    assert [outcome.state for outcome in command.attempts] == [AttemptState.CONFIRMED]
    assert command.breaks == ()


def test_what_only_rides_along_with_a_sale_is_no_part_of_it() -> None:
    """Another amount out of the float is somebody's hand in it, in whatever transaction; it is told."""
    command = sale_range(log(1, ADDRESSES[OPERATOR], EXCHANGE, 7))
    assert [one.kind for one in command.breaks] == ["float_moved_by_hand"]
    assert command.record_transitions == ()

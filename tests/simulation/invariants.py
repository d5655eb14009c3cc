"""What must be true after every step of a simulation, and what at its end.

After each step the equations are worked out here, from one read of the raw rows, because that costs a fraction of the
proof's own queries. The proof is asked, too, now and then and at the end: it has to say the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from uuid import UUID

from sqlalchemy import text

from domain.identity import is_consumer
from domain.money import Asset
from domain.settlement import FINAL, IN_FLIGHT, ItemState
from providers.base import Holding, RefusalReason
from providers.custodian import OrderState
from providers.simulated.custodian import ExecutedOrder
from storage import proofs
from tests.simulation.world import World

_RESERVED = IN_FLIGHT | {ItemState.CLAIMED}
Key = tuple[UUID, str]

_ROWS = text(
    """
    SELECT 'owed', consumer_id, asset, available_micros + held_micros + unswept_fee_micros, unswept_fee_micros, NULL
        FROM stablecoin_balances WHERE version > 0
    UNION ALL SELECT 'stands', c.holder_id, c.asset, c.micros, c.reserved_micros, t.address
        FROM custody_positions c JOIN tempo_addresses t ON t.holder_id = c.holder_id WHERE c.rail = 'tempo'
    UNION ALL SELECT 'abroad', c.holder_id, c.asset, c.micros, c.reserved_micros, w.address
        FROM custody_positions c LEFT JOIN circle_wallets w ON w.holder_id = c.holder_id WHERE c.rail = 'circle'
    UNION ALL SELECT 'at the bank', holder_id, asset, micros, 0, NULL FROM custody_positions WHERE rail = 'mint'
    UNION ALL SELECT 'out', sender, asset, micros, counts::int, state
        FROM settlement_items WHERE NOT state = ANY(:final) AND rail = 'tempo'
    UNION ALL SELECT 'out abroad', sender, asset, micros, counts::int, state
        FROM settlement_items WHERE NOT state = ANY(:final) AND rail = 'circle'
    UNION ALL SELECT 'in', recipient, asset, micros, counts::int, state
        FROM settlement_items WHERE NOT state = ANY(:final)
    UNION ALL SELECT 'account', NULL, asset, delta_micros, 0, kind FROM system_entries
    UNION ALL SELECT 'account', NULL, asset, micros, 0, kind FROM system_balances
    UNION ALL SELECT 'cursor', NULL, NULL, number, 0, NULL FROM chain_cursors WHERE chain = 'tempo'
    UNION ALL SELECT 'booked', NULL, NULL, 0, 0, reference FROM settlement_attempts
        WHERE rail = 'circle' AND state = 'CONFIRMED'
    UNION ALL SELECT 'tainted', holder_id, NULL, 0, 0, NULL FROM tempo_addresses WHERE state = 'tainted'
    """
)


class Violated(AssertionError):
    """A money rule does not hold. The message names it."""


def _require(holds: bool, rule: str, *facts: object) -> None:
    if not holds:
        raise Violated(f"{rule}: {' '.join(map(str, facts))}")


class Rows:
    """The books at one moment, added up."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self.owed: Counter[Key] = Counter()
        self.unswept: Counter[str] = Counter()
        self.on_rails: Counter[Key] = Counter()
        self.debits: Counter[Key] = Counter()
        self.accounts: Counter[tuple[str, str]] = Counter()
        self.positions: list[tuple[UUID, str, int, int, str]] = []
        self.abroad: list[tuple[UUID, str, int, int, str]] = []
        self.debits_abroad: Counter[Key] = Counter()
        self.booked: set[str] = set()
        """Keys of orders that are complete in the books."""
        self.tainted: set[UUID] = set()
        self.cursor = 0
        for kind, holder, asset, micros, extra, word in rows:
            if kind == "owed":
                self.owed[holder, asset] += micros
                self.unswept[asset] += extra
            elif kind == "stands":
                self.on_rails[holder, asset] += micros
                self.positions.append((holder, asset, micros, extra, word))
            elif kind == "abroad":
                self.on_rails[holder, asset] += micros
                self.abroad.append((holder, asset, micros, extra, word))
            elif kind == "at the bank":
                self.on_rails[holder, asset] += micros
            elif kind == "out abroad":
                self.on_rails[holder, asset] -= micros * extra
                self.debits_abroad[holder, asset] += micros if word in _RESERVED else 0
            elif kind == "booked":
                self.booked.add(word)
            elif kind == "out":
                self.on_rails[holder, asset] -= micros * extra
                self.debits[holder, asset] += micros if word in _RESERVED else 0
            elif kind == "in":
                self.on_rails[holder, asset] += micros * extra
            elif kind == "account":
                self.accounts[word, asset] += micros
            elif kind == "cursor":
                self.cursor = micros
            else:
                self.tainted.add(holder)


async def check(world: World) -> None:
    """Rules 8, 12, 14, 16 and 17, and that nobody is paid twice."""
    async with world.house.engine.connect() as tx:
        rows = Rows(list(await tx.execute(_ROWS, {"final": sorted(FINAL)})))
    _check_equations(rows)
    _check_positions(world, rows)
    _check_positions_abroad(world, rows)
    counts = Counter(log.item_id for log in _logs(world) if log.item_id is not None)
    counts.update(one.order.item_id for one in _complete(world))
    twice = [item_id for item_id, count in counts.items() if count > 1]
    _require(not twice, "each item settles once, on one rail", twice)
    uncovered = RefusalReason.INSUFFICIENT_BALANCE in world.state.reverts
    _require(not uncovered, "rule 8, nothing reverts for want of cover")


def _check_equations(rows: Rows) -> None:
    for asset in Asset:
        accounts = sum(micros for (_, of), micros in rows.accounts.items() if of == asset)
        owed = sum(micros for (_, of), micros in rows.owed.items() if of == asset)
        _require(accounts + owed == rows.unswept[asset], "the ledger's sum is zero", asset, accounts, owed)
        inside = {kind: micros for (kind, of), micros in rows.accounts.items() if of == asset}
        own = sum(micros for kind, micros in inside.items() if not kind.startswith("external:")) - rows.unswept[asset]
        stands = sum(micros for (holder, of), micros in rows.on_rails.items() if of == asset and _own(rows, holder))
        _require(own == stands, "rule 17, the operator's equation", asset, own, stands)
    for key in rows.owed.keys() | {key for key in rows.on_rails if not _own(rows, key[0])}:
        _require(rows.owed[key] == rows.on_rails[key], "rule 16", *key, rows.owed[key], rows.on_rails[key])


def _own(rows: Rows, holder: UUID) -> bool:
    return not is_consumer(holder) or holder in rows.tainted


def _check_positions(world: World, rows: Rows) -> None:
    """Rule 14: custody is the chain's balance at the cursor's block. Rule 8: what is reserved is what is in flight."""
    for holder, asset, micros, reserved, address in rows.positions:
        stands = world.state.balances.at(Holding(address, Asset(asset)), rows.cursor)
        _require(micros == stands, f"rule 14, custody at block {rows.cursor}", holder, asset, micros, stands)
        in_flight = rows.debits[holder, asset]
        _require(reserved == in_flight, "rule 8, what is reserved is in flight", holder, asset, reserved, in_flight)


def _check_positions_abroad(world: World, rows: Rows) -> None:
    """Custody is what stands at the custodian, but for what is complete there and not booked yet; never before."""
    ahead: Counter[tuple[str, str]] = Counter()
    for one in _complete(world):
        if str(one.order.key) not in rows.booked:
            amount, fee = one.order.amount, one.network_fee
            ahead[one.order.source.address, amount.asset] -= amount.micros
            ahead[one.order.destination_address, amount.asset] += amount.micros
            if fee is not None:
                ahead[one.order.source.address, fee.asset] -= fee.micros
    for holder, asset, micros, reserved, address in rows.abroad:
        stands = world.custodian.standing.get(Holding(address, Asset(asset)), 0) - ahead[address, asset]
        _require(micros == stands, "rule 4, the books abroad", holder, asset, micros, stands)
        in_flight = rows.debits_abroad[holder, asset]
        _require(reserved == in_flight, "rule 9, what is reserved is ordered", holder, asset, reserved, in_flight)
        _require(reserved <= micros, "rule 9, the float is promised once", holder, asset, reserved, micros)


def _complete(world: World) -> list[ExecutedOrder]:
    return [one for one in world.custodian.executed.values() if one.state is OrderState.COMPLETE]


def _logs(world: World) -> list[Any]:
    return [log for number in range(world.chain.height + 1) for log in world.chain.block(number).transfers]


async def check_by_the_proof(world: World) -> None:
    """The same by the queries of `storage/proofs.py`."""
    async with world.house.engine.connect() as tx:
        _require(not any((await proofs.ledger_sums(tx)).values()), "the ledger's sum is zero")
        _, consumers = await proofs.consumer_differences(tx)
        _require(not consumers, "rule 16", consumers)
        operator = await proofs.operator_differences(tx)
        _require(not operator, "rule 17", operator)


async def check_end(world: World) -> None:
    """Everything that was paid stands on the chain, in each sender's order; nothing is left over."""
    items = await world.house.items()
    left = [row for row in items if row.state not in (ItemState.CONFIRMED, ItemState.FAILED)]
    _require(not left, "nothing is stuck", [(row.state, row.reason, str(row.id)) for row in left])
    if world.bank is not None:
        wrong = await world.bank.differences()
        _require(not wrong, "the bank's books", wrong)
    _check_order(world, items, await _ever_abroad(world))
    proof = await world.house.prove()
    _require(proof.clean, "the proof is clean", [equation for equation in proof.equations if equation.differences])


async def _ever_abroad(world: World) -> set[UUID]:
    """Items that were ordered once: those that came back to their queue had lost their place in it."""
    rows = await world.house.execute(
        "SELECT item_id FROM attempt_items i JOIN settlement_attempts a ON a.id = i.attempt_id WHERE a.rail = 'circle'"
    )
    return {row.item_id for row in rows}


def _check_order(world: World, items: Sequence[Any], abroad: set[UUID]) -> None:
    """Rule 7: what a consumer sent settles on a rail in the order in which the ledger took it."""
    place = {log.item_id: (log.block_number, log.log_index) for log in _logs(world) if log.item_id is not None}
    own = [row for row in items if is_consumer(row.sender) and row.state == ItemState.CONFIRMED]
    own = [row for row in own if row.id not in world.retried and row.id not in abroad]
    own.sort(key=lambda row: (row.sender, row.asset, row.sender_seq, row.position, row.id))
    for earlier, later in pairwise(own):
        if (earlier.sender, earlier.asset) == (later.sender, later.asset):
            in_order = place[earlier.id] < place[later.id]
            _require(in_order, "rule 7, the sender's order", earlier.id, later.id)

"""What is Tempo's own: its limits, its keys, its fees and its fixed addresses, against a real node."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import attrs
import pytest
from eth_account import Account
from eth_account.hdaccount.deterministic import HDPath
from pytempo import Call, TempoTransaction

from domain.clock import SystemClock
from domain.money import Asset
from providers.base import Party, Preparation, RefusalReason, Retryable, SigningRefused
from providers.tempo import TempoConfig, connect, contracts
from providers.tempo.contracts import Tokens, address_bytes, pack
from providers.tempo.endpoints import RpcError
from providers.tempo.keys import ConsumerKeys, LocalSigner, address_of
from providers.tempo.transactions import MAX_CALLS, MAX_GAS, ChainTerms, approval_call, build, check
from sandbox import tempo_tokens
from sandbox.tempo_tokens import PATH_USD, STABLECOIN_DEX, open_endpoint
from tests.providers.worlds import (
    OUTSIDER,
    UNIT,
    TempoChain,
    TempoWorld,
    active_consumers,
    attempt_of,
    balance,
    block_of,
    consumers,
    movement,
    operator,
    receipt_of,
    settle,
)

SEED = bytes(range(32))
TOKEN = "0x20c0000000000000000000000000000000000777"
TERMS = ChainTerms(31337, Tokens({Asset.USDC: TOKEN}), TOKEN)
LATER = datetime(2026, 1, 1, tzinfo=UTC)


def allowance(calls: int = 1) -> TempoTransaction:
    return build([approval_call(TOKEN, OUTSIDER.address)] * calls, TERMS, valid_before=LATER)


def other_call(to: str = TOKEN, data: bytes = b"", value: int = 0) -> Call:
    return Call(to=address_bytes(to), value=value, data=data or contracts.approve(OUTSIDER.address, 1))


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda tx: allowance(MAX_CALLS + 1), "calls are more than"),
        (lambda tx: attrs.evolve(tx, gas_limit=MAX_GAS + 1), "gas is more than"),
        (lambda tx: attrs.evolve(tx, calls=()), "nothing to do"),
        (lambda tx: attrs.evolve(tx, calls=(other_call(data=pack("mint(address,uint256)", TOKEN, 1)),)), "selector"),
        (lambda tx: attrs.evolve(tx, calls=(other_call(to=STABLECOIN_DEX),)), "not a token of ours"),
        (lambda tx: attrs.evolve(tx, calls=(other_call(value=1),)), "native value"),
        (lambda tx: attrs.evolve(tx, nonce_key=0), "does not expire"),
        (lambda tx: attrs.evolve(tx, nonce=1), "does not expire"),
        (lambda tx: attrs.evolve(tx, valid_before=None), "valid for ever"),
        (lambda tx: attrs.evolve(tx, chain_id=4217), "chain 4217"),
    ],
)
def test_what_the_dev_chain_would_let_pass_is_refused_before_signing(
    spoil: Callable[[TempoTransaction], TempoTransaction], fault: str
) -> None:
    """Real Tempo drops these without a word, or puts them into the general lane; the dev chain mines them."""
    check(allowance(MAX_CALLS), TERMS)
    with pytest.raises(SigningRefused, match=fault):
        check(spoil(allowance()), TERMS)


def test_the_gas_limit_of_a_full_batch_stays_below_the_networks_cap() -> None:
    """Thirty-two transfers to new holders must fit, and so must an allowance over every asset."""
    assert TERMS.gas_limit(MAX_CALLS) < MAX_GAS
    assert TERMS.gas_limit(MAX_CALLS) > MAX_CALLS * 300_000


def test_a_window_the_network_would_not_admit_is_a_mistake_at_the_start(tempo_chain: TempoChain) -> None:
    """An expiring nonce may lie at most 30 s ahead."""
    with pytest.raises(AssertionError):
        connect(tempo_chain.config(window=timedelta(seconds=30)), clock=SystemClock())


@pytest.mark.parametrize("index", [0, 1, 77, 2**31 - 1])
def test_consumers_keys_are_hardened_children_of_the_documented_path(index: int) -> None:
    """Restoring wallets from the seed must be possible with any BIP-32 tool."""
    expected = Account.from_key(HDPath(f"m/44'/60'/0'/0/{index}'").derive(SEED))
    keys = ConsumerKeys(SEED)
    assert keys.key(index) == bytes(expected.key)
    assert keys.address(index) == expected.address.lower()


async def test_a_thousand_addresses_take_a_moment() -> None:
    """The pool is filled ahead of onboarding; a start must not take a minute for it."""
    signer = LocalSigner(operator_key=b"\x01" * 32, fee_payer_key=b"\x02" * 32, seed=SEED, terms=TERMS)
    started = time.perf_counter()
    addresses = await signer.derive_addresses(5_000, 1_000)
    assert time.perf_counter() - started < 2.0
    assert len(set(addresses)) == 1_000
    assert addresses[7] == ConsumerKeys(SEED).address(5_007)


def test_keys_do_not_show_in_representations(tempo_chain: TempoChain) -> None:
    """A configuration is printed sooner or later."""
    printed = repr(tempo_chain.config(api_key="tempo:sk:secret"))
    assert "secret" not in printed
    assert tempo_chain.operator_key.hex() not in printed
    assert str(tempo_chain.operator_key) not in printed


async def test_thirty_two_consumers_pay_thirty_two_others_in_one_transaction(tempo: TempoWorld) -> None:
    """The batch that settlement lives on: one signature, one fee, every event with its item."""
    payers = await active_consumers(tempo, MAX_CALLS, micros=UNIT)
    payees = await consumers(tempo, MAX_CALLS)
    movements = [movement(payer, payee, UNIT) for payer, payee in zip(payers, payees, strict=True)]
    receipt = await settle(tempo, movements)
    logs = [log for log in (await block_of(tempo, receipt)).transfers if log.transaction_hash == receipt.reference]
    assert [(log.item_id, log.sender, log.recipient) for log in logs] == [
        (moved.item_id, moved.source.address, moved.destination.address) for moved in movements
    ]
    assert await balance(tempo, payers[0]) == 0
    assert await balance(tempo, payees[31]) == UNIT


async def test_an_activation_of_all_assets_is_one_sponsored_transaction(tempo: TempoWorld) -> None:
    """A consumer needs neither gas nor a fee token, and the fee has to be booked like any other (money rule 17)."""
    [consumer] = await consumers(tempo, 1)
    attempt = attempt_of(await tempo.provider.prepare_activation(consumer, list(Asset)))
    await tempo.provider.submit(attempt.payload)
    receipt = await receipt_of(tempo, attempt.reference)
    assert receipt.succeeded
    assert receipt.gas_used < TERMS.gas_limit(len(Asset))
    assert receipt.fee is not None
    assert receipt.fee.payer == tempo.signer.fee_payer_address
    assert [
        fee.payer for fee in (await block_of(tempo, receipt)).fees if fee.transaction_hash == receipt.reference
    ] == [tempo.signer.fee_payer_address]


@pytest.mark.parametrize(
    ("destination", "reason"),
    [
        ("0x20c0000000000000000000000000000000000000", RefusalReason.INVALID_RECIPIENT),
        ("0xdeadbeeffdfdfdfdfdfdfdfdfdfd000000000001", RefusalReason.VIRTUAL_ADDRESS_UNREGISTERED),
    ],
)
async def test_addresses_that_can_never_receive_are_permanent_refusals(
    tempo: TempoWorld, destination: str, reason: RefusalReason
) -> None:
    """Money rule 10: the closed list, decoded from what the chain itself says."""
    moved = movement(operator(tempo), Party.outside(destination), UNIT)
    preparation = await tempo.provider.prepare([moved])
    assert isinstance(preparation, Preparation)
    [refusal] = preparation.refusals
    assert (refusal.reason, refusal.permanent, refusal.blocked) == (reason, True, "destination")


async def test_a_fee_payer_without_money_stops_signing(tempo_chain: TempoChain) -> None:
    """The network would take the transaction and drop it: every item would wait for its expiry, again and again."""
    config = tempo_chain.config()
    poor = TempoConfig(
        rpc_urls=config.rpc_urls,
        chain_id=config.chain_id,
        tokens=config.tokens,
        operator_key=config.operator_key,
        fee_payer_key=b"\x33" * 32,
        seed=config.seed,
    )
    rail = connect(poor, clock=SystemClock())
    try:
        moved = movement(Party.operator(rail.signer.operator_address), OUTSIDER, UNIT)
        preparation = await rail.provider.prepare([moved])
    finally:
        await rail.close()
    assert isinstance(preparation, Retryable)
    assert "fee payer" in preparation.reason
    assert preparation.retry_after >= timedelta(seconds=10)


def test_the_fee_payer_is_another_account_than_the_operator() -> None:
    """Money rule 19: a gas reservation against the float would make the float's own transfers revert."""
    with pytest.raises(AssertionError):
        LocalSigner(operator_key=b"\x01" * 32, fee_payer_key=b"\x01" * 32, seed=SEED, terms=TERMS)


async def test_liquidity_added_to_the_fee_manager_is_not_a_fee(tempo: TempoWorld) -> None:
    """Only the last log of a transaction is its fee; other transfers to that address are transfers."""
    [consumer] = await active_consumers(tempo, 1, micros=UNIT)
    moved = movement(consumer, Party.outside(contracts.FEE_MANAGER), UNIT)
    receipt = await settle(tempo, [moved])
    block = await block_of(tempo, receipt)
    [log] = [log for log in block.transfers if log.transaction_hash == receipt.reference]
    assert (log.item_id, log.recipient) == (moved.item_id, contracts.FEE_MANAGER)
    [fee] = [fee for fee in block.fees if fee.transaction_hash == receipt.reference]
    assert fee.payer == tempo.signer.fee_payer_address


async def test_seeding_again_changes_nothing_and_is_quick(tempo_chain: TempoChain) -> None:
    """Every start of the sandbox runs it; a second float would be money from nowhere."""
    before = await _supplies(tempo_chain)
    started = time.perf_counter()
    again = await tempo_tokens.seed(
        tempo_chain.url, operator_key=tempo_chain.operator_key, fee_payer_key=tempo_chain.fee_payer_key
    )
    assert time.perf_counter() - started < 1.0
    assert again == tempo_chain.seeded
    assert await _supplies(tempo_chain) == before


async def test_the_dollar_tokens_can_be_swapped_and_the_euro_cannot(tempo_chain: TempoChain) -> None:
    """The DEX takes dollars only; a basis point on each side of pathUSD is what the dev chain offers."""
    tokens = tempo_chain.seeded.tokens
    out = await _quote(tempo_chain, tokens[Asset.USDC], tokens[Asset.USDT])
    assert 999 * UNIT < out < 1_000 * UNIT
    with pytest.raises(RpcError):
        await _quote(tempo_chain, tokens[Asset.EURC], PATH_USD)


async def test_the_faucet_pays_from_outside_the_books(tempo_chain: TempoChain, tempo: TempoWorld) -> None:
    """Deposits of the development chain come from an account nobody keeps books for."""
    [consumer] = await consumers(tempo, 1)
    before = await balance(tempo, operator(tempo), Asset.PYUSD)
    await tempo_tokens.faucet(
        tempo_chain.url, tempo_chain.seeded, to=consumer.address, asset=Asset.PYUSD, micros=3 * UNIT
    )
    assert await balance(tempo, consumer, Asset.PYUSD) == 3 * UNIT
    assert await balance(tempo, operator(tempo), Asset.PYUSD) == before
    assert tempo_chain.seeded.outside_address not in (address_of(tempo_chain.operator_key), consumer.address)


async def _supplies(chain: TempoChain) -> list[str]:
    async with open_endpoint(chain.url) as endpoint:
        supply = "0x" + pack("totalSupply()").hex()
        calls = [("eth_call", [{"to": token, "data": supply}, "latest"]) for token in chain.seeded.tokens.values()]
        return [str(answer) for answer in await endpoint.batch(calls)]


async def _quote(chain: TempoChain, sold: str, bought: str) -> int:
    data = pack("quoteSwapExactAmountIn(address,address,uint128)", sold, bought, 1_000 * UNIT)
    async with open_endpoint(chain.url) as endpoint:
        return int(await endpoint.call("eth_call", [{"to": STABLECOIN_DEX, "data": "0x" + data.hex()}, "latest"]), 16)

"""What Tempo shows: finalized blocks with their transfers and fees, receipts, balances, evidence of death.

Logs are read by block hash: asked by number range, a node that lags answers an empty list without any error, and an
empty list would look like a block in which nothing happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from domain.money import Asset
from providers.base import (
    Block,
    ChainChanged,
    DeathEvidence,
    FeeLog,
    Head,
    Holding,
    ProviderUnavailable,
    Receipt,
    TransferLog,
)
from providers.tempo import contracts
from providers.tempo.contracts import Tokens, address_in
from providers.tempo.endpoints import Call, Endpoint, Endpoints, RpcError, block_time, head_of

Log = dict[str, Any]
_FINALIZED: Call = ("eth_getBlockByNumber", ["finalized", False])


class TempoReader:
    """Reads of one chain through its endpoints."""

    def __init__(self, endpoints: Endpoints, *, tokens: Tokens, fee_token: str, operator_address: str) -> None:
        self._endpoints = endpoints
        self._tokens = tokens
        self._watched_tokens = sorted({*tokens.addresses, fee_token.lower()})
        self._operator_address = operator_address

    async def chain_id(self) -> int:
        return int(await self._endpoints.read(lambda endpoint: _ask(endpoint, "eth_chainId", [])), 16)

    async def finalized(self, *, endpoint: str | None = None) -> Head:
        return await self._endpoints.head(endpoint)

    async def blocks(self, first: int, last: int, *, endpoint: str | None = None) -> list[Block]:
        return await self._endpoints.read(lambda source: self._blocks_of(source, first, last), name=endpoint)

    async def receipts(self, references: Sequence[str]) -> dict[str, Receipt]:
        calls: list[Call] = [("eth_getTransactionReceipt", [reference]) for reference in references]
        answers = await self._endpoints.read(lambda endpoint: _ask_all(endpoint, calls))
        found = zip(references, answers, strict=True)
        return {reference: self._receipt(receipt) for reference, receipt in found if receipt is not None}

    async def balances(self, holders: Sequence[str], asset: Asset, *, at_block: int) -> dict[str, int]:
        token, block = self._tokens.address(asset), hex(at_block)
        calls = [_view(token, contracts.balance_of(holder), block) for holder in holders]
        balances = await self._endpoints.read(lambda endpoint: _ask_balances(endpoint, calls))
        return dict(zip(holders, balances, strict=True))

    async def allowances(self, holders: Sequence[str], asset: Asset, *, at_block: int | None = None) -> dict[str, int]:
        token, block = self._tokens.address(asset), "finalized" if at_block is None else hex(at_block)
        calls = [_view(token, contracts.allowance(holder, self._operator_address), block) for holder in holders]
        answers = await self._endpoints.read(lambda endpoint: _ask_all(endpoint, calls))
        return {holder: int(answer, 16) for holder, answer in zip(holders, answers, strict=True)}

    async def may_receive(self, addresses: Sequence[str], asset: Asset) -> dict[str, bool]:
        return await self._endpoints.read(lambda endpoint: self._receivers(endpoint, addresses, asset))

    async def evidence_of_death(
        self, reference: str, *, holdings: Sequence[Holding], at_block: int | None = None
    ) -> DeathEvidence:
        number = (await self._endpoints.head()).number if at_block is None else at_block
        return await self._endpoints.read(lambda endpoint: self._evidence_of(endpoint, reference, holdings, number))

    async def _receivers(self, endpoint: Endpoint, addresses: Sequence[str], asset: Asset) -> dict[str, bool]:
        """A token names its policy, and the registry knows whom that lets receive."""
        token, registry = self._tokens.address(asset), contracts.TIP403_REGISTRY
        policy = int(await _ask(endpoint, *_view(token, contracts.pack("transferPolicyId()"), "finalized")), 16)
        asked = [contracts.pack("isAuthorizedRecipient(uint64,address)", policy, address) for address in addresses]
        answers = await _ask_all(endpoint, [_view(registry, data, "finalized") for data in asked])
        return {address: int(answer, 16) == 1 for address, answer in zip(addresses, answers, strict=True)}

    async def _evidence_of(
        self, endpoint: Endpoint, reference: str, holdings: Sequence[Holding], number: int
    ) -> DeathEvidence:
        """Two requests to one endpoint. The head comes first, so that a receipt missing later is missing at that head.

        Behind one address there may be many nodes. The second request therefore carries its own finalized head, and
        asks for balances by the judged block's hash, which a node that has not got there cannot answer.
        """
        block = await _ask(endpoint, "eth_getBlockByNumber", [hex(number), False])
        calls: list[Call] = [_FINALIZED, ("eth_getTransactionReceipt", [reference])]
        calls += [
            _view(self._tokens.address(h.asset), contracts.balance_of(h.address), {"blockHash": block["hash"]})
            for h in holdings
        ]
        finalized, receipt, *balances = await _ask_all(endpoint, calls)
        return DeathEvidence(
            finalized=head_of(_known(finalized, endpoint), endpoint.name),
            block=head_of(block, endpoint.name),
            receipt=self._receipt(receipt) if receipt is not None else None,
            balances={holding: int(balance, 16) for holding, balance in zip(holdings, balances, strict=True)},
        )

    async def _blocks_of(self, endpoint: Endpoint, first: int, last: int) -> list[Block]:
        calls = [_FINALIZED, *(("eth_getBlockByNumber", [hex(n), False]) for n in range(first, last + 1))]
        finalized, *headers = [_known(header, endpoint) for header in await _ask_all(endpoint, calls)]
        if int(finalized["number"], 16) < last:
            raise ProviderUnavailable(f"{endpoint.name}: block {last} is not finalized there")
        for parent, child in pairwise(headers):
            if child["parentHash"] != parent["hash"]:
                raise ChainChanged(f"{endpoint.name}: block {child['number']} has another parent")
        filters: list[Call] = [("eth_getLogs", [self._log_filter(header["hash"])]) for header in headers]
        logs_per_block = await _ask_all(endpoint, filters)
        return [self._block(header, logs) for header, logs in zip(headers, logs_per_block, strict=True)]

    def _log_filter(self, block_hash: str) -> dict[str, Any]:
        topics = [[contracts.TRANSFER, contracts.TRANSFER_WITH_MEMO]]
        return {"blockHash": block_hash, "address": self._watched_tokens, "topics": topics}

    def _block(self, header: dict[str, Any], logs: list[Log]) -> Block:
        ordered = sorted(logs, key=lambda log: int(log["logIndex"], 16))
        fee_indexes = {int(log["logIndex"], 16) for log in _fee_logs(ordered)}
        memos = _memos(ordered)
        transfers, fees, time = [], [], block_time(header)
        for log in ordered:
            index = int(log["logIndex"], 16)
            if log["topics"][0] != contracts.TRANSFER:
                continue
            if index in fee_indexes:
                fees.append(self._fee_log(log))
            elif asset := self._tokens.asset(log["address"]):
                transfers.append(_transfer_log(log, asset, memos.get(index), time))
        return Block(
            number=int(header["number"], 16),
            hash=header["hash"],
            parent_hash=header["parentHash"],
            time=time,
            transfers=tuple(transfers),
            fees=tuple(fees),
        )

    def _receipt(self, receipt: dict[str, Any]) -> Receipt:
        """The node's own `feePayer` field is wrong on the dev chain; the fee's log names who paid."""
        fees = _fee_logs(receipt["logs"])
        return Receipt(
            reference=receipt["transactionHash"],
            succeeded=int(receipt["status"], 16) == 1,
            block_number=int(receipt["blockNumber"], 16),
            block_hash=receipt["blockHash"],
            gas_used=int(receipt["gasUsed"], 16),
            fee=self._fee_log(fees[-1]) if fees else None,
        )

    def _fee_log(self, log: Log) -> FeeLog:
        return FeeLog(
            block_number=int(log["blockNumber"], 16),
            transaction_hash=log["transactionHash"],
            log_index=int(log["logIndex"], 16),
            payer=address_in(log["topics"][1]),
            token=log["address"].lower(),
            asset=self._tokens.asset(log["address"]),
            micros=int(log["data"], 16),
        )


def _fee_logs(logs: Sequence[Log]) -> list[Log]:
    """The network fee of each transaction: its last log, when that is a transfer to the fee manager.

    An earlier transfer to the fee manager is somebody adding liquidity there, and no fee.
    """
    last = {log["transactionHash"]: log for log in logs}
    return [log for log in last.values() if _is_transfer_to_fee_manager(log)]


def _is_transfer_to_fee_manager(log: Log) -> bool:
    topics = log["topics"]
    return topics[0] == contracts.TRANSFER and address_in(topics[2]) == contracts.FEE_MANAGER


def _memos(logs: Sequence[Log]) -> dict[int, bytes]:
    """The memo of each transfer that has one, by the transfer's log index.

    A transfer with a memo emits a plain Transfer and then a TransferWithMemo that repeats it: one movement, counted
    once (money rule 12). Each memo goes to the latest equal transfer before it that has none yet.
    """
    memos: dict[int, bytes] = {}
    waiting: list[Log] = []
    for log in logs:
        if log["topics"][0] == contracts.TRANSFER:
            waiting.append(log)
        elif plain := next((other for other in reversed(waiting) if _same_transfer(other, log)), None):
            waiting.remove(plain)
            memos[int(plain["logIndex"], 16)] = bytes.fromhex(log["topics"][3].removeprefix("0x"))
    return memos


def _same_transfer(plain: Log, with_memo: Log) -> bool:
    return all(plain[key] == with_memo[key] for key in ("transactionHash", "address", "data")) and (
        plain["topics"][1:3] == with_memo["topics"][1:3]
    )


def _transfer_log(log: Log, asset: Asset, memo: bytes | None, time: datetime) -> TransferLog:
    return TransferLog(
        block_number=int(log["blockNumber"], 16),
        block_hash=log["blockHash"],
        block_time=time,
        transaction_hash=log["transactionHash"],
        log_index=int(log["logIndex"], 16),
        asset=asset,
        sender=address_in(log["topics"][1]),
        recipient=address_in(log["topics"][2]),
        micros=int(log["data"], 16),
        memo=memo,
    )


def _view(token: str, data: bytes, block: str | dict[str, str]) -> Call:
    return ("eth_call", [{"to": token, "data": "0x" + data.hex()}, block])


async def _ask(endpoint: Endpoint, method: str, params: list[Any]) -> Any:
    """One read. A node that has not got so far says so with an error or with null; neither is an answer."""
    try:
        return _known(await endpoint.call(method, params), endpoint)
    except RpcError as error:
        raise ProviderUnavailable(f"{endpoint.name}: {error}") from error


async def _ask_all(endpoint: Endpoint, calls: Sequence[Call]) -> list[Any]:
    return [_definite(answer, endpoint) for answer in await endpoint.batch(calls)]


async def _ask_balances(endpoint: Endpoint, calls: Sequence[Call]) -> list[int]:
    """Nobody holds anything of a token that did not exist yet at the block asked about."""
    answers = await endpoint.batch(calls)
    return [0 if _says_no_token(answer) else int(_definite(answer, endpoint), 16) for answer in answers]


def _says_no_token(answer: Any) -> bool:
    return isinstance(answer, RpcError) and answer.data == "0x" + contracts.selector("Uninitialized()").hex()


def _definite(answer: Any, endpoint: Endpoint) -> Any:
    if isinstance(answer, RpcError):
        raise ProviderUnavailable(f"{endpoint.name}: {answer}")
    return answer


def _known(answer: Any, endpoint: Endpoint) -> Any:
    if answer is None:
        raise ProviderUnavailable(f"{endpoint.name}: not known there")
    return answer

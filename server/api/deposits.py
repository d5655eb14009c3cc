"""Deposits: where to send money so that it arrives in the wallet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from domain.money import Asset, Money
from domain.settlement import Rail
from monay.wallet.v1 import transfer_pb2 as pb
from server.api.access import Call
from server.api.convert import checksummed
from server.api.routes import route, speed
from server.services.deposits import Announced, DepositOrder, DepositService, DepositSource

_SOURCES = {
    pb.DEPOSIT_SOURCE_UNSPECIFIED: DepositSource.ANY,
    pb.DEPOSIT_SOURCE_CHAIN: DepositSource.CHAIN,
    pb.DEPOSIT_SOURCE_BANK: DepositSource.BANK,
}


class Deposits:
    """Deposit."""

    def __init__(self, service: DepositService) -> None:
        self._service = service

    async def deposit(self, request: pb.DepositRequest, call: Call) -> pb.DepositResponse:
        order = DepositOrder(
            consumer=call.consumer_id,
            amount=Money(Asset(request.amount.asset), request.amount.micros),
            source=_SOURCES[request.source],
            speed=speed(request.speed),
            bank_account_id=UUID(request.bank_account_id) if request.bank_account_id else None,
            caller=call.caller.name,
            request_id=request.request_id,
        )
        if request.validate_only:
            return _response(await self._service.preview(order))
        return _response(await self._service.announce(order, deadline=call.deadline))


def _response(announced: Announced) -> pb.DepositResponse:
    told = announced.deposit.instructions
    response = pb.DepositResponse(route=route(announced.deposit.route), replayed=announced.replayed)
    if told["rail"] == Rail.MINT:
        response.bank.CopyFrom(_bank(told))
    else:
        response.chain.CopyFrom(_chain(told))
    return response


def _bank(told: Mapping[str, Any]) -> pb.BankInstructions:
    return pb.BankInstructions(
        beneficiary_name=told["beneficiary_name"],
        bank_name=told["bank_name"],
        account_number=told["account_number"],
        routing_number=told["routing_number"],
        reference=told["reference"],
    )


def _chain(told: Mapping[str, Any]) -> pb.ChainInstructions:
    token_address = told["token_address"]
    return pb.ChainInstructions(
        rail=told["rail"],
        chain_id=told["chain_id"],
        address=checksummed(told["address"]),
        token_address=checksummed(token_address) if token_address else "",
    )

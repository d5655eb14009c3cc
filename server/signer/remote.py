"""The workers' side of the wire: a `Signer` without keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc

from domain.money import Asset
from providers.base import Movement, Party, Signed, SignerUnavailable, SigningRefused
from server.signer import wire

# Signing takes milliseconds, the look at the plan a few more; what takes longer is away.
ANSWER_SECONDS = 5.0


class RemoteSigner:
    """Asks a signer elsewhere. Made by `connect`, because the addresses have to be known first."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._operator = self._fee_payer = ""

    @classmethod
    async def connect(cls, address: str, *, certificate: Path, key: Path, authority: Path) -> RemoteSigner:
        """Reach the signer and learn its addresses, or raise `SignerUnavailable`."""
        remote = cls(grpc.aio.secure_channel(address, _credentials(certificate, key, authority)))
        try:
            facts = wire.read(await remote._ask(wire.ADDRESSES, wire.written()))
        except BaseException:
            await remote.close()
            raise
        remote._operator, remote._fee_payer = str(facts["operator"]), str(facts["fee_payer"])
        return remote

    @property
    def operator_address(self) -> str:
        return self._operator

    @property
    def fee_payer_address(self) -> str:
        return self._fee_payer

    async def derive_addresses(self, first: int, count: int) -> list[str]:
        answer = wire.read(await self._ask(wire.DERIVE, wire.written(first=first, count=count)))
        return [str(address) for address in answer["addresses"]]

    async def sign_transfers(self, movements: Sequence[Movement], *, valid_before: datetime) -> Signed:
        request = wire.written_transfers(movements, valid_before)
        return wire.read_signed(await self._ask(wire.SIGN_TRANSFERS, request))

    async def sign_activation(self, consumer: Party, assets: Sequence[Asset], *, valid_before: datetime) -> Signed:
        request = wire.written_activation(consumer, assets, valid_before)
        return wire.read_signed(await self._ask(wire.SIGN_ACTIVATION, request))

    async def close(self) -> None:
        await self._channel.close()

    async def _ask(self, method: str, request: bytes) -> bytes:
        call: Any = self._channel.unary_unary(f"/{wire.SERVICE}/{method}")
        try:
            return bytes(await call(request, timeout=ANSWER_SECONDS))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                raise SigningRefused(error.details() or "") from error
            raise SignerUnavailable(f"the signer: {error.code().name} {error.details()}") from error


def _credentials(certificate: Path, key: Path, authority: Path) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(authority.read_bytes(), key.read_bytes(), certificate.read_bytes())

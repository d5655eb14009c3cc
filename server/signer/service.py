"""The signer's side of the wire: a gRPC server that only certificates of its workers open."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import structlog

from providers.base import Signer, SignerUnavailable, SigningRefused
from server.api.certificates import Certificates
from server.process import StartRefused
from server.signer import wire

log = structlog.get_logger()

Answer = Callable[[bytes], Awaitable[bytes]]


class SignerServer:
    """Answers workers, one call for each method of `Signer`."""

    def __init__(
        self, signer: Signer, *, address: str, certificate: Path, key: Path, client_authority: Path, client_name: str
    ) -> None:
        self._signer = signer
        self._client_name = client_name.encode()
        self._server = grpc.aio.server(
            options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", wire.MOST_BYTES)]
        )
        answers: dict[str, Answer] = {
            wire.ADDRESSES: self._addresses,
            wire.DERIVE: self._derive,
            wire.SIGN_TRANSFERS: self._sign_transfers,
            wire.SIGN_ACTIVATION: self._sign_activation,
        }
        handlers: dict[str, Any] = {
            name: grpc.unary_unary_rpc_method_handler(self._guarded(answer)) for name, answer in answers.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(wire.SERVICE, handlers),))
        credentials = Certificates(certificate, key, client_authority=client_authority).credentials()
        try:
            self.port = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise StartRefused(f"The signer cannot listen on {address} (SIGNER_LISTEN): is the port taken?") from error

    async def run(self, stop: asyncio.Event) -> None:
        """Sign until `stop` is set."""
        await self._server.start()
        log.info("signer.serving", port=self.port, operator=self._signer.operator_address)
        try:
            await stop.wait()
        finally:
            await self._server.stop(grace=5)

    def _guarded(self, answer: Answer) -> Any:
        async def handle(request: bytes, context: Any) -> bytes:
            shown = context.auth_context()
            names = (*shown.get("x509_common_name", ()), *shown.get("x509_subject_alternative_name", ()))
            if self._client_name not in names:
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, "this certificate is not a worker's")
            try:
                return await answer(request)
            except wire.Unreadable as fault:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(fault))
            except SigningRefused as refused:
                log.warning("signer.refused", reason=str(refused))
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(refused))
            except SignerUnavailable as fault:
                log.warning("signer.unavailable", reason=str(fault))
                await context.abort(grpc.StatusCode.UNAVAILABLE, str(fault))
            raise AssertionError("abort raises")

        return handle

    async def _addresses(self, _request: bytes) -> bytes:
        return wire.written(operator=self._signer.operator_address, fee_payer=self._signer.fee_payer_address)

    async def _derive(self, request: bytes) -> bytes:
        facts = wire.read(request)
        first, count = facts.get("first"), facts.get("count")
        if type(first) is not int or type(count) is not int or first < 0 or not 0 < count <= 10_000:
            raise wire.Unreadable("no range of indexes")
        return wire.written(addresses=await self._signer.derive_addresses(first, count))

    async def _sign_transfers(self, request: bytes) -> bytes:
        movements, valid_before = wire.read_transfers(request)
        return wire.written_signed(await self._signer.sign_transfers(movements, valid_before=valid_before))

    async def _sign_activation(self, request: bytes) -> bytes:
        consumer, assets, valid_before = wire.read_activation(request)
        return wire.written_signed(await self._signer.sign_activation(consumer, assets, valid_before=valid_before))

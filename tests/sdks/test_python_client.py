"""The Python client for threads, against gRPC's own testing channel: what is sent, how often, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import grpc_testing
import pytest

import monay.wallet
import monay.wallet.sync
from monay.wallet import ErrorReason, Options, RetryPolicy, WalletError, money
from monay.wallet.errors import DETAILS_KEY
from monay.wallet.retries import Tries, backoff
from monay.wallet.sync import WalletClient
from monay.wallet.v1.consumer_wallet_service_pb2 import DESCRIPTOR
from monay.wallet.v1.messages import Recipient, SubmitTransfersRequest, TransferRequest, TransferResponse
from sandbox.endpoints import ROOT
from tests.sdks.stand_in import refusal
from tests.sdks.surface import pinned, python_surface

SERVICE = DESCRIPTOR.services_by_name["ConsumerWalletService"]
QUICK = Options(retries=RetryPolicy(attempts=3, first_pause=0.001, longest_pause=0.002))
ANSWER_SECONDS = 20


class Line:
    """A client at one end, the test at the other."""

    def __init__(self, threads: ThreadPoolExecutor, **client: Any) -> None:
        self._channel = grpc_testing.channel([SERVICE], grpc_testing.strict_real_time())
        self._threads = threads
        self.wallet = WalletClient(self._channel, **{"token": "t", "options": QUICK, **client})

    def begins(self, rpc: str, request: Any, **options: Any) -> Future[Any]:
        """Make the call in a thread of its own."""
        return self._threads.submit(getattr(self.wallet, rpc), request, **options)

    def arrives(self, rpc: str) -> tuple[dict[str, Any], Any, Any]:
        """The next try as a server sees it: its metadata, its request, and how to end it."""
        metadata, request, call = self._channel.take_unary_unary(SERVICE.methods_by_name[rpc])
        call.send_initial_metadata(())
        return dict(metadata), request, call


@contextmanager
def line(**client: Any) -> Iterator[Line]:
    with ThreadPoolExecutor() as threads:
        yield Line(threads, **client)


def refuse(call: Any, code: str, reason: str = "", **facts: Any) -> None:
    status = refusal(code, reason, **facts)
    details = ((DETAILS_KEY, status.SerializeToString()), ("request-id", "log-7"))
    call.terminate(None, details, getattr(grpc.StatusCode, code), status.message)


def payment(**fields: Any) -> TransferRequest:
    return TransferRequest(recipient=Recipient(handle="ben"), amount=money("USDC", "1"), **fields)


def test_the_request_id_is_made_before_the_first_try_and_the_same_in_every_try() -> None:
    """Another id for the second try would be a second payment."""
    with line() as wire:
        request = payment()
        answer = wire.begins("transfer", request)
        metadata, first, call = wire.arrives("Transfer")
        assert metadata["authorization"] == "Bearer t"
        assert first.request_id == request.request_id != ""
        refuse(call, "UNAVAILABLE")
        _, second, call = wire.arrives("Transfer")
        assert second == first
        call.terminate(TransferResponse(replayed=True), (), grpc.StatusCode.OK, "")
        assert answer.result(ANSWER_SECONDS).replayed


def test_an_id_of_the_callers_own_is_kept() -> None:
    """It may be stored already, with the order that the payment is for."""
    with line() as wire:
        answer = wire.begins("transfer", payment(request_id="mine"))
        _, request, call = wire.arrives("Transfer")
        assert request.request_id == "mine"
        call.terminate(TransferResponse(), (), grpc.StatusCode.OK, "")
        answer.result(ANSWER_SECONDS)


def test_each_submitted_transfer_gets_an_id_of_its_own() -> None:
    """They are independent payments, and the whole message is repeated when its answer is lost."""
    with line() as wire:
        request = SubmitTransfersRequest(transfers=[payment(), payment(request_id="mine")])
        answer = wire.begins("submit_transfers", request)
        _, sent, call = wire.arrives("SubmitTransfers")
        assert sent.transfers[0].request_id == request.transfers[0].request_id != ""
        assert sent.transfers[1].request_id == "mine"
        refuse(call, "PERMISSION_DENIED", "SCOPE_MISSING")
        assert isinstance(answer.exception(ANSWER_SECONDS), WalletError)


def test_a_refusal_is_raised_at_once_with_its_reason_and_facts() -> None:
    """Repeating what was decided could only ask the same question again."""
    with line() as wire:
        answer = wire.begins("transfer", payment(request_id="mine"))
        refuse(wire.arrives("Transfer")[2], "FAILED_PRECONDITION", "INSUFFICIENT_FUNDS", available_micros="5")
        error = answer.exception(ANSWER_SECONDS)
        assert isinstance(error, WalletError)
        assert error.reason == ErrorReason.ERROR_REASON_INSUFFICIENT_FUNDS
        assert error.facts == {"available_micros": "5"}
        assert (error.request_id, error.call_id, error.definite) == ("mine", "log-7", True)
        assert str(error) == "INSUFFICIENT_FUNDS: said the stand-in"


def test_the_last_of_the_tries_is_the_answer() -> None:
    """TigerBeetle's clients retried for ever, and definite errors became indefinite."""
    with line() as wire:
        answer = wire.begins("transfer", payment())
        for _ in range(QUICK.retries.attempts):
            refuse(wire.arrives("Transfer")[2], "UNAVAILABLE", "STORAGE_UNAVAILABLE")
        error = answer.exception(ANSWER_SECONDS)
        assert isinstance(error, WalletError)
        assert not error.definite


def test_an_expired_token_is_replaced_once() -> None:
    """The token source knows better tokens or it does not; asking it in a loop would be a storm."""
    tokens = iter(["old", "new", "newer", "newest"])
    with line(token=lambda: next(tokens)) as wire:
        answer = wire.begins("transfer", payment())
        refuse(wire.arrives("Transfer")[2], "UNAUTHENTICATED", "TOKEN_EXPIRED")
        metadata, _, call = wire.arrives("Transfer")
        assert metadata["authorization"] != "Bearer old"
        refuse(call, "UNAUTHENTICATED", "TOKEN_EXPIRED")
        assert isinstance(answer.exception(ANSWER_SECONDS), WalletError)


def test_pauses_double_up_to_a_bound_and_are_never_all_the_same() -> None:
    """Many clients that come back in the same instant are the next outage."""
    spans = [backoff(n, 0.2, 5.0, draw=lambda: 1.0) for n in range(1, 9)]
    assert spans == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0])
    assert backoff(3, 0.2, 5.0, draw=lambda: 0.0) == pytest.approx(0.4)


def test_no_pause_reaches_past_the_deadline() -> None:
    """The caller gets the true reason in time, and not DEADLINE_EXCEEDED for it."""
    tries = Tries(RetryPolicy(first_pause=1.0), timeout=0.5, repeatable=True)
    assert tries.pause_after(WalletError(grpc.StatusCode.UNAVAILABLE, "away")) is None


def test_what_is_not_repeatable_is_not_repeated() -> None:
    """An rpc of a later contract that declares nothing may do its work twice."""
    tries = Tries(RetryPolicy(), timeout=60, repeatable=False)
    assert tries.pause_after(WalletError(grpc.StatusCode.UNAVAILABLE, "away")) is None


def test_the_public_surface_is_the_one_that_is_pinned() -> None:
    pinned(ROOT / "clients/python/api.txt", python_surface(monay.wallet, monay.wallet.sync))

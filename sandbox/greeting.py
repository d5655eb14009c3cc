"""What `make run` prints when everything stands: where it listens, a token, and calls to paste."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc

from sandbox.endpoints import ROOT, Endpoints, data_folder
from sandbox.keys import DevelopmentKeys
from sandbox.residents import Residents, settle_in
from sandbox.token import ALL_SERVICE_SCOPES, SCOPES, Claims, development_token

# One sentence for a machine that Envoy is not built for.
NO_GATEWAY = "not here: Envoy has no build for this machine; gRPC is not concerned"
SERVICE = "monay.wallet.v1.ConsumerWalletService"


def show(endpoints: Endpoints, keys: DevelopmentKeys, *, seconds: float) -> None:
    """Print it."""
    print(f"\nThe wallet runs ({seconds:.1f} s). Ctrl-C stops everything; its state stays in {data_folder()}.\n")
    for what, where in places(endpoints):
        print(f"  {what:<12}{where}")
    token = development_token(keys, Claims(subject="sandbox", token_use="service", scope=ALL_SERVICE_SCOPES))
    print("\nA development token of a backend service (`make token` makes others):\n")
    print(f"TOKEN={token}\n")
    print("Calls to paste after it: onboard somebody, let Alice pay Bob, look at her balance.\n")
    for line in calls(endpoints.grpc, residents(endpoints.grpc, token, keys)):
        print(line + "\n")
    sys.stdout.flush()


def places(endpoints: Endpoints) -> list[tuple[str, str]]:
    """Each part and its address."""
    return [
        ("gRPC", endpoints.grpc),
        ("HTTP", f"{endpoints.gateway}/api/consumer/" if endpoints.gateway else NO_GATEWAY),
        ("metrics", f"http://{endpoints.http}/metrics"),
        ("Postgres", endpoints.database_url),
        ("Valkey", endpoints.redis_url),
        ("Tempo", endpoints.tempo_rpc_url or "simulated (TEMPO_MOCK_MODE)"),
        ("Circle", circle(endpoints)),
        ("logs", str(data_folder() / "server" / "log.txt")),
    ]


def circle(endpoints: Endpoints) -> str:
    """The simulator and where it takes orders, or Circle itself."""
    simulated = f"{endpoints.circle_url} (simulated; orders: {endpoints.circle_admin_url})"
    return simulated if endpoints.circle_admin_url else endpoints.circle_url or "Circle's own sandbox"


def residents(address: str, token: str, keys: DevelopmentKeys) -> Residents:
    """Alice and Bob, or their places if the server would not have them: no reason not to greet."""
    operator = Claims(subject="sandbox", token_use="operator", scope=SCOPES["operator"])
    try:
        return asyncio.run(settle_in(address, token, operator_token=development_token(keys, operator)))
    except grpc.aio.AioRpcError as error:
        reason = f"{error.code().name}, {error.details()}"
    except TimeoutError:
        reason = "the faucet's money did not arrive"
    print(f"(Alice and Bob could not be set up: {reason})\n")
    return Residents(alice="ALICE", bob="BOB")


def calls(address: str, residents: Residents) -> list[str]:
    """The three calls. Each pasted line does something: the ids are real, and what must be new is new."""
    somebody = uuid4().hex[:8]
    newcomer = {"email": f"{somebody}@example.com", "phone": f"+1415{int(somebody, 16) % 8_000_000 + 2_000_000:07d}"}
    payment = {
        "consumer_id": residents.alice,
        "request_id": str(uuid4()),
        "recipient": {"consumer_id": residents.bob},
        "amount": {"asset": "USDC", "micros": "1250000"},
        "memo": "Lunch",
    }
    return [
        call(address, "Onboard", newcomer),
        call(address, "Transfer", payment),
        call(address, "GetBalance", {"consumer_id": residents.alice}),
    ]


def call(address: str, method: str, message: dict[str, Any]) -> str:
    """One call, with the program this machine has."""
    data = f"-H \"authorization: Bearer $TOKEN\" -d '{json.dumps(message)}'"
    grpcurl = shutil.which("grpcurl") or _in_environment("grpcurl")
    if grpcurl:
        return f"{grpcurl} -plaintext {data} {address} {SERVICE}/{method}"
    buf = shutil.which("buf") or _in_environment("buf") or "buf"
    return f"{buf} curl --protocol grpc --http2-prior-knowledge {data} http://{address}/{SERVICE}/{method}"


def _in_environment(program: str) -> str | None:
    path = Path(sys.executable).with_name(program)
    return os.path.relpath(path, ROOT) if path.exists() else None

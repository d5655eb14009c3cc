"""What `make run` prints when everything stands: where it listens, a token, and calls to paste."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from uuid import uuid4

from sandbox.endpoints import ROOT, Endpoints, data_folder
from sandbox.keys import DevelopmentKeys
from sandbox.token import ALL_SERVICE_SCOPES, Claims, development_token

SERVICE = "monay.wallet.v1.ConsumerWalletService"


def show(endpoints: Endpoints, keys: DevelopmentKeys, *, seconds: float) -> None:
    """Print it."""
    print(f"\nThe wallet runs ({seconds:.1f} s). Ctrl-C stops everything; state is kept in {data_folder()}.\n")
    for what, where in places(endpoints):
        print(f"  {what:<12}{where}")
    token = development_token(keys, Claims(subject="sandbox", token_use="service", scope=ALL_SERVICE_SCOPES))
    print("\nA development token of a backend service (`make token` makes others), then three calls to paste:\n")
    print(f"  TOKEN={token}\n")
    for line in calls(endpoints.grpc):
        print(f"  {line}\n")
    sys.stdout.flush()


def places(endpoints: Endpoints) -> list[tuple[str, str]]:
    return [
        ("gRPC", endpoints.grpc),
        ("metrics", f"http://{endpoints.http}/metrics"),
        ("Postgres", _without_password(endpoints.database_url)),
        ("Valkey", endpoints.redis_url),
        ("Tempo", endpoints.tempo_rpc_url or "simulated (TEMPO_MOCK_MODE)"),
        ("logs", str(data_folder() / "server" / "log.txt")),
    ]


def calls(address: str) -> list[str]:
    """Onboard somebody new, let Alice pay Bob, look at her balance."""
    somebody = uuid4().hex[:8]
    phone = f"+1415555{int(somebody, 16) % 10_000:04d}"
    return [
        call(address, "Onboard", f'{{"email": "{somebody}@example.com", "phone": "{phone}"}}'),
    ]


def call(address: str, method: str, message: str) -> str:
    """One call, with the program this machine has."""
    grpcurl = shutil.which("grpcurl") or _in_environment("grpcurl")
    header = '-H "authorization: Bearer $TOKEN"'
    if grpcurl:
        return f"{grpcurl} -plaintext {header} -d '{message}' {address} {SERVICE}/{method}"
    buf = shutil.which("buf") or _in_environment("buf") or "buf"
    return f"{buf} curl --protocol grpc --http2-prior-knowledge {header} -d '{message}' http://{address}/{SERVICE}/{method}"


def _in_environment(program: str) -> str | None:
    path = Path(sys.executable).with_name(program)
    return os.path.relpath(path, ROOT) if path.exists() else None


def _without_password(url: str) -> str:
    return url

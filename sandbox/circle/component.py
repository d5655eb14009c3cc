"""The simulator as a part of `make run`, and of tests: a process of its own, in a folder of its own."""

from __future__ import annotations

import http.client
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from sandbox.circle.seeds import WALLET_SET_ID
from sandbox.component import Component
from sandbox.endpoints import ROOT
from sandbox.keys import DevelopmentKeys
from sandbox.listen import Listen

# A name, not a secret.
ENTITY_ID = "5a0de5a0-0000-4000-8000-000000000001"


def circle_credentials(keys: DevelopmentKeys) -> dict[str, str]:
    """What the development wallet and its simulator share."""
    wallets_key, mint_key = keys.circle_api_keys
    return {
        "CIRCLE_API_KEY": wallets_key,
        "CIRCLE_MINT_API_KEY": mint_key,
        "CIRCLE_ENTITY_SECRET": keys.circle_entity_secret,
        "CIRCLE_ENTITY_ID": ENTITY_ID,
    }


def client_settings(keys: DevelopmentKeys, listen: Mapping[str, Listen], *, workers: int) -> dict[str, str]:
    """The settings of a server that uses the simulator of `make run`."""
    http = listen["HTTP_LISTEN"]
    return {
        **circle_credentials(keys),
        "CIRCLE_ENV": "sandbox",
        "CIRCLE_CHAIN": "ARC-TESTNET",
        "CIRCLE_WALLET_SET_ID": WALLET_SET_ID,
        # The worker process is the last one of the supervisor's, and its port follows those of the others.
        "CIRCLE_WEBHOOK_URL": f"http://{http.host}:{http.port + workers}",
        "CIRCLE_SNS_CERT_HOSTS": str(listen["CIRCLE_LISTEN"]),
    }


class CircleSimulator(Component):
    name = "The Circle simulator"
    # What the kernel calls it: the interpreter's file name.
    program_name = Path(sys.executable).name

    def __init__(
        self,
        folder: Path,
        *,
        port: int,
        admin_port: int,
        credentials: Mapping[str, str],
        keys: Path | None = None,
        extra: tuple[str, ...] = (),
    ) -> None:
        """`credentials` are the four settings that its client has, too."""
        super().__init__(folder, port=port)
        self.admin_port = admin_port
        self.credentials = credentials
        self.keys = keys
        self.extra = extra

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin_url(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}"

    def _start(self) -> None:
        listen = ["--listen", f"127.0.0.1:{self.port}", "--admin", f"127.0.0.1:{self.admin_port}"]
        keys = ["--keys", str(self.keys.resolve())] if self.keys else []
        program = [sys.executable, "-m", "sandbox.circle", str(self.folder.resolve()), *listen, *keys, *self.extra]
        environment = {**os.environ, **self.credentials, "PYTHONPATH": str(ROOT)}
        self._spawn(program, env=environment)

    def ready(self) -> bool:
        return _answers(self.port, "/ping") and _answers(self.admin_port, "/state")


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()

"""A Tempo development chain: Foundry's anvil with Tempo's precompiles, fetched through npm by the bootstrap.

It finalizes every block at once, as Tempo does. It writes its whole state at each interval and when it ends by SIGTERM;
killed otherwise, it forgets blocks that were final, which the real chain never does.
"""

from __future__ import annotations

import http.client
import json
import sys
from pathlib import Path

from sandbox.component import Component, Refused

PROGRAM = Path(sys.prefix, "tempo-node", "node_modules", "@foundry-rs", "anvil-linux-amd64", "bin", "anvil")
# Differs from Tempo's networks, so that nothing signed with a development key is valid on them.
CHAIN_ID = 31337


class TempoNode(Component):
    name = "The Tempo development chain"
    program_name = "anvil"
    # A long history makes a large state file.
    stop_seconds = 60.0

    def __init__(
        self,
        folder: Path,
        *,
        port: int,
        block_seconds: float | None = 0.5,
        state_seconds: int | None = 30,
        extra: tuple[str, ...] = (),
    ) -> None:
        """`block_seconds=None` mines a block for each transaction; `state_seconds=None` keeps all in memory only."""
        super().__init__(folder, port=port)
        self.block_seconds = block_seconds
        self.state_seconds = state_seconds
        self.extra = extra

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def state_file(self) -> Path:
        return self.folder.resolve() / "state.json"

    def _start(self) -> None:
        if not PROGRAM.exists():
            raise Refused(
                "The Tempo node is not installed: run `make run`, or set TEMPO_RPC_URL or TEMPO_MOCK_MODE=true."
            )
        command = [str(PROGRAM), "--network", "tempo", "--hardfork", "T4", "--chain-id", str(CHAIN_ID), "--quiet"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--gas-limit", "500000000", "--slots-in-an-epoch", "0"]
        if self.block_seconds is not None:
            command += ["--block-time", str(self.block_seconds)]
        if self.state_seconds is not None:
            command += ["--state", str(self.state_file), "--state-interval", str(self.state_seconds)]
        self._spawn([*command, *self.extra])

    def ready(self) -> bool:
        try:
            return int(self._ask("eth_chainId"), 16) == CHAIN_ID
        except (OSError, ValueError, KeyError, http.client.HTTPException):
            return False

    def _ask(self, method: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": []})
            connection.request("POST", "/", body, {"Content-Type": "application/json"})
            return str(json.load(connection.getresponse())["result"])
        finally:
            connection.close()

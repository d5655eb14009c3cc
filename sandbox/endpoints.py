"""Where the servers of `make run` are, for the commands that talk to them: .data/endpoints.json."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from sandbox.component import Refused

ROOT = Path(__file__).resolve().parent.parent


def data_folder() -> Path:
    """Where the state of `make run` is kept. DATA_DIR moves it (tests run beside a developer's own)."""
    return Path(os.environ.get("DATA_DIR") or ROOT / ".data").resolve()


@dataclass(frozen=True)
class Endpoints:
    """The addresses of one running wallet, with what is needed to be let in."""

    grpc: str
    http: str
    database_url: str
    redis_url: str
    # Empty in mock mode: there is no chain then.
    tempo_rpc_url: str
    tempo_tokens: dict[str, str]
    pid: int
    # Empty where Envoy is not installed: then there is gRPC and no HTTP.
    gateway: str = ""
    # Empty where the server has a key for Circle itself; without the simulator there is no admin port.
    circle_url: str = ""
    circle_admin_url: str = ""
    # Whom the demo suspends to take the chain away; 0 where it is not a node of ours.
    tempo_pid: int = 0

    def write(self) -> None:
        """Publish them, readable by their owner only: the database's password is among them."""
        path = data_folder() / "endpoints.json"
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(self), file, indent=2)

    @staticmethod
    def withdraw() -> None:
        """Take back what this process has published, and nothing else: a second run that is refused ends here, too."""
        path = data_folder() / "endpoints.json"
        if path.exists() and json.loads(path.read_text()).get("pid") == os.getpid():
            path.unlink()

    @staticmethod
    def read() -> Endpoints:
        """The endpoints of the wallet that runs now."""
        path = data_folder() / "endpoints.json"
        try:
            endpoints = Endpoints(**json.loads(path.read_text()))
            os.kill(endpoints.pid, 0)
        except PermissionError:
            return endpoints
        except (OSError, ValueError, TypeError):
            raise Refused("No wallet is running here: start one with `make run` in another terminal.") from None
        return endpoints


def main() -> int:
    """Print one of them, for the Makefile: `python -m sandbox.endpoints database_url`."""
    try:
        print(getattr(Endpoints.read(), sys.argv[1]))
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`make acceptance`: the deployment guide's expected results, verification tasks and success criteria, measured.

It plays against the wallet of `make run`, or against one that is named (`--target`, with tokens in the environment and
a consumer whose money it may use), and prints one table: what the guide asks for, what was measured here, and what only
production can show. It ends with 0 only if nothing that was measured fell short.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import grpc

from sandbox.acceptance_checks import Checks
from sandbox.acceptance_client import Client
from sandbox.acceptance_table import Table
from sandbox.component import Refused
from sandbox.endpoints import Endpoints, data_folder
from sandbox.keys import DevelopmentKeys
from sandbox.token import ALL_SERVICE_SCOPES, SCOPES, Claims, development_token

INTRODUCTION = """# Acceptance: the guide's criteria, measured

What `make acceptance` printed on {when}, against {target} with {transfers} transfers. Run it again with
`make acceptance ARGS="--write docs/acceptance.md"`, or against another wallet with `--target host:port`: the service's
token in `ACCEPTANCE_SERVICE_TOKEN`, an operator's in `ACCEPTANCE_OPERATOR_TOKEN`, and `--funded ID`, a consumer whose
money may be moved about.

The figures are of one machine that runs everything at once; `docs/performance.md` has those measured with care.

"""


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make acceptance", description="The guide's acceptance, measured.")
    parser.add_argument("--target", metavar="HOST:PORT", help="a wallet; without it, that of `make run`")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="speak TLS and trust this certificate authority")
    parser.add_argument("--funded", metavar="ID", help="a consumer with money, where there is no faucet")
    parser.add_argument("--transfers", type=int, default=1_000, help="how many (default: 1000)")
    parser.add_argument("--concurrency", type=int, default=8, help="how many at once (default: 8)")
    parser.add_argument("--no-failover", action="store_true", help="do not pause Tempo")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page with the table there, too")
    return parser.parse_args()


def tokens(target: str | None) -> tuple[str, str]:
    """The service's and the operator's: given ones, or those that the sandbox signs."""
    if target is not None:
        try:
            return os.environ["ACCEPTANCE_SERVICE_TOKEN"], os.environ["ACCEPTANCE_OPERATOR_TOKEN"]
        except KeyError as missing:
            raise Refused(f"A named target needs a token in {missing.args[0]}.") from None
    keys = DevelopmentKeys(data_folder() / "keys")
    service = Claims(subject="acceptance", token_use="service", scope=ALL_SERVICE_SCOPES)
    operator = Claims(subject="acceptance", token_use="operator", scope=SCOPES["operator"])
    return development_token(keys, service), development_token(keys, operator)


def channel(target: str, authority: Path | None) -> grpc.aio.Channel:
    if authority is None:
        return grpc.aio.insecure_channel(target)
    return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(authority.read_bytes()))


async def accept(chosen: argparse.Namespace) -> Table:
    """Make all checks, in an order in which each finds what it needs."""
    target = chosen.target or Endpoints.read().grpc
    service, operator = tokens(chosen.target)
    table = Table()
    async with channel(target, chosen.ca) as connection:
        client = Client(connection, service_token=service, operator_token=operator, funded=chosen.funded)
        checks = Checks(client, table)
        await checks.all(transfers=chosen.transfers, concurrency=chosen.concurrency, failover=not chosen.no_failover)
    return table


def main() -> int:
    """Print the table; 1 if anything fell short."""
    chosen = options()
    try:
        table = asyncio.run(accept(chosen))
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return 1
    print(table.text())
    if chosen.write is not None:
        when = datetime.now(UTC).strftime("%Y-%m-%d")
        where = "the sandbox of `make run`" if chosen.target is None else chosen.target
        page = INTRODUCTION.format(when=when, target=where, transfers=chosen.transfers)
        chosen.write.write_text(page + table.markdown())
    return 0 if table.accepted else 1


if __name__ == "__main__":
    sys.exit(main())

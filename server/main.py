"""The one way to start the service.

What a process is made of is put together by hand, in the module of its kind: `server/api_process.py`,
`server/worker_process.py`, `server/signer`.

    server api [--workers N]    one process that answers calls, or N of them on one port under a supervisor
    server workers              one process that settles, watches and reconciles; it alone holds keys, unless there is
    server signer               one process that holds them in its place and signs what it finds planned
    server all --workers N      a supervisor around N API processes on one port and one worker process

A process ends with 0 when it was told to stop and everything in flight had finished, with 2 when its settings are
wrong, and with 1 when it could not start or a part of it failed: crash loudly, be restarted.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from server.api_process import run_api
from server.process import Arguments, StartRefused, event_loop, read_arguments, stop_event
from server.settings import Role, Settings
from server.settings_check import SettingsFaults, read_settings
from server.supervisor import Supervisor
from server.telemetry import configure_logging
from server.worker_process import run_workers


def main(line: Sequence[str] | None = None) -> int:
    """Run the process that the command line names; its exit code."""
    arguments = read_arguments(line)
    try:
        settings = read_settings(arguments.role)
    except SettingsFaults as wrong:
        sys.stderr.write("\n  ".join(["The settings are wrong:", *wrong.faults]) + "\n")
        return 2
    configure_logging(settings.log_level, process=arguments.name)
    try:
        with asyncio.Runner(loop_factory=event_loop(arguments)) as runner:
            return runner.run(_run(arguments, settings))
    except StartRefused as refusal:
        sys.stderr.write(f"{refusal}\n")
        return 1


async def _run(arguments: Arguments, settings: Settings) -> int:
    stop = stop_event(supervised=arguments.supervised)
    if arguments.role is Role.ALL or (arguments.role is Role.API and arguments.workers > 1):
        everything = arguments.role is Role.ALL
        return await Supervisor(settings, api_processes=arguments.workers, worker_process=everything).run(stop)
    if arguments.role is Role.SIGNER:
        from server.signer.composition import run_signer

        await run_signer(settings, stop)
        return 0
    await (run_api if arguments.role is Role.API else run_workers)(arguments, settings, stop)
    return 0

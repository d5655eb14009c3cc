"""The Go module, as somebody uses it who has nothing else of ours."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

from sandbox.endpoints import ROOT
from tests.sdks.examples import came_out_right, example, write
from tests.sdks.languages import GO, run
from tests.sdks.surface import pinned

CLIENT = ROOT / "clients/go"
MODULE = "github.com/monay/wallet-go"

pytestmark = [pytest.mark.sdk, pytest.mark.timeout(1200)]


@pytest.fixture(autouse=True)
def toolchain() -> None:
    GO.require()


def test_the_code_is_vetted() -> None:
    """And formatted, as everything in Go is."""
    run("go", "vet", "./...", cwd=CLIENT)
    assert run("gofmt", "-l", ".", cwd=CLIENT) == ""


def test_the_public_surface_is_the_one_that_is_pinned() -> None:
    """Declarations, without the prose around them."""
    documented = run("go", "doc", "-all", ".", cwd=CLIENT).partition("\nCONSTANTS\n")[2]
    declared = [line for line in documented.splitlines() if line and not line.startswith("    ")]
    pinned(CLIENT / "api.txt", "\n".join(declared) + "\n")


def test_the_module_installs_into_an_empty_project_and_the_example_of_the_readme_runs(
    example_environment: dict[str, str], tmp_path: Path
) -> None:
    """From a module archive, as the module proxy serves it."""
    version = released_version()
    serve_module(tmp_path / "proxy", version)
    environment = {**example_environment, **only_ours_from(tmp_path / "proxy")}
    project = tmp_path / "project"
    write(project / "main.go", example("go", "go"))
    run("go", "mod", "init", "example.com/shop", cwd=project, environment=environment)
    run("go", "get", f"{MODULE}@{version}", cwd=project, environment=environment)
    run("go", "mod", "tidy", cwd=project, environment=environment)
    came_out_right(run("go", "run", ".", cwd=project, environment=environment))


def released_version() -> str:
    """As the module itself says it."""
    found = re.search(r'Version = "(.*)"', (CLIENT / "doc.go").read_text())
    assert found
    return f"v{found[1]}"


def serve_module(folder: Path, version: str) -> None:
    """Lay out a module proxy that has this one version."""
    versions = folder / MODULE / "@v"
    write(versions / "list", f"{version}\n")
    write(versions / f"{version}.info", f'{{"Version": "{version}"}}')
    write(versions / f"{version}.mod", (CLIENT / "go.mod").read_text())
    with zipfile.ZipFile(versions / f"{version}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(path for path in CLIENT.rglob("*") if path.is_file()):
            archive.write(path, f"{MODULE}@{version}/{path.relative_to(CLIENT)}")


def only_ours_from(folder: Path) -> dict[str, str]:
    """Our module out of that folder, all others from where this machine gets its modules."""
    usual = run("go", "env", "GOPROXY").strip()
    return {"GOPROXY": f"file://{folder},{usual}", "GONOSUMDB": MODULE, "GOFLAGS": "-mod=mod"}

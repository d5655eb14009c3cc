"""Makes everything that is made from the contract: the code of the clients, and docs/errors.md.

Run by `make generate`. All plugins are local and pinned: Python's stand in the lock files, Go's in buf.gen.go.yaml,
TypeScript's in its package-lock.json. Each language is generated where its toolchain is present and left as it is
elsewhere. With `--third-party` only the protos that the contract imports are put in place, which `buf lint` needs.
"""

from __future__ import annotations

import argparse
import importlib.resources
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from errors_page import errors_page
from java_calls import java_client

ROOT = Path(__file__).resolve().parent.parent
THIRD_PARTY = ROOT / "third_party"
PYTHON_CLIENT = ROOT / "clients/python/src"
GO_CLIENT = ROOT / "clients/go"
TYPESCRIPT_CLIENT = ROOT / "clients/typescript"
JAVA_BUILD = ROOT / "clients/java/build"
PACKAGE = Path("monay/wallet/v1")

# Everything that the contract imports and protobuf itself does not bring.
GOOGLE_PROTOS = ("google/api/annotations.proto", "google/api/http.proto")
# Not imported: what the details of errors are made of, for clients whose runtime does not bring it.
ERROR_DETAILS = "google/rpc/error_details.proto"
VALIDATE_PROTO = "buf/validate/validate.proto"

# The plugins of this very interpreter come first, whichever virtual environment that is.
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def run(*command: str | Path) -> None:
    """Run a program in the project's folder; its own words are the error message."""
    subprocess.run([str(part) for part in command], check=True, cwd=ROOT, env=ENVIRONMENT)


def third_party() -> None:
    """Take the imported protos out of pinned packages, unless they are there."""
    google = importlib.resources.files("google")
    for name in (*GOOGLE_PROTOS, ERROR_DETAILS):
        write(THIRD_PARTY / name, google.joinpath(name.removeprefix("google/")).read_bytes())
    if not (THIRD_PARTY / VALIDATE_PROTO).exists():
        write(THIRD_PARTY / VALIDATE_PROTO, validate_proto())


def validate_proto() -> bytes:
    """protovalidate's rules, from its source package: the wheel does not contain them."""
    with tempfile.TemporaryDirectory() as folder:
        lock = ROOT / "deploy/locks/contract.txt"
        pip = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check")
        run(*pip, "--no-deps", "--no-binary=protovalidate", "--require-hashes", "--dest", folder, "--requirement", lock)
        (archive,) = Path(folder).glob("*.tar.gz")
        with tarfile.open(archive) as package:
            (member,) = (name for name in package.getnames() if name.endswith(f"/proto/{VALIDATE_PROTO}"))
            content = package.extractfile(member)
            assert content is not None
            return content.read()


def python_client(folder: Path) -> None:
    """Messages, types and stubs for Python, and the rules that the messages refer to.

    What is generated for google/ is left out: googleapis-common-protos brings the same modules.
    """
    run("buf", "generate", "--template", "buf.gen.yaml", "--output", folder)
    for types in (folder / "python").rglob("*_pb2_grpc.pyi"):
        # The types of stubs that do not exist, because the file declares no service.
        if not types.with_suffix(".py").exists():
            types.unlink()
    replace(PYTHON_CLIENT / PACKAGE, folder / "python" / PACKAGE)
    replace(PYTHON_CLIENT / "buf/validate", folder / "python/buf/validate")
    write(PYTHON_CLIENT / "buf/validate/py.typed", b"")


def go_client(folder: Path) -> None:
    """Messages and stubs for Go."""
    if shutil.which("go") is None:
        sys.stderr.write("generate: no Go toolchain here, so clients/go stays as it is\n")
        return
    run("buf", "generate", "--template", "buf.gen.go.yaml", "--output", folder)
    replace(GO_CLIENT / PACKAGE, folder / "go" / PACKAGE)


def typescript_client(folder: Path) -> None:
    """Messages and service descriptions for TypeScript, with the details of errors."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        sys.stderr.write("generate: no Node.js here, so clients/typescript stays as it is\n")
        return
    if not (TYPESCRIPT_CLIENT / "node_modules").exists():
        run("npm", "ci", "--prefix", TYPESCRIPT_CLIENT, "--silent", "--no-audit", "--no-fund")
    run("buf", "generate", "--template", "buf.gen.typescript.yaml", "--output", folder)
    replace(TYPESCRIPT_CLIENT / "src/gen", folder / "typescript")


def java_contract(folder: Path) -> None:
    """What the Maven build of the Java and Kotlin clients starts from."""
    descriptors = folder / "contract.binpb"
    run("buf", "build", "proto", "--as-file-descriptor-set", "--output", descriptors)
    shutil.rmtree(JAVA_BUILD, ignore_errors=True)
    java_client(descriptors.read_bytes(), JAVA_BUILD)


def errors_document(folder: Path) -> None:
    """docs/errors.md, from the comments and options of the reasons."""
    descriptors = folder / "contract.binpb"
    run("buf", "build", "proto", "--as-file-descriptor-set", "--output", descriptors)
    sys.path.insert(0, str(PYTHON_CLIENT))
    write(ROOT / "docs/errors.md", errors_page(descriptors.read_bytes()).encode())


def replace(target: Path, made: Path) -> None:
    """Put a generated folder where it belongs. Nothing that was there before survives."""
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(made, target)


def write(path: Path, content: bytes) -> None:
    """Write a file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def main() -> None:
    """Generate all, or put the imported protos in place."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--third-party", action="store_true", help="only the protos that the contract imports")
    parser.add_argument("--java", action="store_true", help="only what the Maven build starts from")
    options = parser.parse_args()
    third_party()
    if options.third_party:
        return
    if options.java:
        with tempfile.TemporaryDirectory() as folder:
            java_contract(Path(folder))
        return
    with tempfile.TemporaryDirectory() as folder:
        python_client(Path(folder))
        go_client(Path(folder))
        typescript_client(Path(folder))
        java_contract(Path(folder))
        errors_document(Path(folder))


if __name__ == "__main__":
    main()

"""Each SDK says one version of itself, wherever it says it, and its changelog has it."""

from __future__ import annotations

import json
import re
import tomllib
import xml.etree.ElementTree as ElementTree
from types import FunctionType

import pytest

import monay.wallet
from tests.sdks.languages import CLIENTS


def python() -> set[str]:
    project = tomllib.loads((CLIENTS / "python/pyproject.toml").read_text())
    return {project["project"]["version"], monay.wallet.VERSION}


def go() -> set[str]:
    return set(re.findall(r'Version = "(.*)"', (CLIENTS / "go/doc.go").read_text()))


def typescript() -> set[str]:
    packages = [
        json.loads((CLIENTS / "typescript" / name).read_text()) for name in ("package.json", "package-lock.json")
    ]
    said = re.findall(r'VERSION = "(.*)"', (CLIENTS / "typescript/src/version.ts").read_text())
    return {package["version"] for package in packages} | set(said)


def java() -> set[str]:
    own = ElementTree.parse(CLIENTS / "java/pom.xml").findtext("{*}version")
    modules = ("wallet", "wallet-kotlin", "conformance")
    parents = {
        ElementTree.parse(CLIENTS / "java" / module / "pom.xml").findtext("{*}parent/{*}version") for module in modules
    }
    client = CLIENTS / "java/wallet/src/main/java/com/monay/wallet/WalletClient.java"
    return {str(own), *map(str, parents), *re.findall(r'VERSION = "(.*)"', client.read_text())}


@pytest.mark.parametrize("said", [python, go, typescript, java], ids=lambda function: function.__name__)
def test_one_version_is_said_everywhere(said: FunctionType) -> None:
    """A package that calls itself something else in its user agent cannot be found in a log."""
    (version,) = said()
    changelog = (CLIENTS / said.__name__ / "CHANGELOG.md").read_text()
    newest = re.search(r"^## (\S+)", changelog, re.MULTILINE)
    assert newest
    assert newest[1] == version

"""docs/settings.md: every variable of the environment, as the code says it. UPDATE_GUIDE=1 writes the page."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from pydantic_core import PydanticUndefined

from server import settings
from server.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
BEGINNING = """# Settings

Everything is said by environment variables, read once at the start; `server/settings.py` is where they are declared,
and this page is made from it. What is wrong with them is told in one message before anything starts. Lists are
separated by commas, empty variables count as not set. Passwords and keys are never printed.

Migrations read `DATABASE_OWNER_URL` and `DATABASE_URL`: at the end of an upgrade the role of the second is granted what
the service needs. `PORT_OFFSET` shifts all ports of `make run`."""


def page() -> str:
    """The page as it should be."""
    lines = [BEGINNING]
    for heading, fields in sections():
        lines += [f"\n## {heading}\n", "| variable | default | |", "|---|---|---|"]
        lines += [f"| `{name.upper()}` | {default_of(name)} | {said} |" for name, said in fields]
    return "\n".join(lines) + "\n"


def sections() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The fields with what stands below each, under the comment above their group."""
    source = Path(settings.__file__).read_text()
    body = next(
        node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "Settings"
    )
    lines = source.splitlines()
    heading, fields = "Where it runs", list[tuple[str, str]]()
    for node, following in zip(body, [*body[1:], None], strict=True):
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        above = re.fullmatch(r"    # (.*)[.:]", lines[node.lineno - 2])
        if above is not None:
            yield heading, fields
            heading, fields = above[1], []
        fields.append((node.target.id, docstring(following)))
    yield heading, fields


def docstring(node: ast.stmt | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return " ".join(node.value.value.split()).replace("|", "\\|")
    return ""


def default_of(name: str) -> str:
    default = Settings.model_fields[name].default
    if default in (None, (), {}, PydanticUndefined) or "Secret" in type(default).__name__:
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default.value if isinstance(default, Enum) else default}`"


def test_the_page_of_settings_is_what_the_settings_say() -> None:
    """An operator reads the page, the process reads the code."""
    if os.environ.get("UPDATE_GUIDE") == "1":
        PAGE.write_text(page())
    assert PAGE.read_text() == page()


def test_every_setting_is_on_the_page() -> None:
    named = set(re.findall(r"^\| `([A-Z0-9_]+)`", page(), re.MULTILINE))
    assert named == {name.upper() for name in Settings.model_fields}

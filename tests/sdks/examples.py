"""The examples in the READMEs of the SDKs: code that people paste, so the tests run it."""

from __future__ import annotations

import re
from pathlib import Path

from sandbox.endpoints import ROOT


def example(client: str, fence: str) -> str:
    """The first block of that language in the README of a client."""
    text = (ROOT / "clients" / client / "README.md").read_text()
    block = re.search(rf"^```{fence}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert block, f"the README of {client} has no {fence} example"
    return block[1]


def came_out_right(printed: str) -> None:
    """Every example tells the same little story."""
    for part in ("balance USDC 20.00", "sent 12.34 as ", "refused: only 7.6599 is there", "history "):
        assert part in printed, f"no {part!r} in:\n{printed}"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path

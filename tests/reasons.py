"""The reasons that servers under test gave to callers, collected over a whole run of the suite."""

from __future__ import annotations

SEEN: set[str] = set()

NOT_ON_THE_WIRE = {
    "DEADLINE_PASSED": "whoever set the deadline has left by then; tests/server/test_ledger_writer.py sees it",
}
"""Reasons that no caller can be shown to get, and why."""

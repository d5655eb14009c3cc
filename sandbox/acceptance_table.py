"""The table of `make acceptance`: a row for each thing that the guide asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Verdict(StrEnum):
    """What the measurement says."""

    MET = "met"
    MISSED = "MISSED"
    NOT_SHOWN = "not shown here"


@dataclass(frozen=True, slots=True)
class Row:
    """One criterion, with the figure that was measured."""

    criterion: str
    verdict: Verdict
    measured: str
    production: str
    """What only production can show; empty when nothing is left to show."""


@dataclass
class Table:
    """The rows, in the order of the guide's lists."""

    rows: list[Row] = field(default_factory=list)

    def add(self, criterion: str, *, met: bool | None, measured: str, production: str = "") -> None:
        """A row; `met=None` where this run cannot tell."""
        verdict = Verdict.NOT_SHOWN if met is None else Verdict.MET if met else Verdict.MISSED
        self.rows.append(Row(criterion, verdict, measured, production))

    @property
    def accepted(self) -> bool:
        """Nothing fell short. What could not be shown is no failure, and is not called a success."""
        return all(row.verdict is not Verdict.MISSED for row in self.rows)

    def text(self) -> str:
        """For a terminal."""
        width = max(len(row.criterion) for row in self.rows)
        lines = []
        for row in self.rows:
            lines.append(f"{row.criterion:<{width}}  {row.verdict:<14}  {row.measured}")
            if row.production:
                lines.append(f"{'':<{width}}  {'':<14}  only production: {row.production}")
        counts = ", ".join(f"{sum(row.verdict is v for row in self.rows)} {v}" for v in Verdict)
        return "\n".join([*lines, "", counts])

    def markdown(self) -> str:
        """For the page."""
        head = ["| the guide asks for | verdict | measured here | what only production can show |", "|---|---|---|---|"]
        rows = [f"| {row.criterion} | {row.verdict} | {row.measured} | {row.production} |" for row in self.rows]
        return "\n".join([*head, *rows, ""])

"""What was signed: written down and flushed to disk before a signature leaves, and read again at the start.

One file for each UTC day, one line for each transaction. The last line of a file may be torn by a crash; its signature
never left, so it does not count. The folder is locked: two signers with a journal each would keep half a limit.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO
from uuid import UUID

from domain.money import Asset
from providers.base import Movement, PartyKind


class JournalUnusable(Exception):
    """The journal cannot be kept: nothing may be signed."""


class Journal:
    """The sums of the day, and until when each item's last signature can land."""

    def __init__(self, folder: Path, *, now: datetime) -> None:
        self._folder = folder
        self._valid_until: dict[UUID, datetime] = {}
        self._moved: dict[Asset, int] = {}
        self._moved_outside: dict[Asset, int] = {}
        self._file: TextIO | None = None
        self._day = now.date()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for day in (self._day - timedelta(days=1), self._day):
                self._read(day)
        except OSError as error:
            raise JournalUnusable(f"{folder} cannot be used as a journal: {error.strerror}") from error

    def moved(self, now: datetime) -> Mapping[Asset, int]:
        """What was signed away today."""
        self._turn_to(now.date())
        return self._moved

    def moved_outside(self, now: datetime) -> Mapping[Asset, int]:
        """What of it went to strangers' addresses."""
        self._turn_to(now.date())
        return self._moved_outside

    def valid_until(self, item_id: UUID) -> datetime | None:
        """Until when the item's last signature can land; None if there is none that could."""
        return self._valid_until.get(item_id)

    def write(self, movements: Sequence[Movement], *, valid_before: datetime, now: datetime) -> None:
        """Write down what is about to be signed. Once this returns, it counts, whatever happens next."""
        self._turn_to(now.date())
        line = {"valid_before": valid_before.isoformat(), "movements": [_line(one) for one in movements]}
        try:
            if self._file is None:
                self._file = self._path(self._day).open("a")
            self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            # What of it is on the disk nobody knows: the rest of this file is read by the next process, not by us.
            raise JournalUnusable(f"the journal cannot be written: {error.strerror}") from error
        self._count(line, today=True)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._lock.close()

    def _turn_to(self, day: date) -> None:
        if day <= self._day:
            return
        if self._file is not None:
            self._file.close()
            self._file = None
        self._day, self._moved, self._moved_outside = day, {}, {}
        # A signature lives for half a minute; those of the day before yesterday's are of no interest.
        start = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(minutes=5)
        self._valid_until = {item: until for item, until in self._valid_until.items() if until > start}

    def _read(self, day: date) -> None:
        path = self._path(day)
        if not path.exists():
            return
        for text in path.read_text().splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            self._count(line, today=day == self._day)
        # A torn line must not swallow the next one.
        if path.read_bytes()[-1:] not in (b"", b"\n"):
            with path.open("a") as file:
                file.write("\n")

    def _count(self, line: Mapping[str, Any], *, today: bool) -> None:
        until = datetime.fromisoformat(line["valid_before"])
        for item_id, asset, micros, outside in line["movements"]:
            self._valid_until[UUID(item_id)] = until
            if today:
                self._moved[Asset(asset)] = self._moved.get(Asset(asset), 0) + micros
                if outside:
                    self._moved_outside[Asset(asset)] = self._moved_outside.get(Asset(asset), 0) + micros

    def _path(self, day: date) -> Path:
        return self._folder / f"signed-{day.isoformat()}.jsonl"


def _line(one: Movement) -> list[object]:
    return [str(one.item_id), one.asset, one.micros, one.destination.kind is PartyKind.OUTSIDE]

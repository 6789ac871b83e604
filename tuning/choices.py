"""The record of a search: which settings it has chosen, in order, and for how long it has run.

A line is written before a chosen trial starts. So a search that was killed goes on with the same
trials.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forkdiv.core.store_record import reading
from tuning.draws import combination

FILE = "search/choices.jsonl"  # in the folder of the trials' results


class Choices:
    """The chosen values by path. `seconds` is the running time of the search, over all runs."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE
        self.chosen: list[dict[str, Any]] = []
        self._earlier_s = 0.0
        if self._file.is_file():
            self._read()
        self._known = set(map(combination, self.chosen))
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return self._earlier_s + time.monotonic() - self._began

    def has(self, values: Mapping[str, Any]) -> bool:
        """Returns whether these values were chosen before."""
        return combination(values) in self._known

    def add(self, values: Mapping[str, Any]) -> None:
        """Records a choice."""
        self.chosen.append(dict(values))
        self._known.add(combination(values))
        self._write({"chosen": values})

    def note_time(self) -> None:
        """Records the running time."""
        self._write({})

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**line, "seconds": round(self.seconds, 1)}, default=str)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(file.fileno())

    def _read(self) -> None:
        text = self._file.read_text(encoding="utf-8")
        whole, _, torn = text.rpartition("\n")
        if torn:  # a kill in the middle of a line: its trial had not started
            self._file.write_text(f"{whole}\n" if whole else "", encoding="utf-8")
        with reading(self._file, self._file):
            for line in whole.splitlines():
                kept = json.loads(line)
                self._earlier_s = float(kept["seconds"])
                if "chosen" in kept:
                    self.chosen.append(dict(kept["chosen"]))

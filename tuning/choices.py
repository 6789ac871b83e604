"""The record of a search: which settings it has chosen, in order, and for how long it has run.

It is written before a chosen trial starts. So a search that was killed goes on with the same
trials.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forkdiv.core.store import write_text
from forkdiv.core.store_record import reading
from tuning.draws import combination

FILE = "search/choices.json"  # in the folder of the trials' results


class Choices:
    """The chosen values by path. `seconds` is the running time of the search, over all runs."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE
        self.chosen: list[dict[str, Any]] = []
        self._earlier_s = 0.0
        if self._file.is_file():
            with reading(self._file, self._file):
                kept = json.loads(self._file.read_text(encoding="utf-8"))
                self.chosen, self._earlier_s = list(kept["chosen"]), float(kept["seconds"])
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return self._earlier_s + time.monotonic() - self._began

    def has(self, values: Mapping[str, Any]) -> bool:
        """Returns whether these values were chosen before."""
        return combination(values) in map(combination, self.chosen)

    def add(self, values: Mapping[str, Any]) -> None:
        """Records a choice."""
        self.chosen.append(dict(values))
        self.write()

    def write(self) -> None:
        """Records the running time."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        kept = {"chosen": self.chosen, "seconds": round(self.seconds, 1)}
        write_text(self._file, json.dumps(kept, indent=1, default=str))

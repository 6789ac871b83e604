"""The result files of a study's trials, from which a study that was stopped continues."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.store import write_text
from forkdiv.core.store_record import reading
from tuning.space import Point
from tuning.trial import TrialResult


@dataclass(frozen=True)
class TrialResults:
    """One file per finished trial, and one per trial that has measured a checkpoint and trains on.

    The folder is named by the study's fingerprint, so that the results of another study with the
    same name are not read.
    """

    folder: Path

    @classmethod
    def of(cls, study: StudyConfig, fingerprint: str) -> TrialResults:
        """Returns the results of the study with this fingerprint."""
        return cls((study.folder / "trials" / fingerprint).resolve())

    def file(self, point: Point) -> Path:
        """Returns the file of the point's result."""
        return self.folder / f"{point.file_name}.json"

    def find(self, point: Point) -> TrialResult | None:
        """Returns the result of a trial that has finished or that a scheduler has stopped, or None.

        Raises DamagedResult for a file that cannot be read.
        """
        file = self.file(point)
        return _read(file) if file.is_file() else None

    def has_valid(self, point: Point) -> bool:
        """Returns whether the trial has a result that is kept: one without an invalid cell."""
        result = self.find(point)
        return result is not None and all(cell.valid for cell in result.cells)

    def write(self, result: TrialResult) -> None:
        """Writes the result of a finished trial."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.file(result.point), json.dumps(result.as_json()))
        self._measured(result.point).unlink(missing_ok=True)

    def write_measured(self, result: TrialResult) -> None:
        """Writes what a trial has measured that trains on. It becomes the trial's result if the
        scheduler stops the trial (`stop`)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self._measured(result.point), json.dumps(result.as_json()))

    def stop(self, point: Point) -> TrialResult | None:
        """Makes what a stopped trial has measured its result, and returns it; None if it has
        finished, or has measured nothing."""
        file = self._measured(point)
        if self.file(point).is_file() or not file.is_file():
            return None
        result = replace(_read(file), is_stopped=True)
        self.write(result)
        return result

    def _measured(self, point: Point) -> Path:
        return self.folder / f"{point.file_name}.measured.json"


def _read(file: Path) -> TrialResult:
    with reading(file, file):
        return TrialResult.of_json(json.loads(file.read_text(encoding="utf-8")))

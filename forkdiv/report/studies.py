"""The studies of a comparison: their summaries, read from their folders, with unique names."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from forkdiv.core.errors import refuse
from forkdiv.core.files import read_small_text
from forkdiv.core.results import Summary
from forkdiv.report.grid import Grid, nearest_1

MAX_BYTES = 2**28  # of a summary

SUMMARY = "summary.json"


@dataclass(frozen=True)
class Study:
    """A study with a name that is unique in the comparison."""

    name: str
    summary: Summary
    grid: Grid

    @property
    def temperature(self) -> float | None:
        """Returns the temperature nearest 1."""
        return nearest_1(self.grid.temperatures) if self.grid.temperatures else None


def read(folder: Path) -> Summary:
    """Returns the summary of the study in `folder`. Raises UserError if there is no readable
    summary."""
    path = folder / SUMMARY
    if not path.is_file():
        raise refuse(
            "the folder has no results of a study",
            folder,
            f"the result folder of a study, with {SUMMARY}",
            "use another folder, or run `forkdiv study` first",
        )
    try:
        content = json.loads(read_small_text(path, "the summary", MAX_BYTES, "check the folder"))
    except (ValueError, RecursionError) as error:
        raise refuse(
            "the summary of a study cannot be read",
            f"{path} ({error})",
            f"the {SUMMARY} that forkdiv writes",
            "run `forkdiv study` again",
        ) from error
    if not isinstance(content, dict) or "axes" not in content:
        created = content.get("created") if isinstance(content, dict) else None
        raise refuse(
            "the summary is from an older version of forkdiv",
            f"{path} of {created or 'unknown date'}",
            "a summary of this version",
            "run `forkdiv study` again",
        )
    try:
        return Summary.model_validate(content)
    except ValidationError as error:
        raise refuse(
            "the summary of a study cannot be read",
            f"{path} ({_first_error(error)})",
            f"the {SUMMARY} that forkdiv writes",
            "run `forkdiv study` again",
        ) from error


def _first_error(error: ValidationError) -> str:
    """Returns the first error on one line."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def load_studies(folders: Sequence[Path]) -> list[Study]:
    """Returns the studies in the folders. Raises UserError for a repeated or unreadable folder."""
    resolved = Counter(folder.resolve() for folder in folders)
    repeated = [folder for folder in folders if resolved[folder.resolve()] > 1]
    if repeated:
        raise refuse(
            "--beside would compare a study with itself",
            repeated[0],
            "each folder once, without the folder of the study itself",
            "remove this --beside",
        )
    summaries = [read(folder) for folder in folders]
    name_counts = Counter(summary.study for summary in summaries)
    names = [
        summary.study if name_counts[summary.study] == 1 else f"{summary.study} in {folder}"
        for folder, summary in zip(folders, summaries, strict=True)
    ]
    return [
        Study(name, summary, Grid.of(summary))
        for name, summary in zip(names, summaries, strict=True)
    ]

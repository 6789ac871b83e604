"""A study of a comparison: its summary, read from its folder, under a name of its own."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from forkdiv.core.errors import refuse
from forkdiv.core.results import Summary
from forkdiv.report.grid import Grid, nearest_1

SUMMARY = "summary.json"


@dataclass(frozen=True)
class Study:
    """A study under a name that no other one of the comparison has."""

    name: str
    summary: Summary
    grid: Grid

    @property
    def temperature(self) -> float | None:
        """The one nearest 1."""
        return nearest_1(self.grid.temperatures) if self.grid.temperatures else None


def read(folder: Path) -> Summary:
    """The summary of the study whose results lie in `folder`. Raises UserError where there is
    none that can be read."""
    path = folder / SUMMARY
    if not path.is_file():
        raise refuse(
            "this folder has no results of a study",
            folder,
            f"a study's result folder, which holds {SUMMARY}",
            "name another folder, or run `forkdiv study` first",
        )
    try:
        done = json.loads(path.read_text())
    except ValueError as error:
        raise refuse(
            "the summary of a study cannot be read",
            f"{path} ({error})",
            f"the {SUMMARY} that forkdiv writes",
            "run `forkdiv study` again",
        ) from error
    if not isinstance(done, dict) or "axes" not in done:
        created = done.get("created") if isinstance(done, dict) else None
        raise refuse(
            "the study was summarised by an older forkdiv",
            f"{path} of {created or 'unknown date'}",
            "a summary of this version",
            "run `forkdiv study` again",
        )
    try:
        return Summary.model_validate(done)
    except ValidationError as error:
        raise refuse(
            "the summary of a study cannot be read",
            f"{path} ({_first(error)})",
            f"the {SUMMARY} that forkdiv writes",
            "run `forkdiv study` again",
        ) from error


def _first(error: ValidationError) -> str:
    """The first of the errors, on one line."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def named(folders: Sequence[Path]) -> list[Study]:
    """The studies of these folders. Raises UserError where one is named twice or not readable."""
    resolved = Counter(folder.resolve() for folder in folders)
    twice = [folder for folder in folders if resolved[folder.resolve()] > 1]
    if twice:
        raise refuse(
            "a study would be compared with itself",
            twice[0],
            "each folder once, and not the study's own",
            "leave it out",
        )
    summaries = [read(folder) for folder in folders]
    count = Counter(one.study for one in summaries)
    names = [
        one.study if count[one.study] == 1 else f"{one.study} in {folder}"
        for folder, one in zip(folders, summaries, strict=True)
    ]
    return [Study(name, one, Grid.of(one)) for name, one in zip(names, summaries, strict=True)]

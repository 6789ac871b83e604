"""Several studies side by side: what differs between them, and what each of them found."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from forkdiv.core.errors import refuse
from forkdiv.core.results import Summary
from forkdiv.core.store import write_text
from forkdiv.report.answer import QUESTION, answer
from forkdiv.report.grid import Grid, nearest_1, subset_title
from forkdiv.report.headline import headline, warning
from forkdiv.report.page import flat, rendered, write_figures
from forkdiv.report.setting import listed
from forkdiv.report.tables import Table

SUMMARY, PAGE = "summary.json", "comparison.html"
NOT_SET = "not set"
# what decides which problems a model meets
PROBLEMS = ("task.", "eval.split", "eval.problems")
NOT_COMPARED = ("name", "audit.")  # they decide no number of a study


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


def write(studies: Sequence[Study], folder: Path) -> Path:
    """Write `comparison.html`, which needs no network, and its figure. Returns the page's path."""
    from forkdiv.report import study_curves

    write_figures({"comparison": study_curves.figure(studies)}, folder)
    path = folder / PAGE
    text = rendered(
        "comparison.html.j2",
        names=[one.name for one in studies],
        title=listed([one.name for one in studies]),
        warnings=[(one.name, said) for one in studies if (said := warning(one.summary))],
        cautions=cautions(studies),
        question=QUESTION,
        found=[(one.name, answer(one.grid), _lines(one)) for one in studies],
        percents=listed(list(dict.fromkeys(one.grid.percent for one in studies))),
        settings=differences(studies),
        legend_entries=study_curves.legend(studies),
        curves=study_curves.pictures(studies),
        numbers=numbers(studies),
        origins=[(one.name, _origin(one.summary)) for one in studies],
    )
    write_text(path, text)
    return path


def differences(studies: Sequence[Study]) -> Table:
    """The settings that are not the same in all studies, one row each."""
    flats = [dict(flat(one.summary.settings)) for one in studies]
    keys = dict.fromkeys(key for one in flats for key in one)
    rows = [
        [key, *(one.get(key, NOT_SET) for one in flats)]
        for key in keys
        if not key.startswith(NOT_COMPARED)
    ]
    apart = [row for row in rows if len(set(row[1:])) > 1]
    return Table(["setting", *(one.name for one in studies)], apart)


def cautions(studies: Sequence[Study]) -> list[str]:
    """What keeps the studies from being compared number by number, in sentences."""
    said = []
    apart = [row for row in differences(studies).rows if row[0].startswith(PROBLEMS)]
    if apart:
        keys = ", ".join(row[0] for row in apart[:6])
        more = f" and {len(apart) - 6} more" if len(apart) > 6 else ""
        said.append(
            f"Their held-out problems differ ({keys}{more}). Read each study against its own "
            "base: a difference between two studies may be one between their problems."
        )
    if len({one.grid.ks for one in studies}) > 1:
        shared = _shared(studies)
        have = listed([str(k) for k in shared]) if shared else "none"
        said.append(
            f"They were measured at different k; those that all have: {have}."
            + ("" if shared else " The table shows the smallest and the largest k of each.")
        )
    near = {one.temperature for one in studies}
    if len(near) > 1:
        heat = listed([f"{one:g}" for one in sorted(one for one in near if one is not None)])
        said.append(f"Their temperatures nearest 1 differ: {heat}.")
    return said


def numbers(studies: Sequence[Study]) -> Table:
    """pass@k and its change, at each study's temperature nearest 1, over its seeds."""
    shared = _shared(studies)
    ks = sorted({shared[0], shared[-1]} if shared else {k for s in studies for k in s.grid.ends})
    header = ["study", "model", "subset", "temperature", "seeds"]
    for k in ks:
        header += [f"pass@{k}", f"change at {k}"]
    rows = []
    for one in studies:
        if one.temperature is None:
            continue
        for setting in (None, *one.grid.settings):
            for subset in one.grid.subsets:
                place = (setting, one.temperature, subset)
                seeds = sum(1 for cell in one.grid.at(*place) if cell.valid)
                row = [one.name, setting.label if setting else "base", subset_title(subset)]
                row += [f"{one.temperature:g}", str(seeds) if setting else ""]
                for k in ks:
                    value = one.grid.pass_at(*place, k)
                    change = setting and one.grid.change(setting, one.temperature, subset, k)
                    row += [f"{value.value:.3f}" if value else "none"]
                    row += ["{} ({})".format(*change.parts(3)) if change else ""]
                rows.append(row)
    return Table(header, rows)


def _shared(studies: Sequence[Study]) -> list[int]:
    kept = [set(one.grid.ks) for one in studies if one.grid.ks]
    return sorted(set.intersection(*kept)) if kept else []


def _lines(one: Study) -> list[str]:
    lines = headline(one.summary).splitlines()
    return lines[1:] if warning(one.summary) else lines


def _origin(summary: Summary) -> list[tuple[str, str]]:
    return [
        ("created", summary.created),
        ("fingerprint", summary.fingerprint),
        ("commit", summary.commit or "unknown"),
    ]

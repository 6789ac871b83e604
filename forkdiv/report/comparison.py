"""A page that compares several studies: differences in settings, and the results of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from forkdiv.core.results import Summary
from forkdiv.core.store import write_text
from forkdiv.report.answer import QUESTION, answer
from forkdiv.report.glance import three_ks
from forkdiv.report.grid import subset_title
from forkdiv.report.headline import headline, warning
from forkdiv.report.html import rendered
from forkdiv.report.made import flat
from forkdiv.report.page import write_figures
from forkdiv.report.setting import listed
from forkdiv.report.studies import Study
from forkdiv.report.tables import Table

PAGE = "comparison.html"
NOT_SET = "not set"
# settings that decide the held-out problems
PROBLEM_SETTINGS = ("task.", "eval.split", "eval.problems")
IGNORED_SETTINGS = ("name", "audit.")  # do not affect results


def write(studies: Sequence[Study], folder: Path) -> Path:
    """Writes `comparison.html`, a self-contained page, and its figure. Returns the path of the
    page."""
    from forkdiv.report import study_curves

    write_figures({"comparison": study_curves.figure(studies)}, folder)
    path = folder / PAGE
    text = rendered(
        "comparison.html.j2",
        names=[study.name for study in studies],
        title=listed([study.name for study in studies]),
        warnings=[
            (study.name, warning_text)
            for study in studies
            if (warning_text := warning(study.summary))
        ],
        cautions=cautions(studies),
        question=QUESTION,
        found=[(study.name, answer(study.grid), _headline_lines(study)) for study in studies],
        percents=listed(list(dict.fromkeys(study.grid.percent for study in studies))),
        settings=differences(studies),
        legend_entries=study_curves.legend(studies),
        curves=study_curves.pictures(studies),
        numbers=numbers(studies),
        origins=[(study.name, _origin(study.summary)) for study in studies],
    )
    write_text(path, text)
    return path


def differences(studies: Sequence[Study]) -> Table:
    """Returns the settings that differ between the studies, one row each."""
    settings = [dict(flat(study.summary.settings)) for study in studies]
    keys = dict.fromkeys(key for study in settings for key in study)
    rows = [
        [key, *(study.get(key, NOT_SET) for study in settings)]
        for key in keys
        if not key.startswith(IGNORED_SETTINGS)
    ]
    different = [row for row in rows if len(set(row[1:])) > 1]
    return Table(["setting", *(study.name for study in studies)], different)


def cautions(studies: Sequence[Study]) -> list[str]:
    """Returns sentences about differences that limit the comparison."""
    sentences = []
    different = [row for row in differences(studies).rows if row[0].startswith(PROBLEM_SETTINGS)]
    if different:
        keys = ", ".join(row[0] for row in different[:6])
        more = f" and {len(different) - 6} more" if len(different) > 6 else ""
        sentences.append(
            f"Their held-out problems differ ({keys}{more}). Compare each study with its own "
            "base: a difference between two studies may be due to their problems."
        )
    if len({study.grid.ks for study in studies}) > 1:
        shared = _shared_ks(studies)
        listed_ks = listed([str(k) for k in shared]) if shared else "none"
        sentences.append(
            f"They were measured at different k; k of all studies: {listed_ks}."
            + ("" if shared else " The table shows the first and the last k of each study.")
        )
    temperatures = {study.temperature for study in studies}
    if len(temperatures) > 1:
        listed_temperatures = listed(
            [f"{t:g}" for t in sorted(known for known in temperatures if known is not None)]
        )
        sentences.append(f"Their temperatures nearest 1 differ: {listed_temperatures}.")
    return sentences


def numbers(studies: Sequence[Study]) -> Table:
    """Returns pass@k and its change over the seeds of each study, at its temperature nearest 1."""
    shared = _shared_ks(studies)
    ks = three_ks(shared) or tuple(sorted({k for s in studies for k in s.grid.ends}))
    header = ["study", "model", "subset", "temperature", "seeds"]
    for k in ks:
        header += [f"pass@{k}", f"change at {k}"]
    header.append("readable")
    rows = []
    for study in studies:
        if study.temperature is None:
            continue
        for setting in (None, *study.grid.settings):
            for subset in study.grid.subsets:
                place = (setting, study.temperature, subset)
                seeds = sum(1 for cell in study.grid.at(*place) if cell.valid)
                row = [study.name, setting.label if setting else "base", subset_title(subset)]
                row += [f"{study.temperature:g}", str(seeds) if setting else ""]
                for k in ks:
                    value = study.grid.pass_at(*place, k)
                    change = setting and study.grid.change(setting, study.temperature, subset, k)
                    row += [f"{value.value:.3f}" if value else "none"]
                    row += ["{} ({})".format(*change.parts(3)) if change else ""]
                rows.append([*row, study.grid.readable(*place)])
    return Table(header, rows)


def _shared_ks(studies: Sequence[Study]) -> tuple[int, ...]:
    ks_by_study = [set(study.grid.ks) for study in studies if study.grid.ks]
    return tuple(sorted(set.intersection(*ks_by_study))) if ks_by_study else ()


def _headline_lines(study: Study) -> list[str]:
    lines = headline(study.summary).splitlines()
    lines = lines[1:] if warning(study.summary) else lines
    return [line for line in lines if line != answer(study.grid)]


def _origin(summary: Summary) -> list[tuple[str, str]]:
    return [
        ("created", summary.created),
        ("fingerprint", summary.fingerprint),
        ("commit", summary.commit or "unknown"),
    ]

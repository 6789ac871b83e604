"""Several studies side by side: what differs between them, and what each of them found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from forkdiv.core.results import Summary
from forkdiv.core.store import write_text
from forkdiv.report.answer import QUESTION, answer
from forkdiv.report.glance import few_ks
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
# what decides which problems a model meets
PROBLEMS = ("task.", "eval.split", "eval.problems")
NOT_COMPARED = ("name", "audit.")  # they decide no number of a study


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
    ks = few_ks(shared) or tuple(sorted({k for s in studies for k in s.grid.ends}))
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


def _shared(studies: Sequence[Study]) -> tuple[int, ...]:
    kept = [set(one.grid.ks) for one in studies if one.grid.ks]
    return tuple(sorted(set.intersection(*kept))) if kept else ()


def _lines(one: Study) -> list[str]:
    lines = headline(one.summary).splitlines()
    return lines[1:] if warning(one.summary) else lines


def _origin(summary: Summary) -> list[tuple[str, str]]:
    return [
        ("created", summary.created),
        ("fingerprint", summary.fingerprint),
        ("commit", summary.commit or "unknown"),
    ]

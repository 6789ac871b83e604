"""Every section of the report, in the order of the page. A new section is a module with a
`Section` and a line here.

An installed package adds a section by an entry point of the group `forkdiv.report_sections`; the
page shows it before "All numbers".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from forkdiv.core.config.open_list import OpenList, load_object
from forkdiv.core.errors import refuse
from forkdiv.core.results import Summary
from forkdiv.report.grid import Grid
from forkdiv.report.section import Content, Download, Plots, Section, TableView

FINDINGS = {
    "curves": "forkdiv.report.curves:SECTION",
    "change": "forkdiv.report.heatmap:SECTION",
    "shrinkage": "forkdiv.report.shrinkage:SECTION",
    "dynamics": "forkdiv.report.dynamics:SECTION",
    "forks": "forkdiv.report.forks:SECTION",
    "distinct": "forkdiv.report.distinct:SECTION",
    "problems": "forkdiv.report.problems:SECTION",
    "decoders": "forkdiv.report.decoders:SECTION",
    "best": "forkdiv.report.best:SECTION",
    "pareto": "forkdiv.report.pareto:SECTION",
    "majority": "forkdiv.report.majority:SECTION",
    "reliability": "forkdiv.report.reliability:SECTION",
    "guess": "forkdiv.report.guess:SECTION",
    "modes": "forkdiv.report.modes:SECTION",
    "metrics": "forkdiv.report.metrics:SECTION",
    "law": "forkdiv.report.law:SECTION",
}
REFERENCE = {
    "numbers": "forkdiv.report.numbers:SECTION",
    "losses": "forkdiv.report.losses:SECTION",
    "exact": "forkdiv.report.exact:SECTION",
    "made": "forkdiv.report.made:SECTION",
}
SECTIONS: OpenList[object] = OpenList("section", __name__, "forkdiv.report_sections")

for _name, _place in (FINDINGS | REFERENCE).items():
    SECTIONS.register(_name, partial(load_object, _place))


@dataclass(frozen=True)
class Shown:
    """A section that the page shows; `name` is the id of its heading."""

    name: str
    title: str
    parts: Content


def shown_sections(summary: Summary, grid: Grid) -> list[Shown]:
    """Returns the sections for which the summary has results, in the order of the page.

    Raises UserError if a registered object is not a Section, or if two sections write the same
    file.
    """
    shown = []
    for name in ordered_names():
        section = SECTIONS.get(name)
        if not isinstance(section, Section):
            raise refuse(
                f"the section {name} of the report is not a Section",
                type(section).__name__,
                "an instance of forkdiv.report.section.Section",
                f"correct the entry point {name} of the group forkdiv.report_sections",
            )
        parts = section.content(summary, grid)
        if parts is not None:
            shown.append(Shown(name, section.title, parts))
    _check_files(shown)
    return shown


def ordered_names() -> list[str]:
    """Returns the names of all sections; those of installed packages precede "numbers"."""
    names = SECTIONS.names()
    return [
        *(name for name in names if name not in REFERENCE),
        *(name for name in names if name in REFERENCE),
    ]


def _check_files(shown: Sequence[Shown]) -> None:
    parts = [part for section in shown for part in section.parts]
    files = [f"{part.name}.png" for part in parts if isinstance(part, Plots)]
    files += [f"{part.name}.csv" for part in parts if isinstance(part, TableView | Download)]
    for file, count in Counter(files).items():
        if count > 1:
            raise refuse(
                "two sections of the report write the same file",
                file,
                "a unique name for every Plots, TableView and Download",
                "rename one of them",
            )

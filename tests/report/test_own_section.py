"""A section of somebody's own: its parts, and what follows from its registration."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from matplotlib.axes import Axes

from forkdiv.core.errors import UserError
from forkdiv.core.results import Summary
from forkdiv.report import page
from forkdiv.report.grid import Grid
from forkdiv.report.plot import Plot
from forkdiv.report.section import Content, Download, Plots, Section, TableView, note, paragraph
from forkdiv.report.sections import SECTIONS, shown_sections
from forkdiv.report.tables import Table
from tests.docs.pages import blocks
from tests.summaries import a_cell, a_summary

TABLE = Table(["model", "n"], [["base", "\N{MINUS SIGN}1"], ["tuned", "2"]])


@pytest.fixture(autouse=True)
def own_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is known in that test only, and entry points are read again."""
    SECTIONS.names()
    monkeypatch.setattr(SECTIONS, "_loaders", dict(SECTIONS._loaders))
    monkeypatch.setattr(SECTIONS, "_complete", False)


def draw(axes: Axes) -> None:
    axes.plot([1, 2], [3, 4])


def content(summary: Summary, grid: Grid) -> Content:
    return [
        paragraph("Counts of <everything>", "", f"with {grid.percent} limits."),
        note("A note."),
        *Plots.of("counted", [("all problems", [Plot("a count", "One line that rises.", draw)])]),
        *Plots.of("nothing", []),
        TableView(TABLE, "Every count", "counts"),
    ]


def sections(text: str) -> dict[str, str]:
    """The HTML of each section by its id, in the order of the page."""
    parts = re.split(r'<h2 id="([^"]+)">', text)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def csv_in(html: str, name: str) -> str:
    """The CSV file that the page holds under this name."""
    found = re.search(rf'download="{name}" href="data:text/csv;charset=utf-8;base64,([^"]+)"', html)
    assert found
    return base64.b64decode(found.group(1)).decode("utf-8-sig")


def test_a_registered_section_is_in_the_page_its_navigation_its_csv_and_its_png(
    tmp_path: Path,
) -> None:
    SECTIONS.register("counts", lambda: Section("Every <count>", content))
    summary = a_summary([a_cell(0.5)], study="mine")
    text = page.write(summary, tmp_path).read_text()
    shown = sections(text)
    assert list(shown) == ["curves", "change", "counts", "numbers", "losses", "exact", "made"]
    assert '<li><a href="#counts">Every &lt;count&gt;</a></li>' in text
    section = shown["counts"]
    assert section.startswith("Every &lt;count&gt;</h2>")
    assert "<p>Counts of &lt;everything&gt; with 95% limits.</p>" in section
    assert '<p class="note">A note.</p>' in section
    assert 'aria-label="One line that rises."' in section
    assert csv_in(section, "mine-counts.csv") == "model,n\nbase,-1\ntuned,2\n"
    pictures = sorted(one.name for one in (tmp_path / "figures").iterdir())
    assert pictures == ["counted.png", "delta_heatmap.png", "pass_at_k.png"]


def test_a_section_without_results_is_neither_in_the_page_nor_in_its_navigation(
    tmp_path: Path,
) -> None:
    SECTIONS.register("counts", lambda: Section("Every count", lambda summary, grid: None))
    text = page.write(a_summary([a_cell(0.5)]), tmp_path).read_text()
    assert "counts" not in sections(text) and "Every count" not in text


def test_the_example_of_the_docs_is_shown_once_a_package_with_its_entry_point_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (example,) = [one for one in blocks("docs/extending.md") if one.detail == "truncation.py"]
    site, out = tmp_path / "site", tmp_path / "out"
    info = site / "truncation-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: truncation\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[forkdiv.report_sections]\ntruncation = truncation:SECTION\n"
    )
    (site / "truncation.py").write_text(example.text)
    monkeypatch.syspath_prepend(site)
    cell = {**a_cell(0.5), "truncated": 400, "n_problems": 100, "n_samples": 16}
    text = page.write(a_summary([cell], study="mine"), out).read_text()
    section = sections(text)["truncation"]
    assert "The share of samples that reached the token limit." in section
    assert csv_in(section, "mine-truncation.csv").splitlines()[-1].endswith(",25.0%")


def test_an_entry_point_that_is_not_a_section_is_refused() -> None:
    SECTIONS.register("counts", lambda: content)
    summary = a_summary([a_cell(0.5)])
    with pytest.raises(UserError, match="section counts of the report is not a Section: got func"):
        shown_sections(summary, Grid.of(summary))


@pytest.mark.parametrize(
    ("part", "file"),
    [
        (Download(TABLE, "numbers"), "numbers.csv"),
        (TableView(TABLE, "a caption", "losses"), "losses.csv"),
        (*Plots.of("pass_at_k", [("", [Plot("a", "a", draw)])]), "pass_at_k.png"),
    ],
)
def test_two_sections_that_would_write_the_same_file_are_refused(
    part: Download | TableView | Plots, file: str
) -> None:
    SECTIONS.register("counts", lambda: Section("Counts", lambda summary, grid: [part]))
    summary = a_summary([a_cell(0.5)])
    with pytest.raises(UserError, match=f"write the same file: got {file}; allowed"):
        shown_sections(summary, Grid.of(summary))

"""The page and the table say what their numbers say, safely."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from forkdiv.core.results import Summary
from forkdiv.report import numbers, page
from forkdiv.report.figures import curve_figure, figures
from forkdiv.report.grid import Grid
from forkdiv.report.headline import headline
from tests.simulated import a_study
from tests.summaries import (
    BROKEN_PATH,
    DOWN,
    FLAT,
    OTHER_ENDS,
    a_cell,
    a_summary,
    as_once_written,
    grid_summary,
    made_invalid,
    read,
)


class Page(HTMLParser):
    """What a browser would load, and every id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "data", "action"):
                self.loads.append(value or "")
            if name == "id":
                self.ids.append(value or "")


def test_an_invalid_cell_is_told_in_the_first_line(tmp_path: Path) -> None:
    summary = a_summary([a_cell(0.0), made_invalid(a_cell(0.5, 1.0, seed=3))])
    first = headline(summary).splitlines()[0]
    assert first.startswith("Do not rely on this report: 1 of 3 cells is invalid")
    assert "density 0.5, temperature 1, seed 3: 4 samples without a verdict" in first
    body = page.write(summary, tmp_path).read_text().split("<body>")[1]
    assert body.strip().startswith(f'<p class="warning" role="alert">{first}</p>')


@pytest.mark.parametrize(
    "summary",
    [
        a_summary([], base=[]),
        a_summary([], base=[a_cell(None)]),
        a_summary([a_cell(0.5, 0.0, changes={1: FLAT})]),
        a_summary([a_cell(0.5, changes={4: DOWN})]),
        a_summary([made_invalid(a_cell(0.5))], base=[made_invalid(a_cell(None))]),
        a_summary([a_cell(0.5)], base=[]),
    ],
    ids=["nothing", "base only", "one point", "only k=4", "all invalid", "no base"],
)
def test_a_degenerate_study_still_gives_a_page(summary: Summary, tmp_path: Path) -> None:
    text = page.write(summary, tmp_path).read_text()
    assert "</html>" in text
    assert headline(summary)
    assert set(figures(summary)) == {"pass_at_k", "delta_heatmap"}


def test_the_page_loads_nothing_from_elsewhere_and_repeats_no_id(tmp_path: Path) -> None:
    text = page.write(grid_summary(), tmp_path).read_text()
    html = Page(text)
    inside = [target for target in html.loads if target.startswith("#")]
    assert all(
        target.startswith(("data:image/", "data:text/csv"))
        for target in set(html.loads) - set(inside)
    )
    assert not re.search(r"url\(\s*['\"]?(?!#)", text) and "@import" not in text
    assert not {"script", "link", "img", "iframe"} & set(html.tags)
    assert len(html.ids) == len(set(html.ids)) > 50
    assert {target[1:] for target in inside} <= set(html.ids)


def test_names_from_the_study_cannot_become_markup(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script>$\\frac$'
    summary = a_summary([a_cell(0.5)], study=evil)
    summary = summary.model_copy(update={"settings": {evil: evil}})
    text = page.write(summary, tmp_path).read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    curve_figure(summary.cells, evil).canvas.draw()


def test_the_question_is_answered_before_anything_else(tmp_path: Path) -> None:
    text = page.write(a_summary([a_cell(0.5)]), tmp_path).read_text()
    verdict = text.index("<strong>Yes:</strong> with 16 tries per problem")
    assert text.index("Did fine-tuning cost coverage?") < verdict
    assert verdict < text.index("At temperature 1, on all problems, fine-tuning")
    assert verdict < text.index("The model of another seed may differ") < text.index("<svg")


SECTIONS = ("shrinkage", "dynamics", "forks", "distinct", "problems", "best", "majority", "law")


def headings(text: str) -> list[str]:
    return re.findall(r'<h2 id="(\w+)">', text)


def test_a_study_without_the_new_findings_shows_no_empty_section(tmp_path: Path) -> None:
    for number, summary in enumerate((grid_summary(), as_once_written(grid_summary()))):
        text = page.write(summary, tmp_path / str(number)).read_text()
        assert headings(text) == ["curves", "change", "numbers", "losses", "exact", "made"]
        assert not [name for name in SECTIONS if f"#{name}" in text]


def test_a_whole_study_has_every_section_in_order_and_a_link_to_each(tmp_path: Path) -> None:
    text = page.write(a_study(densities=(0.0, 1.0), epochs=(1, 8)), tmp_path).read_text()
    expected = ["curves", "change", *SECTIONS, "numbers", "losses", "exact", "made"]
    assert headings(text) == expected
    html = Page(text)
    assert [target[1:] for target in html.loads if target[1:] in expected] == expected
    assert len(html.ids) == len(set(html.ids))
    assert {target[1:] for target in html.loads if target.startswith("#")} <= set(html.ids)
    assert text.count("† Fewer than ten problems contribute to the spread") == 1


def test_completions_stand_side_by_side_and_cannot_become_markup(tmp_path: Path) -> None:
    plain = a_study(densities=(0.0,), temperatures=(1.0,), epochs=(8,)).as_json()
    for cell in plain["cells"]:
        told = cell["shrinkage"]["lost"]
        if told:
            told[0].update(id="<i>&", prompt="<script>p</script>")
            told[0]["base"]["right"] = "</pre><script>x</script>"
    text = page.write(read(plain), tmp_path).read_text()
    section = text.split('<h2 id="problems">')[1].split("<h2")[0]
    assert "<script" not in text and "<i>&" not in text
    assert "&lt;/pre&gt;&lt;script&gt;x&lt;/script&gt;" in section
    sides = section.split('<div class="sides">')[1].split("</details>")[0]
    assert sides.index("base: 60 of 64 correct") < sides.index("fine-tuned: 0 of 64 correct")
    assert "✓ correct response" in sides and "✗ wrong response" in sides
    assert '<span class="clear">clear</span>' in section and "22 more are not shown" in section


def test_png_files_are_written_and_not_blank(tmp_path: Path) -> None:
    path = page.write(grid_summary(("all",)), tmp_path / "new")
    assert path == tmp_path / "new" / "report.html"
    pictures = sorted((tmp_path / "new" / "figures").iterdir())
    assert [picture.name for picture in pictures] == ["delta_heatmap.png", "pass_at_k.png"]
    for picture in pictures:
        data = picture.read_bytes()
        assert data.startswith(b"\x89PNG") and len(data) > 10_000


def test_table_has_one_row_per_cell_with_the_numbers_of_the_summary() -> None:
    cells = [a_cell(0.5, seed=1), made_invalid(a_cell(0.25)), a_cell(0.5, seed=0)]
    made = numbers.numbers(Grid.of(a_summary(cells)))
    header, rows = made.header, made.rows
    assert header == [
        *("fork density", "temperature", "seed", "subset"),
        *("pass@1", "change at 1", "pass@16", "change at 16"),
        *("readable", "truncated", "unparsable"),
    ]
    assert [row[:3] for row in rows] == [
        ["base", "1", "0"],
        ["0.25", "1", "0"],
        ["0.5", "1", "0"],
        ["0.5", "1", "1"],
    ]
    assert rows[3][4:] == [
        *("0.700", "+0.300 (+0.250 to +0.350)", "0.400", "−0.200 (−0.250 to −0.150)"),
        *(">99%", "3", "2"),
    ]
    assert rows[1][4:8] == ["invalid", "", "invalid", ""]
    assert rows[0][5] == ""


def test_the_page_tells_losses_by_kind_and_the_best_case(tmp_path: Path) -> None:
    text = page.write(a_summary([a_cell(0.5)]), tmp_path).read_text()
    for said in (OTHER_ENDS, BROKEN_PATH, "at best", "0.710", "1,600", "700"):
        assert said in text
    assert "agrees with its exact value in 2 of 2 cells" in text


def test_notes_on_the_data_stand_before_the_figures_and_only_where_there_are_some(
    tmp_path: Path,
) -> None:
    summary = a_summary([a_cell(0.5)])
    assert "Notes on the data" not in page.write(summary, tmp_path).read_text()
    notes = ("12 rows were left out", "<b>odd</b> & rows")
    text = page.write(summary.model_copy(update={"notes": notes}), tmp_path).read_text()
    assert "<li>12 rows were left out</li>" in text
    assert "<li>&lt;b&gt;odd&lt;/b&gt; &amp; rows</li>" in text
    assert text.index("Notes on the data") < text.index('<h2 id="curves">')


def test_how_responses_are_told_has_a_section_only_where_they_differ(tmp_path: Path) -> None:
    cell = a_cell(0.5)
    assert "Results by response mode" not in page.write(a_summary([cell]), tmp_path).read_text()
    one = {"pass_at": {"1": {"value": 0.123, "problems": 77}}}
    cell["modes"] = {"forward": {"share": 0.75, **one}, "reverse": {"share": 0.2, **one}}
    text = page.write(a_summary([cell]), tmp_path).read_text()
    section = text.split('<h2 id="modes">')[1].split("<h2")[0]
    for said in ("forward, reverse", "conditional on the mode that the model itself chose"):
        assert said in section
    for said in ("if the mode were prescribed", "needs k samples of that mode"):
        assert said in section
    assert re.findall(r"<td[^>]*>(0\.750|0\.123|77|forward)</td>", section) == [
        *("forward", "0.750", "0.123", "77", "0.123", "77")
    ]


@pytest.mark.parametrize(
    ("axes", "said", "unsaid"),
    [
        (
            {"fork_density": (0.0, 1.0)},
            ["<b>Fork density</b> is", "<b>unsigned</b>"],
            ["Direction"],
        ),
        (
            {"fork_density": (0.0, 0.5, 1.0), "direction": (0.0, 0.5, 1.0)},
            ["<b>Fork density</b> is", "<b>Direction</b> is", "direction 0.5, temperature 1"],
            ["Structure"],
        ),
        (
            {"structure": ("data-level", "problem-level")},
            ["<b>Structure</b> is", "problem-level"],
            ["<b>fork</b>"],
        ),
        (
            {"branch_coverage": (1, 2), "synthesis": ("none", "samples")},
            ["<b>Branch coverage</b> is", "<b>Synthesis</b> is", "<b>fork</b>"],
            ["<b>unsigned</b>"],
        ),
    ],
)
def test_the_page_explains_the_axes_that_the_study_varies(
    axes: dict[str, Any], said: list[str], unsaid: list[str], tmp_path: Path
) -> None:
    text = page.write(grid_summary(("all",), axes, (1.0,)), tmp_path).read_text()
    assert not [one for one in said if one not in text]
    assert not [one for one in unsaid if one in text]


def test_texts_of_the_data_cannot_become_markup(tmp_path: Path) -> None:
    evil = "<script>$\\frac$"
    cells = [a_cell({"structure": "data-level"}, subset=one) for one in ("all", evil)]
    cells[1]["lost"] = {evil: 3}
    cells[1]["modes"] = {evil: {"share": 0.5, "pass_at": {}}}
    text = page.write(a_summary(cells), tmp_path).read_text()
    assert "<script" not in text
    assert text.count("&lt;script&gt;") > 5


@pytest.mark.parametrize(
    ("imported", "heavy"),
    [
        ("forkdiv.report.page", ("ray", "mlflow", "torch", "vllm", "matplotlib")),
        ("forkdiv.report.samples", ("ray", "mlflow", "torch", "vllm", "matplotlib")),
        ("forkdiv.report", ("ray", "mlflow", "torch", "vllm", "matplotlib")),
        ("forkdiv.report.figures", ("ray", "mlflow", "torch", "vllm", "matplotlib.pyplot")),
    ],
)
def test_nothing_heavy_is_imported(imported: str, heavy: tuple[str, ...]) -> None:
    code = f"import sys; import {imported}; found = {set(heavy)} & set(sys.modules)"
    code += "; assert not found, found"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

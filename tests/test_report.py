"""The page and the table say what their numbers say, safely."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from forkdiv import report
from tests.test_grid import DOWN, FLAT, a_cell, a_summary, grid_summary, made_invalid


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
    first = report.headline(summary).splitlines()[0]
    assert first.startswith("Do not rely on this report: 1 of 3 cells is invalid")
    assert "density 0.5, temperature 1, seed 3: 4 answers without a verdict" in first
    body = report.write(summary, tmp_path).read_text().split("<body>")[1]
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
def test_a_degenerate_study_still_gives_a_page(summary: dict[str, Any], tmp_path: Path) -> None:
    text = report.write(json.loads(json.dumps(summary)), tmp_path).read_text()
    assert "</html>" in text
    assert report.headline(summary)
    assert set(report.figures(summary)) == {"pass_at_k", "delta_heatmap"}


def test_the_page_loads_nothing_from_elsewhere_and_repeats_no_id(tmp_path: Path) -> None:
    text = report.write(grid_summary(), tmp_path).read_text()
    page = Page(text)
    inside = [target for target in page.loads if target.startswith("#")]
    assert all(target.startswith("data:image/") for target in set(page.loads) - set(inside))
    assert not re.search(r"url\(\s*['\"]?(?!#)", text) and "@import" not in text
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert len(page.ids) == len(set(page.ids)) > 50
    assert {target[1:] for target in inside} <= set(page.ids)


def test_names_from_the_study_cannot_become_markup(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script>$\\frac$'
    summary = a_summary([a_cell(0.5)], study=evil)
    summary["settings"] = {evil: evil}
    text = report.write(summary, tmp_path).read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    report.curve_figure(summary["cells"], evil).canvas.draw()


def test_png_files_are_written_and_not_blank(tmp_path: Path) -> None:
    path = report.write(grid_summary(("all",)), tmp_path / "new")
    assert path == tmp_path / "new" / "report.html"
    pictures = sorted((tmp_path / "new" / "figures").iterdir())
    assert [picture.name for picture in pictures] == ["delta_heatmap.png", "pass_at_k.png"]
    for picture in pictures:
        data = picture.read_bytes()
        assert data.startswith(b"\x89PNG") and len(data) > 10_000


def test_table_has_one_row_per_cell_with_the_numbers_of_the_summary() -> None:
    cells = [a_cell(0.5, seed=1), made_invalid(a_cell(0.25)), a_cell(0.5, seed=0)]
    header, rows = report.table(a_summary(cells))
    assert header == [
        *("fork density", "temperature", "seed", "subset"),
        *("pass@1", "change at 1", "pass@16", "change at 16", "truncated", "unparsable"),
    ]
    assert [row[:3] for row in rows] == [
        ["base", "1", "0"],
        ["0.25", "1", "0"],
        ["0.5", "1", "0"],
        ["0.5", "1", "1"],
    ]
    assert rows[3][4:] == [
        *("0.700", "+0.300 (+0.250 to +0.350)", "0.400", "−0.200 (−0.250 to −0.150)"),
        *("3", "2"),
    ]
    assert rows[1][4:8] == ["invalid", "", "invalid", ""]
    assert rows[0][5] == ""


def test_the_page_tells_losses_by_kind_and_the_best_case(tmp_path: Path) -> None:
    text = report.write(a_summary([a_cell(0.5)]), tmp_path).read_text()
    for said in ("wrong: another end", "wrong: broken path", "at best", "0.710", "1,600", "700"):
        assert said in text
    assert "agrees with its exact value in 2 of 2 cells" in text


@pytest.mark.parametrize(
    ("imported", "heavy"),
    [
        ("forkdiv.report", ("ray", "mlflow", "torch", "vllm", "matplotlib")),
        ("forkdiv.figures", ("ray", "mlflow", "torch", "vllm", "matplotlib.pyplot")),
    ],
)
def test_nothing_heavy_is_imported(imported: str, heavy: tuple[str, ...]) -> None:
    code = f"import sys; import {imported}; found = {set(heavy)} & set(sys.modules)"
    code += "; assert not found, found"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

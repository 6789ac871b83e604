"""The study at a glance: one row per model, whole on a page, in a CSV file and at 80 columns."""

from __future__ import annotations

import base64
import csv
import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from forkdiv.report import glance, numbers, page
from forkdiv.report.csv_text import csv_of
from forkdiv.report.glance import Glance, three_ks
from forkdiv.report.grid import Grid
from forkdiv.terminal import show_table
from tests.simulated import a_study
from tests.summaries import DOWN, UP, a_cell, a_summary, as_once_written, grid_summary, made_invalid


@pytest.fixture(scope="module")
def whole_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page.write(a_study(), tmp_path_factory.mktemp("whole")).read_text()


def test_a_row_per_model_with_three_ks_at_the_temperature_nearest_1() -> None:
    made = Glance.of(Grid.of(a_study()))
    assert made
    assert (made.temperature, made.ks) == (1.0, (1, 8, 64))
    assert [row.name for row in made.rows] == [
        *("base", "fork density 0", "fork density 0.5", "fork density 1")
    ]
    assert [value.mark for value in made.rows[1].values] == ["gain", "loss", "loss"]
    assert (made.rows[0].crossing, made.rows[1].crossing) == ("", "3.08 (2 to 6)")


@pytest.mark.parametrize(
    ("ks", "few"),
    [((1, 2, 4, 8, 16, 32, 64), (1, 8, 64)), ((1, 16), (1, 16)), ((4,), (4,)), ((), ())],
)
def test_the_middle_k_lies_between_the_ends_on_a_scale_of_doublings(
    ks: tuple[int, ...], few: tuple[int, ...]
) -> None:
    assert three_ks(ks) == few


def test_of_several_seeds_each_one_has_its_k_star() -> None:
    made = Glance.of(Grid.of(a_study(seeds=(0, 1), densities=(0.0,))))
    assert made and made.rows[1].crossing == "3.08; 3.08"


def test_an_older_summary_has_a_glance_without_k_star(tmp_path: Path) -> None:
    older = as_once_written(grid_summary())
    made = Glance.of(Grid.of(older))
    assert made and not made.knows_crossings
    text = page.write(older, tmp_path).read_text()
    assert "k*" not in text.split("</table>")[0]


def test_nothing_valid_is_told_in_words() -> None:
    grid = Grid.of(a_summary([made_invalid(a_cell(0.5))], base=[]))
    assert glance.terminal_table(grid) == (["model"], [["no valid result"]])


def test_the_page_opens_with_the_answer_and_the_table(whole_page: str) -> None:
    text = whole_page
    answer, table, words = (
        text.index(part) for part in ('class="answer"', "<table", 'class="lead"')
    )
    assert answer < table < words
    assert "k*</th>" in text.split("</thead>")[0]
    assert text.index("the probability that at least one of k") < text.index("<svg")


LONG = {"structure": ("data-level", "problem-level"), "synthesis": ("none", "enumerator")}


@pytest.mark.parametrize(
    "summary", [a_study(), grid_summary(axes=LONG)], ids=["axis", "long names"]
)
def test_no_cell_of_the_terminals_table_is_cut_at_80_columns(summary: object) -> None:
    header, rows = glance.terminal_table(Grid.of(summary))  # type: ignore[arg-type]
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system=None)
    show_table(header, rows, "title", console)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in out.getvalue()
    for row in rows:
        for cell in row[1:]:
            assert cell in out.getvalue()
    words = set(re.findall(r"[\w.-]+", " ".join(row[0] for row in rows)))
    assert words <= set(re.findall(r"[\w.-]+", out.getvalue()))


def test_a_table_that_is_too_wide_goes_on_below_under_its_first_column() -> None:
    header = ["subset", *(f"pass@{2**i}" for i in range(8))]
    rows = [[f"part {i}", *[f"0.{i}{k}2 (+0.123)" for k in range(8)]] for i in range(2)]
    out = io.StringIO()
    show_table(header, rows, "t", Console(file=out, width=80, color_system=None))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    assert all(cell in text for row in rows for cell in row)
    assert text.count("part 0") > 1


def test_a_real_terminal_of_80_columns_shows_every_number() -> None:
    code = (
        "from tests.simulated import a_study\n"
        "from forkdiv.report import glance\n"
        "from forkdiv.report.grid import Grid\n"
        "from forkdiv.terminal import show_table\n"
        "show_table(*glance.terminal_table(Grid.of(a_study())), title='t')\n"
    )
    ours, theirs = pty.openpty()
    env = {**os.environ, "COLUMNS": "80", "LINES": "40", "TERM": "xterm"}
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=theirs, stderr=theirs, cwd=root, env=env
    ) as process:
        os.close(theirs)
        seen = b""
        try:
            while part := os.read(ours, 65536):
                seen += part
        except OSError:  # Linux says so where the other side has closed
            pass
        assert process.wait(60) == 0
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;]*m", "", seen.decode())
    assert "…" not in text and max(len(line.rstrip()) for line in text.splitlines()) <= 80
    for row in glance.terminal_table(Grid.of(a_study()))[1]:
        assert all(cell in text for cell in row)


def test_every_table_can_be_downloaded_from_the_page_as_it_is(whole_page: str) -> None:
    summary = a_study()
    text = whole_page
    files = dict(
        re.findall(
            r'download="s-([\w-]+)\.csv" href="data:text/csv;charset=utf-8;base64,([^"]+)"', text
        )
    )
    sections = {"shrinkage", "dynamics", "forks", "distinct", "best", "pareto", "majority", "law"}
    assert files.keys() == {*sections, "numbers", "every-number", "losses", "exact"}
    read = base64.b64decode(files["numbers"]).decode("utf-8-sig")
    made = numbers.numbers(Grid.of(summary))
    rows = list(csv.reader(io.StringIO(read)))
    assert rows[0] == made.header and len(rows) == len(made.rows) + 1
    assert {f"pass@{k}" for k in (1, 2, 4, 8, 16, 32, 64)} <= set(rows[0])


def test_every_number_stands_alone_in_the_long_table() -> None:
    summary = a_summary([a_cell(0.5, changes={1: UP, 16: DOWN})])
    rows = list(csv.DictReader(io.StringIO(csv_of(numbers.long(Grid.of(summary))))))
    tuned = [row for row in rows if row["fork density"] == "0.5"]
    assert [(row["k"], float(row["change"]), float(row["change low"])) for row in tuned] == [
        ("1", 0.3, 0.25),
        ("16", -0.2, -0.25),
    ]


def test_points_show_their_values_where_the_pointer_rests(tmp_path: Path) -> None:
    text = page.write(grid_summary(("all",), temperatures=(1.0,)), tmp_path).read_text()
    titles = re.findall(r"<title>([^<]*)</title>", text)
    assert "fork density 0, k 16: 0.400 (0.350 to 0.450)" in titles
    assert "0.5, temperature 1: −0.200 (−0.250 to −0.150)" in titles


@pytest.mark.parametrize(
    ("truncated", "unparsable", "shown"),
    [(0, 0, "100%"), (1, 0, ">99%"), (40, 40, "95%"), (0, 1599, "<1%"), (1600, 0, "0%")],
)
def test_the_share_of_readable_responses_stands_beside_pass_at_k(
    truncated: int, unparsable: int, shown: str
) -> None:
    cell = a_cell(0.5) | {"n_drawn": 1600, "truncated": truncated, "unparsable": unparsable}
    header, rows = glance.terminal_table(Grid.of(a_summary([cell])))
    assert rows[1][header.index("readable")] == shown

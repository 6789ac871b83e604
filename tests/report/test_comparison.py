"""Studies side by side: what differs, what each found, and what keeps them from being compared."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from forkdiv.cli import app
from forkdiv.core.errors import UserError
from forkdiv.core.results import Summary
from forkdiv.report import comparison, studies, study_curves
from forkdiv.report.studies import Study
from forkdiv.report.studies import load_studies as studies_of
from tests.report.test_page import Page
from tests.summaries import DOWN, FLAT, UP, a_cell, a_summary, grid_summary, made_invalid


def kept(root: Path, name: str, summary: Summary | None = None, **settings: Any) -> Path:
    """The result folder of a study."""
    folder = root / name
    folder.mkdir(parents=True)
    made = {**(summary or grid_summary()).as_json(), "study": name}
    made["settings"] = {**made["settings"], "name": name, **settings}
    (folder / "summary.json").write_text(json.dumps(made))
    return folder


def two(root: Path, **settings: Any) -> list[Study]:
    return studies_of([kept(root, "one"), kept(root, "two", **settings)])


def test_only_the_settings_that_differ_are_told(tmp_path: Path) -> None:
    studies = two(tmp_path, sft={"epochs": 16, "rate": None}, audit={"shown": 3})
    made = comparison.differences(studies)
    assert made.header == ["setting", "one", "two"]
    assert made.rows == [["sft.epochs", "not set", "16"], ["sft.rate", "not set", "None"]]


def test_equal_settings_give_no_rows(tmp_path: Path) -> None:
    assert comparison.differences(two(tmp_path)).rows == []
    assert comparison.cautions(two(tmp_path / "again")) == []


@pytest.mark.parametrize(
    "settings", [{"task": {"kind": "graph_branching", "degree": 4}}, {"eval": {"problems": 9}}]
)
def test_other_problems_are_told_before_anything_is_compared(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    studies = two(tmp_path, **settings)
    (said,) = comparison.cautions(studies)
    assert said.startswith("Their held-out problems differ (")
    text = comparison.write(studies, tmp_path).read_text()
    assert text.index("Their held-out problems differ") < text.index("<svg")


def test_other_ks_are_told_and_the_table_has_those_of_all(tmp_path: Path) -> None:
    some = a_summary([a_cell(0.5, changes={1: UP, 4: FLAT})])
    folders = [kept(tmp_path, "one"), kept(tmp_path, "two", some)]
    studies = studies_of(folders)
    assert "different k; k of all studies: 1 and 4." in comparison.cautions(studies)[0]
    assert comparison.numbers(studies).header[5:] == [
        *("pass@1", "change at 1", "pass@4", "change at 4", "readable")
    ]


def test_studies_that_share_no_k_are_still_shown(tmp_path: Path) -> None:
    folders = [
        kept(tmp_path, "one", a_summary([a_cell(0.5, changes={4: UP, 16: DOWN})])),
        kept(tmp_path, "two", a_summary([a_cell(0.5, changes={1: UP})])),
    ]
    for cell in json.loads((folders[0] / "summary.json").read_text())["cells"]:
        assert "1" not in cell["pass_at"]
    studies = studies_of(folders)
    assert "k of all studies: none" in comparison.cautions(studies)[0]
    rows = comparison.numbers(studies).rows
    assert [row[5] for row in rows if row[0] == "one"] == ["none"] * 2
    assert "</html>" in comparison.write(studies, tmp_path).read_text()


def test_the_joint_table_holds_each_study_at_its_temperature_nearest_1(tmp_path: Path) -> None:
    folders = [
        kept(tmp_path, "cool", grid_summary(("all",), temperatures=(0.2, 0.9))),
        kept(tmp_path, "hot", grid_summary(("all", "x"), {"direction": (1.0,)}, (1.5,))),
    ]
    studies = studies_of(folders)
    made = comparison.numbers(studies)
    assert [row[:4] for row in made.rows] == [
        ["cool", "base", "all problems", "0.9"],
        ["cool", "fork density 0", "all problems", "0.9"],
        ["cool", "fork density 0.5", "all problems", "0.9"],
        ["hot", "base", "all problems", "1.5"],
        ["hot", "base", "x", "1.5"],
        ["hot", "direction 1", "all problems", "1.5"],
        ["hot", "direction 1", "x", "1.5"],
    ]
    assert made.rows[1][-3:] == ["0.400", "−0.200 (−0.250 to −0.150)", ">99%"]
    assert "temperatures nearest 1 differ: 0.9 and 1.5" in " ".join(comparison.cautions(studies))


def test_every_panel_has_the_same_axes_and_a_name_looks_alike(tmp_path: Path) -> None:
    folders = [
        kept(tmp_path, "one", grid_summary(("all",), {"fork_density": (0.0, 1.0)}, (1.0,))),
        kept(tmp_path, "two", grid_summary(("all",), {"fork_density": (0.5, 1.0)}, (1.0,))),
    ]
    studies = studies_of(folders)
    one, two = study_curves.figure(studies).axes
    assert (one.get_xlim(), one.get_ylim()) == (two.get_xlim(), two.get_ylim())
    looks = [
        {str(line.get_label()): (tuple(line.get_color()), line.get_marker()) for line in axes.lines}
        for axes in (one, two)
    ]
    assert looks[0]["fork density 1"] == looks[1]["fork density 1"]
    assert looks[0]["fork density 0"] != looks[1]["fork density 0.5"]


def test_the_page_needs_nothing_from_elsewhere_and_names_cannot_become_markup(
    tmp_path: Path,
) -> None:
    evil = a_summary([made_invalid(a_cell(0.5))])
    folders = [kept(tmp_path, "one"), kept(tmp_path, "two", evil, task={"kind": "<script>"})]
    path = folders[1] / "summary.json"
    path.write_text(path.read_text().replace('"study": "two"', '"study": "<script>two"'))
    written = comparison.write(studies_of(folders), tmp_path)
    text = written.read_text()
    html = Page(text)
    assert written == tmp_path / "comparison.html"
    assert "<script" not in text and "&lt;script&gt;two" in text
    assert all(target.startswith(("#", "data:text/csv")) for target in html.loads)
    assert len(html.ids) == len(set(html.ids))
    first = text.split("<body>")[1].strip().splitlines()[0]
    assert 'role="alert"' in first and "Do not rely on this report" in first
    assert (tmp_path / "figures" / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_two_studies_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    folders = [kept(tmp_path / "a", "same"), kept(tmp_path / "b", "same")]
    assert [one.name for one in studies_of(folders)] == [f"same in {folder}" for folder in folders]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "the folder has no results of a study"),
        ("{half", "the summary of a study cannot be read"),
        ('{"created": "2025-01-01"}', "from an older version of forkdiv: got .*2025-01-01"),
        ("[]", "from an older version of forkdiv: got .*unknown date"),
    ],
)
def test_a_folder_that_cannot_be_compared_is_refused(
    content: str | None, said: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    with pytest.raises(UserError, match=said) as refused:
        studies.read(tmp_path)
    assert re.search("; allowed: .*; (run|use) ", str(refused.value))


def test_a_study_is_not_compared_with_itself(tmp_path: Path) -> None:
    one = kept(tmp_path, "one")
    with pytest.raises(UserError, match="would compare a study with itself"):
        studies_of([one, one / ".." / "one"])


def test_the_command_writes_the_page_into_the_studys_folder(tmp_path: Path) -> None:
    own, other = kept(tmp_path / "runs", "own"), kept(tmp_path, "other")
    place = ["name=own", f"place.root={tmp_path / 'runs'}"]
    done = CliRunner().invoke(app, ["report", *place, "--beside", str(other)])
    assert done.exit_code == 0, done.output
    assert "own and other, side by side" in (own / "comparison.html").read_text()
    assert (own / "report.html").is_file()
    (own / "comparison.html").unlink()
    refused = CliRunner().invoke(app, ["report", *place, "--beside", str(tmp_path / "none")])
    assert refused.exit_code == 2
    assert not (own / "comparison.html").exists()
    alone = CliRunner().invoke(app, ["report", *place])
    assert alone.exit_code == 0 and not (own / "comparison.html").exists()

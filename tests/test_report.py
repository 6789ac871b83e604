"""The report says what its numbers say: no more, in any direction, and safely as a page."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from forkdiv import report

Change = tuple[float, float, float]
UP, DOWN, FLAT = (0.3, 0.25, 0.35), (-0.2, -0.25, -0.15), (0.01, -0.02, 0.04)


def a_cell(
    density: float | None,
    temperature: float = 1.0,
    seed: int = 0,
    subset: str = "all",
    changes: Mapping[int, Change] | None = None,
) -> dict[str, Any]:
    changes = changes or {1: UP, 16: DOWN}
    ends = {1: 0.4, 4: 0.5, 16: 0.6}
    ks = sorted({1, *changes}) if 4 not in changes else sorted(changes)
    moved = {k: ends.get(k, 0.5) + (0.0 if density is None else changes[k][0]) for k in ks}
    deltas = {} if density is None else changes
    return {
        "fork_density": density,
        "temperature": temperature,
        "seed": seed,
        "subset": subset,
        "n_problems": 100,
        "n_samples": 16,
        "truncated": 3,
        "unparsable": 2,
        "errors": 0,
        "valid": True,
        "pass_at": {
            str(k): {"value": value, "low": max(value - 0.05, 0), "high": min(value + 0.05, 1)}
            for k, value in moved.items()
        },
        "delta_to_base": {
            str(k): {"value": value, "low": low, "high": high}
            for k, (value, low, high) in deltas.items()
        },
        "exact_pass_at": {str(k): value for k, value in moved.items()},
        "agreement": {"worst_z": 1.2, "at_k": 1, "agrees": True},
        "best_case_pass_at": {str(k): value + 0.01 for k, value in moved.items()},
        "lost": {"other_ends": 700, "broken_path": 12},
    }


def a_summary(
    cells: Sequence[dict[str, Any]], base: Sequence[dict[str, Any]] | None = None, study: str = "s"
) -> dict[str, Any]:
    if base is None:
        places = sorted({(cell["temperature"], cell["subset"]) for cell in cells})
        ks = {int(k): FLAT for k in cells[0]["pass_at"]} if cells else {1: FLAT}
        base = [a_cell(None, t, subset=subset, changes=ks) for t, subset in places]
    return {
        "study": study,
        "fingerprint": "f" * 64,
        "commit": None,
        "created": "2026-01-01T00:00:00+00:00",
        "settings": {"task": {"kind": "graph_branching"}, "sweep": {"seed": [0]}},
        "seconds": {"train": 12.5},
        "versions": {"numpy": "2.0", "vllm": None},
        "confidence": 0.95,
        "base": list(base),
        "cells": list(cells),
    }


def made_invalid(cell: dict[str, Any]) -> dict[str, Any]:
    cell = copy.deepcopy(cell)
    cell.update(valid=False, errors=4, agreement=None, exact_pass_at={})
    for field in ("pass_at", "delta_to_base"):
        cell[field] = {k: {"value": None, "low": None, "high": None} for k in cell[field]}
    cell["best_case_pass_at"] = {k: None for k in cell["best_case_pass_at"]}
    return cell


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


def grid_summary(subsets: Sequence[str] = ("all", "unsigned")) -> dict[str, Any]:
    cells = [
        a_cell(density, temperature, subset=subset, changes={1: UP, 4: FLAT, 16: DOWN})
        for density in (0.0, 0.5)
        for temperature in (0.7, 1.0)
        for subset in subsets
    ]
    return a_summary(cells)


@pytest.mark.parametrize(
    ("change", "said", "unsaid"),
    [
        (UP, "raised pass@1 (+0.30, 95% interval +0.25 to +0.35)", ("lowered", "clearly change")),
        (DOWN, "lowered pass@1 (−0.20, 95% interval −0.25 to −0.15)", ("raised", "clearly change")),
        (FLAT, "did not clearly change pass@1 (+0.01, 95%", ("raised", "lowered")),
        ((0.0, 0.0, 0.0), "did not clearly change pass@1 (0.00,", ("raised", "lowered")),
        ((0.02, 0.0, 0.04), "did not clearly change pass@1", ("raised", "lowered")),
        ((0.02, 0.0004, 0.04), "raised pass@1 (+0.0200, 95% interval +0.0004", ("lowered",)),
    ],
)
def test_headline_says_raised_or_lowered_only_where_the_interval_excludes_0(
    change: Change, said: str, unsaid: tuple[str, ...]
) -> None:
    text = report.headline(a_summary([a_cell(0.5, changes={1: change})]))
    assert said in text
    assert not [word for word in unsaid if word in text]


def test_headline_compares_the_lowest_and_highest_density_at_both_ends_of_k() -> None:
    cells = [
        a_cell(0.0, changes={1: UP, 16: DOWN}),
        a_cell(0.5, changes={1: (0.9, 0.9, 0.9), 16: (0.9, 0.9, 0.9)}),
        a_cell(1.0, changes={1: UP, 16: (-0.05, -0.1, -0.01)}),
    ]
    text = report.headline(a_summary(cells))
    assert "density 0 raised pass@1" in text and "and lowered pass@16 (−0.20" in text
    assert "at density 1 it raised pass@1" in text and "lowered pass@16 (−0.05" in text
    assert "pass@1 does not clearly differ and pass@16 is higher at density 1." in text
    assert "0.90" not in text


def test_headline_names_the_lower_density_where_that_is_the_better_one() -> None:
    text = report.headline(
        a_summary([a_cell(0.0, changes={1: UP}), a_cell(1.0, changes={1: DOWN})])
    )
    assert "pass@1 is higher at density 0" in text


def test_headline_speaks_of_the_temperature_nearest_1_and_of_unsigned_forks_apart() -> None:
    cells = [
        a_cell(0.0, t, subset=subset, changes={1: UP if subset == "all" else DOWN})
        for t in (0.5, 0.9, 2.0)
        for subset in ("all", "signed", "unsigned")
    ]
    first, second, _ = report.headline(a_summary(cells)).splitlines()
    assert first.startswith("At temperature 0.9, on all problems, ") and "raised" in first
    assert second.startswith("At temperature 0.9, on unsigned forks, ") and "lowered" in second


def test_headline_says_that_a_change_varies_with_temperature_only_if_extremes_are_apart() -> None:
    cells = [
        a_cell(0.0, 0.5, changes={1: UP, 16: (-0.4, -0.45, -0.35)}),
        a_cell(0.0, 1.0, changes={1: UP, 16: (0.1, 0.05, 0.15)}),
        a_cell(0.0, 1.5, changes={1: UP, 16: (-0.1, -0.15, -0.05)}),
    ]
    text = report.headline(a_summary(cells)).splitlines()[-1]
    assert "the change in pass@16 varies clearly at density 0 (−0.40 at 0.5, +0.10 at 1)" in (
        text.replace("that in", "the change in")
    )
    assert "the change in pass@1 does not clearly vary at density 0" in text


def test_one_temperature_claims_nothing_of_others_and_one_seed_is_named() -> None:
    text = report.headline(a_summary([a_cell(0.0)]))
    assert "Only temperature 1 was compared" in text
    assert "one SFT seed" in text
    assert len(text.splitlines()) <= 3


def test_seeds_that_disagree_give_no_clear_change() -> None:
    cells = [a_cell(0.0, seed=0, changes={1: UP}), a_cell(0.0, seed=1, changes={1: DOWN})]
    text = report.headline(a_summary(cells))
    assert "did not clearly change pass@1 (+0.05" in text
    assert "2 SFT seeds" in text and "one SFT seed" not in text


def test_limits_over_seeds_hold_both_their_spread_and_the_problems() -> None:
    changes = [(0.28, 0.23, 0.33), (0.30, 0.25, 0.35), (0.32, 0.27, 0.37)]
    cells = [a_cell(0.0, seed=seed, changes={1: one}) for seed, one in enumerate(changes)]
    found = report.Grid.of(a_summary(cells)).change(0.0, 1.0, "all", 1)
    assert found is not None
    half = (0.05**2 + (4.302653 * 0.02 / 3**0.5) ** 2) ** 0.5
    assert (found.value, found.low, found.high) == pytest.approx((0.3, 0.3 - half, 0.3 + half))


def test_two_agreeing_seeds_are_not_overclaimed_but_their_agreement_is_told() -> None:
    cells = [
        a_cell(0.0, seed=0, changes={1: (0.1, 0.05, 0.15)}),
        a_cell(0.0, seed=1, changes={1: (0.3, 0.25, 0.35)}),
    ]
    text = report.headline(a_summary(cells))
    assert "did not clearly change" in text and "each seed alone raised it" in text


def test_an_invalid_cell_is_told_in_the_first_line(tmp_path: Path) -> None:
    summary = a_summary([a_cell(0.0), made_invalid(a_cell(0.5, 1.0, seed=3))])
    first = report.headline(summary).splitlines()[0]
    assert first.startswith("Do not rely on this report: 1 of 3 cells is invalid")
    assert "density 0.5, temperature 1, seed 3: 4 answers without a verdict" in first
    body = report.write(summary, tmp_path).read_text().split("<body>")[1]
    assert body.strip().startswith(f'<p class="warning" role="alert">{first}</p>')


def test_a_sampler_that_disagrees_with_exact_values_is_told_in_the_first_line() -> None:
    cell = a_cell(0.0)
    cell["agreement"] = {"worst_z": -7.25, "at_k": 16, "agrees": False}
    first = report.headline(a_summary([cell])).splitlines()[0]
    assert first.startswith("Do not rely on this report: 1 of 2 cells is in disagreement")
    assert "7.2 standard errors at k=16" in first


def test_an_invalid_density_is_not_compared() -> None:
    cells = [a_cell(0.0), a_cell(0.5), made_invalid(a_cell(1.0))]
    text = report.headline(a_summary(cells)).splitlines()[1]
    assert "at density 0.5 it" in text and "density 1" not in text


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


def test_nothing_valid_means_nothing_is_claimed() -> None:
    summary = a_summary([made_invalid(a_cell(0.5))])
    assert "No change to the base can be told" in report.headline(summary)


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


def test_heat_map_cells_show_the_numbers_of_the_summary() -> None:
    summary = grid_summary(("unsigned",))
    for number, cell in enumerate(summary["cells"]):
        for entry, sign in ((cell["delta_to_base"]["1"], 1), (cell["delta_to_base"]["16"], -1)):
            value = sign * (number + 1) / 100
            entry.update(value=value, low=value - 0.015, high=value + 0.015)
    panels = [axes for axes in report.figures(summary)["delta_heatmap"].axes if axes.get_title()]
    assert [panel.get_title() for panel in panels] == [
        "unsigned forks: pass@1 against the base",
        "unsigned forks: pass@16 against the base",
    ]
    # rows are densities, columns temperatures; 0.01 alone does not exclude 0
    assert [text.get_text() for text in panels[0].texts] == ["+0.01", "+0.02*", "+0.03*", "+0.04*"]
    assert [text.get_text() for text in panels[1].texts] == ["−0.01", "−0.02*", "−0.03*", "−0.04*"]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["0", "0.5"]
    assert [label.get_text() for label in panels[0].get_xticklabels()] == ["0.7", "1"]


def test_curves_pass_through_the_values_of_the_summary() -> None:
    summary = grid_summary(("all",))
    panel = report.figures(summary)["pass_at_k"].axes[1]
    lines = {str(line.get_label()): line for line in panel.lines}
    assert list(lines["density 0.5"].get_xdata()) == [1, 4, 16]  # type: ignore[arg-type]
    expected = [point["value"] for point in summary["cells"][3]["pass_at"].values()]
    assert list(lines["density 0.5"].get_ydata()) == pytest.approx(expected)  # type: ignore[arg-type]
    assert lines["base"].get_linestyle() == "--"
    assert lines["density 0"].get_marker() != lines["density 0.5"].get_marker()


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


def test_trial_figure_draws_each_subset_on_its_own_line() -> None:
    cells = [a_cell(0.5, subset=subset) for subset in ("unsigned", "signed", "all")]
    (axes,) = report.curve_figure(cells, "density 0.5").axes
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        *("all problems", "signed forks", "unsigned forks")
    ]


def test_the_report_imports_no_cluster_and_no_pyplot() -> None:
    heavy = "{'ray', 'mlflow', 'torch', 'vllm', 'matplotlib.pyplot'} & set(sys.modules)"
    code = f"import sys; import forkdiv.report; found = {heavy}; assert not found, found"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

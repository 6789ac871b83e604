"""Text on the page can be read in both modes: a contrast of at least 4.5 to 1 (WCAG AA)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from forkdiv.report import figures, page
from forkdiv.report.html import rendered
from tests.simulated import a_study

TEMPLATES = Path(page.__file__).parent / "templates"
# ink on ground, by the variables of the style sheet
PAIRS = [
    *(
        (ink, ground)
        for ink in ("ink", "soft", "link", "gain", "loss")
        for ground in ("ground", "tint")
    ),
    ("alarm-ink", "alarm"),
]


def variables(mode: str) -> dict[str, str]:
    """The colours of the light mode, under those of the dark one or of print where they differ."""
    style = rendered("style.css.j2")
    blocks = re.findall(r":root \{([^}]*)\}", style)
    light, dark, print_ = (dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in blocks)
    return {**light, **{"light": {}, "dark": dark, "print": print_}[mode]}


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (
        (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4) for c in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_the_guidelines() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("mode", ["light", "dark", "print"])
@pytest.mark.parametrize(("ink", "ground"), PAIRS)
def test_text_stands_out_from_its_ground(mode: str, ink: str, ground: str) -> None:
    colours = variables(mode)
    assert contrast(colours[ink], colours[ground]) >= 4.5


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_in_figures_stands_out_from_their_ground(mode: str) -> None:
    ground = variables(mode)["figure"]
    for colour in ("#000000", "#1c1c1e", "#222222", "#5b5b60"):
        assert contrast(colour, ground) >= 4.5


def test_the_style_sheet_names_no_colour_outside_its_variables() -> None:
    rules = re.sub(r":root \{[^}]*\}", "", (TEMPLATES / "style.css.j2").read_text())
    rules = re.sub(r"@media print.*", "", rules, flags=re.DOTALL)
    assert set(re.findall(r"#[0-9a-fA-F]{3,8}\b", rules)) <= {"#1c1c1e"}, "the text of figures"


def test_every_axis_of_every_figure_is_named() -> None:
    for name, figure in figures.figures(a_study()).items():
        plots = [
            axes for axes in figure.axes if axes.get_visible() and axes.get_label() != "<colorbar>"
        ]
        lowest = {round(axes.get_position().y0, 3) for axes in plots}
        assert plots and lowest
        named = [axes for axes in plots if axes.get_xlabel() and axes.get_ylabel()]
        if name == "pass_at_k":  # shared axes: the outer panels name them
            assert any(axes.get_xlabel() for axes in plots) and any(a.get_ylabel() for a in plots)
        else:
            assert len(named) == len(plots), name

"""The report has words for whatever a study may vary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forkdiv.core.config.axis_names import known_texts, sentence_title
from forkdiv.core.config.study import AXES
from forkdiv.report import page
from tests.summaries import grid_summary


@pytest.mark.parametrize("axis", AXES)
def test_a_study_of_any_axis_has_a_report_that_says_what_the_axis_is(
    axis: str, tmp_path: Path
) -> None:
    values: tuple[Any, ...] = (known_texts(axis) or (0.0, 1.0))[:2]
    text = page.write(grid_summary(("all",), {axis: values}, (1.0,)), tmp_path).read_text()
    assert f"<b>{sentence_title(axis)}</b> is " in text

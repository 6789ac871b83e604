"""The report in a real browser, at the widths of a desk and of a phone."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image
from numpy.typing import NDArray

from forkdiv.core.config.study import AuditConfig, DatasetConfig, PromptConfig
from forkdiv.forks.audit.audit import audit
from forkdiv.forks.audit.page import write
from forkdiv.report import page
from forkdiv.tasks.graph_branching import GraphBranchingConfig
from forkdiv.tasks.registry import build
from tests.stack import BASE
from tests.summaries import grid_summary

pytestmark = pytest.mark.soak

WIDTHS = (1200, 390)


def chromium(profile: Path, width: int, *arguments: str) -> str:
    done = subprocess.run(
        [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--disable-quic", "--hide-scrollbars", f"--user-data-dir={profile}"),
            *(f"--window-size={width},2400", "--virtual-time-budget=3000", *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fills_the_window_and_nothing_overflows(tmp_path: Path, width: int) -> None:
    picture = looked_at(page.write(grid_summary(), tmp_path), tmp_path, width)
    # white paper, dark text, and colours of the curves and the heat map
    assert picture.max() > 0.99
    assert picture.min() < 0.3
    assert float(picture.std(axis=2).max()) > 0.2


@pytest.mark.parametrize("width", WIDTHS)
def test_the_audits_page_fills_the_window_and_nothing_overflows(tmp_path: Path, width: int) -> None:
    task = build(GraphBranchingConfig(valid=2))
    data = task.sft_examples(DatasetConfig(examples=60, branch_coverage=2, direction=0.8))
    done = audit(task, data, AuditConfig(), PromptConfig(), BASE)
    picture = looked_at(write(done, tmp_path), tmp_path, width)
    assert picture.max() > 0.99
    assert picture.min() < 0.3


def looked_at(page: Path, tmp_path: Path, width: int) -> NDArray[np.float32]:
    """The picture of a page at a width, of shape (height, width, 3), once nothing overflows."""
    # headless windows have a least width; a frame of its own gives the phone's
    probe = tmp_path / "probe.html"
    measure = (
        "<script>document.title='overflow='+(document.documentElement.scrollWidth-innerWidth)"
        "</script>"
    )
    (tmp_path / "measured.html").write_text(page.read_text() + measure)
    probe.write_text(f'<iframe src="measured.html" width="{width}" height="2400"></iframe>')
    shot = tmp_path / f"{width}.png"
    chromium(tmp_path / "profile", width + 40, f"--screenshot={shot}", probe.as_uri())
    picture: NDArray[np.float32] = image.imread(shot)[:, :, :3]
    assert picture.shape[1] == width + 40
    dom = chromium(
        tmp_path / "profile2", max(width, 500), "--dump-dom", (tmp_path / "measured.html").as_uri()
    )
    overflow = re.search(r"overflow=(-?\d+)", dom)
    assert overflow
    assert int(overflow[1]) <= 0
    return picture

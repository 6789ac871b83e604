"""The report in a real browser, at the widths of a desk and of a phone."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from matplotlib import image

from forkdiv import report
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
    page = report.write(grid_summary(), tmp_path)
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
    picture = image.imread(shot)[:, :, :3]
    assert picture.shape[1] == width + 40
    # white paper, dark text, and colours of the curves and the heat map
    assert picture.max() > 0.99
    assert picture.min() < 0.3
    assert float(picture.std(axis=2).max()) > 0.2
    dom = chromium(
        tmp_path / "profile2", max(width, 500), "--dump-dom", (tmp_path / "measured.html").as_uri()
    )
    overflow = re.search(r"overflow=(-?\d+)", dom)
    assert overflow
    assert int(overflow[1]) <= 0

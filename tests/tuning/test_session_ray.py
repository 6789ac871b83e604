"""A Ray that another command started, or left, does not slow down or confuse ours."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from forkdiv.core.config.study import PlaceConfig
from tuning import session


@pytest.mark.parametrize("another", [False, True])
@pytest.mark.parametrize("dashboard", [False, True])
def test_train_state_is_tracked_only_if_no_other_ray_would_be_asked(
    another: bool, dashboard: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    for name in list(os.environ):
        if name.startswith("RAY_TRAIN_"):
            monkeypatch.delenv(name)
    if another:
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    before = dict(os.environ)
    session._speed_up_ray_train(PlaceConfig(dashboard=dashboard))
    tracked = os.environ["RAY_TRAIN_ENABLE_STATE_TRACKING"]
    for name in os.environ.keys() - before.keys():
        monkeypatch.delenv(name)
    assert tracked == ("1" if dashboard and not another else "0")

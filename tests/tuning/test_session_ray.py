"""A Ray that another command started, or left, does not slow down or confuse ours."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import ray as ray_module

from forkdiv.core.config.study import PlaceConfig
from forkdiv.core.errors import UserError
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


class StartsAfter:
    """A Ray that does not start `failures` times, as on a loaded machine."""

    def __init__(self, failures: int) -> None:
        self.failures, self.tries, self.shut_down = failures, 0, 0
        self.left: list[subprocess.Popen[bytes]] = []

    def init(self, **settings: object) -> None:
        self.tries += 1
        assert all(process.poll() is not None for process in self.left)
        if self.tries <= self.failures:
            self.left.append(subprocess.Popen(["sleep", "600"]))  # as its raylet
            raise Exception("The current node timed out during startup. …")  # what Ray raises

    def shutdown(self) -> None:
        self.shut_down += 1


def start(ray: StartsAfter, monkeypatch: pytest.MonkeyPatch, seconds: float) -> list[str]:
    monkeypatch.setattr(ray_module, "init", ray.init)
    monkeypatch.setattr(ray_module, "shutdown", ray.shutdown)
    monkeypatch.setenv("RAY_gcs_server_port_wait_time_s", "60")
    shown: list[str] = []
    session._start(PlaceConfig(ray_start_timeout_s=seconds), shown.append)
    return shown


def test_a_ray_that_does_not_start_in_time_is_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = StartsAfter(failures=1)
    (line,) = start(ray, monkeypatch, seconds=120)
    assert "Ray did not start and is started again" in line
    assert (ray.tries, ray.shut_down) == (2, 1)
    assert ray.left[0].poll() is not None, "what it left would slow down the next start"


def test_a_ray_that_does_not_start_is_refused_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = StartsAfter(failures=100)
    with pytest.raises(UserError) as refused:
        start(ray, monkeypatch, seconds=1e-6)
    message = str(refused.value)
    assert "Ray did not start on this machine" in message
    assert "timed out during startup" in message and "load average" in message
    assert "place.ray_start_timeout_s" in message
    assert ray.tries == ray.shut_down == 1

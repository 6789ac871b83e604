"""Hosts of a cluster that were lost, joined, or do not share the output folder: one line each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ray

from forkdiv.core.config.study import PlaceConfig
from forkdiv.core.errors import UserError
from forkdiv.core.progress import Progress
from tuning import hosts
from tuning.hosts import Answer, HostWatch, own_versions


def node(number: int, alive: bool = True, reason: str = "") -> dict[str, Any]:
    return {
        "NodeID": f"n{number}",
        "Alive": alive,
        "NodeManagerHostname": f"h{number}",
        "NodeManagerAddress": f"10.0.0.{number}",
        "DeathReasonMessage": reason,
        "Resources": {"CPU": 2.0},
    }


def test_each_lost_and_each_new_host_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: [node(1), node(2), node(9, alive=False)])
    with HostWatch(Progress(tmp_path / "progress.jsonl", "cluster")) as watch:
        assert watch.changes([node(1), node(2), node(9, alive=False)]) == []
        (lost,) = watch.changes([node(1), node(2, False, "health check\nfailed"), node(3)])[:1]
        assert "the host h2 (10.0.0.2) is lost (health check failed)" in lost
        assert "training from its last saved state" in lost and "\n" not in lost
        assert watch.changes([node(1), node(2, False), node(3)]) == []
        assert watch.changes([node(1), node(4)]) == ["the host h4 (10.0.0.4) joined the cluster"]


def checked(given: dict[str, Answer | str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: [node(1), node(2)])
    monkeypatch.setattr(hosts, "answers", lambda root, nodes: given)
    hosts.check_hosts(PlaceConfig())


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("no answer within 120 s", "cannot run a process: got no answer within 120 s"),
        (
            Answer("/shared does not exist on this host", 0, own_versions(), 0),
            "does not share place.root",
        ),
        (
            Answer(None, 9e9, own_versions() | {"torch": "1.0"}, 0),
            f"got torch 1.0 there and {own_versions()['torch']} here",
        ),
        (
            Answer(None, 9e9, own_versions() | {"forkdiv": "0123456789ab"}, 0),
            "got forkdiv 0123456789ab there",
        ),
    ],
)
def test_a_host_that_cannot_take_part_is_refused_by_its_name(
    wrong: Answer | str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    well = Answer(None, 9e9, own_versions(), 0)
    checked({"h1": well}, monkeypatch)
    with pytest.raises(UserError, match="the host h2 ") as caught:
        checked({"h1": well, "h2": wrong}, monkeypatch)
    assert reason in str(caught.value)


def test_a_host_answers_whether_it_sees_the_drivers_file(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    with hosts.marked(root) as token:
        assert hosts.answer(root, token).storage is None
        elsewhere = tmp_path / "elsewhere"
        assert "does not exist" in str(hosts.answer(elsewhere, token).storage)
        elsewhere.mkdir()
        assert "is another folder" in str(hosts.answer(elsewhere, token).storage)
    assert list(root.iterdir()) == []

"""The quickstart's study with three seeds, and killed again and again."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from forkdiv.terminal import say
from tests.stack import BASE, ROOT, clean_environment, run

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

QUICKSTART = ROOT / "jobs" / "configs" / "quickstart.yaml"
KILLS = 4


def quickstart(root: Path, *overrides: str) -> list[str]:
    settings = (f"base={BASE}", f"place.root={root}", "place.dashboard=false", *overrides)
    return [sys.executable, "-m", "jobs.study", "--config", str(QUICKSTART), *settings]


def test_what_the_quickstart_shows_is_no_accident_of_its_seed(tmp_path: Path) -> None:
    """At every seed: pass@64 on unsigned forks falls below the base at density 0, and less so
    at density 1. The values are printed, so that their spread can be reported."""
    done = subprocess.run(
        quickstart(tmp_path, "sweep.seed=[0,1,2]", "sweep.temperature=[1.0]"),
        cwd=ROOT,
        env=clean_environment(),
        timeout=3000,
    )
    assert done.returncode == 0
    summary = json.loads((tmp_path / "quickstart" / "summary.json").read_text())
    changes: dict[tuple[int, float], dict[str, Any]] = {}
    for cell in summary["cells"]:
        place = f"seed {cell['seed']} density {cell['fork_density']:g} {cell['subset']}"
        change = {k: cell["delta_to_base"][k]["value"] for k in ("1", "64")}
        say(f"{place}: change of pass@1 {change['1']:+.3f}, of pass@64 {change['64']:+.3f}")
        if cell["subset"] == "unsigned":
            changes[cell["seed"], cell["fork_density"]] = cell["delta_to_base"]["64"]
    for seed in (0, 1, 2):
        assert changes[seed, 0.0]["high"] < 0
        assert changes[seed, 1.0]["value"] > changes[seed, 0.0]["value"]


def test_a_study_killed_again_and_again_ends_with_the_same_checkpoints_and_keys(
    tmp_path: Path,
) -> None:
    small = ("sweep.fork_density=[0.0,1.0]", "sweep.temperature=[1.0]", "sft.save_epochs=[2]")
    run_whole(tmp_path / "undisturbed", small)
    seed = time.time_ns()
    say(f"seed of the kills: {seed}")
    chance = random.Random(seed)
    for _ in range(KILLS):
        process = subprocess.Popen(
            quickstart(tmp_path / "killed", *small),
            cwd=ROOT,
            env=clean_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        patience = chance.uniform(5, 90)
        try:
            process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            say(f"kill after {patience:.0f} s")
            process.kill()
            process.wait()
        else:
            assert process.returncode == 0
    run_whole(tmp_path / "killed", small)
    assert weights(tmp_path / "killed") == weights(tmp_path / "undisturbed")
    assert sample_keys(tmp_path / "killed") == sample_keys(tmp_path / "undisturbed")


def run_whole(root: Path, overrides: tuple[str, ...]) -> None:
    done = subprocess.run(
        quickstart(root, *overrides), cwd=ROOT, env=clean_environment(), timeout=1200
    )
    assert done.returncode == 0


def weights(root: Path) -> dict[str, str]:
    """The digest of every fine-tuned checkpoint's weights, by run and epoch."""
    files = root.glob("store/train/*/epoch-*/model.safetensors")
    return {
        f"{file.parts[-3]}/{file.parts[-2]}": hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }


def sample_keys(root: Path) -> dict[str, Counter[tuple[str, int, int]]]:
    """How often each (problem, sample, seed) is there, by sample set."""
    return {
        folder.name: Counter(
            (row["problem_id"], row["sample_index"], row["seed"])
            for part in folder.glob("part-*.parquet")
            for row in pq.read_table(
                part, columns=["problem_id", "sample_index", "seed"]
            ).to_pylist()
        )
        for folder in root.glob("store/samples/*")
    }


def test_a_finished_study_is_left_alone_by_bad_input(tmp_path: Path) -> None:
    run("dataset", tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for bad in ("task.degree=1", "decoder.temperature=-1", "eval.k=[999]", "base=nowhere"):
        refused = subprocess.run(
            quickstart(tmp_path, bad), cwd=ROOT, env=clean_environment(), capture_output=True
        )
        assert refused.returncode == 2
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before

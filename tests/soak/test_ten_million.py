"""Ten million samples of a model, and as many of its base, are scored and reported in 2 GiB."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from forkdiv.core.errors import InvalidResult
from forkdiv.core.store import Store
from forkdiv.sample.sample_sets import SampleSet
from forkdiv.tasks.registry import build
from forkdiv.terminal import say
from tests.soak.ten_million import PROBLEMS, SAMPLES, TUNED, identity, study
from tests.stack import ROOT, clean_environment

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]

MOST_KIB = 2 * 2**20


def run(verb: str, root: Path) -> dict[str, Any]:
    """What it says at its end: seconds by stage, and the peak memory of its processes."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak.ten_million", verb, str(root)],
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
        timeout=3600,
    )
    assert done.returncode == 0
    say(f"{verb}: {done.stdout.splitlines()[-1]}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("million")
    run("make", root)
    return root


def test_they_are_scored_compared_and_reported_within_two_gib(made: Path) -> None:
    told = run("walk", made)
    # the largest child counts as if it were largest at the same moment
    assert told["own_kib"] + told["children_kib"] < MOST_KIB
    assert told["samples"] == 2 * PROBLEMS * SAMPLES
    # 0.87 of each problem's own chance, on average 1/3 for the base, 3/7 tuned
    assert told["pass_at_1"]["base"] == pytest.approx(0.87 / 3, abs=0.02)
    assert told["pass_at_1"]["tuned"] == pytest.approx(0.87 * 3 / 7, abs=0.02)
    assert (made / "million" / "report.html").stat().st_size > 10_000


@pytest.fixture
def hurt(made: Path) -> Iterator[tuple[SampleSet, Path]]:
    """The tuned model's samples and the last part of them, which a test may change."""
    what = identity(study(made, PROBLEMS, SAMPLES), TUNED)
    path = Store(made / "store").path(what)
    part = sorted(path.glob("part-*.parquet"))[-1]
    whole = part.read_bytes()
    yield SampleSet(what, path), part
    part.write_bytes(whole)


def read_all(samples: SampleSet, root: Path) -> None:
    problems = build(study(root, PROBLEMS, SAMPLES).task).heldout("test", PROBLEMS)
    for _ in samples.completions(problems, SAMPLES):
        pass


def test_a_sample_that_is_there_twice_is_named(hurt: tuple[SampleSet, Path], made: Path) -> None:
    samples, part = hurt
    table = pq.read_table(part)
    row = table.slice(777, 1)
    pq.write_table(pa.concat_tables([table, row]), part)
    name, index = row["problem_id"][0].as_py(), row["sample_index"][0].as_py()
    wanted = (
        f"sample {index} of problem {name} is stored twice: again in row {len(table)} of {part}"
    )
    with pytest.raises(InvalidResult) as error:
        read_all(samples, made)
    assert wanted in str(error.value)


def test_problems_without_their_samples_are_named(hurt: tuple[SampleSet, Path], made: Path) -> None:
    samples, part = hurt
    table = pq.read_table(part)
    pq.write_table(table.slice(2 * SAMPLES - 3), part)
    first, second = (table["problem_id"][at].as_py() for at in (0, SAMPLES))
    with pytest.raises(InvalidResult, match="samples of 2 problems are missing") as error:
        read_all(samples, made)
    assert f"{first} ({SAMPLES})" in str(error.value)
    assert f"{second} ({SAMPLES - 3})" in str(error.value)

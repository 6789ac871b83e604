"""`forkdiv why`: a cache miss is explained by the fields of two records, and of their parents."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forkdiv.core.config.study import DatasetConfig, DecoderConfig, SftConfig
from forkdiv.core.errors import InvalidResult, UserError
from forkdiv.core.explain import Results, differences, read
from forkdiv.core.fingerprint import Identity
from forkdiv.core.store import Artifact, Store

ROOT = Path(__file__).parents[2]
BASE = "b" * 32  # the content of a model folder, which has no record


def made(store: Store, stage: str, config: dict[str, Any], **parents: str) -> Artifact:
    def build(folder: Path) -> None:
        (folder / "made").write_text("of it")

    return store.obtain(Identity(stage, config, parents), build)


def sampled(root: Path, temperature: float, checkpoint: str) -> Identity:
    """A sample set as sampling leaves it: no record.json, but its identity."""
    what = Identity(
        "samples",
        {"decoder": DecoderConfig(temperature=temperature), "seed": 0},
        {"checkpoint": checkpoint},
    )
    folder = Store(root / "store").path(what)
    folder.mkdir(parents=True)
    (folder / "identity.json").write_text(json.dumps(what.describe()))
    return what


class Line:
    """Two trials that differ in the fork density of their data alone, and one of more epochs."""

    def __init__(self, root: Path) -> None:
        self.root, self.results = root, Results(root)
        store = Store(root / "store")
        self.data = {
            d: made(store, "dataset", {"sft": DatasetConfig(fork_density=d)}) for d in (0, 0.5)
        }
        runs = {}
        for density, epochs in ((0, 4), (0.5, 4), (0.5, 8)):
            parents = {"dataset": self.data[density].fingerprint, "base": BASE}
            runs[density, epochs] = made(
                store, "train", SftConfig(epochs=epochs).deciding, **parents
            )
        self.runs = runs
        self.samples = {
            density: sampled(root, 1.0, f"{runs[density, 4].fingerprint}-epoch-0004")
            for density in (0, 0.5)
        }

    def why(self, first: str, second: str) -> list[str]:
        return self.results.explain(self.results.resolve(first), self.results.resolve(second))


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path)


def test_a_setting_that_differs_is_named_with_both_values(line: Line) -> None:
    lines = line.why(line.data[0].fingerprint, line.data[0.5].fingerprint)
    assert lines == ["config.sft.fork_density: 0 -> 0.5"]


def test_what_differs_is_followed_through_checkpoint_training_and_data(line: Line) -> None:
    lines = line.why(line.samples[0].fingerprint, line.samples[0.5].fingerprint)
    runs = [line.runs[density, 4].fingerprint[:8] for density in (0, 0.5)]
    data = [line.data[density].fingerprint[:8] for density in (0, 0.5)]
    assert lines == [
        f"checkpoint differs: {runs[0]} epoch-0004 and {runs[1]} epoch-0004",
        f"  dataset differs: {data[0]} and {data[1]}",
        "    config.sft.fork_density: 0 -> 0.5",
    ]


def test_another_checkpoint_of_a_run_is_distinguished_from_another_run(
    line: Line, tmp_path: Path
) -> None:
    run = line.runs[0, 4].fingerprint
    early = sampled(tmp_path, 1.0, f"{run}-epoch-0001")
    lines = line.why(early.fingerprint, line.samples[0].fingerprint)
    assert lines[1:] == ["  checkpoint: epoch-0001 -> epoch-0004"]


def test_a_parent_without_a_record_is_reported(line: Line, tmp_path: Path) -> None:
    base = sampled(tmp_path, 1.0, BASE)
    lines = line.why(base.fingerprint, line.samples[0].fingerprint)
    assert any("bbbbbbbb has no record" in one and "model folder" in one for one in lines)


def test_a_field_of_one_record_alone_and_another_library_are_shown(line: Line) -> None:
    one = read(line.data[0].path)
    other = replace(
        one, version=3, config={**one.config, "later": True}, libraries={"pyarrow": "1"}
    )
    changed = {d.field: (d.first, d.second) for d in differences(one, other)}
    assert changed["version"] == ("2", "3")
    assert changed["config.later"] == ("(absent)", "true")
    assert changed["libraries.pyarrow"][1] == '"1"'


def test_equal_records_differ_in_nothing(line: Line) -> None:
    same = line.data[0].fingerprint
    assert line.why(same, same) == ["the two records do not differ in any field"]


def test_the_nearest_is_the_one_with_the_fewest_differences(line: Line, tmp_path: Path) -> None:
    run = read(line.runs[0.5, 8].path)
    nearest = line.results.nearest(run)
    assert nearest and nearest.fingerprint == line.runs[0.5, 4].fingerprint
    lonely = Store(tmp_path / "store")
    made(lonely, "exact", {"n": 1}, checkpoint=BASE)
    (folder,) = (tmp_path / "store/exact").iterdir()
    assert line.results.nearest(read(folder)) is None


def test_a_result_is_named_by_the_beginning_of_its_fingerprint_or_its_folder(line: Line) -> None:
    whole = line.runs[0, 4]
    assert line.results.resolve(whole.fingerprint[:12]).path == whole.path
    assert line.results.resolve(str(whole.path)).fingerprint == whole.fingerprint


def test_a_missing_or_ambiguous_result_is_refused(line: Line, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no result under .*got zz; .*set place.root"):
        line.results.resolve("zz")
    digits = [made(Store(tmp_path / "store"), "forks", {"n": n}).fingerprint[0] for n in range(17)]
    # 17 first digits out of 16: one of them repeats
    twice = next(digit for digit in digits if digits.count(digit) > 1)
    with pytest.raises(UserError, match=rf"starts with this: got {twice}; .*give more digits"):
        line.results.resolve(twice)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"is not a forkdiv result: got .*empty; .*record.json"):
        line.results.resolve(str(tmp_path / "empty"))
    (line.data[0].path / "record.json").write_text("{")
    with pytest.raises(InvalidResult, match=r"record.json is damaged .* delete "):
        line.results.resolve(line.data[0].fingerprint)


def test_studies_are_compared_by_the_settings_in_their_summaries(tmp_path: Path) -> None:
    for name, epochs in (("one", 4), ("two", 8)):
        (tmp_path / name).mkdir()
        settings = {"name": name, "base": f"/{name}", "sft": {"epochs": epochs}}
        text = {"fingerprint": name * 8, "settings": settings, "versions": {"ray": "2"}}
        (tmp_path / name / "summary.json").write_text(json.dumps(text))
    results = Results(tmp_path)
    one = results.resolve("oneone")
    assert results.explain(one, results.resolve(str(tmp_path / "two"))) == [
        "config.sft.epochs: 4 -> 8"
    ]
    nearest = results.nearest(one)
    assert nearest and nearest.fingerprint == "two" * 8


def test_a_study_that_is_in_the_store_is_compared_by_its_record(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for name, base in (("one", BASE), ("two", "c" * 32)):
        study = made(store, "study", {"eval": {"samples": 64}}, base=base)
        (tmp_path / name).mkdir()
        text = {"fingerprint": study.fingerprint, "settings": {}, "versions": {}}
        (tmp_path / name / "summary.json").write_text(json.dumps(text))
    results = Results(tmp_path)
    pair = [results.resolve(str(tmp_path / name)) for name in ("one", "two")]
    assert results.explain(*pair)[0] == "base differs: bbbbbbbb and cccccccc"


def why(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs.why", *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_verb_explains_a_pair_and_compares_one_with_the_nearest(line: Line) -> None:
    place, first = f"place.root={line.root}", line.runs[0.5, 8].fingerprint
    pair = why(first[:10], line.runs[0.5, 4].fingerprint[:10], place)
    assert pair.returncode == 0 and "config.epochs: 8 -> 4" in pair.stdout
    alone = why(first[:10], place)
    assert "(the most similar)" in alone.stdout and "config.epochs: 8 -> 4" in alone.stdout
    refused = why(place)
    assert refused.returncode == 2 and "why compares one or two results: got 0" in refused.stderr

"""A whole study on the real stack: killed, taken up again, and looked at as its user would."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import pairwise

import pyarrow.parquet as pq
import pytest

from forkdiv.coverage.stats import pass_at_k
from tests.stack import run, said
from tests.tuning.conftest import GRID, Study

pytestmark = pytest.mark.stack


def test_a_killed_study_continues(study: Study) -> None:
    assert said(study.before_kill, "finished: pass@1") >= 2  # the base at both temperatures
    assert "2 of 6 trials had finished and are kept" in study.output
    finished = Counter(event["who"] for event in study.events if event["finished"])
    assert set(finished.values()) == {1}, "no finished trial ran again"
    assert len(finished) == 6
    fingerprints = [path.name for path in (study.root / "store" / "train").iterdir()]
    assert len(fingerprints) == 2
    samples = list((study.root / "store" / "samples").iterdir())
    assert len(samples) == 10  # the base and two saved epochs of two runs, at two temperatures
    for folder in samples:
        keys = Counter(
            (row["problem_id"], row["sample_index"])
            for part in folder.glob("part-*.parquet")
            for row in pq.read_table(part).to_pylist()
        )
        assert set(keys.values()) == {1}
        assert len(keys) == 20 * 8


def test_tunes_files_have_a_plain_value_for_each_axis(study: Study) -> None:
    folders = [file.parent for file in study.root.glob("tune/*/*/params.json")]
    assert len(folders) == 6, "a trial that continues has the folder that it had"
    for folder in folders:
        last = json.loads((folder / "result.json").read_text().splitlines()[-1])
        config = json.loads((folder / "params.json").read_text())
        assert last["config"] == config
        assert {"temperature", "seed"} <= config.keys()
        assert ("fork_density" in config) == (not folder.name.startswith("base"))
        for value in config.values():
            assert isinstance(value, int | float | str)
        assert last["pass_at_8"] > 0


def test_it_says_where_to_look_while_it_runs(study: Study) -> None:
    for text in (f"results: {study.folder}", "MLflow: ", f"Ray Tune's files: {study.root}/tune/"):
        assert text in study.output


def test_each_density_is_trained_once_whatever_the_temperatures(study: Study) -> None:
    started = said(study.events, "fine-tuning: starting")
    assert started == 3  # two densities, and one of them once more after the kill


def test_a_second_run_reuses_all_results(study: Study) -> None:
    assert "these results exist and are reused" in study.again
    assert study.again_seconds < 60
    tables = [text.partition("micro: pass@k")[2] for text in (study.output, study.again)]
    assert tables[0] == tables[1]
    assert tables[0].count("│") > 20


def test_the_summary_has_the_cells_and_keys_that_others_read(study: Study) -> None:
    summary = study.summary
    assert {"study", "fingerprint", "base", "cells", "seconds", "versions"} <= summary.keys()
    places = [(c["fork_density"], c["temperature"], c["subset"]) for c in summary["cells"]]
    subsets = ("signed", "unsigned", "all")
    assert sorted(places) == sorted((d, t, s) for d in (0, 1) for t in (0.7, 1.0) for s in subsets)
    assert len(summary["base"]) == 6
    assert {cell["epoch"] for cell in summary["cells"]} == {2}
    early = [(c["fork_density"], c["temperature"], c["subset"]) for c in summary["dynamics"]]
    assert sorted(early) == sorted(places) and {c["epoch"] for c in summary["dynamics"]} == {1}
    for cell in [*summary["base"], *summary["cells"]]:
        assert cell["n_problems"] == (20 if cell["subset"] == "all" else 10)
        assert cell["n_samples"] == 8
        assert cell["valid"]
        assert list(cell["pass_at"]) == ["1", "2", "4", "8"]
        for interval in cell["pass_at"].values():
            assert interval["low"] <= interval["value"] <= interval["high"]
        assert cell["exact_pass_at"].keys() == cell["pass_at"].keys()
        assert cell["agreement"]["agrees"]
    for cell in summary["cells"]:
        theirs = next(
            base
            for base in summary["base"]
            if (base["temperature"], base["subset"]) == (cell["temperature"], cell["subset"])
        )
        for k, change in cell["delta_to_base"].items():
            want = cell["pass_at"][k]["value"] - theirs["pass_at"][k]["value"]
            assert change["value"] == pytest.approx(want, abs=1e-12)


def test_the_stored_samples_alone_give_the_numbers_of_the_summary(study: Study) -> None:
    """Nothing but the Parquet is used: verdicts follow from its facts, pass@k from them."""
    found = []
    for folder in (study.root / "store" / "samples").iterdir():
        rows = [r for p in folder.glob("part-*.parquet") for r in pq.read_table(p).to_pylist()]
        correct: Counter[str] = Counter()
        for row in rows:
            facts, nodes = json.loads(row["facts"]), row["text"].split()
            edges = {tuple(edge) for edge in facts["edges"]}
            right = any(
                way[:1] == [facts["start"]]
                and way[-1:] == [facts["target"]]
                and edges.issuperset(pairwise(way))
                for way in (nodes, nodes[::-1])
            )
            correct[row["problem_id"]] += right and row["finish"] == "stop"
        counts = [correct[problem] for problem in {row["problem_id"] for row in rows}]
        found.append(tuple(pass_at_k(8, counts, k).mean() for k in (1, 8)))
    known = [cell for part in ("base", "cells", "dynamics") for cell in study.summary[part]]
    cells = [cell for cell in known if cell["subset"] == "all"]
    want = [(c["pass_at"]["1"]["value"], c["pass_at"]["8"]["value"]) for c in cells]
    assert sorted(found) == [pytest.approx(pair) for pair in sorted(want)]


def test_mlflow_holds_one_parent_and_a_child_for_each_trial(study: Study) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{study.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("forkdiv/micro")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(parents) == 1
    assert len(children) == 6
    assert {run.info.status for run in runs} == {"FINISHED"}
    metrics = {
        frozenset(m for m in run.data.metrics if m.startswith("pass_at")) for run in children
    }
    assert metrics == {frozenset({"pass_at_1", "pass_at_8", "pass_at_k"})}
    for run_ in children:
        assert float(run_.data.params["temperature"]) in (0.7, 1.0)
        curve = client.get_metric_history(run_.info.run_id, "pass_at_k")
        assert [row.step for row in curve] == [1, 2, 4, 8]
        assert {entry.dataset.digest for entry in run_.inputs.dataset_inputs}
    location = parents[0].info.artifact_uri.removeprefix("mlflow-artifacts:/")
    stored = {file.name for file in (study.root / "mlartifacts" / location).iterdir()}
    assert {"report.html", "summary.json", "figures"} <= stored
    tuned = [run_ for run_ in children if run_.data.tags["forkdiv.model"] == "tuned"]
    assert len(tuned) == 4
    # the base and the last checkpoints of two trainings, measured at two temperatures
    assert len(client.search_logged_models([experiment.experiment_id])) == 3
    loss = client.get_metric_history(tuned[0].info.run_id, "train/loss")
    assert tuned[0].info.start_time < tuned[0].info.end_time
    steps = [one.step for one in loss]
    assert steps[0] == 1 and {2, 4} <= set(steps)  # the others only where a step takes seconds


def test_the_output_shows_progress_a_table_and_where_to_look(study: Study) -> None:
    for text in ("sampling: 160 samples", "finished: pass@1", "pass@8", "report: ", "mlflow ui"):
        assert text in study.output
    page = study.folder / "report.html"
    assert str(page) in study.output
    # links, but nothing that a browser would load
    assert not re.search(r"""(src|srcset)=|<link|@import|url\(["']?http""", page.read_text())


def test_the_study_folder_and_store_hold_no_half_written_files(study: Study) -> None:
    stale = [p for p in study.root.rglob(".*") if "tune" not in p.relative_to(study.root).parts[0]]
    assert stale == []


def test_what_was_drawn_is_exported_and_read_back_to_the_studys_numbers(study: Study) -> None:
    run("export", study.root, *GRID)
    folders = study.folder / "harness"
    assert len(list(folders.glob("*/results_*.json"))) == 6
    files = ("--samples", str(folders / "density=1_T=0.7"), "--base", str(folders / "base_T=0.7"))
    run("coverage", study.root, "name=read", *files)
    read = json.loads((study.root / "read" / "summary.json").read_text())
    cells = [c for c in study.summary["cells"] if (c["fork_density"], c["temperature"]) == (1, 0.7)]
    assert len(cells) == 3
    for found, own in zip(read["cells"], cells, strict=True):
        for part in ("subset", "pass_at", "delta_to_base", "distinct_at", "majority_at", "lost"):
            assert found[part] == own[part]

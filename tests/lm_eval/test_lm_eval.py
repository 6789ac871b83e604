"""Interchange with lm-evaluation-harness.

The files in tests/lm_eval/files/ are what lm_eval 0.4.13 wrote for the graph task's problems, from
the shipped base and from the same with thirty times larger logits (`tuned`), as
tests/soak/test_lm_eval.py has it run and `python -m tests.soak.test_lm_eval` writes them anew.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from forkdiv.core.errors import UserError
from forkdiv.coverage.stats import pass_at_k
from tests.lm_eval.samples_files import (
    ROOT,
    SMALL,
    file_study,
    measure,
    real,
    samples_in,
    study,
    values,
)


@pytest.mark.parametrize("model", ["base", "tuned"])
def test_samples_written_by_lm_eval_are_counted_as_by_hand(model: str) -> None:
    rows = [json.loads(text) for text in real(model, "graphs").read_text().splitlines()]
    correct = [sum(one == row["target"] for one in row["resps"][0]) for row in rows]
    assert 0 < sum(correct) < 64 and len(rows) == 8
    done = measure(study(), [real(model, "graphs")], [])
    by_hand = pass_at_k(8, np.array(correct)[:, None], [1, 2, 4, 8]).mean(0)
    assert list(values(done).values()) == pytest.approx(list(by_hand))
    assert "the grader agrees with exact_match,none on 8 of 8 documents" in done["notes"]
    assert {cell["subset"] for cell in done["cells"]} == {"signed", "unsigned", "all"}
    assert {cell["temperature"] for cell in done["cells"]} == {1.0}


def test_the_difference_to_the_base_is_that_of_the_files() -> None:
    done = measure(study(), [real("tuned", "graphs")], [real("base", "graphs")])
    tuned, base = values(done), values(done, "base")
    (cell,) = [cell for cell in done["cells"] if cell["subset"] == "all"]
    for k, change in cell["delta_to_base"].items():
        assert change["value"] == pytest.approx(tuned[k] - base[k])
    # the sharper model gives up what it does not prefer
    assert cell["delta_to_base"]["8"]["value"] < 0


def test_lines_under_several_filters_are_one_problem() -> None:
    path = real("tuned", "graphs_filters")
    assert len(path.read_text().splitlines()) == 6
    samples = samples_in(path)
    assert (len(samples.problems), samples.n) == (2, 4)
    done = measure(study(), [path], [])
    assert "the grader agrees with exact_match,first on 2 of 2 documents" in done["notes"]


def test_a_metric_with_a_verdict_on_every_sample_decides() -> None:
    done = measure(study(), [real("tuned", "graphs_each")], [])
    rows = [json.loads(text) for text in real("tuned", "graphs_each").read_text().splitlines()]
    assert values(done)["1"] == pytest.approx(np.mean([row["right"] for row in rows]))
    assert done["settings"]["grader"] == "right,all"


def test_the_metric_decides_for_documents_with_one_sample() -> None:
    done = measure(study(), [real("tuned", "graphs_once")], [])
    assert values(done) == {"1": 0.5}
    assert done["settings"]["grader"] == "exact_match,none"


def test_a_note_reports_that_greedy_samples_are_equal() -> None:
    done = measure(study(), [real("tuned", "graphs_greedy")], [])
    assert any("greedy decoding" in note for note in done["notes"])
    assert {cell["temperature"] for cell in done["cells"]} == {0.0}
    assert not any(
        "greedy" in note for note in measure(study(), [real("tuned", "graphs")], [])["notes"]
    )


def test_answers_after_a_hash_mark_are_read_from_the_named_key() -> None:
    path = real("tuned", "graphs_hash")
    with pytest.raises(UserError, match=r"hash cannot read the reference on line 1 .*columns"):
        measure(study(), [path], [])
    rows = [json.loads(text) for text in path.read_text().splitlines()[:2]]
    by_hand = np.mean([one == row["doc"]["answer"] for row in rows for one in row["resps"][0]])
    done = measure(file_study("task.columns.answer=answer"), [path], [])
    assert values(done)["1"] == pytest.approx(by_hand)
    said = "means computed by lm_eval, after its filters: exact_match,flexible 0.500"
    assert any(said in note and "exact_match,strict 0.000" in note for note in done["notes"])


def test_likelihoods_of_choices_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"line 1 of .*log-likelihoods of answer choices, not samples"
    ):
        samples_in(real("tuned", "graphs_choices"))


def test_the_command_ends_with_a_table_and_a_page(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "jobs.coverage", f"place.root={tmp_path}", "name=mine"),
            *("--samples", str(real("tuned", "graphs")), "--base", str(real("base", "graphs"))),
            *SMALL,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "mine" / "summary.json").read_text())
    (cell,) = [cell for cell in summary["cells"] if cell["subset"] == "all"]
    change = cell["delta_to_base"]["8"]["value"]
    assert f"{change:.3f}".replace("-", "−") in done.stdout
    assert "pass@8" in (tmp_path / "mine" / "report.html").read_text()


def test_without_samples_nothing_is_measured(tmp_path: Path) -> None:
    from jobs.coverage import run

    with pytest.raises(UserError, match="--samples"):
        run(study(f"place.root={tmp_path}"))

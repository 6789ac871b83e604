"""Samples and results that forkdiv writes for lm-evaluation-harness."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forkdiv.core.config.study import DecoderConfig
from forkdiv.core.config.tasks import TaskConfig
from forkdiv.core.errors import InvalidResult, UserError
from forkdiv.core.records import Completion, Problem
from forkdiv.coverage.stats import pass_at_k
from forkdiv.lm_eval.counting import count
from forkdiv.lm_eval.judge import FORKDIV_VERDICTS, Judge
from forkdiv.lm_eval.run import Run
from forkdiv.lm_eval.writing import write
from forkdiv.score import verdicts
from forkdiv.tasks.own_data.config import FileConfig
from forkdiv.tasks.registry import build
from tests.fakes import TASK, UNREADABLE, broken, other_end, right
from tests.lm_eval.samples_files import samples_in

PROBLEMS = build(TASK).heldout("test", 6)
CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RUN = Run("graphs", "tuned T=1", "runs/x", DecoderConfig(), 4, (1, 2, 4), CREATED)


def drawn(problem: Problem) -> list[Completion]:
    texts = [right(problem), other_end(problem), broken(problem), UNREADABLE, right(problem)]
    first = PROBLEMS.index(problem) if problem in PROBLEMS else 0
    return [
        Completion(problem.id, at, at, texts[(at + first) % 5], (), "length" if at == 3 else "stop")
        for at in range(4)
    ]


def draws(problems: Sequence[Problem]) -> list[Completion]:
    return [one for problem in reversed(problems) for one in drawn(problem)]


def test_written_samples_are_read_with_the_same_counts(tmp_path: Path) -> None:
    write(tmp_path, RUN, build(TASK), PROBLEMS, draws)
    samples = samples_in(tmp_path)
    counts, _ = count(samples, Judge(FORKDIV_VERDICTS, ""), 4)
    assert counts == verdicts.count(build(TASK), PROBLEMS, draws(PROBLEMS))
    assert sum(one.truncated for one in counts) == 6 and sum(one.unparsable for one in counts) > 0


TEXTS = st.lists(
    st.lists(st.sampled_from("ab \n\u2028é"), min_size=1).map("".join), min_size=3, max_size=3
)


@settings(
    deadline=None, max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(texts=st.lists(TEXTS, min_size=1, max_size=4), cut=st.integers(0, 2))
def test_any_responses_are_read_as_they_were_written(
    tmp_path: Path, texts: list[list[str]], cut: int
) -> None:
    task = FileConfig(test=tmp_path / "unread.jsonl")
    problems = [
        Problem(f"p{at}", "test", "all of it", "q", {"answer": "a"}) for at in range(len(texts))
    ]

    def completions(some: Sequence[Problem]) -> list[Completion]:
        return [
            Completion(one.id, i, i, text, (), "length" if i == cut else "stop")
            for one in some
            for i, text in enumerate(texts[problems.index(one)])
        ]

    run = replace(RUN, n=3, ks=(1, 3))
    write(tmp_path, run, build(task), problems, completions)
    counts, _ = count(samples_in(tmp_path), Judge(FORKDIV_VERDICTS, ""), 3)
    assert counts == verdicts.count(build(task), problems, completions(problems))


def test_results_are_the_means_over_the_problems(tmp_path: Path) -> None:
    path = write(tmp_path, RUN, build(TASK), PROBLEMS, draws)
    results = json.loads(path.read_text())
    correct = [one.correct for one in verdicts.count(build(TASK), PROBLEMS, draws(PROBLEMS))]
    for k in (1, 2, 4):
        column = pass_at_k(4, correct, k)
        found = results["results"]["graphs"]
        assert found[f"pass@{k},none"] == pytest.approx(column.mean())
        assert found[f"pass@{k}_stderr,none"] == pytest.approx(column.std(ddof=1) / 6**0.5)
    assert results["n-samples"] == {"graphs": {"original": 6, "effective": 6}}
    assert results["configs"]["graphs"]["repeats"] == 4


def test_hashes_are_those_that_lm_eval_computes(tmp_path: Path) -> None:
    path = write(tmp_path, RUN, build(TASK), PROBLEMS, draws)
    (lines,) = path.parent.glob("samples_*.jsonl")
    rows = [json.loads(text) for text in lines.read_text().splitlines()]
    for row in rows:
        doc = json.dumps(row["doc"], indent=2, ensure_ascii=False)
        assert row["doc_hash"] == sha256(doc.encode()).hexdigest()
        assert row["target_hash"] == sha256(row["target"].encode()).hexdigest()
    whole = "".join(row["doc_hash"] + row["prompt_hash"] + row["target_hash"] for row in rows)
    digest = json.loads(path.read_text())["task_hashes"]["graphs"]
    assert digest == sha256(whole.encode()).hexdigest()


def test_writing_again_replaces_the_files(tmp_path: Path) -> None:
    first = write(tmp_path, RUN, build(TASK), PROBLEMS, draws)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert write(tmp_path, RUN, build(TASK), PROBLEMS, draws) == first
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert first.parent.name == "tuned_T=1"


def test_responses_are_requested_in_small_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def counted(some: Sequence[Problem]) -> list[Completion]:
        asked.append(len(some))
        return draws(some)

    whole = write(tmp_path / "whole", RUN, build(TASK), PROBLEMS, draws)
    monkeypatch.setattr("forkdiv.lm_eval.writing.RESPONSES_PER_BATCH", 8)
    parts = write(tmp_path / "parts", RUN, build(TASK), PROBLEMS, counted)
    assert asked == [2, 2, 2]
    assert parts.read_text() == whole.read_text()


def test_incomplete_samples_are_not_written(tmp_path: Path) -> None:
    def lacking(some: Sequence[Problem]) -> list[Completion]:
        return [one for one in draws(some) if one.sample_index != 2]

    with pytest.raises(InvalidResult, match=r"sample 2 of problem .* is missing \(1 of 4"):
        write(tmp_path, RUN, build(TASK), PROBLEMS, lacking)
    grader = FileConfig(test=tmp_path / "x", grader="tests.lm_eval.test_judges:cannot_judge_b")
    problems = [Problem("p", "test", "s", "q", {"answer": "a"})]
    completions: Callable[[Sequence[Problem]], list[Completion]] = lambda some: [  # noqa: E731
        Completion("p", at, at, "b", (), "stop") for at in range(4)
    ]
    task: TaskConfig = grader
    with pytest.raises(InvalidResult, match=r"problem p has no verdict.*beyond me"):
        write(tmp_path, RUN, build(task), problems, completions)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_decoder_settings_are_written_and_a_decoder_with_dependent_samples_is_refused() -> None:
    settings = replace(RUN, decoder=DecoderConfig(min_p=0.1, top_n_sigma=1.0)).settings
    assert (settings["min_p"], settings["top_n_sigma"]) == (0.1, 1.0)
    assert "min_p" not in RUN.settings
    with pytest.raises(UserError, match="draws samples independently"):
        replace(RUN, decoder=DecoderConfig(tree_samples=2))

"""What follows from a benchmark: its data by name, its wording, the texts that end a response."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from forkdiv.benchmarks.config import BenchmarkConfig
from forkdiv.benchmarks.gsm8k import Gsm8k
from forkdiv.cli import app
from forkdiv.core.config.load import load
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import UserError
from forkdiv.sample.evaluation import Evaluation
from tests.benchmarks.files import GSM8K, HUMANEVAL, MATH, Record, write
from tests.checkpoints_tokens import chat_checkpoint
from tests.hub_server import Hub
from tuning import benchmark_settings
from tuning.infer_settings import infer
from tuning.row_lengths import fitting

CARD = b"""---
configs:
- config_name: main
  data_files:
  - split: train
    path: main/train.jsonl
  - split: test
    path: main/test.jsonl
---
"""


def lines(rows: Sequence[Record]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def gsm8k(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub has GSM8K's two splits; the current folder is empty."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    files = {
        "README.md": CARD,
        "main/train.jsonl": lines(GSM8K[:4]),
        "main/test.jsonl": lines(GSM8K[4:]),
    }
    commit = hub.repo("openai/gsm8k", "dataset").push(files)
    for name in ("source", "shots"):
        pinned = replace(getattr(Gsm8k, name), revision=commit)  # the stand-in has other commits
        monkeypatch.setattr(Gsm8k, name, pinned)
    return folder


def resolved(verb: str, *settings: str) -> StudyConfig:
    """The study as a command sees it."""
    seen: list[StudyConfig] = []

    def run(study: StudyConfig, **own: object) -> None:
        seen.append(study)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"jobs.{verb}.run", run)
        done = CliRunner().invoke(app, [verb, *settings])
    if done.exit_code:
        raise UserError(" ".join(done.output.split()))
    return seen[0]


def test_a_benchmarks_name_stands_for_its_dataset(gsm8k: Path, tmp_path: Path) -> None:
    chat = chat_checkpoint(tmp_path / "chat", max_position_embeddings=2048)
    study, said = infer(resolved("compare", "data=gsm8k", "prompt.shots=2"), [chat])
    assert isinstance(study.task, BenchmarkConfig) and study.task.benchmark == "gsm8k"
    evaluation = Evaluation.of(study)
    assert len(evaluation.problems) == 3
    assert evaluation.shots.count == 2
    tests = {row["question"] for row in GSM8K[4:]}
    assert all(
        not any(question in shot[0] for question in tests) for shot in evaluation.shots.ordered
    )
    assert "task.wording=chat" in said


def test_without_a_file_the_task_of_a_benchmark_is_fetched(gsm8k: Path) -> None:
    study = resolved("evaluate", "task.benchmark=gsm8k")
    assert isinstance(study.task, BenchmarkConfig) and study.task.test
    assert study.task.test.read_bytes().count(b"\n") == 3
    assert study.prompt.shots_data is None, "no shots are drawn"
    few = resolved("evaluate", "task.benchmark=gsm8k", "prompt.shots=2")
    assert few.prompt.shots_data and few.prompt.shots_data.read_bytes().count(b"\n") == 4


def test_two_checkpoints_need_no_more_than_the_benchmarks_name(gsm8k: Path) -> None:
    study = resolved("compare", "task.benchmark=gsm8k", "checkpoint=DIR")
    assert study.data and study.data.read_bytes().count(b"\n") == 3


def test_checkpoints_of_a_run_that_is_followed_are_asked_as_two_checkpoints_are(
    gsm8k: Path, tmp_path: Path
) -> None:
    chat = chat_checkpoint(tmp_path / "chat", max_position_embeddings=2048)
    for settings in (["--data", "gsm8k"], ["task.benchmark=gsm8k"]):
        study, said = infer(resolved("compare", "--watch", "RUN", *settings), [chat])
        assert study.data and study.data.read_bytes().count(b"\n") == 3
        assert "task.wording=chat" in said and study.decoder.stop == ()


def test_settings_of_the_task_hold_for_a_benchmark_by_its_name(gsm8k: Path) -> None:
    study = resolved("compare", "data=gsm8k", "task.grader=hash", "task.on_bad_row=skip")
    assert isinstance(study.task, BenchmarkConfig)
    assert (study.task.grader, study.task.on_bad_row) == ("hash", "skip")
    with pytest.raises(UserError, match="columns cannot be set with benchmark=gsm8k"):
        resolved("compare", "data=gsm8k", "task.columns.answer=solution")


def test_what_a_model_learns_from_is_the_training_split_of_a_benchmark(gsm8k: Path) -> None:
    for verb in ("audit", "synthesize"):
        study = resolved(verb, "data=gsm8k")
        assert study.data and study.data.read_bytes().count(b"\n") == 4
    with pytest.raises(UserError, match="the benchmark humaneval has no training split of its own"):
        resolved("audit", "data=humaneval")


def test_samples_of_another_tool_are_graded_without_the_benchmarks_data(
    gsm8k: Path, hub: Hub
) -> None:
    study = resolved("coverage", "task.benchmark=gsm8k")
    assert isinstance(study.task, BenchmarkConfig) and study.task.grader == "math"
    assert hub.requests == []


def test_a_file_with_the_name_of_a_benchmark_is_used_as_a_file(gsm8k: Path) -> None:
    (gsm8k / "humaneval").write_text("x")
    study = resolved("compare", "data=humaneval")
    assert study.data == gsm8k / "humaneval" and not isinstance(study.task, BenchmarkConfig)


def test_a_benchmark_that_is_not_on_the_hub_is_one_line(gsm8k: Path) -> None:
    with pytest.raises(UserError, match=r"^forkdiv: openai/openai_humaneval is neither"):
        resolved("compare", "data=humaneval")


def test_a_file_needs_a_source_of_shots(tmp_path: Path) -> None:
    data = f"data={write(tmp_path, GSM8K)}"
    study = resolved("compare", data, "task.benchmark=gsm8k", "prompt.shots=2")
    chat = chat_checkpoint(tmp_path / "chat", max_position_embeddings=2048)
    with pytest.raises(UserError, match=r"openai/gsm8k/main:train.*set prompt.shots_data=FILE"):
        infer(study, [chat])


def test_the_wording_follows_the_template_and_ends_texts_only(tmp_path: Path) -> None:
    settings = [f"data={write(tmp_path, GSM8K)}", "task.benchmark=gsm8k"]
    chat = chat_checkpoint(tmp_path / "chat", max_position_embeddings=2048)
    plain = chat_checkpoint(tmp_path / "plain", None, max_position_embeddings=2048)
    for checkpoints, wording, stop in (
        ([chat], "chat", ()),
        ([chat, plain], "text", ("Question:",)),
    ):
        study, said = infer(load(None, settings), checkpoints)
        assert isinstance(study.task, BenchmarkConfig)
        assert (study.task.wording, study.decoder.stop) == (wording, stop)
        assert f"task.wording={wording}" in said
        assert any(line.startswith("decoder.stop=") for line in said) == bool(stop)
    own = [*settings, 'decoder.stop=["END"]', "task.wording=text", "prompt.template=chat"]
    study, _ = infer(load(None, own), [chat])
    assert isinstance(study.task, BenchmarkConfig)
    assert (study.task.wording, study.decoder.stop) == ("text", ("END",))


def test_every_decoder_ends_texts_but_one_that_draws_trees_or_has_texts_of_its_own(
    tmp_path: Path,
) -> None:
    study = load(
        None,
        [
            f"task.test={write(tmp_path, GSM8K)}",
            "task.benchmark=gsm8k",
            "decoders.plain.temperature=0.5",
            "decoders.tree.tree_samples=4",
            "decoders.own.stop=[END]",
        ],
    )
    done = benchmark_settings.resolve(study)
    stops = {name: decoder.stop for name, decoder in done.decoders.items()}
    assert stops == {"plain": ("Question:",), "tree": (), "own": ("END",)}
    assert done.decoder.stop == ("Question:",)


def test_a_benchmark_limits_the_length_of_responses(tmp_path: Path) -> None:
    settings = [f"data={write(tmp_path, HUMANEVAL)}", "task.benchmark=humaneval"]
    chat = chat_checkpoint(tmp_path / "chat", max_position_embeddings=4096)
    assert infer(load(None, settings), [chat])[0].decoder.max_new_tokens == 512
    settings = [f"data={write(tmp_path, MATH)}", "task.benchmark=math-500"]
    assert infer(load(None, settings), [chat])[0].decoder.max_new_tokens == 2048


@pytest.mark.parametrize(
    ("settings", "stop"),
    [
        (["prompt.template=raw"], ("\n\n",)),
        (["prompt.template=plain"], ("\n\n### Instruction:",)),
        (["prompt.template=chat"], ()),
        (["prompt.template=raw", 'decoder.stop=["#"]'], ("#",)),
        (["prompt.template=raw", "prompt.shots=0", "prompt.shots_data=null"], ()),
    ],
)
def test_shots_as_text_end_the_response_before_another_problem(
    settings: list[str], stop: tuple[str, ...], tmp_path: Path
) -> None:
    path = write(tmp_path, [{"question": f"{n} + 1?", "answer": str(n + 1)} for n in range(6)])
    chat = chat_checkpoint(tmp_path / "chat", max_position_embeddings=2048)
    few = [f"data={path}", "prompt.shots=2", f"prompt.shots_data={path}"]
    assert infer(load(None, [*few, *settings]), [chat])[0].decoder.stop == stop


def test_no_end_is_inferred_where_a_shot_contains_it(tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "solution": f"so\n\n{n}", "answer": str(n)} for n in range(6)]
    path = write(tmp_path, rows)
    settings = [
        f"data={path}",
        "prompt.shots=2",
        f"prompt.shots_data={path}",
        "prompt.template=raw",
    ]
    study, _ = infer(
        load(None, settings), [chat_checkpoint(tmp_path / "chat", max_position_embeddings=2048)]
    )
    assert study.decoder.stop == ()


def test_shots_that_exceed_the_context_are_told_with_their_number(tmp_path: Path) -> None:
    path = write(tmp_path, [{"question": f"{n} + 1? " * 20, "answer": str(n)} for n in range(9)])
    settings = [f"data={path}", "prompt.shots=8", f"prompt.shots_data={path}"]
    with pytest.raises(UserError, match=r"do not fit the model's context.*lower prompt.shots"):
        infer(
            load(None, settings), [chat_checkpoint(tmp_path / "chat", max_position_embeddings=512)]
        )


def test_the_shot_in_reserve_counts_in_the_length_of_a_prompt(tmp_path: Path) -> None:
    """It is shown before the problems that are shots themselves, and may be the longest."""
    rows = [{"question": f"{n} + 1?", "answer": str(n + 1)} for n in range(9)]
    rows[0]["question"] = "0 + 1? " * 400
    path = write(tmp_path, rows)
    chat = chat_checkpoint(tmp_path / "chat", max_position_embeddings=512)
    settings = [f"task.test={write(tmp_path, rows[1:], 'test.jsonl')}", "prompt.shots=2"]
    studies = [
        load(None, [*settings, f"prompt.shots_data={path}", f"prompt.shots_seed={seed}"])
        for seed in range(20)
    ]
    (study, *_) = [s for s in studies if len(Evaluation.of(s).shots.ordered[-1][0]) > 1000]
    with pytest.raises(UserError, match=r"2 of 8 rows: test.jsonl line"):
        fitting(study, [chat], trains=False)

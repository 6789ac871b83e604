"""A base model of one's own: known by its fingerprint before it is there, and found when it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from forkdiv.core.config.study import DatasetConfig, PlaceConfig, PretrainConfig, SftConfig
from forkdiv.core.config.tasks import TaskConfig
from forkdiv.core.errors import UserError
from forkdiv.core.progress import Progress
from forkdiv.core.store import Store
from forkdiv.data import dataset
from forkdiv.models.checkpoint import check_vocabulary, open_checkpoint
from forkdiv.models.loading import load_model, load_tokenizer
from forkdiv.tasks.counterfactual_arithmetic import CounterfactualConfig
from forkdiv.tasks.graph_branching import GraphBranchingConfig
from forkdiv.tasks.registry import build
from forkdiv.tasks.search_modes import SearchModesConfig
from forkdiv.tasks.words_or_code import WordsOrCodeConfig
from forkdiv.train import sft_run
from forkdiv.train.pretrain import END, obtain_base, obtain_start, planned_base

TASK = GraphBranchingConfig()
SMALL = PretrainConfig(
    preset="micro-llama", examples=40, walks=2, sft=SftConfig(epochs=3, save_epochs=(1,))
)
WITH_WORDS: list[TaskConfig] = [
    TASK,
    GraphBranchingConfig(forks=2, valid=2, names=60),
    SearchModesConfig(),
    WordsOrCodeConfig(),
]


def with_(config: PretrainConfig, **values: Any) -> PretrainConfig:
    return PretrainConfig.model_validate(config.model_dump() | values)


def planned(task: TaskConfig, config: PretrainConfig) -> str:
    return planned_base(Store(Path("nowhere")), build(task), config).fingerprint


def test_planning_a_base_writes_no_files(tmp_path: Path) -> None:
    base = planned_base(Store(tmp_path), build(TASK), SMALL)
    assert not base.path.exists() and list(tmp_path.iterdir()) == []
    assert (
        planned_base(Store(tmp_path / "other"), build(TASK), SMALL).fingerprint == base.fingerprint
    )


def test_the_planned_base_is_the_base_that_is_trained(tmp_path: Path) -> None:
    store = Store(tmp_path)
    start = obtain_start(store, build(TASK), SMALL)
    walks = dataset.obtain_walks(store, build(TASK), SMALL, END)
    what = sft_run.identity(walks.fingerprint, start.fingerprint, SMALL.sft)
    assert planned_base(store, build(TASK), SMALL) == sft_run.planned(store, what, SMALL.sft)
    assert planned_base(store, build(TASK), SMALL).path.name == "epoch-0003"


def test_an_existing_base_is_reused(tmp_path: Path) -> None:
    store, progress = Store(tmp_path), Progress(tmp_path / "progress.jsonl")
    start = obtain_start(store, build(TASK), SMALL)
    walks = dataset.obtain_walks(store, build(TASK), SMALL, END)

    def make(folder: Path) -> None:
        for epoch in (1, 3):
            shutil.copytree(start.path, folder / f"epoch-{epoch:04d}")

    store.obtain(sft_run.identity(walks.fingerprint, start.fingerprint, SMALL.sft), make)
    # no Ray is running: whatever would be trained would fail
    found = obtain_base(store, build(TASK), SMALL, PlaceConfig(), progress)
    assert found == planned_base(store, build(TASK), SMALL)
    assert open_checkpoint(found.path).path.is_dir()


@pytest.mark.parametrize(
    "change",
    [
        {"preset": "tiny-llama"},
        {"examples": 41},
        {"walks": 3},
        {"direction": 0.5},
        {"seed": 1},
        {"sft": {"epochs": 4}},
        {"sft": {"epochs": 3, "save_epochs": (1,), "seed": 1}},
    ],
    ids=str,
)
def test_what_decides_a_base_is_its_fingerprint(change: dict[str, Any]) -> None:
    assert planned(TASK, with_(SMALL, **change)) != planned(TASK, SMALL)


@pytest.mark.parametrize(
    "change", [{"names": 20}, {"degree": 4, "names": 16}, {"valid": 2}, {"forks": 2, "names": 19}]
)
def test_another_family_of_graphs_has_another_base(change: dict[str, int]) -> None:
    other = GraphBranchingConfig.model_validate(change)
    assert planned(other, SMALL) != planned(TASK, SMALL)


def test_the_seed_of_heldout_problems_decides_no_base() -> None:
    assert planned(GraphBranchingConfig(seed=7), SMALL) == planned(TASK, SMALL)


def test_no_base_is_pretrained_for_a_task_in_natural_language() -> None:
    with pytest.raises(UserError, match="cannot pretrain a base model for this task"):
        planned(CounterfactualConfig(), SMALL)


# --- a base that goes on from another ---------------------------------------------------------


@pytest.fixture
def start(tmp_path: Path) -> Path:
    return obtain_start(Store(tmp_path / "first"), build(TASK), SMALL).path


def test_a_start_is_known_by_its_content_and_not_by_its_path(tmp_path: Path, start: Path) -> None:
    copy = Path(shutil.copytree(start, tmp_path / "copy"))
    first, second = (planned(TASK, with_(SMALL, start=path)) for path in (start, copy))
    assert first == second != planned(TASK, SMALL)
    notes = json.loads((copy / "config.json").read_text()) | {"max_position_embeddings": 256}
    (copy / "config.json").write_text(json.dumps(notes))
    assert planned(TASK, with_(SMALL, start=copy)) != first


def test_the_preset_has_no_effect_with_a_start(start: Path) -> None:
    tiny = with_(SMALL, start=start, preset="tiny-llama")
    assert planned(TASK, tiny) == planned(TASK, with_(SMALL, start=start))


def test_a_base_continues_from_an_unchanged_copy_of_its_start(tmp_path: Path, start: Path) -> None:
    held = obtain_start(Store(tmp_path / "store"), build(TASK), with_(SMALL, start=start))
    assert held.path.is_relative_to(tmp_path / "store")
    assert open_checkpoint(held.path).fingerprint == open_checkpoint(start).fingerprint


def test_the_planned_base_with_a_start_is_the_base_that_is_trained(
    tmp_path: Path, start: Path
) -> None:
    config, store = with_(SMALL, start=start), Store(tmp_path / "store")
    walks = dataset.obtain_walks(store, build(TASK), config, END)
    made = obtain_start(store, build(TASK), config)
    what = sft_run.identity(walks.fingerprint, made.fingerprint, config.sft)
    assert planned_base(store, build(TASK), config) == sft_run.planned(store, what, config.sft)


def test_a_start_that_lacks_words_of_the_task_is_refused(start: Path) -> None:
    with pytest.raises(UserError, match="lacks words of the task"):
        planned(GraphBranchingConfig(names=20), with_(SMALL, start=start))


def test_a_start_with_another_end_token_is_refused(start: Path) -> None:
    file = start / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token": "</s>"}))
    with pytest.raises(UserError, match="got </s>; allowed: <eos>"):
        planned(TASK, with_(SMALL, start=start))


# --- random weights -----------------------------------------------------------------------------


def test_random_weights_are_made_once_and_are_the_same_anywhere(tmp_path: Path) -> None:
    first, again = (obtain_start(Store(tmp_path / name), build(TASK), SMALL) for name in "ab")
    assert first.fingerprint == again.fingerprint
    assert open_checkpoint(first.path).fingerprint == open_checkpoint(again.path).fingerprint
    stat = (first.path / "model.safetensors").stat()
    assert obtain_start(Store(tmp_path / "a"), build(TASK), SMALL) == first
    assert (first.path / "model.safetensors").stat().st_mtime_ns == stat.st_mtime_ns


def test_random_weights_are_a_checkpoint_that_knows_its_task(tmp_path: Path) -> None:
    start = obtain_start(Store(tmp_path), build(TASK), SMALL)
    open_checkpoint(start.path)
    check_vocabulary(start.path, build(TASK).vocabulary())
    model, tokenizer = load_model(start.path), load_tokenizer(start.path)
    assert tokenizer.eos_token == END and model.config.eos_token_id == tokenizer.eos_token_id
    assert model.config.vocab_size == len(tokenizer)


def test_families_of_the_same_words_share_their_random_weights(tmp_path: Path) -> None:
    first, other, larger = (
        obtain_start(Store(tmp_path), build(task), SMALL)
        for task in (TASK, GraphBranchingConfig(valid=2), GraphBranchingConfig(names=20))
    )
    assert first == other != larger


def taken_apart(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The words that a tokenizer reads in a text, without what stands between them."""
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.unk_token_id not in ids and tokenizer.eos_token_id not in ids
    return "".join(tokenizer.convert_ids_to_tokens(ids))


@pytest.mark.parametrize("task", WITH_WORDS, ids=lambda task: task.kind)
def test_the_tokenizer_of_a_base_knows_all_that_its_task_says(
    tmp_path: Path, task: TaskConfig
) -> None:
    solver = build(task)
    tokenizer = load_tokenizer(obtain_start(Store(tmp_path), build(task), SMALL).path)
    texts = []
    for problem in solver.heldout("test", 8):
        texts += [problem.prompt, *(trace.text for trace in solver.solutions(problem))]
    for one in solver.sft_examples(DatasetConfig(examples=8)):
        texts += [one.prompt, one.response]
    for one in solver.walk_examples(PretrainConfig(examples=8, walks=2), END):
        texts += [one.prompt, *one.response.split(END)]
    for text in texts:
        assert taken_apart(tokenizer, text) == "".join(text.split())

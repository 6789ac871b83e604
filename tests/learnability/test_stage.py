"""The stage with runs that are not trained: table, masks, planted rows, unlabelled prompts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from forkdiv.core.config.load import load
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import UserError
from forkdiv.core.progress import Progress
from forkdiv.core.store import Artifact, Store
from forkdiv.data import dataset, token_table
from forkdiv.data.token_table import TokenClass
from forkdiv.forks.audit.audit import audit
from forkdiv.learnability import rounds, short_runs, stage, table
from forkdiv.learnability.evidence import Evidence
from forkdiv.models.checkpoint import Checkpoint, open_checkpoint
from forkdiv.tasks.registry import build
from forkdiv.train import sft_run
from tests.stack import BASE
from tuning.models import tuned_checkpoint

SETTINGS = ("dataset.examples=60", "learnability.runs=4", "learnability.near=1")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Artifact, Any, Artifact | None]]:
    """The data, settings and table of every short run; each "trained" run is the base itself."""
    calls: list[tuple[Artifact, Any, Artifact | None]] = []

    def obtain(
        store: Store, data: Artifact, start: Checkpoint, sft: Any, *_: Any, **more: Any
    ) -> Artifact:
        calls.append((data, sft, more["table"]))
        return data

    monkeypatch.setattr(sft_run, "obtain", obtain)
    monkeypatch.setattr(sft_run, "last", lambda run: open_checkpoint(BASE))
    return calls


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that learned every signed fork, and nothing at unsigned ones."""

    def of_runs(rows: Any, evidence: Evidence, pairs: Any, device: str) -> Evidence:
        signed = np.array(["!" in rows_text for rows_text in _texts(rows)])
        fork = np.repeat(signed, evidence.lengths) & (evidence.base < 0.9)
        sure = np.where(fork, 0.99, evidence.base)
        runs = np.stack([sure] * len(pairs), axis=1)
        # at a fork, the runs give the label nearly all, and the other tokens nothing
        position = np.repeat(np.arange(len(fork)), np.diff(evidence.distribution.starts))
        is_label = evidence.distribution.ids == evidence.labels[position]
        p = evidence.distribution.p.astype(float)
        likely = np.where(fork[position], np.where(is_label, 0.99, 0.0), p)
        return replace(evidence, heldout=runs, seen=runs, likely_heldout=likely, likely_seen=likely)

    monkeypatch.setattr(rounds, "of_runs", of_runs)


def _texts(rows: Any) -> list[str]:
    from forkdiv.models.loading import load_tokenizer

    tokenizer = load_tokenizer(BASE)
    return [tokenizer.decode(prompt) for prompt, _ in rows]


Made = tuple[Artifact, Artifact, StudyConfig]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Made]:
    def made(*overrides: str) -> Made:
        study = load(None, (*SETTINGS, f"base={BASE}", f"place.root={tmp_path}", *overrides))
        store, progress = Store(tmp_path / "store"), Progress(tmp_path / "progress.jsonl")
        data = dataset.obtain_sft(store, build(study.task), study.dataset)
        found = stage.obtain(store, study, data, open_checkpoint(BASE), progress)
        return found, data, study

    return made


def test_the_table_has_a_class_for_every_token_and_its_card_says_how_many(
    make: Callable[..., Made], trained: Any, oracle: None
) -> None:
    found, data, _ = make("learnability.planted=[]")
    examples = dataset.read(data.path)
    read = token_table.read(found.path)
    tokens = pq.read_table(found.path / token_table.TOKENS).to_pylist()
    card = table.read_card(found.path)
    assert len(read.lengths) == 60 and len(tokens) == len(read.labels)
    names = [TokenClass(kind).name.lower() for kind in read.classes]
    assert names == [token["class"] for token in tokens]
    for token in tokens:
        if token["class"] == "indecipherable":
            assert examples[token["row"]].subset == "unsigned"
    forks = {"learnable": 30, "indecipherable": 30}  # one fork in each example
    assert {name: card["classes"][name]["tokens"] for name in forks} == forks
    assert card["cost"] == {
        "runs": 4, "epochs": 8.0, "share_of_final_run": 2.0, "epochs_at_equal_cost": 12.0,
    }  # fmt: skip


def test_short_runs_get_halves_of_the_data_and_seeds_of_their_own(
    make: Callable[..., Made], trained: list[Any], oracle: None
) -> None:
    _, data, _ = make("learnability.planted=[]", "sft.save_epochs=[1]", "sft.loss=fork-aware")
    every = {example.prompt for example in dataset.read(data.path)}
    parts = [{row.prompt for row in dataset.read(part.path)} for part, _, _ in trained]
    assert len(parts) == 4
    for first, second in (parts[:2], parts[2:]):
        assert first | second == every and not first & second
    assert parts[0] != parts[2]
    assert len({sft.seed for _, sft, _ in trained}) == 4
    assert {sft.loss for _, sft, _ in trained} == {"cross-entropy"}
    assert {sft.epochs for _, sft, _ in trained} == {4} and not trained[0][1].save_epochs
    assert [given for *_, given in trained] == [None] * 4


def test_a_second_round_trains_on_the_classes_of_the_first(
    make: Callable[..., Made], trained: list[Any], oracle: None
) -> None:
    make("learnability.planted=[]", "learnability.rounds=2")
    assert len(trained) == 8
    for part, sft, given in trained[4:]:
        assert sft.loss == "fork-aware" and given is part
        classes = token_table.read(part.path)
        assert len(classes.lengths) == len(dataset.read(part.path)) == 30
        assert (classes.classes == TokenClass.INDECIPHERABLE).any()


def test_planted_coin_flips_are_answers_of_the_base_and_are_not_learnable(
    make: Callable[..., Made], trained: list[Any]
) -> None:
    found, data, _ = make("learnability.runs=2", "learnability.planted=[coin-flips]")
    parts = [dataset.read(part.path) for part, _, _ in trained]
    originals = {row.prompt: row.response for row in dataset.read(data.path)}
    planted = [row for part in parts[2:] for row in part]
    same = [row.response == originals[row.prompt] for row in planted]
    assert 50 < len(planted) <= 60 and 0.1 < np.mean(same) < 0.6  # three branches
    card = table.read_card(found.path)
    # runs that learned nothing gain nothing
    assert card["criterion"]["threshold"] is None
    coins = card["planted_called_learnable"]["coin-flips"]
    assert coins["hits"] == 0 and coins["of"] > 40
    assert any("planted coin flips, 0.0%" in line for line in table.sentences(card))


def test_planted_rules_are_the_same_whatever_the_seed(
    make: Callable[..., Made], trained: list[Any]
) -> None:
    def rules(*overrides: str) -> dict[str, str]:
        del trained[:]
        make("learnability.planted=[rules]", "learnability.runs=2", *overrides)
        rows = [row for part, _, _ in trained[2:] for row in dataset.read(part.path)]
        return {row.prompt: row.response for row in rows}

    first = rules()
    assert first == rules("learnability.seed=5") and len(first) > 50


@pytest.mark.parametrize("mask", ["in-sample", "random", "base-entropy", "exact", "none"])
def test_every_control_gives_a_table(
    mask: str, make: Callable[..., Made], trained: list[Any], oracle: None
) -> None:
    found, data, _ = make("learnability.planted=[]", f"learnability.mask={mask}")
    classes = token_table.read(found.path).classes
    left = int(np.isin(classes, token_table.LEFT_TO_THE_BASE).sum())
    assert left == (0 if mask == "none" else 30)
    assert len(trained) == (0 if mask in ("none", "exact") else 4)
    if mask == "exact":
        rows = pq.read_table(found.path / token_table.TOKENS).to_pylist()
        subsets = [example.subset for example in dataset.read(data.path)]
        found_in = [subsets[row["row"]] for row in rows if row["class"] == "indecipherable"]
        assert found_in == ["unsigned"] * 30


def test_unlabelled_prompts_follow_the_data_as_rows_of_their_own(
    make: Callable[..., Made], trained: list[Any], oracle: None, tmp_path: Path
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    data = list(
        build(load(None, ()).task).sft_examples(
            load(None, ("dataset.examples=7", "dataset.seed=9")).dataset
        )
    )
    lines = [json.dumps({"prompt": row.prompt, "completion": "x"}) for row in data]
    prompts.write_text("\n".join(lines))
    found, _, study = make("learnability.mask=none", f"learnability.prompts={prompts}")
    read = token_table.read(found.path)
    free = read.classes == TokenClass.FREE
    assert len(read.lengths) == 67 and free.sum() == read.lengths[60:].sum()
    assert table.read_card(found.path)["classes"]["free"]["tokens"] == free.sum()
    other = stage.identity(study, "d" * 32, open_checkpoint(BASE))
    prompts.write_text("\n".join(lines[1:]))
    assert stage.identity(study, "d" * 32, open_checkpoint(BASE)) != other


def test_an_audit_compares_the_table_with_the_exact_forks(
    make: Callable[..., Made], trained: list[Any], oracle: None
) -> None:
    found, data, study = make("learnability.planted=[]")
    config = study.audit.model_copy(update={"table": found.path, "ways": ("exact", "learnability")})
    examples = dataset.read(data.path)
    task = build(study.task)
    summary = audit(task, examples, config, study.prompt, BASE).summary
    against = summary["against_exact"]["learnability"]
    assert against["precision"]["hits"] == against["precision"]["of"] == 30
    assert against["recall"]["hits"] == against["recall"]["of"] == 30
    assert against["signed_left"]["hits"] == 0 and against["signed_left"]["of"] == 30
    with pytest.raises(UserError, match="of other data"):
        audit(task, examples[1:], config, study.prompt, BASE)


def test_the_planned_checkpoint_of_a_study_is_that_of_its_table(
    make: Callable[..., Made], trained: list[Any], oracle: None, tmp_path: Path
) -> None:
    found, data, study = make("learnability.planted=[]", "sft.loss=fork-aware")
    base, store = open_checkpoint(BASE), Store(tmp_path / "store")
    run = sft_run.identity(
        data.fingerprint, base.fingerprint, study.sft, study.prompt, table=found.fingerprint
    )
    planned = tuned_checkpoint(study, base, store)
    assert planned.path.parent == store.path(run)
    plain = load(None, ("dataset.examples=60", f"base={BASE}"))
    fewer = load(None, ("dataset.examples=60", f"base={BASE}", "learnability.runs=2"))
    assert tuned_checkpoint(plain, base, store) == tuned_checkpoint(fewer, base, store)


def test_only_an_even_number_of_runs_is_allowed() -> None:
    with pytest.raises(UserError, match="even numbers"):
        load(None, ("learnability.runs=3",))


def test_the_table_is_part_of_a_runs_identity_and_its_settings_of_a_studys() -> None:
    from forkdiv.coverage import summary as study_summary

    def of(*overrides: str) -> str:
        base = Checkpoint(BASE, "b" * 32)
        return study_summary.identity(load(None, overrides), base).fingerprint

    assert of("learnability.runs=2") == of()
    assert of("sft.loss=fork-aware", "learnability.runs=2") != of("sft.loss=fork-aware")
    config = short_runs.short(load(None, ()).sft, load(None, ()).learnability)
    assert config.loss == "cross-entropy"

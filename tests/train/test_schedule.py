"""The plan of a fine-tuning run: which rows make which step, and what each rank computes of it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from forkdiv.core.config.load import load
from forkdiv.core.config.study import PlaceConfig, PromptConfig, SftConfig, StudyConfig
from forkdiv.core.errors import UserError
from forkdiv.core.fingerprint import Identity
from forkdiv.core.store import Artifact, Store
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.models.loading import new_model, word_tokenizer
from forkdiv.models.prompting import encode
from forkdiv.models.saved import SAVES
from forkdiv.tasks.registry import build
from forkdiv.train import log, schedule, sft_run
from forkdiv.train.loss_forward import end_in_loss
from forkdiv.train.losses.registry import LOSSES
from forkdiv.train.worker import Worker
from tests.fakes import TASK
from tests.train.logits import WITHOUT_TABLE

Rows = list[tuple[list[int], list[int]]]

PLACE = PlaceConfig()
NO_ENDS = torch.tensor([], dtype=torch.long)

TOKENIZER = word_tokenizer(build(TASK).vocabulary(), "<eos>")


def plan(examples: int, **config: Any) -> list[schedule.Batch]:
    return list(schedule.batches(examples, SftConfig.model_validate(config)))


def order(batches: list[schedule.Batch], epoch: int) -> list[int]:
    return [row for batch in batches if batch.epoch == epoch for row in batch.rows]


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 4), st.integers(0, 9))
def test_every_example_comes_once_an_epoch(
    examples: int, batch_size: int, epochs: int, seed: int
) -> None:
    batches = plan(examples, batch_size=batch_size, epochs=epochs, seed=seed)
    for epoch in range(1, epochs + 1):
        assert Counter(order(batches, epoch)) == Counter(range(examples))
        sizes = [len(batch.rows) for batch in batches if batch.epoch == epoch]
        assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
        assert 0 < sizes[-1] <= batch_size
    assert [batch.step for batch in batches] == list(range(1, len(batches) + 1))


def test_a_short_last_batch_is_kept() -> None:
    sizes = [len(batch.rows) for batch in plan(70, batch_size=32, epochs=2)]
    assert sizes == [32, 32, 6, 32, 32, 6]


def test_the_order_follows_from_the_seed_and_changes_with_it_and_with_the_epoch() -> None:
    one, same, other = (plan(64, epochs=2, seed=seed) for seed in (0, 0, 1))
    assert one == same
    assert order(one, 1) != order(one, 2)
    assert order(one, 1) != order(other, 1)
    assert order(one, 1) != list(range(64))


def test_more_epochs_begin_with_the_same_steps() -> None:
    few, many = plan(50, epochs=2), plan(50, epochs=5)
    assert many[: len(few)] == few


@pytest.mark.parametrize("steps", [1, 2, 7, 100, 1000])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.5])
def test_the_learning_rate_rises_then_falls_and_is_never_zero(steps: int, warmup: float) -> None:
    config = SftConfig(learning_rate=1e-3, warmup_share=warmup)
    rates = [schedule.learning_rate(step, steps, config) for step in range(1, steps + 1)]
    assert all(0 < rate <= 1e-3 for rate in rates)
    top = rates.index(max(rates))
    assert top + 1 <= max(warmup * steps + 1, 1)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_the_learning_rate_without_warm_up_is_a_half_cosine() -> None:
    config = SftConfig(learning_rate=2.0, warmup_share=0)
    rates = [schedule.learning_rate(step, 4, config) for step in (1, 2, 3, 4)]
    assert rates == pytest.approx([2.0, 1.7071068, 1.0, 0.2928932])


def named(examples: int, **config: Any) -> list[str]:
    return [one.name for one in schedule.saves(examples, SftConfig.model_validate(config))]


def test_the_end_is_always_saved() -> None:
    assert named(64, epochs=8) == ["epoch-0008"]
    assert named(64, epochs=8, save_epochs=(8, 2)) == ["epoch-0002", "epoch-0008"]


def test_checkpoints_at_steps_say_what_part_of_an_epoch_they_are_of() -> None:
    """70 examples in batches of 32 are three steps an epoch."""
    config = SftConfig(epochs=2, save_steps=(1, 3), save_every=4)
    found = [(one.name, one.epoch) for one in schedule.saves(70, config)]
    assert found == [
        ("step-000001", 1 / 3),
        ("epoch-0001", 1.0),
        ("step-000004", 4 / 3),
        ("epoch-0002", 2.0),
    ]


@given(st.integers(1, 200), st.integers(1, 20), st.integers(1, 4), st.integers(1, 30))
def test_every_save_is_at_a_step_of_the_plan_and_the_last_at_its_last(
    examples: int, batch_size: int, epochs: int, every: int
) -> None:
    config = SftConfig(epochs=epochs, batch_size=batch_size, save_every=every, keep=2)
    steps = {batch.step: batch for batch in schedule.batches(examples, config)}
    saves = schedule.saves(examples, config)
    assert [one.step for one in saves] == sorted({*range(every, len(steps), every), len(steps)})
    assert all(steps[one.step].epoch - 1 < one.epoch <= steps[one.step].epoch for one in saves)
    assert schedule.retained(examples, config) == saves[-2:]


def test_a_step_beyond_the_end_is_refused() -> None:
    with pytest.raises(UserError, match="1 to 6: 2 epochs of 3 steps, 70 examples"):
        named(70, epochs=2, save_steps=(7,))


def run_of(
    sft: SftConfig, data: str = "d", start: str = "s", prompt: PromptConfig | None = None
) -> Identity:
    return sft_run.identity(data, start, sft, prompt or PromptConfig())


@pytest.mark.parametrize(
    ("every", "steps"), [(None, {3, 6}), (2, {2, 3, 4, 6, 8}), (9, {3, 6}), (100, {3, 6})]
)
def test_states_are_saved_at_the_ends_of_epochs_and_regularly_but_not_at_the_end(
    every: int | None, steps: set[int]
) -> None:
    three_epochs_of_three_steps = plan(5, epochs=3, batch_size=2)
    assert schedule.saved_states(three_epochs_of_three_steps, every) == steps


def test_place_is_not_part_of_a_runs_identity() -> None:
    places = [
        "place.workers=4",
        "place.zero_stage=3",
        "place.device=gpu",
        "place.max_failures=9",
        "place.cpus_per_worker=2",
        "place.micro_batch=4",
        "place.pack_tokens=512",
        "place.activation_checkpointing=true",
        "place.offload=optimizer",
        "place.resume_every=5",
        "place.keep_states=2",
        "place.overlap=false",
    ]
    studies = [load(None), *(load(None, [place]) for place in places)]

    def of(study: StudyConfig) -> str:
        return run_of(study.sft, prompt=study.prompt).fingerprint

    assert len({of(study) for study in studies}) == 1


@pytest.mark.parametrize(
    "override",
    [
        "sft.epochs=5",
        "sft.batch_size=16",
        "sft.learning_rate=0.002",
        "sft.seed=1",
        "sft.dtype=bfloat16",
        "sft.save_epochs=[2]",
        "sft.save_steps=[2]",
        "sft.save_every=2",
        "sft.keep=1",
        "sft.loss=gem",
        "sft.lora.rank=4",
    ],
)
def test_settings_that_decide_a_run_are_part_of_its_identity(override: str) -> None:
    plain, changed = load(None).sft, load(None, [override]).sft
    assert run_of(plain).fingerprint != run_of(changed).fingerprint


def test_the_settings_of_the_loss_in_use_decide_a_run_and_those_of_others_do_not() -> None:
    def of(*overrides: str) -> str:
        return run_of(load(None, overrides).sft).fingerprint

    own = {
        "label-smoothing": "sft.smoothing=0.2",
        "gem": "sft.gem_beta=0.5",
        "dco": "sft.dco_n=4",
        "fork-aware": "sft.fork_aware.kl=0.5",
    }
    for loss in LOSSES:
        plain = of(f"sft.loss={loss}")
        for owner, setting in own.items():
            assert (of(f"sft.loss={loss}", setting) != plain) == (owner == loss)
    assert of("sft.loss=dco", "sft.dco_per=token") != of("sft.loss=dco")


def test_data_start_and_prompt_decide_a_run() -> None:
    sft = SftConfig()
    others = [
        run_of(sft),
        run_of(sft, data="e"),
        run_of(sft, start="t"),
        run_of(sft, data="s", start="d"),
        run_of(sft, prompt=PromptConfig(template="plain")),
        run_of(sft, prompt=PromptConfig(template="chat", system="Be brief.")),
    ]
    assert len({one.fingerprint for one in others}) == len(others)


def test_a_planned_run_names_its_last_checkpoint(tmp_path: Path) -> None:
    store, config = Store(tmp_path), SftConfig(epochs=12, save_epochs=(3,))
    what = run_of(config)

    def make(folder: Path) -> None:
        for save in schedule.saves(100, config):
            (folder / save.name).mkdir()
            (folder / save.name / "config.json").write_text("{}")

    planned = sft_run.planned(store, what, config)
    assert not planned.path.exists()
    assert sft_run.last(store.obtain(what, make)) == planned
    assert planned.path.is_dir()


class OneRank:
    """As much of a DeepSpeed engine as a step asks for; its gradients stay in the model."""

    device = torch.device("cpu")

    def __init__(self, model: Any) -> None:
        self.model = self.module = model
        self.boundaries: list[bool] = []
        self.steps = 0

    def __call__(self, **inputs: Any) -> Any:
        return self.model(**inputs)

    def set_gradient_accumulation_boundary(self, is_boundary: bool) -> None:
        self.boundaries.append(is_boundary)

    def backward(self, loss: torch.Tensor, scale_wrt_gas: bool) -> None:
        assert not scale_wrt_gas
        loss.backward()  # type: ignore[no-untyped-call]

    def step(self) -> None:
        self.steps += 1


def stepped(
    model: Any, rows: Rows, rank: int, world: int, place: PlaceConfig = PLACE, **sft: Any
) -> tuple[float, int, dict[str, torch.Tensor], OneRank]:
    """One rank's step on all rows: its loss, tokens and gradient, and the engine."""
    engine = OneRank(model)
    config = SftConfig.model_validate(sft)
    model.zero_grad()
    worker = Worker(engine, rows, NO_ENDS, config, place, rank, world)
    end_in_loss(model)
    loss, tokens = worker.step(range(len(rows)))
    del model.forward
    return loss.item(), tokens, gradients(model), engine


def mixed_rows(count: int) -> Rows:
    """Prompts and responses of different lengths."""
    task = build(TASK)
    rows = []
    for i, problem in enumerate(task.heldout("train", count + count % 2)[:count]):
        words = problem.prompt.split()
        prompt = " ".join(words[: 1 + i % 3] + words[-5:])
        response = " ".join(task.solutions(problem)[0].text.split()[: 1 + i % 4])
        rows.append(encode(TOKENIZER, prompt, response, PromptConfig()))
    return rows


def gradient(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return gradients(model)


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def full_batch_loss(model: Any, rows: Rows) -> torch.Tensor:
    """The mean over all response tokens, row by row without padding."""
    losses = []
    for prompt, response in rows:
        logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
        steps = torch.log_softmax(logits.double(), dim=-1)
        losses += [-steps[i, token] for i, token in enumerate(response)]
    return torch.stack(losses).mean()


@pytest.mark.parametrize("place", [PLACE, PlaceConfig(micro_batch=1), PlaceConfig(pack_tokens=64)])
@pytest.mark.parametrize(
    ("count", "world"), [(8, 1), (8, 2), (7, 2), (8, 4), (3, 4), (1, 2), (1, 4), (5, 3)]
)
def test_averaged_over_ranks_loss_and_gradient_are_those_of_the_whole_batch(
    count: int, world: int, place: PlaceConfig
) -> None:
    rows = mixed_rows(count)
    assert count == 1 or len({len(prompt) + len(response) for prompt, response in rows}) > 1
    model = new_model("micro-llama", TOKENIZER, 0)
    whole = full_batch_loss(model, rows)
    expected = gradient(model, whole)
    parts, found = [], []
    for rank in range(world):
        loss, tokens, own, engine = stepped(model, rows, rank, world, place)
        assert tokens == sum(len(response) for _, response in rows)
        assert engine.steps == 1 and engine.boundaries[-1]
        assert not any(engine.boundaries[:-1])  # exchanged once, in the last pass
        assert len(engine.boundaries) == (-(-count // world) if place.micro_batch else 1)
        parts.append(loss)
        found.append(own)
    assert sum(parts) / world == pytest.approx(whole.item(), rel=1e-5)
    for name, value in expected.items():
        averaged = torch.stack([part[name] for part in found]).mean(dim=0)
        torch.testing.assert_close(averaged, value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("world", [1, 3])
def test_every_rank_computes_its_logits_in_as_many_parts_as_the_largest_share_needs(
    world: int,
) -> None:
    """ZeRO-3 gathers the output layer for each part: with other numbers it would wait for ever."""
    rows = mixed_rows(7)
    model = new_model("micro-llama", TOKENIZER, 0)
    vocabulary = model.config.vocab_size
    place = PlaceConfig(logits_gib=4 * vocabulary * 4 / 2**30)  # four tokens at once
    shares = [sum(len(r) for _, r in rows[rank::world]) for rank in range(world)]
    tokens: list[int] = []
    model.lm_head.register_forward_hook(lambda _, given, __: tokens.append(given[0].shape[-2]))
    for share in shares:
        rank = shares.index(share)
        tokens.clear()
        stepped(model, rows, rank, world, place)
        assert len(tokens) == 2 * -(-max(shares) // 4)  # each again in the backward pass
        assert sum(tokens) == 2 * share and max(tokens) <= 4


@pytest.mark.parametrize("loss_name", WITHOUT_TABLE)
def test_a_rank_without_rows_has_zero_loss_and_gradients(loss_name: str) -> None:
    model = new_model("micro-llama", TOKENIZER, 0)
    loss, _, found, _ = stepped(model, mixed_rows(2), 3, 4, loss=loss_name)
    assert loss == 0
    assert found and all(not grad.any() for grad in found.values())


def test_a_log_keeps_the_last_row_of_a_step_that_was_repeated(tmp_path: Path) -> None:
    lines = [
        '{"event": "worker", "step": 0}',
        '{"event": "step", "step": 5, "loss": 2.0}',
        '{"event": "step", "step": 10, "loss": 1.5}',
        '{"event": "worker", "step": 0}',
        '{"event": "step", "step": 5, "loss": 1.9}',
    ]
    (tmp_path / log.LOG).write_text("\n".join(lines) + "\n")
    read = [(row["step"], row["loss"]) for row in log.read_log(tmp_path)]
    assert read == [(5, 1.9), (10, 1.5)]


def test_checkpoints_come_in_the_order_of_their_epochs(tmp_path: Path) -> None:
    for name in ("epoch-0016", "epoch-0002", "epoch-0004"):
        save(tmp_path / name)
    run = Artifact(tmp_path, {"fingerprint": "f"})
    assert list(sft_run.checkpoints(run)) == [2, 4, 16]
    assert sft_run.last(run) == Checkpoint(tmp_path / "epoch-0016", "f-epoch-0016")


def test_checkpoints_between_epochs_come_where_the_run_says(tmp_path: Path) -> None:
    saves = {"epoch-0002": 2.0, "step-000004": 4 / 3, "step-000001": 1 / 3}
    for name in saves:
        save(tmp_path / name)
    (tmp_path / SAVES).write_text(json.dumps(saves))
    found = sft_run.checkpoints(Artifact(tmp_path, {"fingerprint": "f"}))
    assert {epoch: one.fingerprint for epoch, one in found.items()} == {
        0.3333: "f-step-000001",
        1.3333: "f-step-000004",
        2: "f-epoch-0002",
    }


def save(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text("{}")

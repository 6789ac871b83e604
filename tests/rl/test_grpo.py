"""TRL's trainer with our episodes: its objective, its interface, its stops, and how it resumes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from forkdiv.core.config.decoder import DecoderConfig
from forkdiv.core.config.rl import RlConfig
from forkdiv.core.config.study import DatasetConfig, PlaceConfig, StudyConfig
from forkdiv.core.errors import InvalidResult
from forkdiv.core.progress import Progress
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.models.loading import load_model, load_tokenizer
from forkdiv.models.saved import saved_checkpoints
from forkdiv.rl import episodes
from forkdiv.rl.grpo import RunStopped, Trainer, grpo_config, last_state
from forkdiv.rl.meter import Meter, read_log
from forkdiv.rl.prompts import Schedule, problems
from forkdiv.rl.rewards import Rewards
from forkdiv.rl.sampling import Sampling
from forkdiv.rl.weights import Weights
from forkdiv.tasks.registry import build
from tests.rl.local_sampler import LocalSampler
from tests.stack import BASE

TASK = build(StudyConfig().task)
SETTINGS: dict[str, Any] = {
    "iterations": 3,
    "episodes": 16,
    "group": 4,
    "learning_rate": 3e-4,
    "save_state_every": 2,
    "seed": 1,
}
Run = Callable[..., Trainer]


@pytest.fixture(scope="module")
def rewards() -> Any:
    with Rewards(TASK) as grading:
        yield grading


@pytest.fixture
def trainer(tmp_path: Path, rewards: Rewards) -> Run:
    def make(
        folder: str = "run", sampler: LocalSampler | None = None, micro: int = 16, **settings: Any
    ) -> Trainer:
        config = RlConfig(**{**SETTINGS, **settings})
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        decoder = DecoderConfig(temperature=config.temperature, max_new_tokens=8)
        found = problems(TASK, DatasetConfig(examples=20), config)
        schedule = Schedule(found, config)
        asked = {problem.id: problem.prompt for problem in found}
        sampling = Sampling(
            "run", schedule, asked, decoder, sampler or LocalSampler(), rewards, root / "episodes"
        )
        torch.manual_seed(0)
        model: Any = load_model(BASE)
        model.config._name_or_path = str(BASE)
        weights = Weights(model, BASE, root / "weights")
        return Trainer(
            model=model,
            tokenizer=load_tokenizer(BASE),
            start=Checkpoint(BASE, "base"),
            config=config,
            arguments=grpo_config(config, decoder, PlaceConfig(), root / "states", micro),
            sampling=sampling,
            weights=weights,
            meter=Meter(root / "log.jsonl", config, Progress(root / "progress.jsonl")),
            keep=lambda name: weights.keep(root / name),
        )

    return make


def batches_of(run: Trainer) -> list[Any]:
    """The tensors of each forward pass, as they come."""
    seen: list[Any] = []
    whole = run._compute_loss

    def noting(model: Any, inputs: Any) -> Any:
        seen.append(inputs)
        return whole(model, inputs)

    run.__dict__["_compute_loss"] = noting
    return seen


def reference_loss(
    model: Any, iteration: episodes.Iteration, config: RlConfig, advantages: list[float]
) -> torch.Tensor:
    """The objective of GRPO in float64, written from its definition: one step on the weights that
    were sampled, so that every probability ratio is 1 in value (arXiv 2402.03300, equation 3), with
    the unbiased KL term (the ratio times the estimator)."""
    reference = load_model(BASE).double()
    losses, tokens = [], []
    for episode, advantage in zip(iteration.episodes, advantages, strict=True):
        ids = torch.tensor([episode.prompt_ids + episode.token_ids])
        size = len(episode.token_ids)

        def logps(scored: Any, ids: Any = ids, size: int = size) -> torch.Tensor:
            logits = scored(input_ids=ids).logits[0, -size - 1 : -1] / config.temperature
            found: torch.Tensor = torch.log_softmax(logits, -1)[range(size), ids[0, -size:]]
            return found

        policy = logps(model)
        with torch.no_grad():
            fixed = logps(reference)
        ratio = torch.exp(policy - policy.detach())
        kl = (torch.exp(fixed - policy) - (fixed - policy) - 1) * ratio
        losses.append(-(ratio * advantage) + config.kl * kl)
        tokens.append(size)
    if config.loss == "grpo":
        return torch.stack([loss.mean() for loss in losses]).mean()
    return torch.cat(losses).sum() / sum(tokens)


def standardized(iteration: episodes.Iteration) -> list[float]:
    """GRPO's advantages, with the standard deviation of a sample and TRL's 1e-4."""
    found: list[float] = []
    for group in iteration.groups():
        values = np.array([one.reward for one in group], float)
        found += list((values - values.mean()) / (values.std(ddof=1) + 1e-4))
    return found


@pytest.mark.parametrize("loss", ["grpo", "dapo"])
@pytest.mark.parametrize("micro", [16, 4])
def test_the_objective_and_its_gradient_are_those_of_a_float64_reference(
    trainer: Run, tmp_path: Path, loss: str, micro: int
) -> None:
    kept: list[dict[str, torch.Tensor]] = []

    class Noting(Trainer):
        def check_divergence(self) -> None:
            super().check_divergence()
            named = self.model.named_parameters()
            kept.append({name: each.grad.clone() for name, each in named})

    run = trainer(micro=micro, iterations=2, loss=loss, kl=0.5, grad_clip=1e9, temperature=0.8)
    run.__class__ = Noting
    run.train()
    second = episodes.read(tmp_path / "run/episodes", 2)
    assert second is not None and len(set(second.rewards)) == 2
    # the weights before the second iteration, so that the KL divergence is not 0
    (folder,) = (tmp_path / "run/weights").iterdir()
    model = load_model(folder).double()
    wanted = reference_loss(model, second, run._rl, standardized(second))
    torch.autograd.backward([wanted])
    assert read_log(tmp_path / "run")[1]["loss"] == pytest.approx(float(wanted), abs=2e-5)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        difference = (kept[1][name].double() - parameter.grad).norm()
        assert difference < 1e-4 * parameter.grad.norm() + 1e-7, name


def test_trl_trains_on_exactly_the_tokens_of_the_engine_and_logs_what_is_watched(
    trainer: Run, tmp_path: Path
) -> None:
    run = trainer(save_iterations=[1])
    seen = batches_of(run)
    run.train()
    drawn = [episodes.read(tmp_path / "run/episodes", number) for number in (1, 2, 3)]
    for inputs, iteration in zip(seen, drawn, strict=True):
        assert iteration is not None
        both = zip(inputs["completion_ids"], inputs["completion_mask"].bool(), strict=True)
        trained = sorted(row[mask].tolist() for row, mask in both)
        assert trained == sorted(one.token_ids for one in iteration.episodes)
    rows = read_log(tmp_path / "run")
    assert [row["iteration"] for row in rows] == [1, 2, 3]
    assert rows[0]["reward"] == pytest.approx(np.mean(drawn[0].rewards))  # type: ignore[union-attr]
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-6) and rows[2]["kl"] > 0
    for row in rows:
        assert 0 < row["divergence"] < 1e-5 and row["divergence_max"] < 1e-4
        assert 0 <= row["no_signal"] < 1 and row["entropy"] > 0 and row["length"] > 3
        seconds = {name: row[f"seconds/{name}"] for name in ("optimizer", "other", "total")}
        assert all(value > 0 for value in seconds.values()), seconds
    lines = [
        json.loads(line) for line in (tmp_path / "run/progress.jsonl").read_text().splitlines()
    ]
    assert "rl: iteration 1/3, reward" in lines[0]["message"]
    # checkpoints are ordinary folders, with the small files of the start
    unit, saved = saved_checkpoints(tmp_path / "run", "step-*")
    assert (unit, list(saved)) == ("step", [1, 3])
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (saved[3] / name).read_bytes() == (BASE / name).read_bytes()
    assert (
        load_file(saved[3] / "model.safetensors").keys()
        == load_file(BASE / "model.safetensors").keys()
    )


def test_a_run_that_goes_on_from_a_state_has_the_same_rewards_and_weights(
    trainer: Run, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"iterations": 5, "save_state_every": 2}
    trainer("whole", **settings).train()
    killed = trainer("killed", **settings)

    class Killed(Exception):
        pass

    sampling = killed._sampling
    draw = sampling.episodes

    def dies(number: int, weights: Checkpoint) -> Any:
        drawn = draw(number, weights)  # stored, and then the process ends
        if number == 4:
            raise Killed
        return drawn

    sampling.__dict__["episodes"] = dies
    with pytest.raises(Killed):
        killed.train()
    root = tmp_path / "killed"
    (root / "states/checkpoint-3").mkdir()  # a state that the kill left incomplete
    state = last_state(root / "states")
    assert state is not None and state.name == "checkpoint-2"
    sampler = LocalSampler()
    resumed = trainer("killed", sampler, **settings)
    shutil.rmtree(root / "states/checkpoint-3")
    resumed.train(resume_from_checkpoint=str(state))
    # iterations 3 and 4 were stored; only the fifth was drawn
    assert sampler.asked == 4
    whole, after = (read_log(tmp_path / name) for name in ("whole", "killed"))
    assert [row["reward"] for row in after] == [row["reward"] for row in whole]
    assert [row["kl"] for row in after] == [row["kl"] for row in whole]
    weights = [load_file(tmp_path / name / "step-000005/model.safetensors") for name in
               ("whole", "killed")]  # fmt: skip
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_episodes_of_other_weights_are_drawn_again(trainer: Run, tmp_path: Path) -> None:
    trainer(iterations=1).train()
    stored = tmp_path / "run/episodes/000001.json"
    changed = json.loads(stored.read_text()) | {"weights": "others"}
    stored.write_text(json.dumps(changed))
    sampler = LocalSampler()
    trainer(sampler=sampler, iterations=1).train()
    assert sampler.asked == 4


def test_an_engine_that_computes_otherwise_stops_the_run_before_the_step(
    trainer: Run, tmp_path: Path
) -> None:
    run = trainer(sampler=LocalSampler(shift=0.3), max_divergence=0.2)
    with pytest.raises(RunStopped, match=r"0.3 nats on average .*allowed: 0.2") as stopped:
        run.train()
    assert stopped.value.iteration == 1
    before, after = load_model(BASE).state_dict(), run.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_log_probabilities_that_are_nan_stop_the_run(trainer: Run) -> None:
    with pytest.raises(RunStopped, match="nan nats on average"):
        trainer(sampler=LocalSampler(shift=float("nan"))).train()


def test_a_loss_that_is_nan_stops_the_run_with_its_iteration(trainer: Run) -> None:
    run = trainer()
    run.__dict__["_generate_and_score_completions"] = _with_nan(run._generate_and_score_completions)
    with pytest.raises(RunStopped, match="the loss became NaN or infinite") as stopped:
        run.train()
    assert stopped.value.iteration == 1


def _with_nan(score: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def scored(inputs: Any) -> dict[str, Any]:
        batch = score(inputs)
        return batch | {"advantages": batch["advantages"] * float("nan")}

    return scored


def test_weights_that_are_infinite_reach_no_engine(trainer: Run) -> None:
    with pytest.raises(InvalidResult, match=r"weights became NaN or infinite .*rl.learning_rate"):
        trainer(learning_rate=1e39).train()


def test_a_grader_that_never_says_correct_stops_the_run_at_the_first_iteration(
    trainer: Run, rewards: Rewards
) -> None:
    run = trainer()
    never = Rewards(TASK)
    graded = never.of

    def nonsense(responses: Any, group: int) -> Any:
        return graded([(problem, "nonsense", finish) for problem, _, finish in responses], group)

    never.__dict__["of"] = nonsense
    run._sampling.rewards = never
    with never, pytest.raises(RunStopped, match=r"no response .*16 unparsable") as stopped:
        run.train()
    assert stopped.value.iteration == 1


def test_a_group_that_is_left_out_moves_no_weight(trainer: Run, rewards: Rewards) -> None:
    run = trainer(iterations=1, kl=0.5)
    left_out = Rewards(TASK)
    graded = left_out.of

    def failing(responses: Any, group: int) -> Any:
        found = graded(responses, group)
        kept = found.rewards.index(1.0) // group
        rewards = [reward if i // group == kept else None for i, reward in enumerate(found.rewards)]
        return replace(found, rewards=rewards)

    left_out.__dict__["of"] = failing
    run._sampling.rewards = left_out
    seen = batches_of(run)
    with left_out:
        run.train()
    (inputs,) = seen
    assert int(inputs["completion_mask"].sum(-1).bool().sum()) == 4
    used = inputs["completion_mask"].sum(-1).bool()
    assert torch.all(inputs["advantages"][~used] == 0)
    assert inputs["num_items_in_batch"] == inputs["completion_mask"].sum()


def test_the_advantages_of_pass_at_k_replace_those_of_trl(trainer: Run, tmp_path: Path) -> None:
    from forkdiv.rl.advantages import pass_at_k

    run = trainer(iterations=1, advantage="pass-at-k", k=2)
    seen = batches_of(run)
    run.train()
    first = episodes.read(tmp_path / "run/episodes", 1)
    assert first is not None
    wanted = np.concatenate([pass_at_k(np.array([e.reward for e in g]), 2) for g in first.groups()])
    np.testing.assert_allclose(sorted(seen[0]["advantages"].tolist()), sorted(wanted), atol=1e-6)


def test_entropy_settings_reach_trl(trainer: Run, tmp_path: Path) -> None:
    run = trainer(iterations=1, entropy_bonus=0.5, top_entropy=0.2, min_p=0.05)
    assert (run.entropy_coef, run.top_entropy_quantile, run.min_p) == (0.5, 0.2, 0.05)
    run.train()
    plain = trainer("plain", iterations=1)
    plain.train()
    losses = [read_log(tmp_path / name)[0]["loss"] for name in ("run", "plain")]
    entropy = read_log(tmp_path / "plain")[0]["entropy"]
    assert losses[0] < losses[1] - 0.2 * entropy

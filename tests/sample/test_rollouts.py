"""Episodes of the real engine: its log-probabilities are the model's, also after every swap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from forkdiv.core.config.decoder import DecoderConfig
from forkdiv.core.config.rl import RlConfig
from forkdiv.core.config.study import DatasetConfig, PlaceConfig
from forkdiv.core.progress import Progress
from forkdiv.models.asked import own_tokenizer
from forkdiv.models.checkpoint import open_checkpoint
from forkdiv.models.loading import load_model, load_tokenizer, sequence_logprobs
from forkdiv.rl.grpo import Trainer, grpo_config
from forkdiv.rl.meter import Meter, read_log
from forkdiv.rl.prompts import Schedule, problems
from forkdiv.rl.rewards import Rewards
from forkdiv.rl.sampling import Sampling
from forkdiv.rl.weights import Weights
from forkdiv.sample.sample_sets import Request, Response, Rollouts
from forkdiv.tasks.registry import build
from tests.serving import STUDY, Engine
from tests.stack import BASE

pytestmark = pytest.mark.stack
TASK = build(STUDY.task)


@pytest.mark.parametrize(("temperature", "most", "end"), [(1.0, 8, "stop"), (0.5, 3, "length")])
def test_rollouts_have_their_end_tokens_and_the_models_log_probabilities(
    engine: Engine, temperature: float, most: int, end: str
) -> None:
    asked = [Request(problem, 0, 8, 100 * i) for i, problem in enumerate(TASK.heldout("test", 4))]
    decoder = DecoderConfig(temperature=temperature, max_new_tokens=most)
    base = engine.served["base"]
    found = list(engine.sampler.rollouts(base, decoder, asked))
    plain = list(engine.sampler.sample(base, decoder, asked))
    assert len(found) == 4
    ends = own_tokenizer(BASE).ends
    finishes = set()
    for rollouts in found:
        assert isinstance(rollouts, Rollouts)
        (same,) = [one for one in plain if one.request == rollouts.request]
        assert isinstance(same, Response)
        rows = zip(rollouts.samples, rollouts.logprobs, same.samples, strict=True)
        for sample, logprobs, (ids, text, finish) in rows:
            finishes.add(finish)
            # the samples of `sample`, with the end token
            assert sample[1:] == (text, finish)
            assert tuple(sample[0])[: len(ids)] == tuple(ids)
            assert (tuple(sample[0])[len(ids) :] in {(token,) for token in ends}) == (
                finish == "stop"
            )
            whole = [*rollouts.prompt_ids, *sample[0]]
            wanted = sequence_logprobs(BASE, [whole], "float32")[-len(sample[0]) :]
            assert list(logprobs) == pytest.approx(list(wanted), abs=1e-5)
    assert finishes == {end}


def test_the_trainer_and_the_engine_agree_in_every_iteration(
    engine: Engine, tmp_path: Path
) -> None:
    config = RlConfig(iterations=4, episodes=16, learning_rate=3e-4, temperature=0.9)
    decoder = DecoderConfig(temperature=0.9, max_new_tokens=8)
    found = problems(TASK, DatasetConfig(examples=20), config)
    model: Any = load_model(BASE)
    model.config._name_or_path = str(BASE)
    with Rewards(TASK) as rewards:
        Trainer(
            model=model,
            tokenizer=load_tokenizer(BASE),
            start=open_checkpoint(BASE),
            config=config,
            arguments=grpo_config(config, decoder, PlaceConfig(), tmp_path / "states", 16),
            sampling=Sampling(
                run="run",
                schedule=Schedule(found, config),
                asked={problem.id: problem.prompt for problem in found},
                decoder=decoder,
                sampler=engine.sampler,
                rewards=rewards,
                folder=tmp_path / "episodes",
            ),
            weights=Weights(model, BASE, tmp_path / "weights"),
            meter=Meter(tmp_path / "log.jsonl", config, Progress(tmp_path / "progress.jsonl")),
            keep=lambda name: None,
        ).train()
    rows = read_log(tmp_path)
    assert [row["iteration"] for row in rows] == [1, 2, 3, 4]
    assert all(0 < row["divergence"] < 1e-5 for row in rows)
    assert max(row["divergence_max"] for row in rows) < 1e-4
    # the engine may still have the start's weights from the test before
    assert min(row["seconds/swap"] for row in rows[1:]) > 0
    # and the weights did change
    before = load_model(BASE).state_dict()
    assert not all(torch.equal(before[name], value) for name, value in model.state_dict().items())

"""TRL's GRPOTrainer with the project's engine, graders and log.

`use_vllm` is off: TRL's own engine would be a second one, and its server mode needs NCCL and
bypasses the proof of a swap. Instead `rollout_func` writes the weights as a checkpoint, which the
warm sampler swaps in and proves, and returns prompt_ids, completion_ids and logprobs. TRL marks
this interface as experimental; tests hold what is used of it in the pinned release.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"  # rollout_func, see above

import numpy as np
import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from forkdiv.core.config.rl import RlConfig
from forkdiv.core.config.study import DecoderConfig, PlaceConfig
from forkdiv.core.store import write_text
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.rl.advantages import pass_at_k
from forkdiv.rl.episodes import Iteration
from forkdiv.rl.job import checkpoint_name
from forkdiv.rl.meter import Clock, Divergence, Meter
from forkdiv.rl.prompts import Schedule
from forkdiv.rl.sampling import Sampling, Seconds
from forkdiv.rl.weights import Weights

COMPLETE = "complete"  # in a state's folder: it was written to its end


class RunStopped(Exception):
    """The run cannot go on, and would end in the same way if it were repeated."""

    def __init__(self, iteration: int, reason: str) -> None:
        super().__init__(reason)
        self.iteration, self.reason = iteration, reason


def grpo_config(
    config: RlConfig, decoder: DecoderConfig, place: PlaceConfig, states: Path, micro_batch: int
) -> GRPOConfig:
    """Returns TRL's settings. One optimizer step uses all episodes of an iteration, so that the
    sampled weights are those that are trained."""
    return GRPOConfig(
        output_dir=str(states),
        max_steps=config.iterations,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=config.episodes // micro_batch,
        num_generations=config.group,
        num_iterations=1,
        max_completion_length=decoder.max_new_tokens,
        shuffle_dataset=False,  # `Schedule` decides the order
        temperature=config.temperature,
        min_p=config.min_p or None,
        beta=config.kl,
        loss_type=config.loss,
        entropy_coef=config.entropy_bonus,
        top_entropy_quantile=config.top_entropy,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant_with_warmup" if config.warmup else "constant",
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        max_grad_norm=config.grad_clip,
        seed=config.seed,
        bf16=config.dtype == "bfloat16",
        use_cpu=place.device == "cpu",
        gradient_checkpointing=place.activation_checkpointing,
        disable_dropout=True,
        use_vllm=False,
        save_strategy="steps",
        save_steps=config.save_state_every,
        save_total_limit=2,  # one is complete while the other is written
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=place.device == "gpu",
    )


class Trainer(GRPOTrainer):  # type: ignore[misc]
    """Trains `model` in place. `start` is the checkpoint that it was loaded from, and the reference
    of the KL divergence; `keep` is called with the name of a checkpoint that is to be written.

    Raises RunStopped from `train`.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        start: Checkpoint,
        config: RlConfig,
        arguments: GRPOConfig,
        sampling: Sampling,
        weights: Weights,
        meter: Meter,
        keep: Callable[[str], None],
    ) -> None:
        self._start, self._rl = start, config
        self._sampling, self._weights, self._meter, self._keep = sampling, weights, meter, keep
        self._iteration: Iteration | None = None
        self._seconds, self._clock, self._divergence = Seconds(), Clock(), Divergence()
        self._policy_logps: Any = None
        super().__init__(
            model=model,
            reward_funcs=_reward,
            args=arguments,
            train_dataset=prompts(sampling.schedule),
            processing_class=tokenizer,
            rollout_func=_rollout,
            callbacks=[_Watch(self)],
        )
        self.remove_callback(PrinterCallback)

    def rollout(self, asked: list[str]) -> dict[str, list[Any]]:
        """Returns the episodes of the next iteration in TRL's form; `asked` are its prompts, one
        for each episode."""
        number = self.state.global_step + 1
        wanted = [problem.prompt for problem in self._sampling.schedule.at(number)]
        if asked != [prompt for prompt in wanted for _ in range(self._rl.group)]:
            raise RuntimeError(f"TRL asks for other prompts than those of iteration {number}")
        self._divergence = Divergence()
        began = time.perf_counter()
        weights = self._start if number == 1 else self._weights.for_engine(number)
        self._clock.save += time.perf_counter() - began
        self._iteration, self._seconds = self._sampling.episodes(number, weights)
        if number == self._rl.give_up_after and not self._sampling.ever_right(number):
            raise RunStopped(number, self._never_right(number))
        episodes = self._iteration.episodes
        return {
            "prompt_ids": [one.prompt_ids for one in episodes],
            "completion_ids": [one.token_ids for one in episodes],
            "logprobs": [one.logprobs for one in episodes],
            "reward": [one.reward for one in episodes],
        }

    def _never_right(self, number: int) -> str:
        assert self._iteration
        kinds: dict[str, int] = {}
        for one in self._iteration.episodes:
            kinds[one.outcome] = kinds.get(one.outcome, 0) + 1
        verdicts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        first = self._iteration.episodes[0]
        return (
            f"no response of the first {number} iterations is right, so that there is nothing to "
            f"learn from ({verdicts}; the first: {first.text[:80]!r}); check the grader and "
            "decoder.max_new_tokens, start from a checkpoint that solves some problems, or raise "
            "rl.give_up_after"
        )

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Replaces TRL's advantages where they are those of pass@k, and takes the groups that are
        left out from the loss."""
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        assert self._iteration
        if self._rl.advantage == "pass-at-k":
            values = np.concatenate([_advantages(each, self._rl.k) for each in self._rewards()])
            batch["advantages"] = torch.as_tensor(values).to(batch["advantages"])
        if self._iteration.left_out:
            used = [one.reward is not None for one in self._iteration.episodes]
            mask = batch["completion_mask"]
            batch["completion_mask"] = mask * torch.tensor(used, device=mask.device).unsqueeze(1)
            batch["num_items_in_batch"] = batch["completion_mask"].sum()
        return batch

    def _rewards(self) -> list[list[float | None]]:
        assert self._iteration
        return [[one.reward for one in episodes] for episodes in self._iteration.groups()]

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Any,
        attention_mask: Any,
        logits_to_keep: int,
        *rest: Any,
        **own: Any,
    ) -> Any:
        result = super()._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, logits_to_keep, *rest, **own
        )
        if model is not self.ref_model:
            self._policy_logps = (
                result[0].detach()
                if self.temperature == 1
                else _logps(model, input_ids, attention_mask, logits_to_keep)
            )
        return result

    def _compute_loss(self, model: Any, inputs: Mapping[str, Any]) -> Any:
        """TRL's loss. On the way, the log-probabilities of the trainer are compared with the
        engine's."""
        loss = super()._compute_loss(model, inputs)
        mask = inputs["completion_mask"].bool()
        difference = (self._policy_logps - inputs["sampling_per_token_logps"])[mask].double()
        if difference.numel():
            self._divergence.add(
                float(difference.abs().sum()),
                float(difference.abs().max()),
                float((difference.expm1() - difference).sum()),
                difference.numel(),
            )
        if not math.isfinite(float(loss.detach())):
            raise RunStopped(
                self.state.global_step + 1,
                "the loss became NaN or infinite; lower rl.learning_rate, or start from another "
                "checkpoint",
            )
        return loss

    def training_step(self, *arguments: Any, **named: Any) -> Any:
        """One forward and backward pass; the first of an iteration also samples."""
        began, before = time.perf_counter(), self._drawing
        result = super().training_step(*arguments, **named)
        self._clock.optimizer += time.perf_counter() - began - (self._drawing - before)
        return result

    @property
    def _drawing(self) -> float:
        """The seconds of the iteration that were not used by the trainer."""
        seconds = self._seconds
        return self._clock.save + seconds.swap + seconds.sample + seconds.grade

    def check_divergence(self) -> None:
        """Raises RunStopped before the optimizer step if the engine does not compute as the trainer
        does."""
        mean, most = self._divergence.mean, self._rl.max_divergence
        if not mean <= most:  # also if it is NaN
            raise RunStopped(
                self.state.global_step + 1,
                f"the engine and the trainer give different log-probabilities to the same tokens: "
                f"{mean:.3g} nats on average (largest {self._divergence.largest:.3g}); allowed: "
                f"{most:g} (rl.max_divergence); check that vLLM supports this model in "
                "decoder.dtype, or use float32",
            )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Logs an iteration. TRL's own metrics are in `logs` after its `log`."""
        super().log(logs, start_time)
        if "grad_norm" not in logs or self._iteration is None:  # the summary at the end
            return
        self._meter.iteration(self._iteration, logs, self._divergence, self._clock, self._seconds)
        self._clock, self._seconds = Clock(), Seconds()

    def step_ended(self) -> None:
        """Writes the checkpoint of the iteration that ended, if it is to be kept."""
        if self.state.global_step in self._rl.saved:
            self._keep(checkpoint_name(self.state.global_step))

    def optimizer_took(self, seconds: float) -> None:
        self._clock.optimizer += seconds


class _Watch(TrainerCallback):  # type: ignore[misc]
    """Calls the trainer at the moments for which it has no method of its own."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer, self._began = trainer, 0.0

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        self._trainer.check_divergence()
        self._began = time.perf_counter()

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        self._trainer.optimizer_took(time.perf_counter() - self._began)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._trainer.step_ended()

    def on_save(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        write_text(Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE, "")


def prompts(schedule: Schedule) -> Dataset:
    """Returns the prompts of all iterations in their order, as TRL's dataset."""
    iterations = range(1, schedule.config.iterations + 1)
    return Dataset.from_dict(
        {"prompt": [problem.prompt for each in iterations for problem in schedule.at(each)]}
    )


def last_state(states: Path) -> Path | None:
    """Returns the folder of the last complete state; None if there is none."""
    complete = [marker.parent for marker in states.glob(f"checkpoint-*/{COMPLETE}")]
    return max(complete, key=lambda folder: int(folder.name.partition("-")[2]), default=None)


def _rollout(asked: list[str], trainer: Trainer) -> dict[str, list[Any]]:
    return trainer.rollout(asked)


def _reward(reward: list[float | None], **_: object) -> list[float | None]:
    """TRL's reward function: the rewards came with the episodes."""
    return reward


def _advantages(rewards: list[float | None], k: int) -> Any:
    known = [reward for reward in rewards if reward is not None]
    return pass_at_k(np.array(known), k) if len(known) == len(rewards) else np.zeros(len(rewards))


@torch.no_grad()
def _logps(model: Any, input_ids: Any, attention_mask: Any, logits_to_keep: int) -> Any:
    """Returns the log-probabilities of the completion's tokens at temperature 1, as the engine's:
    TRL's are at the sampling temperature."""
    logits = model(
        input_ids=input_ids, attention_mask=attention_mask, logits_to_keep=logits_to_keep + 1
    ).logits[:, :-1]
    tokens = input_ids[:, -logits_to_keep:]
    steps = torch.log_softmax(logits.float(), dim=-1)
    return steps.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)

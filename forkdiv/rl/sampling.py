"""Draws and grades the episodes of an iteration, or reads those that were stored."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from forkdiv.core.config.decoder import DecoderConfig
from forkdiv.core.errors import InvalidResult
from forkdiv.core.records import Problem
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.rl import episodes
from forkdiv.rl.episodes import Episode, Iteration
from forkdiv.rl.prompts import Schedule
from forkdiv.rl.rewards import Rewards
from forkdiv.sample.sample_sets import FailedRequest, Request, Rollouts


class RolloutSampler(Protocol):
    """Draws samples with log-probabilities. Yields one result per request, in any order."""

    def rollouts(
        self, checkpoint: Checkpoint, decoder: DecoderConfig, requests: Iterable[Request]
    ) -> Iterator[Rollouts | FailedRequest]: ...


@dataclass
class Seconds:
    """The seconds of one iteration: until the weights were swapped in, of sampling after it, and of
    grading."""

    swap: float = 0.0
    sample: float = 0.0
    grade: float = 0.0


@dataclass
class Sampling:
    """Samples for one run. `asked` maps problem ids to the prompts that the model reads; `folder`
    has the stored iterations."""

    run: str
    schedule: Schedule
    asked: Mapping[str, str]
    decoder: DecoderConfig
    sampler: RolloutSampler
    rewards: Rewards
    folder: Path

    def episodes(self, number: int, weights: Checkpoint) -> tuple[Iteration, Seconds]:
        """Returns the episodes of an iteration, drawn from `weights`, and the time they took. They
        are stored before they are returned.

        Raises InvalidResult if samples cannot be drawn, and if the grader fails in every group.
        """
        stored = episodes.read(self.folder, number)
        if stored and stored.weights == weights.fingerprint:
            return stored, Seconds()
        seconds = Seconds()
        problems = self.schedule.at(number)
        began = time.perf_counter()
        drawn = self._drawn(number, weights, problems)
        seconds.swap = max(rollouts.waited_s for rollouts in drawn)
        seconds.sample = time.perf_counter() - began - seconds.swap
        began = time.perf_counter()
        iteration = self._graded(number, weights, problems, drawn)
        seconds.grade = time.perf_counter() - began
        episodes.write(self.folder, iteration)
        return iteration, seconds

    def ever_right(self, iterations: int) -> bool:
        """Whether any response of the first iterations has a reward."""
        stored = (episodes.read(self.folder, number) for number in range(1, iterations + 1))
        return any(any(iteration.rewards) for iteration in stored if iteration)

    def _drawn(
        self, number: int, weights: Checkpoint, problems: Sequence[Problem]
    ) -> list[Rollouts]:
        """Returns the rollouts of each group, in the order of `problems`."""
        requests = [
            Request(
                replace(problem, prompt=self.asked[problem.id]),
                slot,  # tells the groups apart where a prompt is used twice
                self.schedule.config.group,
                self.schedule.seed(self.run, number, slot),
            )
            for slot, problem in enumerate(problems)
        ]
        by_slot: dict[int, Rollouts] = {}
        for result in self.sampler.rollouts(weights, self.decoder, requests):
            if isinstance(result, FailedRequest):
                raise InvalidResult(f"iteration {number}: {result.message}")
            by_slot[result.request.first_index] = result
        return [by_slot[slot] for slot in range(len(problems))]

    def _graded(
        self,
        number: int,
        weights: Checkpoint,
        problems: Sequence[Problem],
        drawn: Sequence[Rollouts],
    ) -> Iteration:
        group = self.schedule.config.group
        responses = [
            (problem, text, finish)
            for problem, rollouts in zip(problems, drawn, strict=True)
            for _, text, finish in rollouts.samples
        ]
        graded = self.rewards.of(responses, group)
        made = []
        for i, (problem, text, finish) in enumerate(responses):
            rollouts, sample = drawn[i // group], i % group
            made.append(
                Episode(
                    problem_id=problem.id,
                    subset=problem.subset,
                    prompt=self.asked[problem.id],
                    prompt_ids=list(rollouts.prompt_ids),
                    seed=rollouts.request.seed + sample,
                    text=text,
                    token_ids=list(rollouts.samples[sample][0]),
                    logprobs=list(rollouts.logprobs[sample]),
                    finish=finish,
                    outcome=graded.verdicts[i].outcome,
                    detail=graded.verdicts[i].detail,
                    reward=graded.rewards[i],
                )
            )
        return Iteration(number, weights.fingerprint, group, made)

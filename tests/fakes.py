"""Toy stand-ins for nouns of other machines: a sampler of known probabilities, and answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from random import Random

from forkdiv.core.config.decoder import DecoderConfig
from forkdiv.core.config.study import EvalConfig, PromptConfig
from forkdiv.core.config.tasks import TaskConfig
from forkdiv.core.records import Finish, Problem
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.sample.evaluation import Evaluation
from forkdiv.sample.sample_sets import FailedRequest, Request, Response
from forkdiv.tasks.graph_branching import GraphBranchingConfig
from forkdiv.tasks.graphs import node_names
from forkdiv.tasks.registry import build

TASK = GraphBranchingConfig()
NAMES = node_names(TASK.names)

UNREADABLE = "a <unk> b"
DECODER, RAW, EVAL = DecoderConfig(), PromptConfig(), EvalConfig()


def an_eval(
    task: TaskConfig,
    problems: Sequence[Problem] | None = None,
    decoder: DecoderConfig = DECODER,
    prompt: PromptConfig = RAW,
    config: EvalConfig = EVAL,
) -> Evaluation:
    """An evaluation of a task's problems, or of these."""
    return Evaluation(build(task), config, decoder, prompt, problems)


def right(problem: Problem) -> str:
    """A correct answer, forward."""
    return build(TASK).solutions(problem)[0].text


def other_end(problem: Problem) -> str:
    """A real path from the start, along an arm that does not reach the target."""
    following = {a: b for a, b in problem.facts["edges"] if a != problem.facts["start"]}
    for tail, first in problem.facts["edges"]:
        if tail != problem.facts["start"]:
            continue
        path = [tail, first]
        while path[-1] in following:
            path.append(following[path[-1]])
        if path[-1] != problem.facts["target"]:
            return " ".join(path)
    raise AssertionError("every arm reaches the target")


def broken(problem: Problem) -> str:
    """Start and target, and no edge between them."""
    return f"{problem.facts['start']} {problem.facts['target']}"


@dataclass
class FakeSampler:
    """Answers correctly with probability `chance(checkpoint, problem)`, else at another end.

    A response follows from its checkpoint, temperature, problem and seed alone. `fails` picks
    requests that fail for good; after `dies_after` responses the sampler raises.
    """

    chance: Callable[[Checkpoint, Problem], float] = lambda checkpoint, problem: 0.5
    fails: Callable[[Request], bool] = lambda request: False
    dies_after: int | None = None
    delay_s: float = 0.0
    asked: list[Request] = field(default_factory=list)

    def sample(
        self, checkpoint: Checkpoint, decoder: DecoderConfig, requests: Iterable[Request]
    ) -> Iterator[Response | FailedRequest]:
        for answered, request in enumerate(requests):
            if answered == self.dies_after:
                raise ConnectionError("the sampler died")
            time.sleep(self.delay_s)
            self.asked.append(request)
            if self.fails(request):
                yield FailedRequest(request, "the replica is gone")
            else:
                yield Response(request, self._draw(checkpoint, decoder, request))

    def giving_way(self, name: str) -> AbstractContextManager[str]:
        return nullcontext("there is none")

    def tokens_drawn(self) -> int | None:
        return None

    @property
    def drawn(self) -> int:
        """Samples asked for so far."""
        return sum(request.n for request in self.asked)

    def _draw(
        self, checkpoint: Checkpoint, decoder: DecoderConfig, request: Request
    ) -> Sequence[tuple[Sequence[int], str, str]]:
        problem = request.problem
        good, bad = right(problem), other_end(problem)
        samples = []
        for seed in range(request.seed, request.seed + request.n):
            name = f"{checkpoint.fingerprint}/{decoder.temperature}/{problem.id}/{seed}"
            text = good if Random(name).random() < self.chance(checkpoint, problem) else bad
            ids = [NAMES.index(node) for node in text.split()]
            samples.append((ids, text, Finish.STOP.value))
        return samples


@dataclass
class ContinuingSampler:
    """Goes on from a request's prefix: with probability `chance` along a right way, else along a
    wrong arm, to nowhere, or past the token limit. What it draws follows from the seed alone.
    """

    task: TaskConfig
    chance: float = 0.5
    fails: Callable[[Request], bool] = lambda request: False
    shuffled: bool = False
    short: int = 0
    asked: list[Request] = field(default_factory=list)
    decoders: list[DecoderConfig] = field(default_factory=list)

    def sample(
        self, checkpoint: Checkpoint, decoder: DecoderConfig, requests: Iterable[Request]
    ) -> Iterator[Response | FailedRequest]:
        asked = list(requests)
        self.decoders.append(decoder)
        self.asked += asked
        for request in Random(1).sample(asked, len(asked)) if self.shuffled else asked:
            if self.fails(request):
                yield FailedRequest(request, "the replica is gone")
            else:
                seeds = range(request.seed, request.seed + request.n - self.short)
                yield Response(request, [self._draw(request, seed) for seed in seeds])

    def giving_way(self, name: str) -> AbstractContextManager[str]:
        return nullcontext("there is none")

    def tokens_drawn(self) -> int | None:
        return None

    def _draw(self, request: Request, seed: int) -> tuple[Sequence[int], str, str]:
        random, prefix = Random(f"{request.problem.id}/{seed}"), request.prefix
        solutions = build(self.task).solutions(request.problem)
        right = [one.text for one in solutions if one.text.startswith(prefix)]
        text = random.choice(right)[len(prefix) :]
        if random.random() < self.chance:
            return (), text, Finish.STOP
        (arm,) = {
            f" {branch}"
            for fork in build(self.task).forks(request.problem, prefix + text) or []
            for branch in fork.branches
            if fork.at == len(prefix) + 1 and branch not in fork.valid
        }
        ways = [(arm, Finish.STOP), (" a a", Finish.STOP), (" ?", Finish.STOP)]
        return (), *random.choice([*ways, (text, Finish.LENGTH)])

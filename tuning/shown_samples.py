"""The samples and verdicts of a study's models that a report shows.

The store has the samples, but only the counts of their verdicts, so the samples that are shown are
graded again. Their number is limited for that reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack

from forkdiv.core.errors import InvalidResult
from forkdiv.core.records import Outcome, Problem, Verdict
from forkdiv.core.results import ShownModel, ShownProblem, ShownResponse, ShownSamples
from forkdiv.core.store import Store
from forkdiv.core.thinking import Thinking
from forkdiv.lm_eval.run import prompt_text
from forkdiv.sample.evaluation import Evaluation
from forkdiv.score.grader_process import Grader
from forkdiv.score.verdicts import graded
from forkdiv.tasks.base import Task
from tuning.models import Model

MAX_GRADED = 6_000  # samples of all models together
MAX_PROBLEMS = 100
MAX_RESPONSES = 8  # distinct responses of a model to a problem
MAX_CHARACTERS = 2_000  # of one text


def shown_samples(name: str, models: Sequence[Model], store: Store) -> ShownSamples:
    """Returns the first problems with every model's responses. Raises InvalidResult if samples of a
    model are missing in the store."""
    evaluation = Evaluation.of(models[0].study)
    n = evaluation.config.samples
    limit = max(MAX_GRADED // (n * len(models)), 1)
    problems = evaluation.problems[: min(limit, MAX_PROBLEMS)]
    with _Graders(evaluation.task) as graders:
        shown = tuple(_model(model, store, problems, n, graders) for model in models)
    return ShownSamples(study=name, samples=n, all_problems=len(evaluation.problems), models=shown)


class _Graders(ExitStack):
    """One grading process for all models whose responses have the same tags around thinking."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self._task = task
        self._started: dict[Thinking | None, Grader] = {}

    def of(self, thinking: Thinking | None) -> Grader:
        if thinking not in self._started:
            self._started[thinking] = self.enter_context(Grader(self._task, thinking=thinking))
        return self._started[thinking]


def _model(
    model: Model, store: Store, problems: Sequence[Problem], n: int, graders: _Graders
) -> ShownModel:
    samples = model.samples(store)
    stored, complete = samples.stored_indices(), (1 << n) - 1  # index i is bit i
    if missing := [id for id in (p.id for p in problems) if complete & ~stored.get(id, 0)]:
        raise InvalidResult(
            f"{model.name} has fewer than {n} samples for {len(missing)} problems in {samples.path}"
        )
    by_id = {problem.id: problem for problem in problems}
    answers: dict[str, list[tuple[str, Verdict, int]]] = {id: [] for id in by_id}
    completions = list(samples.portions(n)(problems))
    thinking = Evaluation.of(model.study).thinking(model.checkpoint)
    rows = graded(graders.of(thinking), by_id, completions, thinking)
    for problem_id, text, verdict, same in rows:
        answers[problem_id].append((text, verdict, len(same)))
    return ShownModel(
        name=model.name,
        problems=tuple(_problem(by_id[id], graded_as) for id, graded_as in answers.items()),
    )


def _problem(problem: Problem, answers: Sequence[tuple[str, Verdict, int]]) -> ShownProblem:
    """Returns the most frequent responses to a problem, at least one of every outcome."""
    counts: Counter[str] = Counter()
    for _, verdict, times in answers:
        counts[verdict.outcome.value] += times
    ranked = sorted(answers, key=lambda answer: -answer[2])
    firsts = [next((a for a in ranked if a[1].outcome is kind), None) for kind in Outcome]
    shown = [answer for answer in firsts if answer]
    others = [answer for answer in ranked if answer not in shown]
    shown += others[: max(MAX_RESPONSES - len(shown), 0)]
    return ShownProblem(
        id=problem.id,
        prompt=prompt_text(problem.prompt)[:MAX_CHARACTERS],
        counts={kind.value: counts[kind.value] for kind in Outcome if counts[kind.value]},
        responses=tuple(_response(*a) for a in sorted(shown, key=lambda answer: -answer[2])),
        more=len(answers) - len(shown),
    )


def _response(text: str, verdict: Verdict, times: int) -> ShownResponse:
    return ShownResponse(
        outcome=verdict.outcome.value,
        detail=verdict.detail,
        times=times,
        text=text[:MAX_CHARACTERS],
        hidden=max(len(text) - MAX_CHARACTERS, 0),
    )

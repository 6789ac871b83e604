"""The samples of a study's models with their verdicts, read from the store to be looked at.

The store keeps samples, and of their verdicts the counts alone, so the samples that are shown are
graded again. That is why there are only so many of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from forkdiv.core.errors import InvalidResult
from forkdiv.core.records import Outcome, Problem, Verdict
from forkdiv.core.results import ShownModel, ShownProblem, ShownResponse, ShownSamples
from forkdiv.core.store import Store
from forkdiv.lm_eval.run import prompt_text
from forkdiv.sample.evaluation import Evaluation
from forkdiv.score.grader_process import Grader
from forkdiv.score.verdicts import graded
from tuning.models import Model

MOST_GRADED = 6_000  # samples of all models together
MOST_PROBLEMS = 100
MOST_RESPONSES = 8  # distinct ones of a model to a problem
MOST_TEXT = 2_000  # characters of one text


def shown_samples(name: str, models: Sequence[Model], store: Store) -> ShownSamples:
    """The first problems and what every model answered to them. Raises InvalidResult where a
    model's samples are not, or not all, in the store."""
    evaluation = Evaluation.of(models[0].study)
    n = evaluation.config.samples
    fitting = max(MOST_GRADED // (n * len(models)), 1)
    problems = evaluation.problems[: min(fitting, MOST_PROBLEMS)]
    with Grader(evaluation.task) as grader:
        shown = tuple(_model(one, store, problems, n, grader) for one in models)
    return ShownSamples(study=name, samples=n, all_problems=len(evaluation.problems), models=shown)


def _model(
    model: Model, store: Store, problems: Sequence[Problem], n: int, grader: Grader
) -> ShownModel:
    samples = model.samples(store)
    held, whole = samples.stored_indices(), (1 << n) - 1
    if lacking := [one.id for one in problems if whole & ~held.get(one.id, 0)]:
        raise InvalidResult(
            f"{model.name} has no {n} samples of {len(lacking)} problems in {samples.path}"
        )
    by_id = {one.id: one for one in problems}
    answers: dict[str, list[tuple[str, Verdict, int]]] = {one.id: [] for one in problems}
    completions = list(samples.portions(n)(problems))
    for problem_id, text, verdict, same in graded(grader, by_id, completions):
        answers[problem_id].append((text, verdict, len(same)))
    return ShownModel(
        name=model.name,
        problems=tuple(_problem(by_id[id], found) for id, found in answers.items()),
    )


def _problem(problem: Problem, answers: Sequence[tuple[str, Verdict, int]]) -> ShownProblem:
    """The most frequent responses, of every outcome one at least."""
    counts: Counter[str] = Counter()
    for _, verdict, times in answers:
        counts[verdict.outcome.value] += times
    ranked = sorted(answers, key=lambda one: -one[2])
    firsts = [next((one for one in ranked if one[1].outcome is kind), None) for kind in Outcome]
    kept = [one for one in firsts if one]
    kept += [one for one in ranked if one not in kept][: max(MOST_RESPONSES - len(kept), 0)]
    return ShownProblem(
        id=problem.id,
        prompt=prompt_text(problem.prompt)[:MOST_TEXT],
        counts={kind.value: counts[kind.value] for kind in Outcome if counts[kind.value]},
        responses=tuple(_response(*one) for one in sorted(kept, key=lambda one: -one[2])),
        more=len(answers) - len(kept),
    )


def _response(text: str, verdict: Verdict, times: int) -> ShownResponse:
    return ShownResponse(
        outcome=verdict.outcome.value,
        detail=verdict.detail,
        times=times,
        text=text[:MOST_TEXT],
        hidden=max(len(text) - MOST_TEXT, 0),
    )

"""Data synthesis at decision points: adds solutions where branch coverage is low.

The number of examples never exceeds the budget: examples of other problems are dropped for the
added solutions, so that datasets before and after the repair have equal sizes.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forkdiv.core.config.study import (
    AuditConfig,
    DecoderConfig,
    PromptConfig,
    StudyConfig,
    SynthesisConfig,
)
from forkdiv.core.errors import InvalidResult, refuse
from forkdiv.core.fingerprint import Identity
from forkdiv.core.progress import Progress
from forkdiv.core.records import Example, Finish, Outcome, Trace
from forkdiv.core.shuffle import Shuffled
from forkdiv.core.store import Artifact, Store
from forkdiv.core.thinking import Thinking
from forkdiv.data import dataset
from forkdiv.forks import gaps
from forkdiv.forks.find import model_sites
from forkdiv.forks.gaps import ProblemData
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.sample.evaluation import Evaluation
from forkdiv.sample.sample_sets import (
    SEED_SPACE,
    SEED_STRIDE,
    FailedRequest,
    Request,
    SamplerClient,
    checked,
)
from forkdiv.score.grader_process import Grader
from forkdiv.tasks.base import Task, derive, example, no_grader
from forkdiv.tasks.registry import build

ENUMERATOR, SAMPLES = "enumerator", "samples"


def identity(
    study: StudyConfig, data: str, base: str, thinking: Thinking | None = None
) -> Identity:
    """Returns the identity of the repair of dataset `data`. With samples, it also depends on the
    model `base` that they are drawn from, and on the `thinking` in its responses."""
    way, config = study.dataset.synthesis, study.synthesis
    knobs: dict[str, Any] = {"way": way, "budget": config.budget, "seed": config.seed}
    if way == ENUMERATOR:
        return Identity("synthesis", knobs, {"dataset": data})
    audit = study.audit.model_dump(include={"quantile", "min_entropy", "min_probability"})
    knobs |= {"config": config, "prompt": study.prompt.without_shots, "audit": audit}
    grading = build(study.task).grading() | ({"thinking": thinking.as_json()} if thinking else {})
    if grading:
        knobs["grading"] = grading
    return Identity("synthesis", knobs, {"dataset": data, "base": base})


def obtain(
    store: Store,
    study: StudyConfig,
    task: Task,
    data: Artifact,
    base: Checkpoint,
    sampler: SamplerClient | None,
    progress: Progress,
) -> Artifact:
    """Returns the dataset `data` repaired in the way `dataset.synthesis`, or `data` itself for
    `none`.

    Raises InvalidResult if samples could not be drawn or verified.
    """
    way = study.dataset.synthesis
    if way == "none":
        return data
    synthesis_identity = identity(
        study, data.fingerprint, base.fingerprint, Evaluation.of(study).thinking(base)
    )

    def make(folder: Path) -> None:
        rows = dataset.read(data.path)
        repaired, report = repair(study, task, rows, base, sampler, progress)
        extra = {"synthesis": {"way": way, **report.as_json()}}
        dataset.write(folder, repaired, synthesis_identity, task, more=extra)
        progress(report.sentence())

    return store.obtain(synthesis_identity, make, progress)


def repair(
    study: StudyConfig,
    task: Task,
    rows: Sequence[Example],
    base: Checkpoint,
    sampler: SamplerClient | None,
    progress: Progress,
) -> tuple[list[Example], SynthesisReport]:
    """Returns the rows of the repaired data, within the budget, and a report."""
    way, config = study.dataset.synthesis, study.synthesis
    if not rows:
        raise refuse(
            "the data has no completions, so that no solutions can be added",
            "0 examples with a completion",
            "data with completions",
            "use another file, or set task.columns.completion to its column",
        )
    model_forks = None
    known = task.forks(gaps.problem_of(rows[0]), rows[0].response) is not None
    if task.one_right_branch or not known:
        progress("synthesis: finding forks with the next-token entropy of the base")
        model_forks = ModelForks(
            base.path,
            study.prompt.without_shots,
            study.audit,
            study.place.device,
            config.forks_per_problem,
        )
    data = find_gaps(task, rows, model_forks)
    report = SynthesisReport(
        forks=sum(problem_data.forks for problem_data in data),
        covered_means="a second branch" if model_forks else "every valid branch",
    )
    report.covered_before = sum(problem_data.covered for problem_data in data)
    if way == ENUMERATOR:
        _enumerate(task, data)
    else:
        assert sampler is not None
        _sample(study, task, data, base, sampler, progress, report)
    repaired = _within_budget(data, config, report)
    data_after = find_gaps(task, repaired, model_forks)
    report.forks_after = sum(problem_data.forks for problem_data in data_after)
    report.covered_after = sum(problem_data.covered for problem_data in data_after)
    return repaired, report


def check(task: Task, way: str) -> None:
    """Raises UserError for a way of synthesis that the task does not support."""
    if way == SAMPLES and not task.graded:
        raise no_grader("select correct samples")
    if way == ENUMERATOR and not task.enumerates:
        raise refuse(
            "this task cannot list its solutions",
            "dataset.synthesis=enumerator",
            "dataset.synthesis=samples",
            "set dataset.synthesis=samples to draw solutions from the base model",
        )


def find_gaps(
    task: Task, rows: Sequence[Example], model_forks: ModelForks | None
) -> list[ProblemData]:
    """Returns the data by problem, with its coverage gaps."""
    if model_forks is None:
        return gaps.from_task(task, rows)
    sites = model_sites(
        model_forks.model, rows, model_forks.prompt, model_forks.audit, model_forks.device
    )
    return gaps.from_model(rows, sites.sites, model_forks.forks_per_problem)


@dataclass(frozen=True)
class ModelForks:
    """Settings for finding forks with a model, for tasks that do not know their forks."""

    model: Path
    prompt: PromptConfig
    audit: AuditConfig
    device: str
    forks_per_problem: int


def _enumerate(task: Task, data: list[ProblemData]) -> None:
    """Adds listed solutions until every valid branch is shown."""
    for problem_data in data:
        if problem_data.gaps:
            _add(task, problem_data, task.solutions(problem_data.problem))


def _add(task: Task, problem_data: ProblemData, traces: Sequence[Trace]) -> None:
    """Adds those of `traces` that show branches which no response has shown: repeatedly the trace
    with the most new branches, so that few examples are added."""
    gaps_by_key = {gap.key: gap for gap in problem_data.gaps}
    new_branches = [
        {
            (key, branch)
            for key, branch in gaps.branches_taken(task, problem_data, trace.text).items()
            if key in gaps_by_key and gaps_by_key[key].accepts(branch)
        }
        for trace in traces
    ]
    covered: set[tuple[Hashable, str]] = set()
    while useful := [
        (len(branches - covered), -at)
        for at, branches in enumerate(new_branches)
        if branches - covered
    ]:
        trace, covered = traces[-max(useful)[1]], covered | new_branches[-max(useful)[1]]
        problem_data.added.append(
            example(problem_data.problem, trace, task.forks(problem_data.problem, trace.text) or [])
        )


def _sample(
    study: StudyConfig,
    task: Task,
    data: list[ProblemData],
    base: Checkpoint,
    sampler: SamplerClient,
    progress: Progress,
    report: SynthesisReport,
) -> None:
    """Adds verified samples that the base draws after the prefix of each fork."""
    config = study.synthesis
    decoder = DecoderConfig(temperature=config.temperature, max_new_tokens=config.max_new_tokens)
    open_gaps = [(problem_data, gap) for problem_data in data for gap in problem_data.gaps]
    if not open_gaps:
        return
    first = derive("synthesis", config.seed).randrange(SEED_SPACE)
    seeds = [(first + at * SEED_STRIDE) % SEED_SPACE for at in range(len(open_gaps))]
    requests = [
        Request(problem_data.problem, 0, config.samples, seed, gap.prefix.rstrip())
        for (problem_data, gap), seed in zip(open_gaps, seeds, strict=True)
    ]
    progress(
        f"synthesis: drawing {len(requests) * config.samples} samples at {len(requests)} forks"
    )
    drawn: dict[int, list[str]] = {}  # by the unique seed of the request
    for result in sampler.sample(base, decoder, requests):
        answer = checked(result)
        if isinstance(answer, FailedRequest):
            raise InvalidResult(f"sampling for synthesis failed: {answer.message}")
        finished = [text for _, text, finish in answer.samples if finish == Finish.STOP]
        report.drawn += len(answer.samples)
        drawn[answer.request.seed] = [answer.request.prefix + text for text in finished]
    pairs = [
        (problem_data.problem, text.strip())
        for (problem_data, _), seed in zip(open_gaps, seeds, strict=True)
        for text in dict.fromkeys(drawn[seed])
    ]
    with Grader(task, thinking=Evaluation.of(study).thinking(base)) as grader:
        verdicts = grader.grade(pairs)
    correct: dict[str, list[Trace]] = {}
    for (problem, text), verdict in zip(pairs, verdicts, strict=True):
        if verdict.outcome is Outcome.ERROR:
            raise InvalidResult(f"the grader failed on a sample for synthesis: {verdict.detail}")
        if verdict.outcome is Outcome.CORRECT:
            correct.setdefault(problem.id, []).append(Trace(text, verdict.mode))
    report.accepted = sum(len(traces) for traces in correct.values())
    for problem_data in data:
        _add(task, problem_data, correct.get(problem_data.problem.id, []))


def _within_budget(
    data: list[ProblemData], config: SynthesisConfig, report: SynthesisReport
) -> list[Example]:
    """Selects whole repaired problems while they fit, then original rows of other problems."""
    before = sum(len(problem_data.rows) for problem_data in data)
    budget = config.budget or before
    order = Shuffled(len(data), f"synthesis/{config.seed}")
    ranked = sorted(range(len(data)), key=order)
    selected: dict[int, list[Example]] = {}
    remaining = budget
    unrepaired = []
    for at in ranked:
        rows = [*data[at].rows, *data[at].added]
        if len(rows) <= remaining:
            selected[at] = rows
            remaining -= len(rows)
            report.added += len(data[at].added)
        else:
            unrepaired.append(at)
    for at in unrepaired:
        if remaining:
            selected[at] = data[at].rows[:remaining]
            remaining -= len(selected[at])
    report.budget = budget
    report.problems_before, report.problems_after = len(data), len(selected)
    report.examples_before = before
    report.examples_after = budget - remaining
    return [row for at in sorted(selected) for row in selected[at]]


@dataclass
class SynthesisReport:
    """Counts of a dataset before and after the repair."""

    forks: int
    covered_means: str
    covered_before: int = 0
    forks_after: int = 0
    covered_after: int = 0
    budget: int = 0
    examples_before: int = 0
    examples_after: int = 0
    problems_before: int = 0
    problems_after: int = 0
    added: int = 0
    drawn: int = 0
    accepted: int = 0

    def as_json(self) -> dict[str, Any]:
        """Returns plain values for the dataset card; shares are None without forks."""
        return {
            "forks_before": self.forks,
            "forks_after": self.forks_after,
            "share_covered_before": _share(self.covered_before, self.forks),
            "share_covered_after": _share(self.covered_after, self.forks_after),
            "budget": self.budget,
            "examples_before": self.examples_before,
            "examples_after": self.examples_after,
            "examples_added": self.added,
            "problems_before": self.problems_before,
            "problems_after": self.problems_after,
            "samples_drawn": self.drawn,
            "samples_accepted": self.accepted,
        }

    def sentence(self) -> str:
        before, after = (
            "none" if share is None else f"{share:.1%}"
            for share in (
                _share(self.covered_before, self.forks),
                _share(self.covered_after, self.forks_after),
            )
        )
        return (
            f"forks with {self.covered_means} shown: {before} before, {after} after; "
            f"{self.examples_before} examples of {self.problems_before} problems became "
            f"{self.examples_after} of {self.problems_after}, {self.added} of them new"
        )


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None

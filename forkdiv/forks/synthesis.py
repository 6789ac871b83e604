"""Data synthesis at decision points: solutions are added where branch coverage is low.

Never more examples than the budget: where solutions are added to some problems, the examples of
others make room, so that a comparison with the data before stays one of equal sizes.
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
from forkdiv.data import dataset
from forkdiv.forks import gaps
from forkdiv.forks.find import model_sites
from forkdiv.forks.gaps import Shown
from forkdiv.models.checkpoint import Checkpoint
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

ENUMERATOR, SAMPLES = "enumerator", "samples"


def identity(study: StudyConfig, data: str, base: str) -> Identity:
    """Of the repair of dataset `data`; samples depend on the model they are drawn from too."""
    way, config = study.dataset.synthesis, study.synthesis
    own: dict[str, Any] = {"way": way, "budget": config.budget, "seed": config.seed}
    if way == ENUMERATOR:
        return Identity("synthesis", own, {"dataset": data})
    audit = study.audit.model_dump(include={"quantile", "min_entropy", "min_probability"})
    own |= {"config": config, "prompt": study.prompt, "audit": audit}
    return Identity("synthesis", own, {"dataset": data, "base": base})


def obtain(
    store: Store,
    study: StudyConfig,
    task: Task,
    data: Artifact,
    base: Checkpoint,
    sampler: SamplerClient | None,
    progress: Progress,
) -> Artifact:
    """The dataset `data` repaired as `dataset.synthesis` says, or itself where it says none.

    Raises InvalidResult where samples could not be drawn or verified.
    """
    way = study.dataset.synthesis
    if way == "none":
        return data
    what = identity(study, data.fingerprint, base.fingerprint)

    def make(folder: Path) -> None:
        rows = dataset.read(data.path)
        kept, tally = repair(study, task, rows, base, sampler, progress)
        more = {"synthesis": {"way": way, **tally.report()}}
        dataset.write(folder, kept, what, task, more=more)
        progress(tally.sentence())

    return store.obtain(what, make, progress)


def repair(
    study: StudyConfig,
    task: Task,
    rows: Sequence[Example],
    base: Checkpoint,
    sampler: SamplerClient | None,
    progress: Progress,
) -> tuple[list[Example], SynthesisReport]:
    """The rows of the repaired data, within the budget, and what became of the data."""
    way, config = study.dataset.synthesis, study.synthesis
    if not rows:
        raise refuse(
            "there is nothing to add solutions to",
            "no example with a completion",
            "data with completions to learn from",
            "name another file, or its column in task.columns.completion",
        )
    unsure = None
    if task.forks(gaps.problem_of(rows[0]), rows[0].response) is None:
        progress("looking for forks where the base is unsure")
        unsure = Unsure(
            base.path, study.prompt, study.audit, study.place.device, config.forks_per_problem
        )
    shown = look(task, rows, unsure)
    tally = SynthesisReport(
        forks=sum(one.forks for one in shown),
        covered_means="a second branch" if unsure else "every valid branch",
    )
    tally.covered_before = sum(one.covered for one in shown)
    if way == ENUMERATOR:
        _enumerate(task, shown)
    else:
        assert sampler is not None
        _sample(study, task, shown, base, sampler, progress, tally)
    kept = _within_budget(shown, config, tally)
    after = look(task, kept, unsure)
    tally.forks_after = sum(one.forks for one in after)
    tally.covered_after = sum(one.covered for one in after)
    return kept, tally


def check(task: Task, way: str) -> None:
    """Refuse a way of synthesis that the task does not offer."""
    if way == SAMPLES and not task.graded:
        raise no_grader("select correct samples")
    if way == ENUMERATOR and not task.enumerates:
        raise refuse(
            "this task cannot list its solutions",
            "dataset.synthesis=enumerator",
            "dataset.synthesis=samples",
            "draw them from the base model instead",
        )


def look(task: Task, rows: Sequence[Example], unsure: Unsure | None) -> list[Shown]:
    """The data problem by problem, with what its forks lack."""
    if unsure is None:
        return gaps.of_task(task, rows)
    found = model_sites(unsure.model, rows, unsure.prompt, unsure.audit, unsure.device)
    return gaps.of_model(rows, found.sites, unsure.forks_per_problem)


@dataclass(frozen=True)
class Unsure:
    """How a model finds the forks of a task that does not know its own."""

    model: Path
    prompt: PromptConfig
    audit: AuditConfig
    device: str
    forks_per_problem: int


def _enumerate(task: Task, shown: list[Shown]) -> None:
    """Add listed solutions until every valid branch is shown."""
    for one in shown:
        if one.lacks:
            _add(task, one, task.solutions(one.problem))


def _add(task: Task, one: Shown, traces: Sequence[Trace]) -> None:
    """Of `traces`, take those that show branches no response has shown so far: each time the one
    with the most of them, so that few examples cover much."""
    wanted = {lack.key: lack for lack in one.lacks}
    offers = [
        {
            (key, branch)
            for key, branch in gaps.taken_by(task, one, trace.text).items()
            if key in wanted and wanted[key].wants(branch)
        }
        for trace in traces
    ]
    given: set[tuple[Hashable, str]] = set()
    while left := [(len(offer - given), -at) for at, offer in enumerate(offers) if offer - given]:
        trace, given = traces[-max(left)[1]], given | offers[-max(left)[1]]
        one.added.append(example(one.problem, trace, task.forks(one.problem, trace.text) or []))


def _sample(
    study: StudyConfig,
    task: Task,
    shown: list[Shown],
    base: Checkpoint,
    sampler: SamplerClient,
    progress: Progress,
    tally: SynthesisReport,
) -> None:
    """Add verified samples that the base draws from the fork's prefix."""
    config = study.synthesis
    decoder = DecoderConfig(temperature=config.temperature, max_new_tokens=config.max_new_tokens)
    lacking = [(one, lack) for one in shown for lack in one.lacks]
    if not lacking:
        return
    first = derive("synthesis", config.seed).randrange(SEED_SPACE)
    seeds = [(first + at * SEED_STRIDE) % SEED_SPACE for at in range(len(lacking))]
    requests = [
        Request(one.problem, 0, config.samples, seed, lack.prefix.rstrip())
        for (one, lack), seed in zip(lacking, seeds, strict=True)
    ]
    progress(f"drawing {len(requests) * config.samples} samples at {len(requests)} forks")
    drawn: dict[int, list[str]] = {}  # by the request's seed, which no other has
    for given in sampler.sample(base, decoder, requests):
        answer = checked(given)
        if isinstance(answer, FailedRequest):
            raise InvalidResult(f"synthesis could not draw its samples: {answer.message}")
        finished = [text for _, text, finish in answer.samples if finish == Finish.STOP]
        tally.drawn += len(answer.samples)
        drawn[answer.request.seed] = [answer.request.prefix + text for text in finished]
    pairs = [
        (one.problem, text.strip())
        for (one, _), seed in zip(lacking, seeds, strict=True)
        for text in dict.fromkeys(drawn[seed])
    ]
    with Grader(task) as grader:
        verdicts = grader.grade(pairs)
    right: dict[str, list[Trace]] = {}
    for (problem, text), verdict in zip(pairs, verdicts, strict=True):
        if verdict.outcome is Outcome.ERROR:
            raise InvalidResult(f"synthesis could not verify a sample: {verdict.detail}")
        if verdict.outcome is Outcome.CORRECT:
            right.setdefault(problem.id, []).append(Trace(text, verdict.mode))
    tally.accepted = sum(len(traces) for traces in right.values())
    for one in shown:
        _add(task, one, right.get(one.problem.id, []))


def _within_budget(
    shown: list[Shown], config: SynthesisConfig, tally: SynthesisReport
) -> list[Example]:
    """Whole repaired problems while they fit, then rows of further ones as they were."""
    before = sum(len(one.rows) for one in shown)
    budget = config.budget or before
    order = Shuffled(len(shown), f"synthesis/{config.seed}")
    by_rank = sorted(range(len(shown)), key=order)
    kept: dict[int, list[Example]] = {}
    left = budget
    unrepaired = []
    for at in by_rank:
        rows = [*shown[at].rows, *shown[at].added]
        if len(rows) <= left:
            kept[at] = rows
            left -= len(rows)
            tally.added += len(shown[at].added)
        else:
            unrepaired.append(at)
    for at in unrepaired:
        if left:
            kept[at] = shown[at].rows[:left]
            left -= len(kept[at])
    tally.budget = budget
    tally.problems_before, tally.problems_after = len(shown), len(kept)
    tally.examples_before = before
    tally.examples_after = budget - left
    return [row for at in sorted(kept) for row in kept[at]]


@dataclass
class SynthesisReport:
    """What became of a dataset."""

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

    def report(self) -> dict[str, Any]:
        """Plain values for the card; shares are None where there is no fork to cover."""
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

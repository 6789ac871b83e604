"""The source of verdicts: the file itself if it has a verdict on each sample, else a grader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import refuse
from forkdiv.lm_eval.reading import Samples
from forkdiv.tasks.graders.infer import infer_grader
from forkdiv.tasks.graders.registry import NAMES, build_grader
from forkdiv.tasks.own_data.columns import Row
from forkdiv.tasks.own_data.config import FileConfig
from forkdiv.tasks.own_data.file import one_line, quoted

FORKDIV_VERDICTS = "verdicts"  # verdicts that forkdiv wrote into the file
REQUESTED = "set in task.grader"
ALLOWED = f"{', '.join(NAMES.names())}, package.module:function, or metric,filter of the file"


@dataclass(frozen=True)
class Judge:
    """Decides which samples are correct.

    `name` is FORKDIV_VERDICTS, a metric of the files as `metric,filter`, or a grader. `why` is
    the reason for the choice.
    """

    name: str
    why: str

    @property
    def is_metric(self) -> bool:
        return "," in self.name

    @property
    def is_grader(self) -> bool:
        return self.name != FORKDIV_VERDICTS and not self.is_metric

    def __str__(self) -> str:
        if self.name == FORKDIV_VERDICTS:
            return f"the verdicts in the files ({self.why})"
        return (
            f"the metric {self.name} in the files ({self.why})"
            if self.is_metric
            else (f"the grader {self.name} ({self.why})")
        )


def choose(study: StudyConfig, models: Sequence[Samples]) -> Judge:
    """Returns one judge for all models.

    Raises UserError if several metrics are possible, or if the grader cannot read a reference.
    """
    config = columns_and_grader(study)
    if "grader" in config.model_fields_set:
        judge = Judge(config.grader, REQUESTED)
        if judge.is_metric:
            _require_metric(judge.name, models)
    elif all(model.verdicts for model in models):
        judge = Judge(FORKDIV_VERDICTS, "written by forkdiv")
    elif metrics := frozenset.intersection(*(model.per_sample for model in models)):
        judge = _only_metric(metrics)
    else:
        rows = [
            Row("", "", problem.facts["answer"], problem.facts["answer"], "", at)
            for model in models
            for at, problem in enumerate(model.problems)
        ]
        judge = Judge(*infer_grader(rows))
    if judge.is_grader:
        _require_references(judge.name, models)
    return judge


def columns_and_grader(study: StudyConfig) -> FileConfig:
    """Returns the task settings that apply to samples files; defaults for tasks of other kinds."""
    return study.task if isinstance(study.task, FileConfig) else FileConfig()


def _only_metric(metrics: frozenset[str]) -> Judge:
    if len(metrics) == 1:
        return Judge(next(iter(metrics)), "has a verdict on every sample")
    raise refuse(
        "several metrics of the files have a verdict on every sample",
        ", ".join(sorted(metrics)),
        "one of them",
        f"choose with task.kind=file task.grader={min(metrics)}",
    )


def _require_metric(name: str, models: Sequence[Samples]) -> None:
    for model in models:
        if name not in model.per_sample:
            raise refuse(
                f"{model.files[0].path} has no metric {name} with a verdict on every sample",
                f"task.grader={name}",
                f"{', '.join(sorted(model.per_sample)) or 'none in this file'}, or one of the "
                f"graders {', '.join(NAMES.names())}",
                "correct task.grader",
            )


def _require_references(grader: str, models: Sequence[Samples]) -> None:
    reads = build_grader(grader)
    checked: set[str] = set()
    for model in models:
        for problem, location in zip(model.problems, model.locations, strict=True):
            answer = problem.facts["answer"]
            if answer in checked:
                continue
            checked.add(answer)
            try:
                reads.reference(answer)
            except (ValueError, TimeoutError) as error:
                raise refuse(
                    f"the grader {grader} cannot read the reference on {location} "
                    f"({one_line(error)})",
                    quoted(answer, 60),
                    f"a reference in the format of the grader; graders: {ALLOWED}",
                    "set task.kind=file and task.grader, or task.columns.answer to the key of "
                    "`doc` that contains the answer",
                ) from error

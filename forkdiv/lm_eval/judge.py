"""Who says which samples are correct: the file itself where it does, else a grader of forkdiv's."""

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

OWN = "verdicts"  # those that forkdiv wrote
NAMED = "it was named"
ALLOWED = f"{', '.join(NAMES.names())}, package.module:function, or metric,filter of the file"


@dataclass(frozen=True)
class Judge:
    """`name` is OWN, a metric of the files as `metric,filter`, or a grader; `why` it is that."""

    name: str
    why: str

    @property
    def is_metric(self) -> bool:
        return "," in self.name

    @property
    def is_grader(self) -> bool:
        return self.name != OWN and not self.is_metric

    def __str__(self) -> str:
        if self.name == OWN:
            return f"the verdicts in the files ({self.why})"
        return (
            f"{self.name} of the files ({self.why})"
            if self.is_metric
            else (f"the grader {self.name} ({self.why})")
        )


def choose(study: StudyConfig, models: Sequence[Samples]) -> Judge:
    """One judge for all models. Raises UserError where there is a choice to be made, or the
    references are not such as the grader reads."""
    config = columns_and_grader(study)
    if "grader" in config.model_fields_set:
        judge = Judge(config.grader, NAMED)
        if judge.is_metric:
            _require_metric(judge.name, models)
    elif all(one.verdicts for one in models):
        judge = Judge(OWN, "forkdiv wrote them")
    elif judging := frozenset.intersection(*(one.per_sample for one in models)):
        judge = _only(judging)
    else:
        rows = [
            Row("", "", problem.facts["answer"], problem.facts["answer"], "", at)
            for one in models
            for at, problem in enumerate(one.problems)
        ]
        judge = Judge(*infer_grader(rows))
    if judge.is_grader:
        _require_references(judge.name, models)
    return judge


def columns_and_grader(study: StudyConfig) -> FileConfig:
    """The part of the task's settings that is about samples; any other task has none."""
    return study.task if isinstance(study.task, FileConfig) else FileConfig()


def _only(judging: frozenset[str]) -> Judge:
    if len(judging) == 1:
        return Judge(next(iter(judging)), "it judges every sample")
    raise refuse(
        "several metrics of the files judge every sample",
        ", ".join(sorted(judging)),
        "one of them",
        f"set task.kind=file task.grader={min(judging)}",
    )


def _require_metric(name: str, models: Sequence[Samples]) -> None:
    for one in models:
        if name not in one.per_sample:
            raise refuse(
                f"{one.files[0].path} has no metric that judges every sample by that name",
                name,
                f"{', '.join(sorted(one.per_sample)) or 'none in this file'}, or one of the "
                f"graders {', '.join(NAMES.names())}",
                "correct task.grader",
            )


def _require_references(grader: str, models: Sequence[Samples]) -> None:
    reads = build_grader(grader)
    known: set[str] = set()
    for one in models:
        for problem, where in zip(one.problems, one.wheres, strict=True):
            answer = problem.facts["answer"]
            if answer in known:
                continue
            known.add(answer)
            try:
                reads.reference(answer)
            except (ValueError, TimeoutError) as error:
                raise refuse(
                    f"the grader {grader} cannot read the reference on {where} ({one_line(error)})",
                    quoted(answer, 60),
                    f"a reference that it reads; graders: {ALLOWED}",
                    "set task.kind=file and task.grader, or task.columns.answer to the key of "
                    "`doc` that holds the answer",
                ) from error

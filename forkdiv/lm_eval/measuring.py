"""pass@k of the samples in a model's files, against those of its base: a study's summary."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from forkdiv.core.config.decoder import lm_eval_name
from forkdiv.core.config.study import AXES, StudyConfig
from forkdiv.core.errors import refuse
from forkdiv.core.fingerprint import Identity
from forkdiv.core.results import Cell, CellName, Summary
from forkdiv.coverage import summary
from forkdiv.coverage.cells import Findings, cells
from forkdiv.lm_eval import files
from forkdiv.lm_eval.counting import count
from forkdiv.lm_eval.judge import Judge, choose, columns_and_grader
from forkdiv.lm_eval.pairing import Pair
from forkdiv.lm_eval.reading import DECODER, Samples, take_in
from forkdiv.score.counts import ProblemCounts
from forkdiv.tasks.own_data.checked import digest

EVAL = ("samples", "k", "bootstrap", "confidence", "seed")
SHOWN = (*DECODER, lm_eval_name("max_new_tokens"), "until")


def measure(
    study: StudyConfig,
    samples: Sequence[Path],
    base: Sequence[Path],
    show: Callable[[str], None] = lambda line: None,
) -> Summary:
    """The summary of the samples in `samples` (files or folders), with the change to those in
    `base` where there are any. Of the study it reads `task.grader`, `task.columns`, `eval` and
    `name`.

    Raises UserError for files that cannot be read as one model's samples of one set of problems.
    """
    started = time.perf_counter()
    columns = columns_and_grader(study).columns
    models = {"tuned": take_in(files.find(samples), columns)}
    if base:
        models["base"] = take_in(files.find(base), columns)
    pair = Pair.of(**models) if base else None
    n = _number(study, list(models.values()))
    study = study.model_copy(update={"eval": study.eval.model_copy(update={"samples": n})})
    judge = choose(study, list(models.values()))
    notes = [f"verdicts by {judge}", *_about(models)]
    counts: dict[str, list[ProblemCounts]] = {}
    for who, one in models.items():
        show(f"{_named(who, models)}judging {len(one.problems) * n:,} samples")
        counts[who], agreement = count(one, judge, n)
        notes += [_named(who, models) + note for note in agreement.notes]
    notes += pair.notes if pair else []
    if pair:
        counts["base"] = pair.as_tuned(counts["base"])
    return summary.assemble(
        study,
        _identity(study, judge, models).fingerprint,
        (),
        list(_cells(study, models, counts)),
        {"total": time.perf_counter() - started},
        notes=notes,
        settings=_settings(study, judge, models),
    )


def _cells(
    study: StudyConfig,
    models: Mapping[str, Samples],
    counts: Mapping[str, Sequence[ProblemCounts]],
) -> Iterator[list[Cell]]:
    prompts = [problem.prompt for problem in models["tuned"].problems]
    theirs = counts.get("base")
    for who, one in models.items():
        found = Findings(counts[who], theirs if who == "tuned" else None, prompts=prompts)
        yield cells(_cell_name(study, one, tuned=who == "tuned"), found, study.eval)


def _named(who: str, models: Mapping[str, Samples]) -> str:
    """What begins a line about one of several models."""
    return f"{who}: " if len(models) > 1 else ""


def _number(study: StudyConfig, models: Sequence[Samples]) -> int:
    """Samples of each problem: as many as every model has, or as the user wants."""
    most = min(models, key=lambda one: one.n)
    wanted = study.eval.samples if "samples" in study.eval.model_fields_set else most.n
    for name, value in (("eval.samples", wanted), ("eval.k", max(study.eval.k, default=1))):
        if value > most.n:
            raise refuse(
                f"{name} is more than there are samples of a problem",
                f"{value}, with {most.n} in {most.files[0].path}",
                f"up to {most.n}",
                f"lower {name}, or name files with more samples (`repeats` of the tool's task)",
            )
    return wanted


def _cell_name(study: StudyConfig, samples: Samples, tuned: bool) -> CellName:
    temperature = _temperature(samples)
    return CellName(
        axes=dict.fromkeys(AXES),
        tuned=tuned,
        epoch=None,
        temperature=study.decoder.temperature if temperature is None else temperature,
        seed=study.sft.seed,
    )


def _temperature(samples: Samples) -> float | None:
    """The temperature in the file; 0 where it says that nothing was sampled."""
    if samples.settings.get("do_sample") is False:
        return 0.0
    found = samples.settings.get("temperature")
    return float(found) if isinstance(found, int | float) else None


def _about(models: Mapping[str, Samples]) -> Iterator[str]:
    """What a reader of the numbers must know of the files."""
    for who, one in models.items():
        name = _named(who, models)
        of = "samples" if one.n > 1 else "sample"
        yield (
            f"{name}{len(one.problems):,} problems, {one.n} {of} of each, from "
            f"{', '.join(str(file.path) for file in one.files)}"
        )
        if one.means:
            told = ", ".join(f"{key} {value:.3f}" for key, value in one.means.items())
            yield f"{name}the tool's own means, of what its filters left: {told}"
        if one.alike:
            yield (
                f"{name}all {one.n} samples of a problem are equal, for every problem: was it "
                "sampled greedily (do_sample: false)? Then pass@k is pass@1 for every k"
            )
        if _temperature(one) is None:
            yield f"{name}the files name no temperature; it is given as decoder.temperature says"
    if not all(one.verdicts for one in models.values()):
        yield "the files do not say which responses were cut off at the token limit"


def _settings(study: StudyConfig, judge: Judge, models: Mapping[str, Samples]) -> dict[str, Any]:
    """What decided the numbers, for the report."""
    return {
        "name": study.name,
        "grader": judge.name,
        "eval": {name: study.eval.model_dump(mode="json")[name] for name in EVAL},
        **{
            who: {
                "files": [str(file.path) for file in one.files],
                "generation": {key: one.settings[key] for key in SHOWN if key in one.settings},
            }
            for who, one in models.items()
        },
    }


def _identity(study: StudyConfig, judge: Judge, models: Mapping[str, Samples]) -> Identity:
    config = {
        "judge": judge.name,
        "columns": columns_and_grader(study).columns,
        "eval": study.eval,
    }
    parents = {
        f"{who}-{at}": digest(file.path)
        for who, one in models.items()
        for at, file in enumerate(one.files)
    }
    return Identity("study", config, parents)

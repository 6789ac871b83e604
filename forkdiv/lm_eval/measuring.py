"""Measures pass@k of samples that lm_eval wrote and returns a study's summary."""

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
from forkdiv.core.thinking import Thinking, tags_of
from forkdiv.coverage import summary
from forkdiv.coverage.cells import CellInputs, cells
from forkdiv.lm_eval import files
from forkdiv.lm_eval.counting import THINKING, count
from forkdiv.lm_eval.judge import Judge, choose, columns_and_grader
from forkdiv.lm_eval.lines import DECODER_SETTINGS
from forkdiv.lm_eval.pairing import Pair
from forkdiv.lm_eval.reading import Samples, read_samples
from forkdiv.score.counts import ProblemCounts
from forkdiv.tasks.graders.registry import build_grader
from forkdiv.tasks.own_data.checked import digest

EVAL_SETTINGS = ("samples", "k", "bootstrap", "confidence", "seed")
REPORTED_SETTINGS = (*DECODER_SETTINGS, lm_eval_name("max_new_tokens"), "until")


def measure(
    study: StudyConfig,
    samples: Sequence[Path],
    base: Sequence[Path],
    show: Callable[[str], None] = lambda line: None,
    before_grading: Callable[[StudyConfig, bool], None] = lambda study, has_answers: None,
) -> Summary:
    """Returns the summary of the samples in `samples` (files or folders), with the change to the
    samples in `base` if there are any. `show` prints a progress line. `before_grading` is
    called with the study, whose eval.samples is then known, and whether verdicts have answers. Uses
    `task.grader`, `task.columns`, `eval` and `name` of the study.

    Raises UserError if the files of a model are not samples of one model on one set of problems.
    """
    started = time.perf_counter()
    columns = columns_and_grader(study).columns
    models = {"tuned": read_samples(files.find(samples), columns)}
    if base:
        models["base"] = read_samples(files.find(base), columns)
    pair = Pair.of(**models) if base else None
    n = _samples_per_problem(study, list(models.values()))
    study = study.model_copy(update={"eval": study.eval.model_copy(update={"samples": n})})
    judge = choose(study, list(models.values()))
    before_grading(study, not judge.is_metric and ":" not in judge.name)
    notes = [f"verdicts by {judge}", *_notes(models)]
    thinking = Thinking(*tags_of(study.eval.thinking_end)) if study.eval.thinking_end else THINKING
    counts: dict[str, list[ProblemCounts]] = {}
    for role, samples_of_model in models.items():
        show(f"{_prefix(role, models)}grading {len(samples_of_model.problems) * n:,} samples")
        counts[role], agreement = count(samples_of_model, judge, n, thinking)
        notes += [_prefix(role, models) + note for note in agreement.notes]
    notes += pair.notes if pair else []
    if pair:
        counts["base"] = pair.in_tuned_order(counts["base"])
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
    base_counts = counts.get("base")
    for role, samples in models.items():
        inputs = CellInputs(counts[role], base_counts if role == "tuned" else None, prompts=prompts)
        yield cells(_cell_name(study, samples, tuned=role == "tuned"), inputs, study.eval)


def _prefix(role: str, models: Mapping[str, Samples]) -> str:
    """Returns the prefix of a line about one model; empty if there is only one."""
    return f"{role}: " if len(models) > 1 else ""


def _samples_per_problem(study: StudyConfig, models: Sequence[Samples]) -> int:
    """Returns the samples of each problem to use: eval.samples if it is set, else as many as
    every model has."""
    smallest = min(models, key=lambda model: model.n)
    requested = study.eval.samples if "samples" in study.eval.model_fields_set else smallest.n
    for name, value in (("eval.samples", requested), ("eval.k", max(study.eval.k, default=1))):
        if value > smallest.n:
            raise refuse(
                f"{name} exceeds the number of samples of each problem",
                f"{value}, with {smallest.n} samples in {smallest.files[0].path}",
                f"up to {smallest.n}",
                f"lower {name}, or use files with more samples (`repeats` in the lm_eval task)",
            )
    return requested


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
    """Returns the temperature in the file, 0 for do_sample=false, None if the file has none."""
    if samples.settings.get("do_sample") is False:
        return 0.0
    value = samples.settings.get("temperature")
    return float(value) if isinstance(value, int | float) else None


def _notes(models: Mapping[str, Samples]) -> Iterator[str]:
    """Yields notes about the files that matter for reading the results."""
    for role, samples in models.items():
        name = _prefix(role, models)
        noun = "samples" if samples.n > 1 else "sample"
        yield (
            f"{name}{len(samples.problems):,} problems, {samples.n} {noun} of each, from "
            f"{', '.join(str(file.path) for file in samples.files)}"
        )
        if samples.means:
            means = ", ".join(f"{key} {value:.3f}" for key, value in samples.means.items())
            yield f"{name}means computed by lm_eval, after its filters: {means}"
        if samples.all_equal:
            yield (
                f"{name}all {samples.n} samples of a problem are equal, for every problem. With "
                "greedy decoding (do_sample: false), pass@k equals pass@1 for every k"
            )
        if _temperature(samples) is None:
            yield f"{name}the files contain no temperature; decoder.temperature is shown instead"
    if not all(samples.verdicts for samples in models.values()):
        yield "the files do not show which responses were truncated at the token limit"


def _settings(study: StudyConfig, judge: Judge, models: Mapping[str, Samples]) -> dict[str, Any]:
    """Returns the settings that decide the numbers, for the report."""
    return {
        "name": study.name,
        "grader": judge.name,
        "eval": {name: study.eval.model_dump(mode="json")[name] for name in EVAL_SETTINGS},
        **{
            role: {
                "files": [str(file.path) for file in samples.files],
                "generation": {
                    key: samples.settings[key]
                    for key in REPORTED_SETTINGS
                    if key in samples.settings
                },
            }
            for role, samples in models.items()
        },
    }


def _identity(study: StudyConfig, judge: Judge, models: Mapping[str, Samples]) -> Identity:
    config: dict[str, Any] = {
        "judge": judge.name,
        "columns": columns_and_grader(study).columns,
        "eval": study.eval,
    }
    if judge.is_grader and (grading := dict(build_grader(judge.name).identity())):
        config["grading"] = grading
    parents = {
        f"{role}-{at}": digest(file.path)
        for role, samples in models.items()
        for at, file in enumerate(samples.files)
    }
    return Identity("study", config, parents)

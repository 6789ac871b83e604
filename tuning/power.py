"""The power of designs: what is asked, on which problems, and the answer as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import refuse
from forkdiv.core.results import Cell, Summary
from forkdiv.coverage.stats.power import Design, Population, assumed, measured
from forkdiv.report import studies
from forkdiv.report.grid import nearest_1, signed
from forkdiv.report.setting import Setting

PROBLEMS = (100, 200, 500, 1000, 2000, 5000)
MOST_PASS_AT_K = 0.95
FEW_PROBLEMS = 50  # of which a spread is a rough estimate

Table = tuple[list[str], list[list[str]]]


@dataclass(frozen=True)
class Question:
    """The designs to compare and the population of problems, with a line that describes it."""

    k: int
    loss: float
    power: float
    confidence: float
    problems: Sequence[int]
    samples: Sequence[int]
    seed: int
    population: Population
    assumptions: str

    @classmethod
    def of(cls, study: StudyConfig) -> Question:
        """Reads the settings. Raises UserError for samples below k, for assumptions that no
        problems can meet, and for results without paired counts."""
        config, random = study.power, np.random.default_rng(study.eval.seed)
        cell = None if config.result is None else _measured_cell(config.result)
        k = config.k or (max(study.eval.ks) if cell is None else max(cell.pass_at))
        samples = config.samples or (k, 2 * k, 4 * k)
        if min(samples) < k:
            raise refuse(
                f"pass@{k} needs at least {k} samples of each problem",
                f"{min(samples)} samples",
                f"{k} or more",
                "raise --samples, or lower --k",
            )
        if cell is None:
            population, line = _assumed_problems(study, k, random)
        else:
            population = _measured_problems(cell, k, config.loss, random)
            line = _measured_line(cell, config.result, k)
        return cls(
            k=k,
            loss=config.loss,
            power=config.power,
            confidence=study.eval.confidence,
            problems=config.problems or PROBLEMS,
            samples=samples,
            seed=study.eval.seed,
            population=population,
            assumptions=line,
        )

    @property
    def title(self) -> str:
        percent = f"{self.confidence * 100:g}%"
        return f"Power to show a loss of {self.loss:g} of pass@{self.k} ({percent} limits)"


@dataclass(frozen=True)
class Answer:
    """The table of designs, and lines below it."""

    table: Table
    lines: list[str]


def answer(question: Question, finished: Callable[[str], None]) -> Answer:
    """Returns the answer. `finished` is called with the name of each column that is computed."""
    random = np.random.default_rng(question.seed + 1)
    header, columns, needed = ["problems"], [], []
    for samples in question.samples:
        design = Design.of(question.population, question.k, samples, question.loss, random)
        powers = [design.power(n, question.confidence, random) for n in question.problems]
        losses = [
            design.detectable(n, question.confidence, question.power) for n in question.problems
        ]
        columns += [
            [f"{power:.2f}" for power in powers],
            [f"{loss:.3f}" for loss in losses],
        ]
        header += [f"n={samples}", "loss"]
        needed.append(design.required(question.confidence, question.power, random))
        finished(f"n={samples}")
    rows = [
        [f"{n:,}", *(column[at] for column in columns)] for at, n in enumerate(question.problems)
    ]
    return Answer((header, rows), _lines(question, needed))


def _lines(question: Question, needed: Sequence[int]) -> list[str]:
    designs = [
        f"{problems:,} with {samples} samples each"
        for problems, samples in zip(needed, question.samples, strict=True)
    ]
    totals = [2 * n * samples for n, samples in zip(needed, question.samples, strict=True)]
    cheapest = int(np.argmin(totals))
    return [
        f"n=…: the power with so many samples of each problem; loss: the minimum "
        f"detectable loss, which is shown with power {question.power:g}, about",
        f"problems needed for power {question.power:g}: about {', '.join(designs)}",
        f"fewest samples in all: {needed[cheapest]:,} problems with "
        f"{question.samples[cheapest]} samples, about {totals[cheapest]:,} samples of both models",
    ]


def _assumed_problems(
    study: StudyConfig, k: int, random: np.random.Generator
) -> tuple[Population, str]:
    config = study.power
    mean = config.pass_at_1
    pass_at_k = config.pass_at_k
    if pass_at_k is None:
        pass_at_k = mean if k == 1 else min((mean + 1 - (1 - mean) ** k) / 2, MOST_PASS_AT_K)
    try:
        population = assumed(k, mean, pass_at_k, config.loss, config.correlation, random)
    except ValueError as error:
        raise refuse(
            "no problems can meet these assumptions",
            f"power.pass_at_1={mean:g}, power.pass_at_k={pass_at_k:g}, power.loss={config.loss:g} "
            f"at k={k}",
            str(error).partition(", got")[0],
            "correct power.pass_at_1, power.pass_at_k or --loss, or use --from RESULTS",
        ) from error
    return population, (
        f"assumed: base pass@1 {mean:g} and pass@{k} {pass_at_k:g} (beta distribution over "
        f"problems), correlation of base and tuned {config.correlation:g}; "
        "--from RESULTS takes a finished comparison instead"
    )


def _measured_problems(cell: Cell, k: int, loss: float, random: np.random.Generator) -> Population:
    try:
        return measured(cell.n_samples, cell.paired_counts, k, loss, random)
    except ValueError as error:
        raise refuse(
            "the models of these results cannot lose so much",
            f"{loss:g}",
            str(error),
            "lower --loss",
        ) from error


def _measured_cell(path: Path) -> Cell:
    """Returns the comparison on all problems at the temperature nearest 1; of several models the
    one with the widest limits, so that the power of the others is not lower. Raises UserError if
    the results have no paired counts."""
    summary = studies.read(path.parent if path.name == studies.SUMMARY else path)
    cells = [cell for cell in summary.cells if cell.subset == "all" and cell.paired_counts]
    if not cells:
        raise refuse(
            "these results cannot show the spread of a comparison",
            f"{path}, {_without_pairs(summary)}",
            "a comparison with its base, with independent samples and a fixed number of them",
            "run the comparison again with this version, or state assumptions instead of --from",
        )
    temperature = nearest_1({cell.temperature for cell in cells})
    return max(
        (cell for cell in cells if cell.temperature == temperature),
        key=lambda cell: (change := cell.delta_to_base[max(cell.pass_at)]).high - change.low,
    )


def _without_pairs(summary: Summary) -> str:
    if not summary.cells:
        return "which have no tuned model"
    return "whose cells have no paired counts"


def _measured_line(cell: Cell, path: Path | None, k: int) -> str:
    measured_k = max(cell.pass_at)
    change = cell.delta_to_base[measured_k]
    setting = Setting.of(
        cell, tuple(name for name, value in cell.axes.items() if value is not None)
    )
    few = ""
    if cell.n_problems < FEW_PROBLEMS:
        few = "; so few problems show their spread only roughly"
    name = f" of {setting.label}" if setting and setting.label != "tuned" else ""
    return (
        f"problems like those in {path}: {cell.n_problems} problems with {cell.n_samples} samples; "
        f"measured change{name} at k={measured_k}: {signed(change.value)} "
        f"({signed(change.low)} to {signed(change.high)}){few}"
    )

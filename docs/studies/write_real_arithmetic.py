"""Write real-arithmetic.json and real-arithmetic.png from the results of the studies.

    python docs/studies/write_real_arithmetic.py RUNS BASE_ARITHMETIC BASE_MODES

RUNS is the `place.root` of the commands on the page; the others are the two bases. It reads the
store and runs no model. Models that have not been measured are left out. It prints the tables of
the page.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from forkdiv.core.config.load import load
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.store import Store
from forkdiv.coverage import estimate, exact_forks, stats
from forkdiv.coverage.fork_summary import ForkProbabilities
from forkdiv.coverage.stats import Floats
from forkdiv.models.checkpoint import open_checkpoint
from forkdiv.sample.evaluation import Evaluation
from forkdiv.score import verdicts
from forkdiv.score.counts import ProblemCounts
from tuning.models import Model, sweep_models

HERE = Path(__file__).parent
NUMBERS, PICTURE = HERE / "real-arithmetic.json", HERE / "real-arithmetic.png"
EXACT_KS, SAMPLED_KS = (1, 8, 32, 128), (1, 4, 8, 16)
CONFIDENCE = 0.95
INTERVAL = ("value", "low", "high")
# the settings of each study on the page, besides the base and the root
STUDIES = {
    "real-arithmetic": ["real-arithmetic"],
    "real-synthesis": ["real-arithmetic", "sweep.direction=[1.0]", "sweep.synthesis=[samples]"],
    "real-trees": [
        "real-arithmetic",
        "sweep.direction=[1.0]",
        "sweep.decoder=[trees]",
        "eval.samples=8",
    ],
    "real-modes": ["real-modes"],
}
# what the plan decides by: a difference of two models, at a k
DECIDING = (
    ("forward", "base", "32"),
    ("reverse", "base", "32"),
    ("reverse", "forward", "32"),
    ("forward", "base", "1"),
    ("reverse", "base", "1"),
    ("reverse", "forward", "1"),
    ("forward, repaired", "forward", "32"),
    ("forward, repaired", "forward", "1"),
    ("forward, trees", "forward", "8"),
    ("problem-level", "data-level", "16"),
    ("problem-level", "data-level", "1"),
    ("data-level, first tokens", "data-level", "16"),
    ("data-level", "base", "16"),
    ("problem-level", "base", "16"),
)
NAMES = {
    "direction=0 T=1": "reverse",
    "direction=1 T=1": "forward",
    "direction=1 synthesis=samples T=1": "forward, repaired",
    "structure=data-level plain T=1": "data-level",
    "structure=problem-level plain T=1": "problem-level",
    "structure=data-level first-tokens T=1": "data-level, first tokens",
    "structure=problem-level first-tokens T=1": "problem-level, first tokens",
    "base plain T=1": "base",
    "base first-tokens T=1": "base, first tokens",
    "base trees T=1": "base, trees",
    "direction=1 trees T=1": "forward, trees",
    "base T=1": "base",
}

Numbers = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """A model with the store's results; `p` are exact probabilities of a right response."""

    name: str
    evaluation: Evaluation
    counts: list[ProblemCounts]
    forks: ForkProbabilities | None

    @property
    def sampled_ks(self) -> tuple[int, ...]:
        least = self.evaluation.decoder.first_tokens or self.evaluation.decoder.unit
        samples = self.evaluation.config.samples
        whole = tuple(k for k in SAMPLED_KS if k <= samples)
        return tuple(k for k in whole if k % least == 0) if least > 1 else whole

    def sampled(self, ks: tuple[int, ...]) -> Floats:
        return estimate.pass_at(self.counts, ks)

    def exact(self, ks: tuple[int, ...]) -> Floats:
        assert self.forks
        return stats.exact_pass_at_k(self.forks.p[:, None], np.array(ks))


def main(runs: Path, base_arithmetic: Path, base_modes: Path) -> None:
    written: Numbers = {"validation": _validation(runs), "models": {}, "differences": {}}
    written["seconds"] = {}
    arithmetic: dict[str, Measured] = {}
    modes: dict[str, Measured] = {}
    for study_name, (config, *settings) in STUDIES.items():
        base = base_modes if config == "real-modes" else base_arithmetic
        place = [f"base={base}", f"place.root={runs}", f"name={study_name}"]
        study = load(Path(config), [*settings, *place])
        kept = modes if config == "real-modes" else arithmetic
        kept |= {one.name: one for one in _measured(study)}
        summary = study.folder / "summary.json"
        if summary.is_file():
            seconds = json.loads(summary.read_text())["seconds"]
            written["seconds"][study_name] = {key: round(value) for key, value in seconds.items()}
    for group, found in (("arithmetic", arithmetic), ("modes", modes)):
        written["models"][group] = {name: _numbers(one) for name, one in found.items()}
        written["differences"][group] = dict(_differences(found))
    NUMBERS.write_text(json.dumps(written, indent=1) + "\n")
    _figure(written["models"]).savefig(PICTURE, dpi=100)
    sys.stdout.write("\n\n".join(tables(written).values()) + "\n")


def _validation(runs: Path) -> Numbers:
    """Returns pass@k of the published model and of the format SFT on validation problems."""
    path = runs / "validate-arithmetic" / "evaluation.json"
    if not path.is_file():
        return {}
    (cell,) = (cell for cell in json.loads(path.read_text())["cells"] if cell["subset"] == "all")
    tuned, change = cell["pass_at"], cell["delta_to_base"]
    return {
        "problems": cell["n_problems"],
        "samples": cell["n_samples"],
        "published": {k: round(tuned[k]["value"] - change[k]["value"], 3) for k in tuned},
        "format": {k: {name: round(tuned[k][name], 3) for name in INTERVAL} for k in tuned},
        "readable": round(cell["readable"], 3),
        "reverse_share": round(cell["modes"]["reverse"]["share"], 3),
    }


def _measured(study: StudyConfig) -> Iterator[Measured]:
    """Yields the models of the study's grid whose results are complete."""
    assert study.base
    store = Store.of(study.place)
    for model in sweep_models(study, open_checkpoint(study.base), store):
        if counts := _counts(store, model):
            evaluation = Evaluation.of(model.study)
            forks = None
            if evaluation.decoder.is_plain and evaluation.task.exhaustive:
                found = store.find(exact_forks.identity(evaluation, model.checkpoint))
                forks = exact_forks.read(found) if found else None
            yield Measured(NAMES[model.name], evaluation, counts, forks)


def _counts(store: Store, model: Model) -> list[ProblemCounts]:
    evaluation = Evaluation.of(model.study)
    identity = verdicts.identity(
        model.samples(store).identity,
        len(evaluation.problems),
        evaluation.config.samples,
        (),
        evaluation.grading(model.checkpoint),
    )
    found = store.find(identity)
    return verdicts.read(found) if found else []


def _numbers(model: Measured) -> Numbers:
    """What the page shows of a model; shares of modes are those of its samples."""
    drawn = sum(row.n for row in model.counts)
    modes = {mode for row in model.counts for mode in row.by_mode}
    readable = sum(row.n - row.truncated - row.unparsable for row in model.counts)
    numbers = {
        "problems": len(model.counts),
        "samples": model.evaluation.config.samples,
        "readable": round(readable / drawn, 3),
        "sampled": _means(model.sampled(model.sampled_ks), model.sampled_ks, model),
        "mode_shares": {
            mode: round(sum(row.by_mode.get(mode, (0, 0))[0] for row in model.counts) / drawn, 3)
            for mode in sorted(modes)
        },
        "right_by_mode": {
            mode: sum(row.by_mode.get(mode, (0, 0))[1] for row in model.counts)
            for mode in sorted(modes)
        },
    }
    if model.forks:
        numbers["exact"] = _means(model.exact(EXACT_KS), EXACT_KS, model)
        numbers["at_forks"] = _at_forks(model.forks)
    return numbers


def _at_forks(forks: ForkProbabilities) -> Numbers:
    """Means over problems: the probability that a response begins forward, those of the surer and
    of the right branch among these, and pass@32 if all other tokens were right."""
    begins = np.array([sum(node.chances) for node in forks.nodes])
    right = [
        sum(c for b, c in zip(node.branches, node.chances, strict=True) if b in node.valid)
        for node in forks.nodes
    ]
    surer = np.array([max(node.chances) for node in forks.nodes])
    only_forks = stats.exact_pass_at_k(forks.q[:, None], np.array([32]))
    return {
        "begins_forward": round(float(begins.mean()), 3),
        "surer_branch": round(float((surer / begins).mean()), 3),
        "right_branch": round(float((np.array(right) / begins).mean()), 3),
        "pass_at_32_if_only_forks_fail": round(float(only_forks.mean()), 3),
    }


def _weights(model: Measured) -> Floats:
    return stats.bootstrap_weights([row.subset for row in model.counts], 2000, 0)


def _means(values: Floats, ks: tuple[int, ...], model: Measured) -> Numbers:
    subsets = [row.subset for row in model.counts]
    intervals = stats.mean_intervals(values, _weights(model), CONFIDENCE, subsets)
    return {str(k): _rounded(interval) for k, interval in zip(ks, intervals, strict=True)}


def _differences(models: dict[str, Measured]) -> Iterator[tuple[str, Numbers]]:
    """Yields the paired differences of all models, of exact values where both have them, else of
    sampled ones; trees are compared with the exact pass@k of plain sampling."""
    for name, other in permutations(models, 2):
        one, two = models[name], models[other]
        if one.forks and two.forks:
            ks = EXACT_KS
            values = one.exact(ks), two.exact(ks)
        else:
            ks = tuple(k for k in one.sampled_ks if k in two.sampled_ks or two.forks)
            values = one.sampled(ks), two.exact(ks) if two.forks else two.sampled(ks)
        if not ks or (one.forks and not two.forks):
            continue
        subsets = [row.subset for row in one.counts]
        limits = stats.paired_differences(*values, _weights(one), CONFIDENCE, subsets)
        rows = zip(ks, limits, strict=True)
        yield f"{name} - {other}", {str(k): _rounded(interval) for k, interval in rows}


def _rounded(interval: stats.Interval) -> dict[str, float]:
    return {name: round(getattr(interval, name), 3) for name in INTERVAL}


def tables(written: Numbers) -> dict[str, str]:
    """Returns the Markdown tables of the page, by name."""
    return {
        "validation": _validation_table(written["validation"]),
        "arithmetic": _exact_table(written["models"]["arithmetic"]),
        "sampled": _sampled_table(written["models"]["arithmetic"]),
        "modes": _sampled_table(written["models"]["modes"]),
        "differences": _differences_table(written["differences"]),
        "seconds": _seconds_table(written["seconds"]),
    }


def _validation_table(of: Numbers) -> str:
    ks = list(of.get("format", {}))
    rows = [
        ["published model", *(_two(of["published"][k]) for k in ks), ""],
        ["after the format SFT", *(_interval(of["format"][k]) for k in ks), _two(of["readable"])],
    ]
    return _table(["model", *(f"pass@{k}" for k in ks), "readable"], rows if ks else [])


def _exact_table(models: Numbers) -> str:
    exact = {name: numbers for name, numbers in models.items() if "exact" in numbers}
    header = ["model", *(f"pass@{k}" for k in EXACT_KS), "begins forward", "surer branch"]
    header += ["right branch", "pass@32 if only forks fail"]
    rows = [
        [name, *map(_interval, numbers["exact"].values()), *map(_two, numbers["at_forks"].values())]
        for name, numbers in exact.items()
    ]
    return _table(header, rows)


def _sampled_table(models: Numbers) -> str:
    ks = sorted({int(k) for numbers in models.values() for k in numbers["sampled"]})
    header = ["model", "samples", *(f"pass@{k}" for k in ks), "readable", "share of each mode"]
    rows = [
        [
            name,
            str(numbers["problems"] * numbers["samples"]),
            *(_interval(numbers["sampled"].get(str(k))) for k in ks),
            _two(numbers["readable"]),
            ", ".join(
                f"{mode or 'unknown'} {_two(share)}"
                for mode, share in numbers["mode_shares"].items()
            ),
        ]
        for name, numbers in models.items()
    ]
    return _table(header, rows)


def _differences_table(groups: Numbers) -> str:
    """The differences that the plan decides by."""
    rows = [
        [f"{name} − {other}", f"pass@{k}", _interval(found[k])]
        for name, other, k in DECIDING
        for group in groups.values()
        if (found := group.get(f"{name} - {other}"))
    ]
    return _table(["difference", "at", "value (95 % interval)"], rows)


def _seconds_table(seconds: Numbers) -> str:
    stages = ("sweep.train", "sweep.synthesis", "sweep.sample", "sweep.exact", "total")
    rows = [[name, *(str(of.get(stage, "")) for stage in stages)] for name, of in seconds.items()]
    return _table(["study", "training", "synthesis", "sampling", "exact", "in all"], rows)


def _interval(values: Numbers | None) -> str:
    if values is None:
        return ""
    return f"{_two(values['value'])} ({_two(values['low'])} to {_two(values['high'])})"


def _two(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _figure(groups: Numbers) -> Figure:
    """pass@k of every model: exact where it is known, else sampled."""
    groups = {group: models for group, models in groups.items() if models}
    count = max(len(groups), 1)
    figure = Figure(figsize=(4.5 * count, 3.6), layout="constrained")
    plots = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    for axes, (group, models) in zip(plots, groups.items(), strict=False):
        for model, numbers in models.items():
            points = numbers.get("exact") or numbers["sampled"]
            values = list(points.values())
            middle = np.array([value["value"] for value in values])
            errors = [
                middle - [value["low"] for value in values],
                np.array([value["high"] for value in values]) - middle,
            ]
            ks = [int(k) for k in points]
            line = "--" if model.startswith("base") else "-"
            axes.errorbar(ks, middle, yerr=errors, fmt=f"o{line}", label=model, capsize=3)
        axes.set(title=f"SmolLM2-135M: {group}", xlabel="k", xscale="log", ylim=(-0.03, 1.03))
        axes.legend(fontsize=7, loc="best")
    plots[0].set_ylabel("pass@k")
    return figure


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))

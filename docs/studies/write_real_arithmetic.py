"""Write real-arithmetic.json and real-arithmetic.png from the results of the runs.

    python docs/studies/write_real_arithmetic.py RUNS

RUNS is the `place.root` of the commands on the page. A study that has not been run is left out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

HERE = Path(__file__).parent
NUMBERS, PICTURE = HERE / "real-arithmetic.json", HERE / "real-arithmetic.png"
STUDIES = ("real-arithmetic", "real-synthesis", "real-trees", "real-modes")
# paired comparisons: the model of the first name is the "base" of the change
PAIRS = ("validate-arithmetic", "validate-modes", "forward-after-reverse")
PAIRS += ("repaired-after-forward", "problem-after-data-level")
AXES = ("direction", "synthesis", "structure")
KS = ("1", "8", "32")

Numbers = dict[str, Any]


def main(runs: Path) -> None:
    written: Numbers = {"studies": {}, "pairs": {}}
    for name in STUDIES:
        path = runs / name / "summary.json"
        if path.is_file():
            summary = json.loads(path.read_text())
            cells = [_cell(cell) for cell in (*summary["base"], *summary["cells"])]
            seconds = {stage: round(value) for stage, value in summary["seconds"].items()}
            written["studies"][name] = {"cells": cells, "seconds": seconds}
    for name in PAIRS:
        path = runs / name / "evaluation.json"
        if path.is_file():
            cells = json.loads(path.read_text())["cells"]
            written["pairs"][name] = [_cell(cell) for cell in cells]
    NUMBERS.write_text(json.dumps(written, indent=1) + "\n")
    _figure(written["studies"]).savefig(PICTURE, dpi=110)


def _cell(cell: Numbers) -> Numbers:
    """The numbers of a cell that the page shows, without the texts of problems and samples."""
    kept = {
        "model": _model(cell),
        "decoder": cell.get("decoder") or "plain",
        "subset": cell["subset"],
        "problems": cell["n_problems"],
        "samples": cell["n_samples"],
        "pass_at": {k: _rounded(cell["pass_at"][k]) for k in KS},
        "change": {k: _rounded(value) for k, value in cell.get("delta_to_base", {}).items()},
        "readable": round(cell["readable"], 4),
        "wrong": cell["lost"],
    }
    modes = {
        mode: {"share": round(values["share"], 4), "pass_at_1": round(first["value"], 4)}
        for mode, values in cell.get("modes", {}).items()
        if (first := values["pass_at"].get("1"))
    }
    kept["change"] = {k: kept["change"][k] for k in KS if k in kept["change"]}
    return kept | {"modes": modes}


def _model(cell: Numbers) -> str:
    if not cell["tuned"]:
        return "base"
    set_axes = {axis: cell[axis] for axis in AXES if cell.get(axis) is not None}
    return " ".join(f"{axis}={value}" for axis, value in set_axes.items()) or "tuned"


def _rounded(interval: Numbers) -> dict[str, float]:
    return {name: round(interval[name], 4) for name in ("value", "low", "high")}


def _figure(studies: Numbers) -> Figure:
    """pass@k of every model, one plot for each study."""
    figure = Figure(figsize=(4 * max(len(studies), 1), 3.4), layout="constrained")
    plots = figure.subplots(1, max(len(studies), 1), sharey=True, squeeze=False)[0]
    for axes, (name, study) in zip(plots, studies.items(), strict=False):
        for cell in study["cells"]:
            if cell["subset"] != "all":
                continue
            values = [cell["pass_at"][k] for k in KS]
            middle = [value["value"] for value in values]
            below = [value["value"] - value["low"] for value in values]
            above = [value["high"] - value["value"] for value in values]
            label = cell["model"] + ("" if cell["decoder"] == "plain" else f", {cell['decoder']}")
            line = "--" if cell["model"] == "base" else "-"
            axes.errorbar(
                KS, middle, yerr=[below, above], fmt=f"o{line}", label=label, capsize=3, alpha=0.85
            )
        axes.set(title=name, xlabel="k", ylim=(-0.03, 1.03))
        axes.legend(fontsize=7, loc="lower right")
    plots[0].set_ylabel("pass@k")
    return figure


if __name__ == "__main__":
    main(Path(sys.argv[1]))

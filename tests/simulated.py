"""The summary of a whole study, from a toy model of what fine-tuning does at a fork of three arms.

A model takes one arm with probability `sure` and the others with equal shares of the rest. Where a
sign tells the arm, the sure one is right; at an unsigned fork it is right one time in three.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

from forkdiv.core.results import Summary
from tests.summaries import a_cell, read, written_summary

KS = (1, 2, 4, 8, 16, 32, 64)
CHANCE = 1 / 3
WRONG_ARM = "s → b → e → h: <b>no</b> edge b → e\n"
Mixture = list[tuple[float, float]]  # weight and probability of a correct response


def a_study(
    densities: Sequence[float] = (0.0, 0.5, 1.0),
    temperatures: Sequence[float] = (0.7, 1.0, 1.3),
    seeds: Sequence[int] = (0,),
    epochs: Sequence[int] = (1, 2, 4, 8),
    problems: int = 200,
    **summary: Any,
) -> Summary:
    """Every part of the schema is filled; loss grows with epochs and falls with density."""
    whole = list(product(temperatures, ("signed", "unsigned", "all")))
    base = [_cell(None, t, 0, subset, 0, problems) for t, subset in whole]
    tuned = {
        epoch: [
            _cell(density, t, seed, subset, epoch, problems)
            for density, seed in product(densities, seeds)
            for t, subset in whole
        ]
        for epoch in epochs
    }
    made = written_summary(tuned[epochs[-1]], base)
    made["dynamics"] = [cell for epoch in epochs[:-1] for cell in tuned[epoch]]
    if len(temperatures) > 1:
        made["best_decoders"] = [
            _best(cell, temperatures) for cell in tuned[epochs[-1]] if cell["temperature"] == 1.0
        ]
    return read({**made, **summary})


def _sure(density: float | None, temperature: float, epoch: int, signed: bool, seed: int) -> float:
    if density is None:
        return CHANCE
    learnt = 1 - math.exp(-epoch / 2)
    top = 1 - 0.6 * density if signed else 0.99 - 0.25 * density + 0.01 * seed
    sure: float = (CHANCE + (top - CHANCE) * learnt) ** temperature
    return min(max(CHANCE, sure), 0.9999)


def _mixture(sure: float, signed: bool) -> Mixture:
    """Nine in ten of the paths are walked without a wrong edge."""
    other = (1 - sure) / 2
    if signed:
        return [(1.0, 0.95 * sure)]
    return [(CHANCE, 0.95 * sure), (1 - CHANCE, 0.95 * other)]


def _pass_at(mixture: Mixture, k: int) -> float:
    return sum(weight * (1 - (1 - p) ** k) for weight, p in mixture)


def _band(value: float, mixture: Mixture, k: int, problems: int, least: float) -> dict[str, Any]:
    spread = sum(w * (1 - (1 - p) ** k - _pass_at(mixture, k)) ** 2 for w, p in mixture) ** 0.5
    half = 1.96 * (spread + 0.05) / problems**0.5
    flat = spread < 1e-3
    return {
        "value": value,
        "low": max(value - half, least),
        "high": min(value + half, 1.0),
        "low_all": max(value - 1.4 * half, least),
        "high_all": min(value + 1.4 * half, 1.0),
        "method": "wilson" if flat else "score",
    }


def _interval(value: float, half: float) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def _cell(
    density: float | None, temperature: float, seed: int, subset: str, epoch: int, problems: int
) -> dict[str, Any]:
    kinds = [True, False] if subset == "all" else [subset == "signed"]
    sures = {kind: _sure(density, temperature, epoch, kind, seed) for kind in kinds}
    mixture = [
        (weight / len(kinds), p) for kind in kinds for weight, p in _mixture(sures[kind], kind)
    ]
    n = problems * len(kinds) // 2
    values = {k: _pass_at(mixture, k) for k in KS}
    before = {k: 1 - (1 - 0.95 * CHANCE) ** k for k in KS}
    cell = a_cell(density, temperature, seed, subset, dict.fromkeys(KS, (0.0, 0.0, 0.0)))
    cell.update(
        n_problems=n,
        n_samples=64,
        epoch=epoch or None,
        pass_at={str(k): _band(v, mixture, k, n, 0.0) for k, v in values.items()},
        exact_pass_at={str(k): v for k, v in values.items()},
        best_case_pass_at={str(k): v for k, v in values.items()},
        majority_at={str(k): values[1] ** (1 / k**0.2) for k in KS},
        distinct_at={str(k): _interval(2 * values[k], 0.1) for k in KS},
        valid_solutions=2.0,
        forks=_forks(sures, values),
        law=_law(values),
    )
    if density is not None:
        moved = {k: values[k] - before[k] for k in KS}
        cell["delta_to_base"] = {str(k): _band(v, mixture, k, n, -1.0) for k, v in moved.items()}
        cell["distinct_delta"] = {str(k): _interval(2 * v, 0.1) for k, v in moved.items()}
        cell["shrinkage"] = _shrinkage(moved, cell["delta_to_base"], n, subset)
    return cell


def _forks(sures: dict[bool, float], values: dict[int, float]) -> dict[str, Any]:
    depths = []
    for signed, sure in sures.items():
        shares = sorted((sure, (1 - sure) / 2, (1 - sure) / 2), reverse=True)
        accuracy = sure if signed else CHANCE
        depths.append(
            {
                "depth": 1,
                "signed": signed,
                "problems": 100,
                "branches": 3.0,
                "accuracy": _interval(accuracy, 0.03),
                "chance": CHANCE,
                "entropy": -sum(share * math.log(share) for share in shares),
                "uniform": math.log(3),
                "off": 0.004,
                "shares": shares,
            }
        )
    right = {k: sum(_pass_at(_mixture(s, kind), k) for kind, s in sures.items()) for k in KS}
    at_fork = {k: right[k] / len(sures) for k in KS}
    return {
        "depths": depths,
        "fork_pass_at": {str(k): min(v + 0.03, 1.0) for k, v in at_fork.items()},
        "pass_at": {str(k): v for k, v in values.items()},
    }


def _shrinkage(
    moved: dict[int, float], bands: dict[str, Any], problems: int, subset: str
) -> dict[str, Any]:
    falls = next((k for k in KS if moved[k] < 0), None)
    worst = min(KS, key=moved.__getitem__)
    lost = max(round(-moved[64] * problems), 0)
    crossing = falls is not None and falls > 1
    band = bands[str(worst)]
    return {
        "at_k": 64,
        "lost_count": lost,
        "gained_count": 3,
        "lost": [a_problem(f"{subset}-{i}", 60 - i, i, i < 5) for i in range(min(lost, 12))],
        "gained": [a_problem(f"{subset}-g{i}", i, 50 - i, i < 1) for i in range(3)],
        "crossing": {
            "k": falls / 1.3 if crossing and falls else None,
            "low": falls / 2 if crossing and falls else None,
            "high": falls * 1.5 if crossing and falls else None,
            "share": 0.97 if crossing else 0.02,
            "above_at_1": moved[1] > 0,
        },
        "largest_loss": None
        if moved[worst] >= 0
        else {
            "k": worst,
            "value": moved[worst],
            "low": band["low_all"],
            "high": band["high_all"],
        },
    }


def a_problem(name: str, base: int, tuned: int, clear: bool = False) -> dict[str, Any]:
    """A problem of which each model solved so many of 64 samples."""

    def side(correct: int) -> dict[str, Any]:
        return {
            "n": 64,
            "correct": correct,
            "pass_at": float(correct > 0),
            "right": "s → a → d → goal\n" if correct else None,
            "wrong": WRONG_ARM * 3 if correct < 64 else None,
        }

    prompt = f"edges: s>a, a>d, d>goal, s>b, b>f\nstart s, goal goal ({name})"
    sides = {"base": side(base), "tuned": side(tuned)}
    return {"id": name, "prompt": prompt, "clear": clear, **sides}


def _law(values: dict[int, float]) -> dict[str, Any]:
    a, b = math.log(values[1]), -0.6
    predicted = math.exp(a * 56**b)
    predictions = {str(k): _interval(math.exp(a * k**b), 0.01) for k in (512, 4096)}
    heldout = {
        "fit_n": 8,
        "at_k": 56,
        "predicted": _interval(predicted, 0.04),
        "observed": _interval(values[64], 0.03),
        "error": predicted - values[64],
    }
    rival = {"alpha": 0.5, "beta": 2.0, "predictions": predictions, "heldout": heldout}
    return {
        "a": a,
        "a_low": a - 0.1,
        "a_high": a + 0.1,
        "b": b,
        "b_low": b - 0.1,
        "b_high": b + 0.1,
        "predictions": predictions,
        "heldout": heldout,
        "rival": rival,
    }


def _best(cell: dict[str, Any], temperatures: Sequence[float]) -> dict[str, Any]:
    data = {"fork_density": cell["fork_density"], "seed": cell["seed"], "subset": cell["subset"]}
    band = cell["delta_to_base"]["64"]
    return {
        **data,
        "k": 64,
        "base_temperature": 1.0,
        "tuned_temperature": temperatures[-1],
        "delta": {name: band[name] for name in ("value", "low", "high")},
    }

"""Toy summaries, as a study would write them, for the tests of what reads them.

Cells are made as the plain JSON that a study writes; a summary is read from it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from forkdiv.core.config.study import AXES
from forkdiv.core.results import Cell, Summary

Change = tuple[float, float, float]
UP, DOWN, FLAT = (0.3, 0.25, 0.35), (-0.2, -0.25, -0.15), (0.01, -0.02, 0.04)
OTHER_ENDS, BROKEN_PATH = "a real path with other ends", "uses an edge that does not exist"

NOT_MEASURED: dict[str, Any] = {
    "epoch": None,
    "majority_at": {},
    "distinct_at": {},
    "distinct_delta": {},
    "valid_solutions": None,
    "shrinkage": None,
    "law": None,
    "no_law": "",
    "forks": None,
}


def a_cell(
    setting: float | Mapping[str, Any] | None,
    temperature: float = 1.0,
    seed: int = 0,
    subset: str = "all",
    changes: Mapping[int, Change] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """`setting` is a fork density, or the values of other axes; None is the base. `fields` are
    what else the cell carries: its epoch, forks, shrinkage …"""
    changes = changes or {1: UP, 16: DOWN}
    ends = {1: 0.4, 4: 0.5, 16: 0.6}
    ks = sorted({1, *changes}) if 4 not in changes else sorted(changes)
    moved = {k: ends.get(k, 0.5) + (0.0 if setting is None else changes[k][0]) for k in ks}
    deltas = {} if setting is None else changes
    known = setting if isinstance(setting, Mapping) else {"fork_density": setting}
    return {
        "tuned": setting is not None,
        **dict.fromkeys(AXES),
        **known,
        "temperature": temperature,
        "seed": seed,
        "subset": subset,
        "n_problems": 100,
        "n_samples": 16,
        "truncated": 3,
        "unparsable": 2,
        "errors": 0,
        "valid": True,
        "pass_at": {
            str(k): {"value": value, "low": max(value - 0.05, 0), "high": min(value + 0.05, 1)}
            for k, value in moved.items()
        },
        "delta_to_base": {
            str(k): {"value": value, "low": low, "high": high}
            for k, (value, low, high) in deltas.items()
        },
        "exact_pass_at": {str(k): value for k, value in moved.items()},
        "agreement": {"worst_z": 1.2, "at_k": 1, "agrees": True},
        "best_case_pass_at": {str(k): value + 0.01 for k, value in moved.items()},
        "lost": {OTHER_ENDS: 700, BROKEN_PATH: 12},
        "modes": {},
        **copy.deepcopy(NOT_MEASURED),
        **fields,
    }


def a_summary(
    cells: Sequence[dict[str, Any]], base: Sequence[dict[str, Any]] | None = None, study: str = "s"
) -> Summary:
    return read(written_summary(cells, base, study))


def read(plain: Mapping[str, Any]) -> Summary:
    return Summary.model_validate(json.loads(json.dumps(plain)))


def read_cell(plain: Mapping[str, Any]) -> Cell:
    return Cell.model_validate(json.loads(json.dumps(plain)))


def written_summary(
    cells: Sequence[dict[str, Any]], base: Sequence[dict[str, Any]] | None = None, study: str = "s"
) -> dict[str, Any]:
    """summary.json of these cells."""
    if base is None:
        places = list(dict.fromkeys((cell["temperature"], cell["subset"]) for cell in cells))
        ks = {int(k): FLAT for k in cells[0]["pass_at"]} if cells else {1: FLAT}
        base = [a_cell(None, t, subset=subset, changes=ks) for t, subset in places]
    vary = [axis for axis in AXES if len({cell[axis] for cell in cells}) > 1]
    known = [axis for axis in AXES if any(cell[axis] is not None for cell in cells)]
    return {
        "study": study,
        "fingerprint": "f" * 64,
        "commit": None,
        "created": "2026-01-01T00:00:00+00:00",
        "settings": {"task": {"kind": "graph_branching"}, "sweep": {"seed": [0]}},
        "seconds": {"train": 12.5},
        "versions": {"numpy": "2.0", "vllm": None},
        "confidence": 0.95,
        "axes": vary or known[:1],
        "notes": [],
        "base": list(base),
        "cells": list(cells),
        "dynamics": [],
        "best_decoders": [],
        "unit": "epoch",
    }


def as_once_written(summary: Summary) -> Summary:
    """As the first version wrote it: without the keys that came later."""
    old = summary.as_json()
    for key in ("dynamics", "best_decoders", "unit"):
        del old[key]
    for cell in [*old["base"], *old["cells"]]:
        for key in NOT_MEASURED:
            del cell[key]
    return read(old)


def made_invalid(cell: dict[str, Any]) -> dict[str, Any]:
    cell = copy.deepcopy(cell)
    cell.update(valid=False, errors=4, agreement=None, exact_pass_at={}, best_case_pass_at={})
    cell.update(delta_to_base={}, modes={}, pass_at=dict.fromkeys(cell["pass_at"]))
    cell.update({key: value for key, value in NOT_MEASURED.items() if key != "epoch"})
    return cell


def grid_summary(
    subsets: Sequence[str] = ("all", "unsigned"),
    axes: Mapping[str, Sequence[Any]] | None = None,
    temperatures: Sequence[float] = (0.7, 1.0),
) -> Summary:
    """Every combination of the axes' values, each cell with the same changes."""
    axes = axes or {"fork_density": (0.0, 0.5)}
    cells = [
        a_cell(
            dict(zip(axes, values, strict=True)),
            temperature,
            subset=subset,
            changes={1: UP, 4: FLAT, 16: DOWN},
        )
        for values in product(*axes.values())
        for temperature in temperatures
        for subset in subsets
    ]
    return a_summary(cells)

"""A summary: the results of a whole study, as stored in summary.json."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from forkdiv.core.results.cell import Cell, Interval, Named, Result


class BestDecoder(Named):
    """The change of pass@k from the base to a tuned model at `k`, each with the decoder and
    temperature that was best for it on the validation problems."""

    tuned: bool = True
    seed: int
    subset: str
    k: int
    base_temperature: float
    tuned_temperature: float
    base_decoder: str | None = None
    tuned_decoder: str | None = None
    delta: Interval


class CheckpointPaths(Result):
    """Paths of the checkpoints of a comparison; `tuned` maps the number that a checkpoint was
    saved under (epoch or step) to its path."""

    base: str
    tuned: dict[str, str]


class Summary(Result):
    """A study with its cells: those of the base, of the tuned models and, in `dynamics`, of
    checkpoints saved before the last one. `axes` are the axes that the study varies; `unit` is
    what the epochs of the cells count (epoch or step); `seconds` maps stages to wall time."""

    study: str
    fingerprint: str
    commit: str | None = None
    created: str
    settings: dict[str, Any]
    confidence: float
    axes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    base: tuple[Cell, ...]
    cells: tuple[Cell, ...]
    dynamics: tuple[Cell, ...] = ()
    best_decoders: tuple[BestDecoder, ...] = ()
    unit: str = "epoch"
    seconds: dict[str, float]
    versions: dict[str, str | None]
    checkpoints: CheckpointPaths | None = None

    def under_name(self, name: str) -> Summary:
        """Returns the same results with another study name."""
        return self.model_copy(update={"study": name})

    def with_notes(self, notes: Iterable[str]) -> Summary:
        """Returns the same results with further notes."""
        return self.model_copy(update={"notes": (*self.notes, *notes)})

    def filter_cells(self, predicate: Callable[[Cell], bool]) -> Summary:
        """Returns the same study with only the cells for which `predicate` is True."""
        cells = {
            "base": tuple(filter(predicate, self.base)),
            "cells": tuple(filter(predicate, self.cells)),
            "dynamics": tuple(filter(predicate, self.dynamics)),
        }
        return self.model_copy(update=cells)

    def with_cells(self, cells: Iterable[Cell]) -> Summary:
        """Returns the same study with other cells of tuned models."""
        return self.model_copy(update={"cells": tuple(cells)})

"""A summary: what a whole study found, as summary.json holds it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from forkdiv.core.results.cell import Cell, Interval, Named, Result


class BestDecoder(Named):
    """The change at `k` of one tuned model to the base, each under the decoder and temperature
    that was best for it on the validation problems."""

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
    """Where the checkpoints of a comparison lie; the tuned ones by the number they were saved
    under."""

    base: str
    tuned: dict[str, str]


class Summary(Result):
    """A study with its cells: the base's, the tuned models', and in `dynamics` those of checkpoints
    that were saved before the last one. `axes` are those that the study varies; `unit` is what the
    epochs of the cells count; `seconds` are by stage."""

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
        """The same results under another study's name."""
        return self.model_copy(update={"study": name})

    def keep(self, wanted: Callable[[Cell], bool]) -> Summary:
        """The same study with some of its cells."""
        kept = {
            "base": tuple(filter(wanted, self.base)),
            "cells": tuple(filter(wanted, self.cells)),
            "dynamics": tuple(filter(wanted, self.dynamics)),
        }
        return self.model_copy(update=kept)

    def with_cells(self, cells: Iterable[Cell]) -> Summary:
        """The same study with other tuned cells."""
        return self.model_copy(update={"cells": tuple(cells)})

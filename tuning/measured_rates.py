"""How fast trainings and sampling were that a store and its studies have recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forkdiv.core.config.study import PlaceConfig
from forkdiv.core.errors import InvalidResult
from forkdiv.core.store import Store
from forkdiv.core.store_record import RECORD, read
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.train.log import read_log


@dataclass(frozen=True)
class Rate:
    """Items per second, as the mean over `runs` earlier runs."""

    per_second: float
    runs: int


@dataclass(frozen=True)
class Rates:
    """Training examples per second (each pass over an example counts) and samples per second; None
    where nothing was measured. The seconds of training include the start of its workers, those of
    sampling the wait for the engine."""

    training: Rate | None
    sampling: Rate | None


def measured(place: PlaceConfig, base: Checkpoint) -> Rates:
    """Returns the rates of what was trained from `base` and sampled from it or its fine-tuned
    models, in any study of place.root."""
    store = Store.of(place)
    runs = dict(_runs(store, base))
    samples = [
        (float(trial["drawn"]), float(trial["seconds"].get("sample", 0.0)))
        for trial in _trials(place.root)
        if trial.get("train") in runs or trial["checkpoint"] == base.fingerprint
    ]
    return Rates(_mean(runs.values()), _mean(samples))


def _mean(measured: Any) -> Rate | None:
    known = [(items, seconds) for items, seconds in measured if items and seconds > 0]
    if not known:
        return None
    return Rate(sum(items for items, _ in known) / sum(s for _, s in known), len(known))


def _runs(store: Store, base: Checkpoint) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yields the fingerprint of each training of the base, its examples and its seconds."""
    for file in sorted((store.root / "train").glob(f"*/{RECORD}")):
        try:
            record = read(file.parent)
        except InvalidResult:
            continue  # a damaged record: `forkdiv store verify` names it
        known = record["identity"]
        if known["parents"].get("start") != base.fingerprint:
            continue
        steps = [row["step"] for row in read_log(file.parent)]
        batch = known["config"]["sft"]["batch_size"]
        yield record["fingerprint"], (float(max(steps, default=0) * batch), record["seconds"])


def _trials(root: Path) -> Iterator[dict[str, Any]]:
    for file in sorted(root.glob("*/trials/*/*.json")):
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            continue  # a damaged file: the sweep that reads it names it
        if isinstance(values, dict) and {"drawn", "seconds", "checkpoint"} <= values.keys():
            yield values

"""The stage `learnability`: short runs on halves of a dataset, and a table of its tokens.

The artifact has `tokens.parquet` (one row for each response token), `classes.npz` and
`unlabelled.npz` (what fine-tuning reads, `data.token_table`), and `card.json` (shares, criterion,
cost).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.fingerprint import Identity, canonical
from forkdiv.core.progress import Progress
from forkdiv.core.records import Example
from forkdiv.core.store import Artifact, Store
from forkdiv.data import dataset, token_table, tokenized
from forkdiv.data.token_table import LEFT_TO_THE_BASE, BaseDistribution, TokenClass, TokenTable
from forkdiv.learnability import controls, criterion, table, unlabelled
from forkdiv.learnability.criterion import UnitEvidence
from forkdiv.learnability.evidence import Evidence, of_base
from forkdiv.learnability.groups import groups
from forkdiv.learnability.rounds import Part, judged
from forkdiv.learnability.short_runs import DATA, Runs, short
from forkdiv.learnability.spans import token_spans
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.models.thinking import opening_tag
from forkdiv.tasks.registry import build


def identity(study: StudyConfig, data: str, base: Checkpoint) -> Identity:
    """Returns the identity of the table of dataset `data`, given by fingerprint."""
    prompt = study.prompt.without_shots
    opening = opening_tag(base.token_files, study.prompt)
    config = {
        "learnability": study.learnability.deciding,
        "sft": short(study.sft, study.learnability).deciding,
        "prompt": prompt,
    }
    config |= {"opening": opening} if opening else {}
    return Identity("learnability", config, {"dataset": data, "start": base.fingerprint})


def obtain(
    store: Store,
    study: StudyConfig,
    data: Artifact,
    base: Checkpoint,
    progress: Progress,
    turn: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Artifact:
    """Returns the learnability table of the dataset `data`; trains the short runs on the running
    Ray if the store does not have it.

    Raises UserError for data that cannot be split, or that cannot be trained on.
    """
    table_identity = identity(study, data.fingerprint, base)

    def make(folder: Path) -> None:
        runs = Runs(study, build(study.task), base, store, progress, turn)
        card = {"fingerprint": table_identity.fingerprint, **_write(runs, data, folder)}
        (folder / token_table.CARD).write_text(json.dumps(card, indent=1))

    return store.obtain(table_identity, make, progress)


def _write(runs: Runs, data: Artifact, folder: Path) -> dict[str, Any]:
    """Writes the files of the artifact; returns its card, without its fingerprint."""
    config = runs.config
    examples = dataset.read(data.path)
    card: dict[str, Any] = {"settings": canonical(config.deciding), "rows": len(examples)}
    if config.mask in ("none", "exact"):
        group_of = np.arange(len(examples))
        part = Part.of(runs, DATA, examples, group_of)
        kinds = _without_runs(runs, part, examples)
        trained = 0
    else:
        group_of = groups(examples, config.near)
        part, found, planted = judged(runs, data, examples, group_of)
        kinds = _of_mask(runs, part)
        trained = table.number_of_runs(config)
        card["groups"] = int(group_of.max()) + 1
        card |= {"criterion": found.as_json(), "planted_called_learnable": planted}
    spans = token_spans(examples, runs.base.path, runs.study.prompt.without_shots)
    table.write_tokens(folder, spans, part.evidence, kinds, config.floor)
    whole = _with_unlabelled(runs, folder, part.evidence, kinds)
    token_table.write(folder, whole)
    card["classes"] = table.shares(whole.classes)
    return card | {"cost": table.cost(runs.study, trained), "digest": token_table.digest(examples)}


def _without_runs(runs: Runs, part: Part, examples: list[Example]) -> NDArray[np.uint8]:
    """Returns the classes for the masks that need no runs."""
    masked = np.zeros(len(part.evidence.base), dtype=bool)
    if runs.config.mask == "exact":
        spans = token_spans(examples, runs.base.path, runs.study.prompt.without_shots)
        masked = controls.exact_mask(runs.task, examples, spans)
    return _classes_of(runs, part, masked)


def _of_mask(runs: Runs, part: Part) -> NDArray[np.uint8]:
    """Returns the classes by `mask`: those of the held-out predictions, or a control."""
    config, evidence = runs.config, part.evidence
    assert part.classes is not None
    if config.mask == "in-sample":
        seen = UnitEvidence.of(part.unit_of, evidence.base, evidence.seen)
        found = criterion.calibrated(evidence.choices(seen=True), config)
        return criterion.classes(seen, evidence.base, found, config)
    count = int(np.isin(part.classes, LEFT_TO_THE_BASE).sum())
    known = evidence.base >= config.known
    if config.mask == "random":
        return _classes_of(runs, part, controls.random_mask(known, count, config.seed))
    if config.mask == "base-entropy":
        return _classes_of(runs, part, controls.entropy_mask(known, evidence.entropy, count))
    return part.classes


def _classes_of(runs: Runs, part: Part, masked: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Returns the classes if exactly the tokens `masked` are left to the base."""
    base = part.evidence.base
    return criterion.with_masked(np.arange(len(base)), base, masked, runs.config)


def _with_unlabelled(
    runs: Runs, folder: Path, evidence: Evidence, kinds: NDArray[np.uint8]
) -> TokenTable:
    """Returns the table with the rows of unlabelled prompts after those of the data, and writes
    these rows."""
    own = TokenTable(evidence.lengths, evidence.labels, kinds, evidence.distribution)
    rows = unlabelled.rows(runs.study, runs.base, int(evidence.lengths.max()))
    if not rows:
        return own
    runs.progress(f"learnability: the base's predictions on {len(rows):,} unlabelled prompts")
    tokenized.write(folder / token_table.UNLABELLED, rows)
    more = of_base(rows, runs.base, runs.study.place.device)
    free = np.full(len(more.labels), TokenClass.FREE, dtype=np.uint8)
    return TokenTable(
        np.concatenate([own.lengths, more.lengths]),
        np.concatenate([own.labels, more.labels]),
        np.concatenate([kinds, free]),
        BaseDistribution.joined([own.base, more.distribution]),
    )

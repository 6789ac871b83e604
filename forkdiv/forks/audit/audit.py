"""The audit of a dataset: the positions and density of its forks, and their coverage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from forkdiv.core.config.study import AuditConfig, PromptConfig
from forkdiv.core.errors import UserError, refuse
from forkdiv.core.records import Example
from forkdiv.forks.audit.fork_match import (
    lookalikes,
    model_agreement,
    table_agreement,
    tree_agreement,
)
from forkdiv.forks.audit.fork_stats import way_statistics
from forkdiv.forks.find import exact_sites, model_sites, tree_sites
from forkdiv.forks.sites import ModelSiteSet, SiteSet, problem_groups
from forkdiv.forks.table_sites import TableSiteSet, table_sites
from forkdiv.tasks.base import Task

WAYS = ("exact", "tree", "model", "learnability")


@dataclass(frozen=True)
class Audit:
    """The result of an audit: `summary` in plain JSON values, the examples that were read, and the
    sites of each way."""

    summary: dict[str, Any]
    examples: Sequence[Example]
    site_sets: Mapping[str, SiteSet]


def audit(
    task: Task,
    examples: Iterable[Example],
    config: AuditConfig,
    prompt: PromptConfig,
    base: Path | None,
    device: str = "cpu",
) -> Audit:
    """Finds the forks with every way in `config.ways` (default: all that apply) and counts them.

    The model is `config.model`, else `base`. Raises UserError if there are no examples, no way
    applies, or a requested way does not apply.
    """
    rows, notes = _read_examples(examples, config.limit)
    site_sets: dict[str, SiteSet] = {}
    if "exact" in (config.ways or WAYS):
        exact = exact_sites(task, rows)
        if exact.rows_read:
            site_sets["exact"] = exact
        elif "exact" in config.ways:
            raise refuse(
                "the task does not know the decision points of its data",
                "audit.ways=exact",
                "tree or model",
                "remove exact from audit.ways",
            )
    if "tree" in (config.ways or WAYS):
        site_sets["tree"] = tree_sites(rows)
    if "model" in (config.ways or WAYS):
        model, why_not = _model(rows, config, prompt, base, device)
        site_sets |= {"model": model} if model else {}
        notes += [why_not] if why_not else []
    if "learnability" in (config.ways or WAYS):
        if config.table is not None:
            site_sets["learnability"] = table_sites(config.table, rows)
        elif "learnability" in config.ways:
            raise refuse(
                "audit.ways=learnability needs a learnability table",
                "no audit.table",
                "the folder that `forkdiv learnability` names",
                "set audit.table, or remove learnability from audit.ways",
            )
    if not any(site_set.rows_read for site_set in site_sets.values()):
        raise refuse(
            "none of the ways to find forks works with this data",
            f"{len(rows)} examples without two different responses to one prompt, a task that "
            "does not know the forks of its data, and no usable model"
            f"{''.join(f' ({note})' for note in notes)}",
            "different responses to a prompt, a task that knows its forks, or a model",
            "set audit.model to a checkpoint that was trained on similar text",
        )
    return Audit(_summary(rows, site_sets, config, config.model or base, notes), rows, site_sets)


def _read_examples(
    examples: Iterable[Example], limit: int | None
) -> tuple[list[Example], list[str]]:
    """Returns the first examples, up to the limit, and a note if there are more."""
    iterator = iter(examples)
    selected = list(islice(iterator, limit))
    if not selected:
        raise refuse("the data has no examples", "0 examples", "one or more", "use another file")
    next_example = next(iterator, None)
    if next_example is None:
        return selected, []
    # an incomplete problem would look under-covered
    complete = [example for example in selected if example.problem_id != next_example.problem_id]
    if complete and selected[-1].problem_id == next_example.problem_id:
        selected = complete
    return selected, [f"Only the first {len(selected):,} examples were read (audit.limit={limit})."]


def _model(
    examples: Sequence[Example],
    config: AuditConfig,
    prompt: PromptConfig,
    base: Path | None,
    device: str,
) -> tuple[ModelSiteSet | None, str]:
    """Returns the sites of the model way; or None and the reason, if it was not requested."""
    path = config.model or base
    requested = "model" in config.ways or config.model is not None
    if path is None:
        if requested:
            raise refuse(
                "audit.ways=model needs a model",
                "no audit.model",
                "the folder of a checkpoint",
                "set audit.model, or remove model from audit.ways",
            )
        return None, ""
    try:
        return model_sites(path, examples, prompt, config, device), ""
    except UserError as error:
        if requested:
            raise
        return None, f"The model way was skipped: {error}."


def _summary(
    examples: Sequence[Example],
    site_sets: Mapping[str, SiteSet],
    config: AuditConfig,
    model: Path | None,
    notes: list[str],
) -> dict[str, Any]:
    groups = problem_groups(examples)
    with_several = sum(
        len({tuple(examples[row].response.split()) for row in rows}) > 1 for rows in groups
    )
    tokens = _token_counts(site_sets)
    exact, tree, model_sites_found, table = (site_sets.get(way) for way in WAYS)
    comparison: dict[str, Any] = {}
    if exact and tree:
        comparison["tree"] = tree_agreement(exact, tree, examples)
    if isinstance(model_sites_found, ModelSiteSet):
        notes = [*notes, *_reading_notes(model_sites_found)]
        if exact:
            comparison["model"] = model_agreement(exact, model_sites_found)
    if exact and isinstance(table, TableSiteSet):
        comparison["learnability"] = table_agreement(exact, table)
    return {
        "examples": len(examples),
        "problems": len(groups),
        "problems_with_several_solutions": with_several,
        "words": sum(len(example.response.split()) for example in examples),
        "notes": notes,
        "ways": {
            way: way_statistics(site_set, examples, tokens) for way, site_set in site_sets.items()
        },
        "against_exact": comparison,
        "model": _model_info(model_sites_found, config, model)
        if isinstance(model_sites_found, ModelSiteSet)
        else None,
        "lookalikes": lookalikes(exact, model_sites_found, examples)
        if isinstance(model_sites_found, ModelSiteSet)
        else [],
        "settings": config.model_dump(mode="json"),
    }


def _reading_notes(site_set: ModelSiteSet) -> list[str]:
    notes = []
    if site_set.too_long:
        notes.append(
            f"{site_set.too_long:,} examples exceed the model's context and were not read."
        )
    if site_set.unknown:
        notes.append(f"{site_set.unknown:,} tokens are not in the model's vocabulary.")
    return notes


def _model_info(site_set: ModelSiteSet, config: AuditConfig, path: Path | None) -> dict[str, Any]:
    quantile_text = f"quantile {config.quantile:g} of all positions"
    return {
        "path": str(path),
        "name": path.name if path else "",
        "threshold": site_set.threshold,
        "threshold_from": quantile_text if config.min_entropy is None else "audit.min_entropy",
        "min_probability": config.min_probability,
        "positions": len(site_set.positions.entropy),
        "flagged": int(site_set.flagged.sum()),
        "mean_entropy": float(site_set.positions.entropy.mean()),
        "too_long": site_set.too_long,
        "unknown_tokens": site_set.unknown,
    }


def _token_counts(site_sets: Mapping[str, SiteSet]) -> dict[int, int]:
    """Returns the number of tokens, including the end token, of each response the model read."""
    model_sites = site_sets.get("model")
    if not isinstance(model_sites, ModelSiteSet):
        return {}
    rows, counts = np.unique(model_sites.positions.row, return_counts=True)
    return dict(zip(rows.tolist(), counts.tolist(), strict=True))

"""The audit of a dataset: where its forks are, how dense, and which are under-covered."""

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
from forkdiv.forks.audit.fork_match import lookalikes, model_against, tree_against
from forkdiv.forks.audit.fork_stats import way_numbers
from forkdiv.forks.find import exact_sites, model_sites, tree_sites
from forkdiv.forks.sites import Found, ModelFound, problem_groups
from forkdiv.tasks.base import Task

WAYS = ("exact", "tree", "model")


@dataclass(frozen=True)
class Audit:
    """What was found: `summary` in plain JSON values, the examples read, the sites of each way."""

    summary: dict[str, Any]
    examples: Sequence[Example]
    found: Mapping[str, Found]


def audit(
    task: Task,
    examples: Iterable[Example],
    config: AuditConfig,
    prompt: PromptConfig,
    base: Path | None,
    device: str = "cpu",
) -> Audit:
    """Find the forks by every way of `config.ways`, or all that apply, and count them.

    The model is `config.model`, else `base`. Raises UserError where there is nothing to read,
    no way applies, or one that was asked for does not.
    """
    read, notes = _read(examples, config.limit)
    found: dict[str, Found] = {}
    if "exact" in (config.ways or WAYS):
        exact = exact_sites(task, read)
        if exact.read:
            found["exact"] = exact
        elif "exact" in config.ways:
            raise refuse(
                "the task does not know the decision points of its data",
                "audit.ways=exact",
                "tree or model",
                "drop exact from audit.ways",
            )
    if "tree" in (config.ways or WAYS):
        found["tree"] = tree_sites(read)
    if "model" in (config.ways or WAYS):
        model, why_not = _model(read, config, prompt, base, device)
        found |= {"model": model} if model else {}
        notes += [why_not] if why_not else []
    if not any(one.read for one in found.values()):
        raise refuse(
            "no way to find forks applies to the data",
            f"{len(read)} examples, no two different responses to one prompt, no task that "
            f"knows its forks, no model{''.join(f' ({note})' for note in notes)}",
            "a task that knows, several responses to a prompt, or a model",
            "set audit.model to a checkpoint that reads such text",
        )
    return Audit(_summary(read, found, config, config.model or base, notes), read, found)


def _read(examples: Iterable[Example], limit: int | None) -> tuple[list[Example], list[str]]:
    """The first examples, up to the limit, and what to say of those left out."""
    source = iter(examples)
    read = list(islice(source, limit))
    if not read:
        raise refuse("the data holds no example", "none", "one or more", "name another file")
    following = next(source, None)
    if following is None:
        return read, []
    # half a problem's responses would look like under-coverage
    kept = [example for example in read if example.problem_id != following.problem_id]
    if kept and read[-1].problem_id == following.problem_id:
        read = kept
    return read, [f"Only the first {len(read):,} examples were read (audit.limit={limit})."]


def _model(
    examples: Sequence[Example],
    config: AuditConfig,
    prompt: PromptConfig,
    base: Path | None,
    device: str,
) -> tuple[ModelFound | None, str]:
    """What the model finds; or None and the reason, where nobody asked for this model."""
    path = config.model or base
    asked = "model" in config.ways or config.model is not None
    if path is None:
        if asked:
            raise refuse(
                "the model way has no model",
                "audit.ways=model without audit.model",
                "the folder of a checkpoint",
                "set audit.model",
            )
        return None, ""
    try:
        return model_sites(path, examples, prompt, config, device), ""
    except UserError as error:
        if asked:
            raise
        return None, f"The model way was left out: {error}."


def _summary(
    examples: Sequence[Example],
    found: Mapping[str, Found],
    config: AuditConfig,
    model: Path | None,
    notes: list[str],
) -> dict[str, Any]:
    groups = problem_groups(examples)
    several = sum(
        len({tuple(examples[row].response.split()) for row in rows}) > 1 for rows in groups
    )
    tokens = _tokens(found)
    exact, tree, guess = (found.get(way) for way in WAYS)
    against: dict[str, Any] = {}
    if exact and tree:
        against["tree"] = tree_against(exact, tree, examples)
    if isinstance(guess, ModelFound):
        notes = [*notes, *_about_reading(guess)]
        if exact:
            against["model"] = model_against(exact, guess)
    return {
        "examples": len(examples),
        "problems": len(groups),
        "problems_with_several_solutions": several,
        "words": sum(len(example.response.split()) for example in examples),
        "notes": notes,
        "ways": {way: way_numbers(one, examples, tokens) for way, one in found.items()},
        "against_exact": against,
        "model": _about_model(guess, config, model) if isinstance(guess, ModelFound) else None,
        "lookalikes": lookalikes(exact, guess, examples) if isinstance(guess, ModelFound) else [],
        "settings": config.model_dump(mode="json"),
    }


def _about_reading(found: ModelFound) -> list[str]:
    notes = []
    if found.too_long:
        notes.append(f"{found.too_long:,} examples do not fit the model's context; it read none.")
    if found.unknown:
        notes.append(f"{found.unknown:,} tokens are unknown to the model's tokenizer.")
    return notes


def _about_model(found: ModelFound, config: AuditConfig, path: Path | None) -> dict[str, Any]:
    by = f"quantile {config.quantile:g} of all positions"
    return {
        "path": str(path),
        "name": path.name if path else "",
        "threshold": found.threshold,
        "threshold_from": by if config.min_entropy is None else "audit.min_entropy",
        "min_probability": config.min_probability,
        "positions": len(found.positions.entropy),
        "flagged": int(found.flagged.sum()),
        "mean_entropy": float(found.positions.entropy.mean()),
        "too_long": found.too_long,
        "unknown_tokens": found.unknown,
    }


def _tokens(found: Mapping[str, Found]) -> dict[int, int]:
    """Tokens of each response that the model read, its end token included."""
    model = found.get("model")
    if not isinstance(model, ModelFound):
        return {}
    rows, counts = np.unique(model.positions.row, return_counts=True)
    return dict(zip(rows.tolist(), counts.tolist(), strict=True))

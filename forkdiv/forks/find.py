"""Finds the decision points of a dataset in three ways, with the same type of result.

`exact_sites` uses the forks that the task knows, `tree_sites` compares several responses to one
prompt, and `model_sites` selects positions with high next-token entropy. Only the first knows which
branches are right; the second finds a fork only if the data shows two of its branches; the result
of the third depends on the training of its model.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from forkdiv.core.config.study import AuditConfig, PromptConfig
from forkdiv.core.errors import refuse
from forkdiv.core.records import Example, Fork, Problem
from forkdiv.forks.entropy import Predictions, predict
from forkdiv.forks.sites import (
    END,
    ModelSiteSet,
    Site,
    SiteSet,
    Step,
    fork_id,
    problem_groups,
    shared_prefixes,
)
from forkdiv.tasks.base import Task

# -- exact -------------------------------------------------------------------------------------


def exact_sites(task: Task, examples: Sequence[Example]) -> SiteSet:
    """Returns the forks that the task knows in each response; rows with unknown forks are skipped.

    `shown` counts responses to the same prompt with the same text before the fork and, according
    to the task, the same branches there.

    Raises UserError if the task cannot read the facts of an example.
    """
    sites: list[Site] = []
    rows_read = []
    for rows in problem_groups(examples):
        places_by_fork: dict[tuple[str, tuple[str, ...]], list[tuple[int, Fork]]] = defaultdict(
            list
        )
        for row in rows:
            forks = _task_forks(task, examples[row])
            if forks is None:
                continue
            rows_read.append(row)
            for fork in forks:
                places_by_fork[examples[row].response[: fork.at], fork.branches].append((row, fork))
        for (_, branches), places in places_by_fork.items():
            taken = {row: _step(examples[row].response, fork.at, branches) for row, fork in places}
            facts = {
                row: {"branches": branches, "valid": fork.valid, "signed": fork.signed}
                for row, fork in places
            }
            sites += _sites(examples, taken, facts)
    return SiteSet("exact", _sorted(sites), frozenset(rows_read))


def _task_forks(task: Task, example: Example) -> list[Fork] | None:
    try:
        facts = json.loads(example.facts)
        problem = Problem(example.problem_id, "train", example.subset, example.prompt, facts)
        return task.forks(problem, example.response)
    except (KeyError, ValueError, TypeError) as error:
        raise refuse(
            "the task cannot read the `facts` column of an example",
            f"problem {example.problem_id}: {type(error).__name__} {error}",
            "examples that this task generated",
            "set task.kind and its settings to the task that generated the data, or set audit.ways "
            "to [tree] or [tree, model]",
        ) from error


def _step(response: str, at: int, branches: Sequence[str]) -> Step:
    """Returns the branch that a response takes at a fork: for `m1 k`, `m1` rather than `m`."""
    rest = response[at:]
    fitting = sorted((b for b in branches if b and rest.startswith(b)), key=len)
    whole = [b for b in fitting if not (b[-1].isalnum() and rest[len(b) : len(b) + 1].isalnum())]
    text = (whole or fitting or rest.split(maxsplit=1)[:1] or [END])[-1]
    return Step(text, text, at)


# -- from several solutions --------------------------------------------------------------------


def tree_sites(examples: Sequence[Example]) -> SiteSet:
    """Returns the positions at which responses to one prompt diverge after the same words.

    A word is the text up to the next whitespace; differences in whitespace are ignored. A response
    that ends where another continues takes the branch `END`. Rows of problems without two
    different responses are skipped.
    """
    sites: list[Site] = []
    rows_read = []
    for rows in problem_groups(examples):
        steps = {row: _words(examples[row].response) for row in rows}
        if len({tuple(step.unit for step in path) for path in steps.values()}) < 2:
            continue
        rows_read += rows
        for depth, rows_here in shared_prefixes(steps):
            taken = {row: steps[row][depth] for row in rows_here}
            branches = tuple(sorted({step.text for step in taken.values()}))
            if len(branches) > 1:
                sites += _sites(examples, taken, {row: {"branches": branches} for row in rows_here})
    return SiteSet("tree", _sorted(sites), frozenset(rows_read))


def _words(text: str) -> list[Step]:
    words = [Step(word.group(), word.group(), word.start()) for word in re.finditer(r"\S+", text)]
    return [*words, Step(END, END, len(text))]


# -- from a model ------------------------------------------------------------------------------


def model_sites(
    path: Path,
    examples: Sequence[Example],
    prompt: PromptConfig,
    config: AuditConfig,
    device: str = "cpu",
) -> ModelSiteSet:
    """Returns the positions whose next-token entropy under the checkpoint exceeds the threshold.

    Teacher-forced in float32, entropies in float64. The threshold is `config.min_entropy`, or the
    `config.quantile` of all response positions including end tokens. The offset of a position is
    that of the first non-whitespace character of the token.

    Raises UserError if the model or its tokenizer cannot read the data.
    """
    predictions = predict(path, examples, prompt, config.min_probability, device)
    positions = predictions.positions()
    threshold = config.min_entropy
    if threshold is None:
        threshold = float(np.quantile(positions.entropy, config.quantile))
    read_rows = predictions.rows
    sites: list[Site] = []
    for rows in problem_groups(examples):
        sites += _uncertain_sites(
            predictions, examples, [row for row in rows if row in read_rows], threshold
        )
    return ModelSiteSet(
        way="model",
        sites=_sorted(sites),
        rows_read=read_rows,
        positions=positions,
        threshold=threshold,
        too_long=predictions.too_long,
        unknown=predictions.unknown,
    )


def _uncertain_sites(
    predictions: Predictions, examples: Sequence[Example], rows: Sequence[int], threshold: float
) -> Iterator[Site]:
    """Yields the positions of one problem's rows whose entropy exceeds the threshold."""
    steps = {row: predictions.steps(row) for row in rows}
    for depth, rows_here in shared_prefixes(steps):
        uncertain = [row for row in rows_here if predictions.entropy(row)[depth] > threshold]
        if uncertain:
            taken = {row: steps[row][depth] for row in rows_here}
            # use the text from the data if possible: part of a UTF-8 character has no text
            names = {step.unit: step.text for step in taken.values()}
            facts = {row: _likely_branches(predictions, row, depth, names) for row in uncertain}
            yield from _sites(examples, taken, facts)


def _likely_branches(
    predictions: Predictions, row: int, depth: int, names: Mapping[Hashable, str]
) -> dict[str, Any]:
    chances: dict[str, float] = defaultdict(float)
    for token, chance in predictions.likely(row, depth):
        chances[names[token] if token in names else predictions.text(token)] += chance
    ordered = sorted(chances, key=lambda text: (-chances[text], text))
    return {
        "branches": tuple(ordered),
        "chances": tuple(chances[text] for text in ordered),
        "entropy": float(predictions.entropy(row)[depth]),
    }


# -- for all three -----------------------------------------------------------------------------


def _sites(
    examples: Sequence[Example],
    taken: Mapping[int, Step],
    facts: Mapping[int, Mapping[str, Any]],
) -> Iterator[Site]:
    """Yields the sites of rows that reach the same fork. `taken` has the steps of all rows that
    reach it; `facts` has, for the rows that become sites, the fields that the way knows."""
    shown = dict(sorted(Counter(step.text for step in taken.values()).items()))
    # one id for all rows, whatever whitespace precedes the next step
    prefix = min(examples[row].response[: step.at] for row, step in taken.items())
    for row, site_facts in facts.items():
        example, step = examples[row], taken[row]
        fork = fork_id(example, prefix)
        yield Site(row, example.problem_id, fork, step.at, step.text, shown, **site_facts)


def _sorted(sites: list[Site]) -> list[Site]:
    return sorted(sites, key=lambda site: (site.row, site.at))

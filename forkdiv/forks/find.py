"""Decision points of a dataset, found in three ways with one kind of output.

`exact_sites` asks the task, `tree_sites` compares several responses to one prompt, and
`model_sites` takes the positions at which a model's next-token entropy is high. Only the first
knows which branches are right; the second sees a fork only where the data shows two of its
branches; the third sees what its model was taught to be unsure of.
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
from forkdiv.forks.entropy import Reading, read
from forkdiv.forks.sites import (
    END,
    Found,
    ModelFound,
    Site,
    Step,
    fork_id,
    meetings,
    problem_groups,
)
from forkdiv.tasks.base import Task

# -- exact -------------------------------------------------------------------------------------


def exact_sites(task: Task, examples: Sequence[Example]) -> Found:
    """The forks that the task knows in each response; rows it does not know are not read.

    `shown` counts responses to the same prompt with the same text before the fork which, to the
    task, choose among the same branches there.

    Raises UserError where the examples' facts are not the task's.
    """
    sites: list[Site] = []
    read = []
    for rows in problem_groups(examples):
        met: dict[tuple[str, tuple[str, ...]], list[tuple[int, Fork]]] = defaultdict(list)
        for row in rows:
            forks = _task_forks(task, examples[row])
            if forks is None:
                continue
            read.append(row)
            for fork in forks:
                met[examples[row].response[: fork.at], fork.branches].append((row, fork))
        for (_, branches), places in met.items():
            taken = {row: _step(examples[row].response, fork.at, branches) for row, fork in places}
            known = {
                row: {"branches": branches, "valid": fork.valid, "signed": fork.signed}
                for row, fork in places
            }
            sites += _sites(examples, taken, known)
    return Found("exact", _in_order(sites), frozenset(read))


def _task_forks(task: Task, example: Example) -> list[Fork] | None:
    try:
        facts = json.loads(example.facts)
        problem = Problem(example.problem_id, "train", example.subset, example.prompt, facts)
        return task.forks(problem, example.response)
    except (KeyError, ValueError, TypeError) as error:
        raise refuse(
            "the task cannot read the facts of an example",
            f"problem {example.problem_id}: {type(error).__name__} {error}",
            "examples that this task made",
            "name the task that made the data, or set audit.ways to [tree] or [tree, model]",
        ) from error


def _step(response: str, at: int, branches: Sequence[str]) -> Step:
    """The branch that a response takes at a fork: `m1` rather than `m` before `m1 k`."""
    rest = response[at:]
    fitting = sorted((b for b in branches if b and rest.startswith(b)), key=len)
    whole = [b for b in fitting if not (b[-1].isalnum() and rest[len(b) : len(b) + 1].isalnum())]
    text = (whole or fitting or rest.split(maxsplit=1)[:1] or [END])[-1]
    return Step(text, text, at)


# -- from several solutions --------------------------------------------------------------------


def tree_sites(examples: Sequence[Example]) -> Found:
    """Where responses to one prompt part after the same words.

    A word is the text up to the next whitespace; more or other whitespace alone is no choice.
    A response that ends where another goes on takes the branch `END` there. Rows of problems
    with no two different responses tell nothing and are not read.
    """
    sites: list[Site] = []
    read = []
    for rows in problem_groups(examples):
        steps = {row: _words(examples[row].response) for row in rows}
        if len({tuple(step.unit for step in path) for path in steps.values()}) < 2:
            continue
        read += rows
        for depth, here in meetings(steps):
            taken = {row: steps[row][depth] for row in here}
            branches = tuple(sorted({step.text for step in taken.values()}))
            if len(branches) > 1:
                sites += _sites(examples, taken, {row: {"branches": branches} for row in here})
    return Found("tree", _in_order(sites), frozenset(read))


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
) -> ModelFound:
    """Positions whose next-token entropy under the checkpoint is above the threshold.

    Teacher-forced in float32, entropies in float64. The threshold is `config.min_entropy`, or
    `config.quantile` of all response positions, end tokens included. A position's offset is
    that of the token's first character which is no whitespace.

    Raises UserError for a model or tokenizer that cannot read the data.
    """
    reading = read(path, examples, prompt, config.min_probability, device)
    positions = reading.positions()
    threshold = config.min_entropy
    if threshold is None:
        threshold = float(np.quantile(positions.entropy, config.quantile))
    read_rows = reading.rows
    sites: list[Site] = []
    for rows in problem_groups(examples):
        sites += _above(reading, examples, [row for row in rows if row in read_rows], threshold)
    return ModelFound(
        way="model",
        sites=_in_order(sites),
        read=read_rows,
        positions=positions,
        threshold=threshold,
        too_long=reading.too_long,
        unknown=reading.unknown,
    )


def _above(
    reading: Reading, examples: Sequence[Example], rows: Sequence[int], threshold: float
) -> Iterator[Site]:
    """The positions of one problem's rows whose entropy is above the threshold."""
    steps = {row: reading.steps(row) for row in rows}
    for depth, here in meetings(steps):
        high = [row for row in here if reading.entropy(row)[depth] > threshold]
        if high:
            taken = {row: steps[row][depth] for row in here}
            # in the words of the data where it has them: half a letter has no text of its own
            names = {step.unit: step.text for step in taken.values()}
            known = {row: _likely(reading, row, depth, names) for row in high}
            yield from _sites(examples, taken, known)


def _likely(
    reading: Reading, row: int, depth: int, names: Mapping[Hashable, str]
) -> dict[str, Any]:
    chances: dict[str, float] = defaultdict(float)
    for token, chance in reading.likely(row, depth):
        chances[names[token] if token in names else reading.text(token)] += chance
    ordered = sorted(chances, key=lambda text: (-chances[text], text))
    return {
        "branches": tuple(ordered),
        "chances": tuple(chances[text] for text in ordered),
        "entropy": float(reading.entropy(row)[depth]),
    }


# -- for all three -----------------------------------------------------------------------------


def _sites(
    examples: Sequence[Example],
    taken: Mapping[int, Step],
    known: Mapping[int, Mapping[str, Any]],
) -> Iterator[Site]:
    """The sites of rows that meet at a fork, with what their way knows of each; `taken` are the
    steps of all that meet there."""
    shown = dict(sorted(Counter(step.text for step in taken.values()).items()))
    # one id for all of them, whatever whitespace each has before its next step
    prefix = min(examples[row].response[: step.at] for row, step in taken.items())
    for row, facts in known.items():
        example, step = examples[row], taken[row]
        fork = fork_id(example, prefix)
        yield Site(row, example.problem_id, fork, step.at, step.text, shown, **facts)


def _in_order(sites: list[Site]) -> list[Site]:
    return sorted(sites, key=lambda site: (site.row, site.at))

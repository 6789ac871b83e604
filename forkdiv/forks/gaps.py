"""What a dataset lacks: forks of its problems, and the branches that no response takes.

Where the task knows its forks, a fork is a branch node of the problem, and what is lacking are
its valid branches. Elsewhere a fork is a place at which a model is unsure, and what is lacking
is a second branch.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from forkdiv.core.records import Example, Fork, Problem
from forkdiv.forks.sites import Site
from forkdiv.tasks.base import Task


@dataclass(frozen=True)
class Lack:
    """A fork that is under-covered: where it is, the branches shown there, and those missing
    (None: any that is not shown)."""

    key: Hashable
    prefix: str
    shown: frozenset[str]
    missing: frozenset[str] | None

    def wants(self, branch: str) -> bool:
        return branch not in self.shown if self.missing is None else branch in self.missing


@dataclass
class Shown:
    """One problem with the responses that the data shows, and what its forks lack."""

    problem: Problem
    rows: list[Example]
    lacks: list[Lack]
    forks: int  # with more than one branch to show
    added: list[Example] = field(default_factory=list)

    @property
    def covered(self) -> int:
        return self.forks - len(self.lacks)


def by_problem(rows: Sequence[Example]) -> dict[str, list[Example]]:
    problems: dict[str, list[Example]] = {}
    for row in rows:
        problems.setdefault(row.problem_id, []).append(row)
    return problems


def of_task(task: Task, rows: Sequence[Example]) -> list[Shown]:
    """The data problem by problem, with the valid branches that its responses leave out."""
    return [_by_task(task, of_problem) for of_problem in by_problem(rows).values()]


def _by_task(task: Task, rows: list[Example]) -> Shown:
    problem = problem_of(rows[0])
    # with several forks in a row, responses come to one branch node by different ways
    taken: dict[tuple[str, ...], set[str]] = {}
    valid: dict[tuple[str, ...], frozenset[str]] = {}
    places: dict[tuple[str, ...], str] = {}
    for row in rows:
        for fork in task.forks(problem, row.response) or ():
            if len(fork.valid) < 2:
                continue
            valid[fork.branches] = frozenset(fork.valid)
            places.setdefault(fork.branches, row.response[: fork.at])
            taken.setdefault(fork.branches, set()).add(branch(fork, row.response))
    lacks = [
        Lack(key, prefix, frozenset(taken[key]), missing)
        for key, prefix in places.items()
        if (missing := valid[key] - taken[key])
    ]
    return Shown(problem, rows, lacks, len(places))


def of_model(rows: Sequence[Example], sites: Sequence[Site], most: int) -> list[Shown]:
    """The same with the `most` forks of each problem at which a model is least sure."""
    per_row: dict[str, dict[str, Site]] = {}
    for site in sites:
        if site.chances and len(site.branches) > 1:
            per_row.setdefault(site.problem_id, {}).setdefault(site.fork, site)
    found = []
    for problem_id, of_problem in by_problem(rows).items():
        forks = sorted(
            per_row.get(problem_id, {}).values(), key=lambda one: (-(one.entropy or 0), one.fork)
        )[:most]
        lacks = []
        for site in forks:
            if len(site.shown) < 2:
                prefix = rows[site.row].response[: site.at]
                shown = frozenset(_word(branch) for branch in site.shown)
                lacks.append(Lack(prefix, prefix, shown, None))
        found.append(Shown(problem_of(of_problem[0]), of_problem, lacks, len(forks)))
    return found


def taken_by(task: Task, one: Shown, text: str) -> Mapping[Hashable, str]:
    """The branch that a response takes at each fork it meets, by the fork's key."""
    forks = task.forks(one.problem, text)
    if forks is not None:
        return {fork.branches: branch(fork, text) for fork in forks}
    return {
        lack.key: _word(text[len(lack.prefix) :])
        for lack in one.lacks
        if text.startswith(lack.prefix)
    }


def branch(fork: Fork, text: str) -> str:
    """The branch that a response takes; the longest, where one begins with another."""
    fitting = [one for one in fork.branches if text.startswith(one, fork.at)]
    return max(fitting, key=len, default="")


def problem_of(row: Example) -> Problem:
    return Problem(row.problem_id, "train", row.subset, row.prompt, json.loads(row.facts))


def _word(text: str) -> str:
    return (text.split() or [""])[0]

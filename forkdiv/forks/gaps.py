"""Coverage gaps of a dataset: forks of its problems with branches that no response takes.

If the task knows forks with several right branches, a fork is a branch node of the problem, and a
gap is a valid branch that is not shown. Otherwise a fork is a position with high model entropy, and
a gap is a missing second branch.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from forkdiv.core.records import Example, Fork, Problem
from forkdiv.forks.sites import Site
from forkdiv.tasks.base import Task


@dataclass(frozen=True)
class CoverageGap:
    """An under-covered fork: its position, the branches shown there, and the missing branches
    (None: any branch that is not shown)."""

    key: Hashable
    prefix: str
    shown: frozenset[str]
    missing: frozenset[str] | None

    def accepts(self, branch: str) -> bool:
        return branch not in self.shown if self.missing is None else branch in self.missing


@dataclass
class ProblemData:
    """One problem with its examples in the data, and the coverage gaps of its forks."""

    problem: Problem
    rows: list[Example]
    gaps: list[CoverageGap]
    forks: int  # forks with more than one branch to show
    added: list[Example] = field(default_factory=list)

    @property
    def covered(self) -> int:
        return self.forks - len(self.gaps)


def by_problem(rows: Sequence[Example]) -> dict[str, list[Example]]:
    problems: dict[str, list[Example]] = {}
    for row in rows:
        problems.setdefault(row.problem_id, []).append(row)
    return problems


def from_task(task: Task, rows: Sequence[Example]) -> list[ProblemData]:
    """Returns the data by problem, with gaps for valid branches that no response takes."""
    return [_from_task_forks(task, problem_rows) for problem_rows in by_problem(rows).values()]


def _from_task_forks(task: Task, rows: list[Example]) -> ProblemData:
    problem = problem_of(rows[0])
    # after several forks, responses may reach the same branch node with different prefixes
    taken: dict[tuple[str, ...], set[str]] = {}
    valid: dict[tuple[str, ...], frozenset[str]] = {}
    places: dict[tuple[str, ...], str] = {}
    for row in rows:
        for fork in task.forks(problem, row.response) or ():
            if len(fork.valid) < 2:
                continue
            valid[fork.branches] = frozenset(fork.valid)
            places.setdefault(fork.branches, row.response[: fork.at])
            taken.setdefault(fork.branches, set()).add(branch_taken(fork, row.response))
    gaps = [
        CoverageGap(key, prefix, frozenset(taken[key]), missing)
        for key, prefix in places.items()
        if (missing := valid[key] - taken[key])
    ]
    return ProblemData(problem, rows, gaps, len(places))


def from_model(rows: Sequence[Example], sites: Sequence[Site], max_forks: int) -> list[ProblemData]:
    """Returns the data by problem, with gaps at the `max_forks` forks of highest entropy."""
    sites_by_problem: dict[str, dict[str, Site]] = {}
    for site in sites:
        if site.chances and len(site.branches) > 1:
            sites_by_problem.setdefault(site.problem_id, {}).setdefault(site.fork, site)
    problems = []
    for problem_id, problem_rows in by_problem(rows).items():
        forks = sorted(
            sites_by_problem.get(problem_id, {}).values(),
            key=lambda site: (-(site.entropy or 0), site.fork),
        )[:max_forks]
        gaps = []
        for site in forks:
            if len(site.shown) < 2:
                prefix = rows[site.row].response[: site.at]
                shown = frozenset(_word(branch) for branch in site.shown)
                gaps.append(CoverageGap(prefix, prefix, shown, None))
        problems.append(ProblemData(problem_of(problem_rows[0]), problem_rows, gaps, len(forks)))
    return problems


def branches_taken(task: Task, problem_data: ProblemData, text: str) -> Mapping[Hashable, str]:
    """Returns the branch that a response takes at each fork it reaches, by the key of the fork."""
    forks = task.forks(problem_data.problem, text)
    if forks is not None and not task.one_right_branch:
        return {fork.branches: branch_taken(fork, text) for fork in forks}
    return {
        gap.key: _word(text[len(gap.prefix) :])
        for gap in problem_data.gaps
        if text.startswith(gap.prefix)
    }


def branch_taken(fork: Fork, text: str) -> str:
    """Returns the branch that a response takes: the longest one that matches."""
    fitting = [branch for branch in fork.branches if text.startswith(branch, fork.at)]
    return max(fitting, key=len, default="")


def problem_of(row: Example) -> Problem:
    return Problem(row.problem_id, "train", row.subset, row.prompt, json.loads(row.facts))


def _word(text: str) -> str:
    return (text.split() or [""])[0]

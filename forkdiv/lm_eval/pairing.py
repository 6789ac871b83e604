"""The samples of two models, problem by problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from forkdiv.core.errors import UserError, refuse
from forkdiv.lm_eval.reading import Samples, decoder
from forkdiv.score.counts import ProblemCounts
from forkdiv.tasks.own_data.file import quoted


@dataclass(frozen=True)
class Pair:
    """`places` says where each of the tuned model's problems is among the base's."""

    tuned: Samples
    base: Samples
    places: tuple[int, ...]

    @classmethod
    def of(cls, tuned: Samples, base: Samples) -> Pair:
        """Raises UserError, naming lines, where the two were not sampled on the same problems."""
        theirs = {key: at for at, key in enumerate(base.keys)}
        if not theirs.keys() & set(tuned.keys):
            raise _other_problems(tuned, base)
        if alone := [*_alone(tuned, base), *_alone(base, tuned)]:
            raise refuse(
                "base and tuned were not sampled on the same problems",
                f"{len(alone)} in one only: {', '.join(alone[:4])}{' …' if alone[4:] else ''}",
                "samples of the same documents",
                "run the tool on the same task with the same --limit",
            )
        pair = cls(tuned, base, tuple(theirs[key] for key in tuned.keys))
        pair._require_equal_references()
        return pair

    def _require_equal_references(self) -> None:
        for mine, other in enumerate(self.places):
            ours = self.tuned.problems[mine].facts["answer"]
            theirs = self.base.problems[other].facts["answer"]
            if ours != theirs:
                raise refuse(
                    "a problem has another reference for the base",
                    f"{quoted(ours)} ({self.tuned.wheres[mine]}), "
                    f"{quoted(theirs)} ({self.base.wheres[other]})",
                    "one reference answer of each problem",
                    "sample both with one release of the task",
                )

    def as_tuned(self, counts: Sequence[ProblemCounts]) -> list[ProblemCounts]:
        """The base's counts in the tuned model's order and under its names."""
        return [
            replace(counts[at], problem_id=problem.id, subset=problem.subset)
            for at, problem in zip(self.places, self.tuned.problems, strict=True)
        ]

    @property
    def notes(self) -> list[str]:
        """What makes the comparison less than it seems."""
        tuned, base, said = self.tuned, self.base, []
        if tuned.tasks != base.tasks and tuned.tasks and base.tasks:
            said.append(
                f"tasks: {', '.join(tuned.tasks)} for tuned, {', '.join(base.tasks)} for base"
            )
        pairs = [(tuned.problems[at], base.problems[other]) for at, other in enumerate(self.places)]
        if apart := sum(ours.prompt != theirs.prompt for ours, theirs in pairs):
            said.append(f"base and tuned saw other prompts of {apart:,} of {len(pairs):,} problems")
        if decoder(tuned.settings) != decoder(base.settings):
            said.append(
                f"base and tuned were not sampled alike: {decoder(tuned.settings)} for tuned, "
                f"{decoder(base.settings)} for base"
            )
        if all(tuned.draws[at] == base.draws[other] for at, other in enumerate(self.places)):
            said.append("base and tuned gave the same responses throughout: are they two models?")
        if tuned.n != base.n:
            said.append(
                f"{tuned.n} samples of each problem for tuned, {base.n} for base: the first "
                f"{min(tuned.n, base.n)} of each are compared"
            )
        return said


def _other_problems(tuned: Samples, base: Samples) -> UserError:
    named = [", ".join(one.tasks) or str(one.files[0].path) for one in (tuned, base)]
    return refuse(
        "base and tuned have no problem in common",
        f"{named[0]} against {named[1]}",
        "samples of one task: equal documents (`doc`) are one problem",
        "name samples of the same task",
    )


def _alone(one: Samples, other: Samples) -> list[str]:
    known = set(other.keys)
    return [where for key, where in zip(one.keys, one.wheres, strict=True) if key not in known]

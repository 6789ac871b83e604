"""The samples of two models, problem by problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from forkdiv.core.errors import UserError, refuse
from forkdiv.lm_eval.lines import decoder_settings
from forkdiv.lm_eval.reading import Samples
from forkdiv.score.counts import ProblemCounts
from forkdiv.tasks.own_data.file import quoted


@dataclass(frozen=True)
class Pair:
    """Tuned and base samples of the same problems.

    `base_index` maps each problem index of the tuned model to that of the base.
    """

    tuned: Samples
    base: Samples
    base_index: tuple[int, ...]

    @classmethod
    def of(cls, tuned: Samples, base: Samples) -> Pair:
        """Matches the problems of both models.

        Raises UserError, which names lines, if the two were sampled on different problems.
        """
        base_index = {key: at for at, key in enumerate(base.keys)}
        if not base_index.keys() & set(tuned.keys):
            raise _no_common_problem(tuned, base)
        if unpaired := [*_missing_in(tuned, base), *_missing_in(base, tuned)]:
            raise refuse(
                "base and tuned were sampled on different problems",
                f"{len(unpaired)} not in both: {', '.join(unpaired[:4])}"
                f"{' …' if unpaired[4:] else ''}",
                "samples of the same documents",
                "run lm_eval on the same task with the same --limit",
            )
        pair = cls(tuned, base, tuple(base_index[key] for key in tuned.keys))
        pair._require_equal_references()
        return pair

    def _require_equal_references(self) -> None:
        for at, other in enumerate(self.base_index):
            tuned_answer = self.tuned.problems[at].facts["answer"]
            base_answer = self.base.problems[other].facts["answer"]
            if tuned_answer != base_answer:
                raise refuse(
                    "base and tuned have different references for a problem",
                    f"{quoted(tuned_answer)} ({self.tuned.locations[at]}), "
                    f"{quoted(base_answer)} ({self.base.locations[other]})",
                    "one reference answer for each problem",
                    "sample both models with the same version of the task",
                )

    def in_tuned_order(self, counts: Sequence[ProblemCounts]) -> list[ProblemCounts]:
        """Returns the base's counts with the order, ids and subsets of the tuned model."""
        return [
            replace(counts[at], problem_id=problem.id, subset=problem.subset)
            for at, problem in zip(self.base_index, self.tuned.problems, strict=True)
        ]

    @property
    def notes(self) -> list[str]:
        """Returns warnings about the comparison."""
        tuned, base, notes = self.tuned, self.base, []
        if tuned.tasks != base.tasks and tuned.tasks and base.tasks:
            notes.append(
                f"tasks: {', '.join(tuned.tasks)} for tuned, {', '.join(base.tasks)} for base"
            )
        pairs = [
            (tuned.problems[at], base.problems[other]) for at, other in enumerate(self.base_index)
        ]
        if different_prompts := sum(
            tuned_problem.prompt != base_problem.prompt for tuned_problem, base_problem in pairs
        ):
            notes.append(
                f"base and tuned had different prompts for {different_prompts:,} of "
                f"{len(pairs):,} problems"
            )
        if decoder_settings(tuned.settings) != decoder_settings(base.settings):
            notes.append(
                "base and tuned were sampled with different decoders: "
                f"{decoder_settings(tuned.settings)} for tuned, "
                f"{decoder_settings(base.settings)} for base"
            )
        if all(
            tuned.response_digests[at] == base.response_digests[other]
            for at, other in enumerate(self.base_index)
        ):
            notes.append(
                "base and tuned have the same responses to every problem: check that the files "
                "are of two different models"
            )
        if tuned.n != base.n:
            notes.append(
                f"{tuned.n} samples of each problem for tuned, {base.n} for base: the first "
                f"{min(tuned.n, base.n)} of each are compared"
            )
        return notes


def _no_common_problem(tuned: Samples, base: Samples) -> UserError:
    named = [", ".join(model.tasks) or str(model.files[0].path) for model in (tuned, base)]
    return refuse(
        "base and tuned have no problem in common",
        f"{named[0]} for tuned, {named[1]} for base",
        "samples of one task (documents with equal `doc` are the same problem)",
        "pass samples of the same task",
    )


def _missing_in(samples: Samples, other: Samples) -> list[str]:
    known = set(other.keys)
    return [
        location
        for key, location in zip(samples.keys, samples.locations, strict=True)
        if key not in known
    ]

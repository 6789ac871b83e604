"""Fork-stratified sampling: how one tree of samples is spread over the forks along a response.

The first sample of a tree, the probe, is a response like any other. Along it every position has
the model's own next-token entropy; where that is high is a fork, and its branches are the likely
tokens there. The probe went along one branch of each fork; the tree's other samples go on from all
of them in turn, those the probe did not take first, so that each gets as many as any other, or
one less.

Samples of a tree share prefixes, and their branches were found by sampling: they depend on each
other, and pass@k has to be estimated from independent whole trees (`coverage.pass_at_k_trees`).
The budget of a tree is its number of responses, the probe among them; since a branch shares the
beginning of the probe, a tree draws at most as many tokens as that many responses do alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forkdiv.core.config.decoder import DecoderConfig

# Likely tokens that are asked for at each position of a probe; the others count as one token,
# so that entropies of larger vocabularies are a little too small.
TOP_TOKENS = 64


@dataclass(frozen=True, order=True)
class Branch:
    """Go on after the first `at` tokens of the probe with `token`, or freely where it is None."""

    at: int
    token: int | None


def entropy(likely: Mapping[int, float]) -> float:
    """Nats, of log-probabilities by token; what is missing to 1 is taken for one token."""
    p = [math.exp(value) for value in likely.values()]
    rest = 1 - math.fsum(p)
    return math.fsum(-one * math.log(one) for one in [*p, rest] if one > 0)


def tree_branches(
    probe: Sequence[int], likely: Sequence[Mapping[int, float]], decoder: DecoderConfig
) -> list[Branch]:
    """The branches that samples 1, 2 … of the tree go on from; one per sample.

    `likely` holds the model's own log-probabilities at each token of the `probe`, its end token
    included. Branches that the probe did not take come first: the likeliest of each fork, the
    forks of the highest entropy before the others. Where there are fewer samples than branches
    the last ones get none; where there is no fork the samples begin anew.
    """
    others: list[tuple[int, float, Branch]] = []
    taken: list[tuple[float, Branch]] = []
    for at, (token, here) in enumerate(zip(probe, likely, strict=True)):
        unsure = entropy(here)
        if unsure < decoder.fork_entropy:
            continue
        least = math.log(decoder.branch_probability)
        # by id where equal: the order must not depend on how they came
        ranked = sorted(here, key=lambda one: (-here[one], one))
        untaken = [one for one in ranked if here[one] >= least and one != token]
        if not untaken:
            continue
        taken.append((-unsure, Branch(at, token)))
        others += [(rank, -unsure, Branch(at, one)) for rank, one in enumerate(untaken)]
    ordered = [branch for *_, branch in sorted(others)] + [branch for _, branch in sorted(taken)]
    ordered = ordered or [Branch(0, None)]
    return [ordered[i % len(ordered)] for i in range(decoder.tree_samples - 1)]

"""Fork-stratified sampling: the samples of a tree are distributed over the forks of a response.

The first sample of a tree, the probe, is an ordinary response. A position of the probe where the
model's next-token entropy is high is a fork, and the likely tokens there are its branches. The
other samples of the tree continue from the branches in turn, those that the probe did not take
first, so that the numbers of samples per branch differ by at most one.

The samples of a tree share prefixes, and its branches depend on the probe, so they are not
independent, and pass@k must be estimated from whole trees (`coverage.pass_at_k_trees`). The budget
of a tree is its number of responses, including the probe; since a branch shares the beginning of
the probe, a tree draws at most as many tokens as the same number of independent responses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forkdiv.core.config.decoder import DecoderConfig

# Number of most likely tokens that are requested at each position of a probe. All other tokens
# count as one token, so that with a larger vocabulary the entropy is slightly too small.
TOP_TOKENS = 64


@dataclass(frozen=True, order=True)
class Branch:
    """A prefix to continue: the first `at` tokens of the probe, then `token` unless it is None."""

    at: int
    token: int | None


def entropy(likely: Mapping[int, float]) -> float:
    """Returns the entropy in nats from log-probabilities by token; the remaining probability counts
    as one token."""
    p = [math.exp(value) for value in likely.values()]
    rest = 1 - math.fsum(p)
    return math.fsum(-value * math.log(value) for value in [*p, rest] if value > 0)


def tree_branches(
    probe: Sequence[int], likely: Sequence[Mapping[int, float]], decoder: DecoderConfig
) -> list[Branch]:
    """Returns the branches that samples 1, 2 … of the tree continue, one per sample.

    `likely` has the model's log-probabilities at each token of the `probe`, including its end
    token. Branches that the probe did not take come first: the most likely of each fork before
    the second, and within those the forks with the highest entropy first. If there are fewer
    samples than branches, the last branches get none; without a fork, the samples start from the
    prompt.
    """
    others: list[tuple[int, float, Branch]] = []
    taken: list[tuple[float, Branch]] = []
    for at, (token, logprobs) in enumerate(zip(probe, likely, strict=True)):
        nats = entropy(logprobs)
        if nats < decoder.fork_entropy:
            continue
        least = math.log(decoder.branch_probability)
        # ties are ordered by token id, so that the order of the dict does not matter
        ranked = sorted(logprobs, key=lambda other: (-logprobs[other], other))
        untaken = [other for other in ranked if logprobs[other] >= least and other != token]
        if not untaken:
            continue
        taken.append((-nats, Branch(at, token)))
        others += [(rank, -nats, Branch(at, other)) for rank, other in enumerate(untaken)]
    ordered = [branch for *_, branch in sorted(others)] + [branch for _, branch in sorted(taken)]
    ordered = ordered or [Branch(0, None)]
    return [ordered[i % len(ordered)] for i in range(decoder.tree_samples - 1)]

"""Controls: masks with as many tokens as the held-out criterion finds, chosen in other ways."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forkdiv.core.errors import refuse
from forkdiv.core.records import Example
from forkdiv.forks.find import exact_sites
from forkdiv.learnability.spans import Spans
from forkdiv.tasks.base import Task

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def random_mask(known: Bools, count: int, seed: int) -> Bools:
    """Returns `count` tokens drawn from those that the base does not know, or all of these."""
    candidates = np.flatnonzero(~known)
    chosen = np.random.default_rng([seed, 1]).permutation(candidates)[:count]
    return _mask(len(known), chosen)


def entropy_mask(known: Bools, entropy: Floats, count: int) -> Bools:
    """Returns the `count` tokens that the base does not know with its highest entropy."""
    candidates = np.flatnonzero(~known)
    chosen = candidates[np.argsort(-entropy[candidates], kind="stable")][:count]
    return _mask(len(known), chosen)


def exact_mask(task: Task, examples: list[Example], spans: list[Spans]) -> Bools:
    """Returns the tokens that decide an unsigned fork of the task.

    Raises UserError for a task that does not know its forks.
    """
    sites = exact_sites(task, examples)
    if not sites.rows_read:
        raise refuse(
            "the task does not know the decision points of its data",
            "learnability.mask=exact",
            "another mask",
            "set learnability.mask=held-out",
        )
    starts = np.concatenate([[0], np.cumsum([len(span) for span in spans])])
    chosen = [
        int(starts[site.row]) + token
        for site in sites.sites
        if not site.signed
        for token in _deciding_tokens(spans[site.row], max(site.deciding_offsets))
    ]
    return _mask(int(starts[-1]), np.array(chosen, dtype=np.int64))


def _deciding_tokens(spans: Spans, at: int) -> list[int]:
    """Returns the token with the character at an offset: the first at which branches differ."""
    start, end = spans.T
    decides = (start <= at) & (at < np.where(start == end, end + 1, end))
    return [int(token) for token in np.flatnonzero(decides)[:1]]


def _mask(tokens: int, chosen: NDArray[np.int64]) -> Bools:
    mask = np.zeros(tokens, dtype=bool)
    mask[chosen] = True
    return mask
